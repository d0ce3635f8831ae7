#!/usr/bin/env bash
# Packages from npm are pinned: exact versions, a checksum for every package, and no addresses, which
# differ between mirrors.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

status=0
# complain FILE TEXT
complain() {
  printf '%s: %s\n' "$1" "$2"
  status=1
}
while IFS= read -r file; do
  lock=${file%package.json}package-lock.json
  if ! [[ -f $lock ]]; then
    complain "$file" "has no package-lock.json; mend with: npm install --package-lock-only"
    continue
  fi
  if sed -n '/ependencies": {/,/}/p' "$file" | grep -E '": "' | grep -vE '": "[0-9]+\.[0-9]+\.[0-9]+"' > /dev/null; then
    complain "$file" "names a range of versions; mend by naming one"
  fi
  packages=$(grep -c '^    "node_modules/' "$lock" || true)
  checksums=$(grep -c '^      "integrity": "sha512-' "$lock" || true)
  if ((packages == 0 || packages != checksums)); then
    complain "$lock" "$packages packages, $checksums with a checksum; mend by making it anew"
  fi
  if grep -q '"resolved"' "$lock"; then
    complain "$lock" "has addresses; generate it again next to an .npmrc that omits them"
  fi
done < <(source_files '*package.json')
exit "$status"
