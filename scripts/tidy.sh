#!/usr/bin/env bash
# Runs clang-tidy with .clang-tidy over formats and runtime.
# Usage: scripts/tidy.sh [--all | --since REF] [--compressor] [FILE...]
#   --all         every file, not only those that differ from the last commit
#   --since REF   the files that differ from REF (default: HEAD), new ones included
#   --compressor  the compressor too
# A changed header is checked through all .cpp files that include it.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

mode=changed
since=HEAD
preset=edge
folders=(formats runtime)
files=()
while (($# > 0)); do
  case $1 in
    --all) mode=all ;;
    --since)
      since=${2:?--since needs a commit}
      shift
      ;;
    --compressor)
      preset=release
      folders+=(compressor)
      ;;
    -h | --help)
      usage_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*)
      printf 'tidy.sh: error: unknown option %s\n' "$1" >&2
      exit 2
      ;;
    *) files+=("$1") ;;
  esac
  shift
done
# .clang-tidy is written for version 14; other versions may report more.
tidy=clang-tidy-14
command -v "$tidy" > /dev/null || tidy=clang-tidy
command -v "$tidy" > /dev/null || die "clang-tidy is missing; run scripts/setup.sh --dev"

# The build system provides the command of each file.
database=build/$preset
cmake --preset "$preset" > /dev/null || die "preset $preset does not configure"

all_files() { source_files "${folders[@]}" | grep '\.cpp$' || true; }

# changed_files: .cpp files that changed or that include, directly, a header that changed.
changed_files() {
  local changed header
  git rev-parse --verify --quiet "$since^{commit}" > /dev/null || die "$since is not a commit"
  changed=$({
    git diff --name-only "$since" -- "${folders[@]}"
    git ls-files --others --exclude-standard -- "${folders[@]}"
  } | sort -u)
  {
    grep '\.cpp$' <<< "$changed" || true
    while IFS= read -r header; do
      [[ $header == *.h || $header == *.inc ]] || continue
      all_files | xargs -r grep -lF -- "#include \"$header\"" || true
    done <<< "$changed"
  } | sort -u | while IFS= read -r file; do
    [[ ! -f $file ]] || printf '%s\n' "$file"
  done
}

if ((${#files[@]} == 0)); then
  mapfile -t files < <("${mode}_files")
fi
if ((${#files[@]} == 0)); then
  say "nothing changed since $since; --all checks every file"
  exit 0
fi
say "$tidy over ${#files[@]} files"
printf '%s\0' "${files[@]}" |
  xargs -0 -n1 -P "$(build_jobs)" "$tidy" --quiet -p "$database" \
    --extra-arg=-Wno-unknown-warning-option 2>&1 |
  sed '/^[0-9]* warnings\{0,1\} generated/d' ||
  die "clang-tidy found something; each warning ends with the name of its check"
