#!/usr/bin/env bash
# From a checkpoint to a running model: sets up, builds, converts, inspects, generates, and compares
# before and after.
# Usage: scripts/demo.sh [CHECKPOINT [--vocab FILE|bytes]]
#   Without CHECKPOINT: the model of configs/demo with all of RWKV-Lite at k = 8 in int8, and the
#   number of questions about stories that it answers. This includes some minutes of training
#   (RWKV_DEMO_STEPS, default 150; more steps are better, docs/quality.md).
#   With CHECKPOINT: your checkpoint in int8, and its perplexity.
# For an RWKV World checkpoint, the vocabulary rwkv_vocab_v20230424.txt is taken from its folder.
# Work files are in build/demo; each run replaces them.
set -euo pipefail

# Paths are relative to the folder of the caller, and the script changes to another one.
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
steps=${RWKV_DEMO_STEPS:-150}
[[ $steps =~ ^[1-9][0-9]{0,6}$ ]] || {
  printf 'demo.sh: error: RWKV_DEMO_STEPS: expected a number of 1 or more, found %s\n' "$steps" >&2
  exit 2
}
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

# figure KEY: a number of the JSON on standard input, the first of that name.
figure() { sed -n "s/^ *\"$1\": *\([0-9.e+-]*\),\{0,1\}\$/\1/p" | head -n 1; }

# inspect FILE
inspect() {
  run "$press" inspect "$1" --verify --tensors | grep -v '^  blocks\.[1-9]'
  printf '(the tensors of later blocks are not shown here)\n'
}

# The user's checkpoint: int8, size, text and perplexity.
show_checkpoint() {
  say "convert it, following a recipe"
  run cat configs/int8.yaml
  run "$press" convert "$checkpoint" -o "$work/int8.gguf" --recipe configs/int8.yaml \
    "${vocabulary[@]}"

  say "convert it to half precision, for comparison"
  run "$press" convert "$checkpoint" -o "$work/fp16.gguf" --recipe configs/fp16.yaml \
    "${vocabulary[@]}"

  say "inspect it"
  inspect "$work/int8.gguf"

  if ! grep -q '^  tokenizer.ggml.model ' "$work/out"; then
    say "generate token ids: no vocabulary was found (demo.sh CHECKPOINT --vocab FILE)"
    run "$edge" generate "$work/int8.gguf" --ids -p "1 2 3" -n 32 --seed 1
    say "size"
    printf '%-12s %14s bytes\n' checkpoint "$(bytes_of "$checkpoint")" \
      fp16 "$(bytes_of "$work/fp16.gguf")" int8 "$(bytes_of "$work/int8.gguf")"
    printf 'perplexity needs a vocabulary\n'
    return
  fi

  say "generate"
  run "$edge" generate "$work/int8.gguf" -p 'The ' -n 160 --temp 0.8 --seed 1

  say "perplexity"
  for recipe in fp16 int8; do
    run "$edge" perplexity "$work/$recipe.gguf" --text README.md --max-tokens 20000 --json
    mv "$work/out" "$work/$recipe.json"
  done

  say "before and after"
  printf '%-12s %14s %12s %14s\n' '' bytes perplexity 'bits per byte'
  printf '%-12s %14d\n' checkpoint "$(bytes_of "$checkpoint")"
  for recipe in fp16 int8; do
    printf '%-12s %14d %12.3f %14.4f\n' "$recipe" "$(bytes_of "$work/$recipe.gguf")" \
      "$(figure perplexity < "$work/$recipe.json")" "$(figure bits_per_byte < "$work/$recipe.json")"
  done
}

# row NAME WHAT OPTION...: a line of the table, with the memory that the runtime counts under these
# options.
row() {
  local name=$1 what=$2 right
  shift 2
  "$edge" bench "$work/$name.gguf" --json -n 16 --prompt 1 --runs 1 "$@" > "$work/memory.json"
  right=$("$press" eval "$work/$name.gguf" --cloze "$stories/test.jsonl" --json 2> /dev/null |
    figure right)
  printf '%-38s %10d %16d %8d of 200\n' "$what" "$(bytes_of "$work/$name.gguf")" \
    "$(figure weights < "$work/memory.json")" "$right"
}

# The demo model: RWKV-Lite with and without training, answers before and after.
show_demo_model() {
  stories=$work/stories
  local recipe=configs/demo/rwkv-lite-int8.yaml
  local text=(--calibration "$stories/train.txt" --vocab configs/demo/vocab.txt)
  local sparse=(--memory sparse --neuron-cache 0.25 --head-cache 0.13 --embedding-cache 64)
  checkpoint=configs/demo/demo.pth

  say "stories: some for training, others with questions to answer"
  run python3 -B scripts/demo_stories.py "$stories" --train 8000 --valid 1 --test 200 \
    --n-vocab 3328
  head -n 1 "$stories/test.txt"

  say "half precision, for comparison; RWKV-Lite without training"
  run "$press" convert "$checkpoint" -o "$work/fp16.gguf" --preset fp16 \
    --vocab configs/demo/vocab.txt
  run "$press" convert "$checkpoint" -o "$work/untrained.gguf" --preset rwkv-lite-int8 "${text[@]}" \
    --set cluster_head.clusters=100

  say "RWKV-Lite with $steps steps of training"
  run cat "$recipe"
  run "$press" convert "$checkpoint" -o "$work/lite.gguf" --recipe "$recipe" "${text[@]}" \
    --train-data "$stories/train.txt" --set "train.steps=$steps"

  say "inspect it"
  inspect "$work/lite.gguf"

  say "generate a story"
  run "$edge" generate "$work/lite.gguf" -p 'Long ago, Mia' -n 80 --temp 0.7 --seed 1 \
    "${sparse[@]}" --stats

  say "before and after"
  printf '%-38s %10s %16s %15s\n' '' 'file' 'weights in memory' 'right answers'
  row fp16 'fp16, dense'
  row untrained 'RWKV-Lite int8, sparse, untrained' "${sparse[@]}"
  row lite "RWKV-Lite int8, sparse, $steps steps" "${sparse[@]}"
}

scripts/setup.sh
scripts/build.sh release rwkv-press rwkv-edge

press=build/release/bin/rwkv-press
edge=build/release/bin/rwkv-edge
work=build/demo
rm -rf "$work"
mkdir -p "$work"

if [[ -n $checkpoint ]]; then
  show_checkpoint
else
  show_demo_model
fi
