#!/usr/bin/env bash
# All C and C++ files are formatted by .clang-format, with one version of the formatter for all.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

if ! command -v clang-format-14 > /dev/null; then
  if is_packaged clang-format-14; then
    die "clang-format-14 is missing; run scripts/setup.sh --dev"
  fi
  printf 'skipped: the code is laid out by clang-format 14, which this release does not have\n'
  exit 0
fi
mapfile -t files < <(source_files '*.h' '*.cpp' '*.c')
((${#files[@]} > 0)) || exit 0
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if clang-format-14 --dry-run -Werror "${files[@]}" 2> "$log"; then
  exit 0
fi
# The first difference in each file is enough.
grep -E '^[^ :]+:[0-9]+:[0-9]+: error' "$log" | sort -t: -u -k1,1 | cut -d' ' -f1,3- || cat "$log"
mapfile -t wrong < <(grep -E '^[^ :]+:[0-9]+:[0-9]+: error' "$log" | cut -d: -f1 | sort -u)
printf 'mend with: clang-format-14 -i %s\n' "${wrong[*]}"
exit 1
