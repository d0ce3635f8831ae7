#!/usr/bin/env bash
# The top level contains only the files and folders listed here.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

allowed=(CMakeLists.txt CMakePresets.json README.md LICENSE CONTRIBUTING.md CHANGELOG.md
  SECURITY.md .ci .clang-format .clang-tidy .gitignore
  formats runtime compressor scripts configs tests docs)
status=0
while IFS= read -r name; do
  if [[ " ${allowed[*]} " != *" $name "* ]]; then
    printf '%s: does not belong to the top level; mend by moving it into one of the folders\n' \
      "$name"
    status=1
  fi
done < <(source_files . | cut -d/ -f1 | sort -u)
exit "$status"
