#!/usr/bin/env bash
# Opens pages of sweeps in headless Chromium and tries what a reader would.
# Usage: run_page_test.sh RENDER_REPORT BUILD_FOLDER
#   BUILD_FOLDER has npm/node_modules; pages and screenshots are left in BUILD_FOLDER/pages.
# Status 77 where there is no browser: CTest calls it skipped. With CI set that is a failure.
set -euo pipefail

if (($# != 2)); then
  printf 'usage: run_page_test.sh RENDER_REPORT BUILD_FOLDER\n' >&2
  exit 2
fi
for program in node chromium; do
  if ! command -v "$program" > /dev/null; then
    printf 'SKIPPED report_page: %s is missing; scripts/setup.sh --dev installs it\n' "$program" >&2
    [[ -z ${CI:-} ]] || exit 1
    exit 77
  fi
done
exec node "$(dirname "${BASH_SOURCE[0]}")/page_test.js" "$(command -v chromium)" "$1" "$2"
