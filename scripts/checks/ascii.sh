#!/usr/bin/env bash
# Sources are plain ASCII without tabs and trailing spaces; other characters are written as escapes.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

mapfile -t files < <(source_files '*.h' '*.cpp' '*.c' '*.inc' '*.sh' '*.py' '*.cmake' '*.in' \
  '*.yaml' '*.yml' '*.js' '*.css' '*.html' '*package*.json' '*CMakeLists.txt' CMakePresets.json .ci/run .clang-format .clang-tidy)
((${#files[@]} > 0)) || exit 0
status=0
# complain PATTERN TEXT: names each line that matches. Status 1 of grep means that none does.
complain() {
  local found
  found=$(LC_ALL=C grep -nHP -- "$1" "${files[@]}" | cut -c1-120) || true
  if [[ -n $found ]]; then
    printf '%s\n%s\n' "$found" "$2"
    status=1
  fi
}
complain '[^\x20-\x7e\t]' 'mend: write the character as an escape, e.g. "\xc3\xa9", or in plain words'
complain '\t' 'mend: replace tabs by spaces'
complain ' +$' 'mend: remove trailing spaces'
exit "$status"
