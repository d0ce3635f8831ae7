#!/usr/bin/env bash
# From a checkpoint to a running model: sets up, builds, converts with a recipe, inspects,
# generates, and measures size and perplexity before and after.
# Usage: scripts/demo.sh [CHECKPOINT]
#   Without CHECKPOINT: a small trained model from the test data if it is there
#   (RWKV_TEST_DATA, default ../shared/data), else a synthetic one, which writes noise.
# An RWKV World checkpoint finds its vocabulary (rwkv_vocab_v20230424.txt) beside itself.
set -euo pipefail
# The name is relative to where the script was called; it works elsewhere.
if (($# > 0)); then
  set -- "$(realpath -- "$1")"
fi
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# run COMMAND...: shows a command, then runs it.
run() {
  printf '$ %s\n' "$*"
  "$@"
}

scripts/setup.sh
scripts/build.sh release rwkv-press rwkv-edge

press=build/release/bin/rwkv-press
edge=build/release/bin/rwkv-edge
work=build/demo
data=${RWKV_TEST_DATA:-../shared/data}
rm -rf "$work"
mkdir -p "$work"

vocabulary=()
prompt='The'
if (($# > 0)); then
  checkpoint=$1
elif [[ -f $data/models/tiny-rwkv-5v2-730K-FP32.safetensors ]]; then
  checkpoint=$data/models/tiny-rwkv-5v2-730K-FP32.safetensors
  vocabulary=(--vocab bytes)
  prompt='"instruction": "'
else
  checkpoint=$work/synthetic.pth
  vocabulary=(--vocab bytes)
  say "no trained model at hand: making one with random weights; it will write noise"
  run "$press" synth --arch v5.2 --n-layer 4 --n-embd 256 --n-vocab 256 -o "$checkpoint"
fi
text=README.md
[[ ! -f $data/text/alpaca_data-subset134k.json ]] || text=$data/text/alpaca_data-subset134k.json

say "convert with a recipe"
run "$press" convert "$checkpoint" -o "$work/fp16.gguf" --recipe configs/fp16.yaml "${vocabulary[@]}"
run "$press" convert "$checkpoint" -o "$work/int8.gguf" --recipe configs/int8.yaml "${vocabulary[@]}"

say "inspect"
run "$edge" inspect "$work/int8.gguf" --verify

say "generate"
run "$edge" generate "$work/int8.gguf" -p "$prompt" -n 160 --temp 0.8 --seed 1

say "size and perplexity, before and after"
ls -l "$checkpoint" "$work/fp16.gguf" "$work/int8.gguf"
for recipe in fp16 int8; do
  printf '%s\n' "$recipe"
  run "$edge" perplexity "$work/$recipe.gguf" --text "$text" --max-tokens 20000 --quiet
done
