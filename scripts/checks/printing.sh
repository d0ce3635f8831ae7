#!/usr/bin/env bash
# The executables print through formats/cli/print.h alone, which lets no escape sequence of a file
# reach a terminal. fputs() stands for constants: line ends, and what moves our own progress line.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

mapfile -t files < <(source_files 'formats/*' 'runtime/*' 'compressor/*' |
  grep -E '\.(h|cpp)$' | grep -vxF formats/cli/print.cpp)
status=0
if grep -nE '\bfmt::(v?print|println)\(|\bf?printf\(|\bstd::(cout|cerr|clog|puts|putchar)\b|\bfwrite\(' "${files[@]}"; then
  printf 'mend by printing through formats/cli/print.h\n'
  status=1
fi
exit "$status"
