#!/usr/bin/env bash
# Folders of a part include each other in one direction only: a folder never includes, directly or
# indirectly, a folder that includes it. Exceptions are listed here; the list may only get shorter.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# "FROM TO": an include of TO's headers in FROM.
stated=()

mapfile -t files < <(source_files 'formats/*' 'runtime/*' 'compressor/*' |
  grep -E '^[^/]+/[^/]+/.*\.(h|cpp|c|inc)$')
# FROM TO FILE:LINE, for includes that leave their folder and stay in their part.
arrows=$(awk '
  FNR == 1 { split(FILENAME, own, "/"); from = own[1] "/" own[2] }
  /^#include "/ {
    split($2, quoted, "\"")
    if (split(quoted[2], other, "/") < 3 || other[1] != own[1]) next
    to = other[1] "/" other[2]
    if (to != from) print from, to, FILENAME ":" FNR
  }
' "${files[@]}" | sort)
pairs=$(cut -d' ' -f1,2 <<< "$arrows" | uniq)

status=0
for arrow in "${stated[@]}"; do
  if ! grep -qxF "$arrow" <<< "$pairs"; then
    printf 'no file of %s includes one of %s any more; mend by taking that line out of %s\n' \
      "${arrow% *}" "${arrow#* }" "scripts/checks/folder_arrows.sh"
    status=1
  fi
done
rest=$(grep -vxFf <(printf '%s\n' "${stated[@]:-none stated}") <<< "$pairs" || true)
# tsort names the folders of each circle, which it finds if there is one.
circle=$({ tsort <<< "$rest" 2>&1 > /dev/null || true; } | sed -n 's/^tsort: \(.*\/.*\)$/\1/p')
if [[ -n $circle ]]; then
  printf 'these folders include each other:\n'
  while read -r from to place; do
    if grep -qxF "$from" <<< "$circle" && grep -qxF "$to" <<< "$circle" &&
      grep -qxF "$from $to" <<< "$rest"; then
      printf '  %s -> %s: %s\n' "$from" "$to" "$place"
    fi
  done <<< "$arrows"
  printf 'mend by moving what both need to the lower folder\n'
  status=1
fi
exit "$status"
