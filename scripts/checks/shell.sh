#!/usr/bin/env bash
# All shell scripts pass shellcheck and are executable (but for the one that is only sourced).
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

command -v shellcheck > /dev/null || die "shellcheck is missing; run scripts/setup.sh --dev"
mapfile -t files < <(source_files '*.sh' .ci/run)
status=0
shellcheck --external-sources "${files[@]}" || {
  status=1
  printf 'mend what shellcheck names; a directive that switches one off carries its reason\n'
}
for file in "${files[@]}"; do
  if [[ $file != scripts/lib.sh && ! -x $file ]]; then
    printf '%s: not executable; mend with: chmod +x %s\n' "$file" "$file"
    status=1
  fi
done
exit "$status"
