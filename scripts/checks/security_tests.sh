#!/usr/bin/env bash
# Every test that SECURITY.md names as the one that shows a promise exists.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# The names of all cases; one may stand on several lines, as strings next to each other.
cases=$(cat tests/*/*.cpp | tr '\n' ' ' | sed 's/" *"//g' | grep -oE 'TEST_CASE\( *"[^"]*"' |
  sed 's/^TEST_CASE( *"//; s/"$//')
status=0
n=0
while read -r name; do
  n=$((n + 1))
  if ! grep -qxF -- "$name" <<< "$cases"; then
    printf 'SECURITY.md names a test that does not exist: "%s"\n' "$name"
    status=1
  fi
done < <(sed -n '/^| promise/,/^$/p' SECURITY.md | awk -F'|' '{ print $4 }' | grep -oE '"[^"]+"' |
  tr -d '"')
if ((n == 0)); then
  printf 'SECURITY.md: expected a table with names of tests in its third column, found none\n'
  status=1
fi
exit "$status"
