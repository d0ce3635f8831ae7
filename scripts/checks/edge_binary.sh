#!/usr/bin/env bash
# The device executable is small and needs only the C and C++ libraries.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

binary=build/edge/bin/rwkv-edge
limit=1600000
allowed='^(libc\.so\.6|libstdc\+\+\.so\.6|libm\.so\.6|libgcc_s\.so\.1|ld-linux.*\.so\.[0-9]+)$'
if ! [[ -f $binary ]]; then
  printf 'skipped: %s is not built; scripts/build.sh edge builds it\n' "$binary"
  exit 0
fi
status=0
stripped=$(mktemp)
trap 'rm -f "$stripped"' EXIT
strip -o "$stripped" "$binary"
bytes=$(stat -c %s "$stripped")
printf '%s: %d bytes stripped, %d are allowed\n' "$binary" "$bytes" "$limit"
if ((bytes >= limit)); then
  printf '%s: too large; mend by finding what grew: nm --size-sort -C %s\n' "$binary" "$binary"
  status=1
fi
while IFS= read -r library; do
  if ! [[ $library =~ $allowed ]]; then
    printf '%s: needs %s; mend by removing what links it into formats or runtime\n' \
      "$binary" "$library"
    status=1
  fi
done < <(readelf -dW "$binary" | sed -n 's/.*(NEEDED).*\[\(.*\)\]$/\1/p')
exit "$status"
