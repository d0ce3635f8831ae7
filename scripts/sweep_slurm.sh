#!/usr/bin/env bash
# A sweep as an array job of Slurm: each task handles a part of the points, in one shared folder.
# Usage: sbatch --array=1-8 scripts/sweep_slurm.sh INPUT --config SWEEP.yaml -o DIR [OPTION...]
#   INPUT and the rest are arguments of `rwkv-press sweep`; DIR must be the same for all tasks.
#   RWKV_PRESS: the executable (default build/release/bin/rwkv-press of this checkout).
# The tasks do not talk to each other, so none of the variables of a training in several processes is
# needed. A node with fewer than 8 cores or 16 GB never gets a task: say what it has with sbatch's
# --cpus-per-task and --mem. Sent again after a time limit, it goes on where it was. A task that ends
# makes the results anew, so the last one leaves them complete. Other schedulers: give each task its own --shard.
#SBATCH --job-name=rwkv-sweep
#SBATCH --cpus-per-task=8
#SBATCH --mem=16G
#SBATCH --time=08:00:00
#SBATCH --output=rwkv-sweep-%A-%a.log
set -euo pipefail

usage() {
  sed -n '2,/^[^#]/{/^#SBATCH/d;/^#/{s/^# \{0,1\}//;p;}}' "$1"
}
case ${1:-} in
  '' | -h | --help)
    usage "${BASH_SOURCE[0]}"
    [[ -n ${1:-} ]] && exit 0
    exit 2
    ;;
esac
# Slurm runs a copy of this script, so the checkout is where the job was sent from.
root=${SLURM_SUBMIT_DIR:-$(dirname "$(dirname "$(realpath "${BASH_SOURCE[0]}")")")}
press=${RWKV_PRESS:-$root/build/release/bin/rwkv-press}
task=${SLURM_ARRAY_TASK_ID:?not an array job: sbatch --array=1-N}
first=${SLURM_ARRAY_TASK_MIN:-1}
n=${SLURM_ARRAY_TASK_COUNT:-1}

RWKV_PRESS_THREADS=${SLURM_CPUS_PER_TASK:-1} exec "$press" sweep "$@" \
  --shard "$((task - first + 1))/$n"
