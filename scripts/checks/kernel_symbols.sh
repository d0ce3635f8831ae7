#!/usr/bin/env bash
# Kernels of an instruction set share no function with other code: the linker keeps one copy of a
# weak symbol, and that copy could contain instructions that the processor lacks.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

shopt -s nullglob
objects=(build/edge/runtime/CMakeFiles/rwkv_edge.dir/kernels/{x86,arm}_*/*.o)
if ((${#objects[@]} == 0)); then
  printf 'skipped: the edge preset is not built; scripts/build.sh edge builds it\n'
  exit 0
fi
status=0
for object in "${objects[@]}"; do
  while read -r _ _ symbol; do
    printf '%s: weak symbol %s; mend by an unnamed namespace or by not using the template\n' \
      "$object" "$symbol"
    status=1
  done < <(nm -C "$object" | grep -E '^[0-9a-f]+ [VWu] ' || true)
done
printf '%d objects of kernels looked at\n' "${#objects[@]}"
exit "$status"
