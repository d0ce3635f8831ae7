#!/usr/bin/env bash
# The files that the pages about additions name exist: paths from the root, or names that some file
# has. NAME and vN stand for any name, and at least one file must match.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

files=$(source_files .)
endings='h|cpp|c|inc|in|cmake|txt|md|sh|py|js|yaml|json'
roots='formats|runtime|compressor|tests|scripts|configs|docs'

# exists PATH: whether there is such a file or folder, or a pair of files without ending; * stands
# for any name.
exists() {
  local pattern=${1//./\\.}
  pattern=${pattern//\*/[A-Za-z0-9_]*}
  grep -qE "^(.*/)?$pattern(\.[a-z]+|/.*)?\$" <<< "$files"
}

# expand PATH: expands braces, one path per line.
expand() {
  if [[ $1 =~ ^(.*)\{([^{}]*)\}(.*)$ ]]; then
    local part
    for part in ${BASH_REMATCH[2]//,/ }; do
      printf '%s\n' "${BASH_REMATCH[1]}$part${BASH_REMATCH[3]}"
    done
  else
    printf '%s\n' "$1"
  fi
}

status=0
for page in docs/adding/*.md docs/architecture.md CONTRIBUTING.md; do
  # shellcheck disable=SC2016 # these backticks are Markdown's
  while IFS=: read -r line name; do
    name=${name//\`/}
    pattern=${name//NAME/*}
    pattern=${pattern//vN/v*}
    while IFS= read -r path; do
      exists "${path%/}" && continue
      printf '%s:%d: names %s, which is not there\n' "$page" "$line" "$name"
      status=1
    done < <(expand "$pattern")
  done < <(grep -noE '`[^` ]+`' "$page" |
    grep -E ":\`(($roots)/[A-Za-z0-9_./{},*-]+|[A-Za-z0-9_][A-Za-z0-9_./{},*-]*\.($endings))\`\$")
done
exit "$status"
