#!/usr/bin/env bash
# Runs the static checks, each a script in scripts/checks.
# Usage: scripts/check.sh [NAME...]     e.g. scripts/check.sh format ascii; all without a name
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

if [[ ${1:-} == -* ]]; then
  usage_of "${BASH_SOURCE[0]}"
  exit 2
fi
names=("$@")
if ((${#names[@]} == 0)); then
  for script in scripts/checks/*.sh; do
    script=${script##*/}
    names+=("${script%.sh}")
  done
fi

failed=()
for name in "${names[@]}"; do
  if ! [[ -f scripts/checks/$name.sh ]]; then
    die "there is no check $name in scripts/checks"
  fi
  say "check $name"
  "scripts/checks/$name.sh" || failed+=("$name")
done
if ((${#failed[@]} > 0)); then
  printf 'static checks: %d of %d failed: %s\n' "${#failed[@]}" "${#names[@]}" "${failed[*]}"
  exit 1
fi
printf 'static checks: all %d passed\n' "${#names[@]}"
