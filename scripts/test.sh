#!/usr/bin/env bash
# Sets up, builds and tests: everything (preset release), then the device part (preset edge).
# Usage: scripts/test.sh [--arm] [--sanitize] [--fuzz SECONDS]
#   --arm           also the runtime's tests for 64-bit ARM, in an emulator; needs setup.sh --arm
#   --sanitize      also with the address and undefined-behaviour sanitizers (asan, everything but
#                   cli.memory, since a sanitizer's own memory breaks every limit) and with the
#                   thread sanitizer (tsan: formats, runtime, trainer, sweep), both with several
#                   threads; needs setup.sh --dev
#   --fuzz SECONDS  also each fuzz target with libFuzzer for SECONDS; needs setup.sh --dev
# RWKV_TEST_DATA names a folder of real models and texts; tests say what they skip without it, and
# fail instead with RWKV_REQUIRE_TEST_DATA=1.
# The last line counts all tests. A preset that does not build is one failed test, as is a fuzz
# target that finds something.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

presets=(release edge)
arm_presets=()
fuzz_seconds=0
while (($# > 0)); do
  case $1 in
    --arm) arm_presets=(aarch64) ;;
    --sanitize) presets=(release asan tsan edge) ;;
    --fuzz)
      fuzz_seconds=${2:-}
      if ! [[ $fuzz_seconds =~ ^[1-9][0-9]*$ ]]; then
        printf 'test.sh: error: --fuzz needs a number of seconds, found "%s"\n' "${2:-}" >&2
        exit 2
      fi
      shift
      ;;
    -h | --help)
      usage_of "${BASH_SOURCE[0]}"
      exit 0
      ;;
    *)
      printf 'test.sh: error: unknown option %s; --arm, --sanitize and --fuzz SECONDS are known\n' \
        "$1" >&2
      exit 2
      ;;
  esac
  shift
done

# Tests run in other folders.
if [[ -n ${RWKV_TEST_DATA:-} ]]; then
  RWKV_TEST_DATA=$(realpath -m -- "$RWKV_TEST_DATA")
  export RWKV_TEST_DATA
fi
# Several tests run at once, and small matrices gain nothing from more threads.
one_thread=("OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}" "RWKV_PRESS_THREADS=${RWKV_PRESS_THREADS:-1}")

log=$(mktemp)
trap 'rm -f "$log"' EXIT
summary=()
total=0
failed=0

# count NAME TOTAL FAILED TEXT: a line of the summary.
count() {
  total=$((total + $2))
  failed=$((failed + $3))
  summary+=("$(printf '%-12s %s' "$1" "$4")")
}

# environment_of PRESET: fills `environment`. GCC's OpenMP waits in ways that the thread sanitizer
# does not see: every loop in parallel would be a race. LLVM's has the same functions, and Archer
# tells the sanitizer what waits for what; LibTorch itself is not instrumented. Without Archer,
# OpenMP gets one thread.
environment_of() {
  local omp archer
  case $1 in
    asan) environment=(OMP_NUM_THREADS=2 RWKV_PRESS_THREADS=2) ;;
    tsan)
      omp=$(readlink -f "$(clang --print-file-name=libomp.so.5 2> /dev/null)" || true)
      archer=${omp%/*}/libarcher.so
      if [[ -f $archer ]]; then
        environment=("LD_PRELOAD=$omp" "OMP_TOOL_LIBRARIES=$archer" OMP_NUM_THREADS=3
          RWKV_PRESS_THREADS=3 "TSAN_OPTIONS=ignore_noninstrumented_modules=1 ${TSAN_OPTIONS:-}")
      else
        say "no Archer (libarcher.so): OpenMP has one thread"
        environment=("${one_thread[@]}")
      fi
      ;;
    *) environment=("${one_thread[@]}") ;;
  esac
}

# test_preset PRESET [TEST]: all tests, or those of the executable test_TEST.
test_preset() {
  local preset=$1 line skipped
  local targets=() only=()
  if (($# > 1)); then
    targets=("test_$2")
    only=(--tests-regex "^$2\\.")
  fi
  if ! scripts/build.sh "$preset" "${targets[@]}"; then
    count "$preset" 1 1 "does not build"
    return
  fi
  say "testing $preset"
  local status=0 environment=()
  environment_of "$preset"
  env "${environment[@]}" ctest --preset "$preset" "${only[@]}" --no-tests=error --parallel "$(n_cores)" 2>&1 | tee "$log" || status=$?
  line=$(grep -E '^[0-9]+% tests passed, [0-9]+ tests failed out of [0-9]+' "$log" || true)
  if [[ $line =~ ,\ ([0-9]+)\ tests\ failed\ out\ of\ ([0-9]+) ]]; then
    local n_failed=${BASH_REMATCH[1]} n_tests=${BASH_REMATCH[2]}
    skipped=$(sed -n 's/^\([0-9]*\) cases skipped: no test data$/\1/p' \
      "build/$preset/Testing/Temporary/LastTest.log" | awk '{ n += $1 } END { print n + 0 }')
    ((skipped == 0)) || line+="; $skipped cases skipped: no test data"
    if ((status != 0 && n_failed == 0)); then
      count "$preset" "$n_tests" 1 "ctest ended with status $status"
    else
      count "$preset" "$n_tests" "$n_failed" "$line"
    fi
  else
    count "$preset" 1 1 "no tests were run"
  fi
}

# The same last line as CTest's, over all presets, with the same rounding.
closing_line() {
  local percent=0
  if ((failed == 0)); then
    percent=100
  elif ((total > 0)); then
    percent=$((((total - failed) * 200 + total) / (2 * total)))
    ((percent < 100)) || percent=99
  fi
  printf '%d%% tests passed, %d tests failed out of %d\n' "$percent" "$failed" "$total"
}

# build_fuzzers_in FOLDER OPTION...: adds paths to `fuzzers`. Each step reports its own failure,
# since errexit is off in a condition.
build_fuzzers_in() {
  local folder=$1 names=()
  shift
  # Only the fuzz targets are built: libFuzzer brings a main() of its own.
  cmake -S . -B "$folder" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo \
    -DRWKV_BUILD_FUZZERS=ON -DRWKV_BUILD_TESTS=ON "$@" || return 1
  mapfile -t names < <(cmake --build "$folder" --target help |
    sed -n 's/^\(fuzz_[a-z0-9_]*\): phony$/\1/p' | sort -u)
  if ((${#names[@]} == 0)); then
    printf 'there are no targets named fuzz_* in %s\n' "$folder" >&2
    return 1
  fi
  cmake --build "$folder" --parallel "$(build_jobs)" --target "${names[@]}" || return 1
  fuzzers+=("${names[@]/#/$folder/bin/}")
}

# Targets with LibTorch are compiled by GCC (tests/fuzz/gcc_coverage.cpp), all others by clang.
build_fuzzers() {
  if ! command -v clang++ > /dev/null; then
    printf 'clang++ is missing; run scripts/setup.sh --dev\n' >&2
    return 1
  fi
  build_fuzzers_in build/fuzz -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ \
    -DRWKV_SANITIZE=fuzzer,address,undefined &&
    build_fuzzers_in build/fuzz-gcc -DRWKV_SANITIZE=address,undefined -DRWKV_FUZZ=ON
}

# run_fuzzer PROGRAM: new inputs and findings go to build/fuzz; the seeds do not change.
run_fuzzer() {
  local fuzzer=${1##*/}
  local name=${fuzzer#fuzz_}
  local folders=("build/fuzz/corpus/$name")
  mkdir -p "build/fuzz/corpus/$name" "build/fuzz/findings/$name"
  if [[ -d tests/fuzz/corpus/$name ]]; then
    folders+=("tests/fuzz/corpus/$name")
  fi
  local dictionary=()
  if [[ -f tests/fuzz/dictionaries/$name.dict ]]; then
    dictionary=("-dict=tests/fuzz/dictionaries/$name.dict")
  fi
  say "fuzzing $name for $fuzz_seconds s"
  if "$1" "${dictionary[@]}" -max_total_time="$fuzz_seconds" -timeout=20 -rss_limit_mb=2048 \
    -verbosity=0 -print_final_stats=1 -artifact_prefix="build/fuzz/findings/$name/" \
    "${folders[@]}" > "$log" 2>&1; then
    count "$fuzzer" 1 0 "$(sed -n 's/^stat::number_of_executed_units: */inputs: /p' "$log")"
  else
    cat "$log"
    count "$fuzzer" 1 1 "failed; the input is in build/fuzz/findings/$name"
  fi
}

scripts/setup.sh
for preset in "${presets[@]}"; do
  test_preset "$preset"
done
# Tests that start other programs are harder to emulate, and only the kernels differ on ARM.
for preset in "${arm_presets[@]}"; do
  test_preset "$preset" runtime
done
if ((fuzz_seconds > 0)); then
  fuzzers=()
  if build_fuzzers; then
    for fuzzer in "${fuzzers[@]}"; do
      run_fuzzer "$fuzzer"
    done
  else
    count fuzz 1 1 "does not build"
  fi
fi

say "summary"
printf '%s\n' "${summary[@]}"
closing_line
((failed == 0))
