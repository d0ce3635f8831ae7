#!/usr/bin/env bash
# Who may include whom: formats <- runtime <- compressor, and LibTorch only in the compressor.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

mapfile -t files < <(source_files 'formats/*' 'runtime/*' 'compressor/*' 'tests/*' |
  grep -E '\.(h|cpp|c|inc)$' || true)
((${#files[@]} > 0)) || exit 0
awk '
  function wrong(why) {
    printf "%s:%d: includes %s, but %s\n", FILENAME, FNR, header, why
    bad = 1
  }
  # The folders of ours that the current file may include from, as a regular expression.
  function allowed_folders() {
    if (FILENAME ~ /^formats\//) return "formats"
    if (FILENAME ~ /^runtime\//) return "formats|runtime"
    if (FILENAME ~ /^compressor\/evaluate\//) return "formats|compressor|runtime"
    if (FILENAME ~ /^compressor\//) return "formats|compressor"
    if (FILENAME ~ /^tests\/formats\//) return "formats|tests"
    if (FILENAME ~ /^tests\/runtime\//) return "formats|runtime|tests"
    return "formats|runtime|compressor|tests"
  }
  FNR == 1 { allowed = allowed_folders() }
  /^[ \t]*#[ \t]*include[ \t]*[<"]/ {
    header = $0
    sub(/^[ \t]*#[ \t]*include[ \t]*/, "", header)
    match(header, /^[<"][^>"]*[>"]/)
    header = substr(header, 1, RLENGTH)
    path = substr(header, 2, length(header) - 2)
    if (path ~ /^(torch|ATen|c10|caffe2)\// && FILENAME !~ /^(tests\/)?compressor\//)
      wrong("LibTorch belongs to compressor and tests/compressor alone")
    else if (path ~ /^(formats|runtime|compressor|tests)\// && path !~ "^(" allowed ")/") {
      split(FILENAME, part, "/")
      wrong("files of " part[1] "/" part[2] " may include only from: " allowed)
    }
    else if (header ~ /^"/ && path !~ /^(formats|runtime|compressor|tests)\// &&
             path != "rwkv_edge.h")
      wrong("our own files are named from the root of the repository, others are in <>")
  }
  END { exit bad }
' "${files[@]}" || {
  printf 'mend by moving the code to where it may be used\n'
  exit 1
}
