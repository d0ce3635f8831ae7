#!/usr/bin/env bash
# The README of a folder (or of the nearest folder above that has one) names each of its source
# files, in backticks and without ending, so that a pair of .h and .cpp is named once. The
# two halves of a codec stand in docs/packed_format.md instead.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

codecs=" $(sed -n 's/^ *X([A-Za-z0-9]*, \([a-z0-9_]*\)).*/\1/p' formats/codec/codec_list.h | tr '\n' ' ')"
# is_half FILE: whether it is a half of a codec.
is_half() {
  [[ $1 =~ ^(formats/codec|runtime/kernels/rows)/([a-z0-9_]+)\.(cpp|h)$ &&
    $codecs == *" ${BASH_REMATCH[2]} "* ]]
}

status=0
declare -A words_of=()
while IFS= read -r file; do
  folder=${file%/*}
  until [[ -f $folder/README.md || $folder != */* ]]; do
    folder=${folder%/*}
  done
  page=$folder/README.md
  if is_half "$file"; then
    page=docs/packed_format.md
  fi
  if [[ -z ${words_of[$page]:-} ]]; then
    # shellcheck disable=SC2016 # these backticks are Markdown's
    words_of[$page]=" $(grep -o '`[^`]*`' "$page" | tr -cs 'A-Za-z0-9_' ' ')"
  fi
  name=${file##*/}
  if [[ ${words_of[$page]} != *" ${name%%.*} "* ]]; then
    printf '%s: %s does not name it; mend with a line that says what it is for\n' "$file" "$page"
    status=1
  fi
done < <(source_files 'formats/*' 'runtime/*' 'compressor/*' 'scripts/*' 'tests/support/*' |
  grep -E '\.(h|cpp|c|inc|cpp\.in|cmake|js|css|html|sh|py)$')
exit "$status"
