# Shared by the scripts of this folder, which source it; it changes to the root of the repository.
# shellcheck shell=bash

cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit

# say TEXT: announces a step, visibly different from the output of tools.
say() { printf '== %s\n' "$*"; }

# die TEXT: prints one line on stderr and fails.
die() {
  printf '%s: error: %s\n' "${0##*/}" "$*" >&2
  exit 1
}

# usage_of FILE: prints the comment at the top of a script, which is its help.
usage_of() { sed -n '2,/^[^#]/{/^#/{s/^# \{0,1\}//;p;}}' "$1"; }

# source_files PATHSPEC...: files of the repository that exist, tracked or new but not ignored.
source_files() {
  local file
  git ls-files --cached --others --exclude-standard -- "$@" | sort -u | while IFS= read -r file; do
    if [[ -f $file ]]; then
      printf '%s\n' "$file"
    fi
  done
}

# is_packaged NAME: whether this release has that package, as far as apt's lists exist. Not with
# grep -q, which stops reading: with pipefail, a program that still writes would count as a failure.
is_packaged() { apt-cache policy "$1" 2> /dev/null | grep 'Candidate: [0-9]' > /dev/null; }

# n_cores: nproc alone would print OMP_NUM_THREADS if that is set.
n_cores() { env -u OMP_NUM_THREADS -u OMP_THREAD_LIMIT nproc; }

# build_jobs: as many compilers as cores and memory allow; a file that includes LibTorch
# takes about 1.2 GB. RWKV_JOBS overrides it.
build_jobs() {
  if [[ -n ${RWKV_JOBS:-} ]]; then
    printf '%s\n' "$RWKV_JOBS"
    return
  fi
  local cores kib limit jobs
  cores=$(n_cores)
  kib=$(awk '/^MemAvailable:/ { print $2 }' /proc/meminfo)
  if [[ -r /sys/fs/cgroup/memory.max ]]; then
    limit=$(< /sys/fs/cgroup/memory.max)
    if [[ $limit =~ ^[0-9]+$ ]] && ((limit / 1024 < kib)); then
      kib=$((limit / 1024))
    fi
  fi
  jobs=$((kib * 2 / (3 * 1024 * 1024)))
  ((jobs < cores)) || jobs=$cores
  ((jobs > 0)) || jobs=1
  printf '%s\n' "$jobs"
}
