#!/usr/bin/env bash
# Installs the missing dependencies of the build on Debian 12 or 13 or a derivative, and prints the
# versions in use.
# Usage: scripts/setup.sh [--edge] [--dev] [--arm]
#   --edge  only the dependencies of formats and runtime, without LibTorch
#   --dev   also the formatter (where the release has clang-format-14, the version that lays out the
#           code), the linter, shellcheck, clang with libFuzzer and OpenMP, and the browser that tries
#           the page of a sweep
#   --arm   also the compiler for 64-bit ARM and the emulator that runs its tests
# You may run it again at any time: with everything installed it takes a moment and changes nothing.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"
export LC_ALL=C

edge_packages=(g++ cmake ninja-build libfmt-dev nlohmann-json3-dev libcxxopts-dev libxxhash-dev
  libedit-dev catch2 ccache)
compressor_packages=(libtorch-dev libgloo-dev libopenblas0-openmp libopenblas-openmp-dev libeigen3-dev
  libyaml-cpp-dev zlib1g-dev)
arm_packages=(g++-aarch64-linux-gnu qemu-user-static)
dev_packages=(clang clang-tidy libclang-rt-dev libomp-dev shellcheck)

packages=("${edge_packages[@]}")
with_compressor=yes
with_dev=no
with_arm=no
for argument in "$@"; do
  case $argument in
    --edge) with_compressor=no ;;
    --dev) with_dev=yes ;;
    --arm) with_arm=yes ;;
    -h | --help)
      usage_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf 'setup.sh: error: unknown option %s; --edge, --dev and --arm are known\n' "$argument" >&2
      exit 2
      ;;
  esac
done
[[ $with_compressor == no ]] || packages+=("${compressor_packages[@]}")
# These are often not installed from Debian's packages, which would conflict with them.
if [[ $with_compressor == yes || $with_dev == yes ]]; then
  command -v npm > /dev/null || packages+=(nodejs npm)
fi
if [[ $with_compressor == yes && $with_dev == yes ]]; then
  command -v chromium > /dev/null || packages+=(chromium)
fi
[[ $with_dev == no ]] || packages+=("${dev_packages[@]}")
[[ $with_arm == no ]] || packages+=("${arm_packages[@]}")

if ! command -v dpkg-query > /dev/null || ! command -v apt-get > /dev/null; then
  die "this is not Debian or a relative of it; install the equivalents of: ${packages[*]}"
fi

# missing_packages NAME...: the packages that are not installed, one per line.
missing_packages() {
  local installed name
  installed=$(dpkg-query -W -f='${Package} ${Status}\n' "$@" 2> /dev/null |
    sed -n 's/ install ok installed$//p' || true)
  for name in "$@"; do
    grep -qxF -- "$name" <<< "$installed" || printf '%s\n' "$name"
  done
}

# as_root COMMAND...: uses sudo unless we are root.
as_root() {
  if ((EUID == 0)); then
    "$@"
  elif command -v sudo > /dev/null; then
    sudo "$@"
  else
    die "root is needed for '$*', and there is no sudo; run this script as root"
  fi
}

# apt ARGUMENT...: apt-get, quiet on success; on failure its output is in $log.
apt() {
  as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Acquire::Retries=3 \
    -o DPkg::Lock::Timeout=300 "$@" > "$log" 2>&1
}

mapfile -t missing < <(missing_packages "${packages[@]}")
# The layout of the code is that of one version of the formatter, which later releases lack.
optional=()
if [[ $with_dev == yes ]] && ! command -v clang-format-14 > /dev/null; then
  optional+=(clang-format-14)
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ((${#missing[@]} > 0)) || { ((${#optional[@]} > 0)) && ! is_packaged g++; }; then
  if ((EUID != 0)); then
    command -v sudo > /dev/null ||
      die "root is needed to install ${missing[*]}, and there is no sudo; run this script as root"
    say "sudo is used for apt-get"
  fi
  # A stale list is enough if the packages are still available, so a failure here is not fatal.
  apt update || say "apt-get update failed: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
fi
for name in "${optional[@]}"; do
  if is_packaged "$name"; then
    missing+=("$name")
  else
    say "this release has no $name; scripts/check.sh leaves out what needs it"
  fi
done
if ((${#missing[@]} > 0)); then
  say "installing ${missing[*]}"
  if [[ " ${missing[*]} " == *' libtorch-dev '* ]] && ! is_packaged libtorch-dev; then
    die "this release has no package of LibTorch (Ubuntu 24.04 has none, Debian 12 and 13 have one);" \
      "--edge installs what formats and runtime need"
  fi
  if ! apt install --no-install-recommends "${missing[@]}"; then
    mapfile -t missing < <(missing_packages "${missing[@]}")
    die "could not install ${missing[*]}: $(grep -m1 '^E:' "$log" || tail -n1 "$log")"
  fi
  mapfile -t missing < <(missing_packages "${missing[@]}")
  ((${#missing[@]} == 0)) || die "apt-get reported success, yet ${missing[*]} is not installed"
fi

# cmake may not come from the package, so ask the one that will run.
cmake_version=$(cmake --version | sed -n '1s/^cmake version //p')
if [[ $(printf '%s\n' 3.25 "$cmake_version" | sort -V | head -n1) != 3.25 ]]; then
  die "cmake 3.25 or newer is needed, found $cmake_version at $(command -v cmake)"
fi

# LibTorch uses the system's libblas.so.3. OpenBLAS is 17 times faster than the reference BLAS, and
# its OpenMP build shares one pool of threads with LibTorch.
select_openblas() {
  local multiarch library name wanted
  multiarch=$(g++ -print-multiarch)
  for library in libblas.so.3 liblapack.so.3 libopenblas.so.0; do
    name=$library-$multiarch
    wanted=/usr/lib/$multiarch/openblas-openmp/$library
    if [[ $(readlink "/etc/alternatives/$name" || true) != "$wanted" ]]; then
      say "selecting $wanted"
      as_root update-alternatives --set "$name" "$wanted" > /dev/null ||
        die "could not select $wanted; see update-alternatives --display $name"
    fi
  done
  say "BLAS $(readlink -f "/usr/lib/$multiarch/libblas.so.3")"
}

say "$(g++ --version | head -n1)"
say "cmake $cmake_version"
[[ $with_compressor == no ]] || select_openblas
