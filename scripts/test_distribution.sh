#!/usr/bin/env bash
# Builds and tests under another release of Debian or Ubuntu, with its compiler and libraries, in a
# folder that mmdebstrap fills with that release and that becomes the root of a command.
# Usage: scripts/test_distribution.sh [OPTION...] [COMMAND...]
#   COMMAND          run in the checkout, there (default: scripts/test.sh)
#   --suite NAME     the release (default: trixie, which is Debian 13)
#   --mirror URL     where its packages are (default: mmdebstrap's choice for the release)
#   --components C   the parts of the mirror (default: main; Ubuntu needs main,universe)
#   --keyring FILE   keys that sign the mirror, if the system does not have them
#   --folder DIR     folder kept between runs: DIR/root, DIR/build and DIR/ccache
#                    (default: ~/.cache/rwkv-press/NAME)
# Debian 13:    scripts/test_distribution.sh
# Ubuntu 24.04: scripts/test_distribution.sh --suite noble --mirror URL --components main,universe \
#                 --keyring FILE sh -c 'scripts/setup.sh --edge && scripts/build.sh edge'
# The checkout is mounted read-only, except for build/, which is DIR/build. RWKV_TEST_DATA, RWKV_JOBS and
# npm's cache and settings are passed on. Needs root, mmdebstrap and 4 GB in DIR.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

suite=trixie
mirror=''
components=main
keyring=''
folder=''
while (($# > 0)); do
  case $1 in
    --suite | --mirror | --components | --keyring | --folder)
      (($# > 1)) || die "$1 needs a value"
      printf -v "${1#--}" '%s' "$2"
      shift 2
      ;;
    -h | --help)
      usage_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    -*)
      printf 'test_distribution.sh: error: unknown option %s\n' "$1" >&2
      exit 2
      ;;
    *) break ;;
  esac
done
command=("$@")
((${#command[@]} > 0)) || command=(scripts/test.sh)

((EUID == 0)) || die "root is needed to use a folder as the root of a system"
command -v mmdebstrap > /dev/null || die "mmdebstrap is missing; apt-get install mmdebstrap"
folder=$(realpath -m -- "${folder:-${XDG_CACHE_HOME:-$HOME/.cache}/rwkv-press/$suite}")
checkout=$(pwd)
root=$folder/root

# A root is complete when its last step has left this file.
if ! [[ -e $root/etc/rwkv-press-root ]]; then
  [[ ! -e $root ]] || die "$root is there, but not whole; remove it"
  say "making a root of $suite in $root"
  mkdir -p "$folder"
  options=(--variant=apt --components="$components" --include=ca-certificates)
  [[ -z $keyring ]] || options+=(--keyring="$keyring")
  mmdebstrap "${options[@]}" "$suite" "$root" ${mirror:+"$mirror"}
  mkdir -p "$root/rwkv-press" "$root/data" "$root/ccache" "$root/npm"
  touch "$root/etc/rwkv-press-root"
fi

# Uses the host's name resolution and certificates, since the host may need a proxy for packages.
cp -L /etc/resolv.conf /etc/hosts "$root/etc/"
certificates=/etc/ssl/certs/ca-certificates.crt
if [[ -f $certificates ]]; then
  cp -L "$certificates" "$root/npm/certificates.crt"
fi
mkdir -p build "$folder/build" "$folder/ccache"

environment=(PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
  LANG=C.UTF-8 CCACHE_DIR=/ccache NODE_EXTRA_CA_CERTS=/npm/certificates.crt
  npm_config_cafile=/npm/certificates.crt npm_config_cache=/npm/cache)
if command -v npm > /dev/null; then
  environment+=("npm_config_registry=$(npm config get registry)")
fi
for name in RWKV_JOBS RWKV_REQUIRE_TEST_DATA http_proxy https_proxy no_proxy; do
  [[ -z ${!name:-} ]] || environment+=("$name=${!name}")
done
data=$(realpath -m -- "${RWKV_TEST_DATA:-$checkout/../shared/data}")
if [[ -d $data ]]; then
  environment+=(RWKV_TEST_DATA=/data)
else
  data=''
fi

# enter ENVIRONMENT...: runs in its own mount namespace, so mounts disappear with it.
enter() {
  set -euo pipefail
  mount --bind "$checkout" "$root/rwkv-press"
  mount -o remount,bind,ro "$root/rwkv-press"
  mount --bind "$folder/build" "$root/rwkv-press/build"
  mount --bind "$folder/ccache" "$root/ccache"
  if [[ -n $data ]]; then
    mount --bind "$data" "$root/data"
    mount -o remount,bind,ro "$root/data"
  fi
  mount -t proc proc "$root/proc"
  mount --rbind /sys "$root/sys"
  mount --rbind /dev "$root/dev"
  mount -t tmpfs tmpfs "$root/run"
  exec chroot "$root" env -i "$@"
}

say "in $suite: ${command[*]}"
export root checkout folder data
exec unshare --mount --propagation private bash -c "$(declare -f enter); enter \"\$@\"" bash \
  "${environment[@]}" sh -c 'cd /rwkv-press && exec "$@"' sh "${command[@]}"
