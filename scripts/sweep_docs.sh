#!/usr/bin/env bash
# Makes the tables of docs/quality.md that come from sweeps: those of the demo model, and those of
# the small trained models if the folder RWKV_TEST_DATA has them.
# Usage: scripts/sweep_docs.sh WORK
#   WORK: a folder for stories, sweeps and their reports; finished parts are not done again.
# Needs build/release; takes about a quarter of an hour on two cores.
set -euo pipefail

if (($# != 1)) || [[ $1 == -* ]]; then
  sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p;}}' "${BASH_SOURCE[0]}" >&2
  exit 2
fi
mkdir -p -- "$1"
work=$(realpath -- "$1")
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
press=build/release/bin/rwkv-press

# sweep_of NAME INPUT CONFIG OPTION...: runs a sweep and puts its table into the document.
sweep_of() {
  local name=$1 input=$2 config=$3
  shift 3
  say "sweep $name"
  "$press" sweep "$input" --config "$config" -o "$work/$name" --jobs "$(n_cores)" "$@"
  scripts/sweep_table.py "$work/$name/results.json" --into docs/quality.md "$name"
}

[[ -d $work/stories ]] ||
  python3 -B scripts/demo_stories.py "$work/stories" --train 8000 --valid 200 --test 400 --n-vocab 3328
sweep_of demo-k configs/demo/demo.pth configs/sweep/demo-k.yaml --vocab configs/demo/vocab.txt \
  --calibration "$work/stories/train.txt" --text "$work/stories/valid.txt" \
  --cloze "$work/stories/test.jsonl"

data=${RWKV_TEST_DATA:-../shared/data}
if [[ ! -d $data ]]; then
  say "the small trained models are left out: there is no $data"
  exit 0
fi
text=$data/text/alpaca_data-subset134k.json
half=$(($(stat -L -c %s -- "$text") / 2))
head -c "$half" -- "$text" > "$work/learnt.txt"
tail -c "+$((half + 1))" -- "$text" > "$work/scored.txt"
sweep_of tiny-v5.2 "$data/models/tiny-rwkv-5v2-730K-FP32.bin" configs/sweep/tiny.yaml --vocab bytes \
  --calibration "$work/learnt.txt" --text "$work/scored.txt"
