#!/usr/bin/env bash
# Every script parses, by itself.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

command -v node > /dev/null || die "node is missing; run scripts/setup.sh"
status=0
while IFS= read -r file; do
  node --check "$file" || status=1
done < <(source_files '*.js')
exit "$status"
