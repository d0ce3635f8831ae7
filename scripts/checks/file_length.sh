#!/usr/bin/env bash
# No source file is longer than 450 lines, and no line in files that clang-format does not lay out
# is longer than 100 columns. Generated tables are *.inc files and do not count.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

limit=450
status=0
while IFS= read -r file; do
  lines=$(wc -l < "$file")
  if ((lines > limit)); then
    printf '%s: %d lines, %d are allowed; mend by splitting it by idea\n' "$file" "$lines" "$limit"
    status=1
  fi
done < <(source_files '*.h' '*.cpp' '*.c' '*.js' '*.css' '*.html')
columns=100
mapfile -t files < <(source_files '*.js' '*.css' '*.html')
if ((${#files[@]} > 0)) && grep -nHE ".{$((columns + 1))}" "${files[@]}"; then
  printf 'mend by breaking these lines: %d columns are allowed\n' "$columns"
  status=1
fi
exit "$status"
