#!/usr/bin/env bash
# From a checkpoint to a running model: sets up, builds, converts with a recipe, inspects,
# generates, and prints size and perplexity before and after.
# Usage: scripts/demo.sh [CHECKPOINT [--vocab FILE|bytes]]
#   Without CHECKPOINT: a small trained model from the test data if it is there
#   (RWKV_TEST_DATA, default ../shared/data), else one with random weights, which writes noise.
# The vocabulary of an RWKV World checkpoint (rwkv_vocab_v20230424.txt) is found beside it.
# Work files are in build/demo, replaced by each run.
set -euo pipefail

# Names are relative to where the script was called; it works elsewhere.
checkpoint=
vocabulary=()
case $# in
  0) ;;
  1 | 3)
    if [[ $1 == -* ]]; then
      sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p;}}' "${BASH_SOURCE[0]}"
      [[ $1 == -h || $1 == --help ]] && exit 0
      exit 2
    fi
    checkpoint=$(realpath -- "$1")
    if (($# == 3)); then
      [[ $2 == --vocab ]] || {
        printf 'demo.sh: error: unknown option %s; --vocab is known\n' "$2" >&2
        exit 2
      }
      vocabulary=(--vocab "$3")
      [[ $3 == bytes ]] || vocabulary=(--vocab "$(realpath -- "$3")")
    fi
    ;;
  *)
    printf 'demo.sh: error: %d arguments; see the top of %s\n' $# "${BASH_SOURCE[0]}" >&2
    exit 2
    ;;
esac
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LC_ALL=C.UTF-8 # numbers with a point
if [[ -n $checkpoint && ! -f $checkpoint ]]; then
  die "$checkpoint: there is no such file"
fi

# run COMMAND...: shows a command as it could be typed, then runs it; $work/out has the output too.
run() {
  printf '$ %s\n' "${*@Q}" | sed "s/'\([A-Za-z0-9_.,:=/+-]*\)'/\1/g"
  "$@" | tee "$work/out"
}

# bytes_of FILE: its size.
bytes_of() { stat -L -c %s -- "$1"; }

# figure KEY: a number of the JSON on standard input.
figure() { sed -n "s/^ *\"$1\": *\([0-9.e+-]*\),\{0,1\}\$/\1/p"; }

scripts/setup.sh
scripts/build.sh release rwkv-press rwkv-edge

press=build/release/bin/rwkv-press
edge=build/release/bin/rwkv-edge
work=build/demo
data=${RWKV_TEST_DATA:-../shared/data}
rm -rf "$work"
mkdir -p "$work"

say "the checkpoint"
prompt='The '
trained=$data/models/tiny-rwkv-5v2-730K-FP32.safetensors
if [[ -n $checkpoint ]]; then
  printf '%s\n' "$checkpoint"
elif [[ -f $trained ]]; then
  checkpoint=$trained
  vocabulary=(--vocab bytes)
  prompt='"instruction": "'
  printf '%s, a small model trained on bytes\n' "$checkpoint"
else
  checkpoint=$work/random.pth
  vocabulary=(--vocab bytes)
  printf 'no trained model at hand, so one with random weights is made: it will write noise\n'
  run "$press" synth --arch v5.2 --n-layer 4 --n-embd 256 --n-vocab 256 -o "$checkpoint"
fi

say "convert it, following a recipe"
run cat configs/int8.yaml
run "$press" convert "$checkpoint" -o "$work/int8.gguf" --recipe configs/int8.yaml \
  "${vocabulary[@]}"

say "the same in half precision, to compare with"
run "$press" convert "$checkpoint" -o "$work/fp16.gguf" --recipe configs/fp16.yaml \
  "${vocabulary[@]}"

say "inspect it"
run "$press" inspect "$work/int8.gguf" --verify | grep -v '^  blocks\.[1-9]'
printf '(the tensors of blocks after the first are left out here)\n'

if ! grep -q '^  tokenizer.ggml.model ' "$work/out"; then
  say "generate token ids: no vocabulary was found (demo.sh CHECKPOINT --vocab FILE)"
  run "$edge" generate "$work/int8.gguf" --ids -p "1 2 3" -n 32 --seed 1
  say "size"
  printf '%-12s %14s bytes\n' checkpoint "$(bytes_of "$checkpoint")" \
    fp16 "$(bytes_of "$work/fp16.gguf")" int8 "$(bytes_of "$work/int8.gguf")"
  printf 'perplexity needs a vocabulary\n'
  exit 0
fi

say "generate"
run "$edge" generate "$work/int8.gguf" -p "$prompt" -n 160 --temp 0.8 --seed 1

text=README.md
[[ ! -f $data/text/alpaca_data-subset134k.json ]] || text=$data/text/alpaca_data-subset134k.json
say "perplexity"
for recipe in fp16 int8; do
  run "$edge" perplexity "$work/$recipe.gguf" --text "$text" --max-tokens 20000 --json
  mv "$work/out" "$work/$recipe.json"
done

say "before and after"
printf '%-12s %14s %12s %14s\n' '' bytes perplexity 'bits per byte'
printf '%-12s %14d\n' checkpoint "$(bytes_of "$checkpoint")"
for recipe in fp16 int8; do
  printf '%-12s %14d %12.3f %14.4f\n' "$recipe" "$(bytes_of "$work/$recipe.gguf")" \
    "$(figure perplexity < "$work/$recipe.json")" "$(figure bits_per_byte < "$work/$recipe.json")"
done
