#!/usr/bin/env bash
# Configures and builds a preset with as many jobs as fit the memory (RWKV_JOBS overrides them).
# Usage: scripts/build.sh PRESET [TARGET...]
# Presets are listed by: cmake --list-presets. Results are in build/PRESET/bin.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if (($# == 0)) || [[ $1 == -* ]]; then
  usage_of "${BASH_SOURCE[0]}" >&2
  exit 2
fi
preset=$1
shift
targets=()
if (($# > 0)); then
  targets=(--target "$@")
fi
jobs=$(build_jobs)
say "building $preset with $jobs jobs"
cmake --preset "$preset"
cmake --build --preset "$preset" --parallel "$jobs" "${targets[@]}"
