#!/bin/bash
# Files of `rwkv-press export --to llama.cpp` against those of llama-quantize, measured in llama.cpp
# itself. Builds nothing of it: you name the folders of your own build.
#
# usage: scripts/compare_llama_cpp.sh BUILD LLAMA_CPP TOOLS LIBRARIES MODEL LEARN SCORE WORK [TYPE...]
#   BUILD       folder of this project's build: build/release
#   LLAMA_CPP   its source, for llama.h and ggml.h
#   TOOLS       folder with llama-imatrix and llama-quantize
#   LIBRARIES   folder with libllama*.so, libggml*.so
#   MODEL       checkpoint of RWKV v6 or v7 (VOCAB=bytes or VOCAB=FILE: its vocabulary)
#   LEARN       text for imatrix and calibration; SCORE another one, for the figures
#   WORK        folder for files, created
#   TYPE        of ggml; default q4_0 iq4_nl q4_k
# LENGTH (512): tokens of a stretch. MOST (20480): tokens of SCORE that are read. STATE (carried):
# between stretches of SCORE; empty: each starts anew. SAMPLES (32): stretches of LEARN, for both
# programs.
set -euo pipefail
if [ $# -lt 8 ]; then
  sed -n '2,/^set/p' "$0" | grep '^#' | cut -c3-
  exit 2
fi
build=$1 source=$2 tools=$3 libraries=$4 model=$5 learn=$6 score=$7 work=$8
shift 8
types=("$@")
[ ${#types[@]} -gt 0 ] || types=(q4_0 iq4_nl q4_k)
length=${LENGTH:-512}
vocab=()
[ -z "${VOCAB:-}" ] || vocab=(--vocab "$VOCAB")
root=$(cd "$(dirname "$0")/.." && pwd)
press=$build/bin/rwkv-press
mkdir -p "$work"
export LD_LIBRARY_PATH=$libraries RWKV_LLAMA_BACKENDS=$libraries RWKV_MEASURE_MOST=${MOST:-20480}
export RWKV_MEASURE_STATE=${STATE:-carried}

measure=$work/llama_cpp_measure
mapfile -t linked < <(find "$libraries" -maxdepth 1 \( -name 'libllama.*so*' -o -name 'libggml.*so*' -o -name 'libggml-base.*so*' \) | sort)
g++ -O2 -std=c++17 -I"$source/include" -I"$source/ggml/include" -I"$root/runtime/include" \
  "$root/scripts/llama_cpp_measure.cpp" -o "$measure" "$build/runtime/librwkv_edge.a" \
  "$build/formats/librwkv_formats.a" "${linked[@]}" -Wl,-rpath,"$libraries" -lpthread

export_to() { # OUTPUT, options
  local output=$1
  shift
  "$press" export "$model" --to llama.cpp -o "$output" --force --quiet "${vocab[@]}" "$@" >"$work/log" 2>&1 ||
    { cat "$work/log" >&2; exit 1; }
}
quantize() { "$tools/llama-quantize" "$@" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }; }
report() { # LABEL, FILE, measure's arguments
  printf '%-48s %9d bytes  ' "$1" "$(stat -c %s "$2")"
  shift 2
  "$measure" "$@" "$score" "$length"
}

export_to "$work/f32.gguf" --type f32
"$press" convert "$model" -o "$work/f32.packed.gguf" --preset fp32 --force --quiet "${vocab[@]}" >"$work/log" 2>&1
report "f32, against our runtime" "$work/f32.gguf" ours "$work/f32.packed.gguf" "$work/f32.gguf"
"$tools/llama-imatrix" -m "$work/f32.gguf" -f "$learn" -o "$work/imatrix.gguf" -c "$length" -b "$length" \
  --process-output --no-ppl -t 1 -ngl 0 --chunks "${SAMPLES:-32}" >"$work/log" 2>&1 || { tail -5 "$work/log" >&2; exit 1; }
export_to "$work/f16.gguf" --type f16
report "f16" "$work/f16.gguf" kl "$work/f32.gguf" "$work/f16.gguf"
compare() { # LABEL, TYPE, options of llama-quantize, --, options of export
  local label=$1 type=$2 theirs=() name=${2/q4_k/q4_k_s}
  shift 2
  while [ "$1" != -- ]; do
    theirs+=("$1")
    shift
  done
  shift
  quantize "${theirs[@]}" --imatrix "$work/imatrix.gguf" "$work/f16.gguf" "$work/theirs.gguf" "${name^^}" 1
  report "$type$label, llama-quantize + imatrix" "$work/theirs.gguf" kl "$work/f32.gguf" "$work/theirs.gguf"
  export_to "$work/ours.gguf" --type "$type" "$@" --calibration "$learn" --length "$length" --samples "${SAMPLES:-32}"
  report "$type$label, ours with the same text" "$work/ours.gguf" kl "$work/f32.gguf" "$work/ours.gguf"
}
for type in "${types[@]}"; do
  compare "" "$type" --
  export_to "$work/squares.gguf" --type "$type" --imatrix "$work/imatrix.gguf"
  report "$type, ours with the same imatrix" "$work/squares.gguf" kl "$work/f32.gguf" "$work/squares.gguf"
  # The same codes in 32 bits, so that llama.cpp rounds no inputs of products.
  "$press" export "$work/ours.gguf" --to llama.cpp -o "$work/decoded.gguf" --type f32 --allow-requantize --force --quiet \
    "${vocab[@]}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  "$press" convert "$work/ours.gguf" -o "$work/decoded.packed.gguf" --preset fp32 --allow-requantize --force --quiet \
    "${vocab[@]}" >"$work/log" 2>&1 || { cat "$work/log" >&2; exit 1; }
  report "  its codes in f32, our runtime" "$work/decoded.gguf" ours "$work/decoded.packed.gguf" "$work/decoded.gguf"
  compare " pure, f16 embedding" "$type" --pure --token-embedding-type f16 -- --head-type "$type" --embedding-type f16
done
