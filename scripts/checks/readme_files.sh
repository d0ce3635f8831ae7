#!/usr/bin/env bash
# Every source file stands in the README of its folder (or of the nearest folder above that has one),
# between backticks and by its name without ending, so that a pair of .h and .cpp is named once.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

status=0
declare -A words_of=()
while IFS= read -r file; do
  folder=${file%/*}
  until [[ -f $folder/README.md || $folder != */* ]]; do
    folder=${folder%/*}
  done
  if [[ -z ${words_of[$folder]:-} ]]; then
    # shellcheck disable=SC2016 # these backticks are Markdown's
    words_of[$folder]=" $(grep -o '`[^`]*`' "$folder/README.md" | tr -cs 'A-Za-z0-9_' ' ')"
  fi
  name=${file##*/}
  if [[ ${words_of[$folder]} != *" ${name%%.*} "* ]]; then
    printf '%s: %s/README.md does not name it; mend with a line that says what it is for\n' \
      "$file" "$folder"
    status=1
  fi
done < <(source_files 'formats/*' 'runtime/*' 'compressor/*' 'scripts/*' 'tests/support/*' |
  grep -E '\.(h|cpp|c|inc|cpp\.in|cmake|js|css|html|sh|py)$')
exit "$status"
