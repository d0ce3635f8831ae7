#!/usr/bin/env bash
# Runs every command in the documentation, and checks the output that is shown.
# Usage: run_docs.sh BUILD_FOLDER [DOCUMENT...]     all *.md files of the repository without names
#   ```sh         each command is run, in a scratch folder of its own for each document, where
#                 build/release is BUILD_FOLDER and the files of the repository are links
#   ```sh no-run  set-up and whole test suites, which would call this script: listed
#   ```output     the last command before it must have printed each of these lines
#   other blocks  ignored
# A command that fails, is unknown or takes longer than 2 minutes fails the test with file:line.
set -euo pipefail

if (($# == 0)) || [[ ! -d $1 ]]; then
  printf 'usage: run_docs.sh BUILD_FOLDER [DOCUMENT...]; there is no folder "%s"\n' "${1:-}" >&2
  exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath -- "$1")
shift
documents=("$@")
if ((${#documents[@]} == 0)); then
  mapfile -t documents < <(cd "$root" && find . -path ./build -prune -o -path ./.git -prune -o \
    -name '*.md' -printf '%P\n' | LC_ALL=C sort)
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

limit=120
n_run=0
n_lines=0
n_failed=0

# complain FILE LINE TEXT: one failure.
complain() {
  n_failed=$((n_failed + 1))
  printf '%s:%d: %s\n' "$@"
}

# make_scratch: an empty folder in which the documented paths exist.
make_scratch() {
  scratch=$(mktemp -d -p "$work")
  mkdir "$scratch/build"
  ln -s "$build" "$scratch/build/release"
  local name
  for name in README.md LICENSE configs docs scripts tests; do
    ln -s "$root/$name" "$scratch/$name"
  done
}

# run_command FILE LINE COMMAND: in the scratch folder, quiet if all is well.
run_command() {
  n_run=$((n_run + 1))
  local status=0
  (cd "$scratch" && timeout "$limit" bash -euo pipefail -c "$3") \
    > "$work/log" 2>&1 < /dev/null || status=$?
  if ((status != 0)); then
    complain "$1" "$2" "ended with status $status: $3"
    tail -n 20 "$work/log"
  fi
}

# list_command FILE LINE COMMAND: only what sets up, builds or runs whole suites is exempt.
list_command() {
  local allowed='^(scripts/(demo|test|setup|build|check|tidy)\.sh|\.ci/run|cmake|ctest)( |$)'
  if [[ $3 =~ $allowed ]]; then
    printf 'not run here: %s:%d: %s\n' "$@"
  else
    complain "$1" "$2" "is in a block that is not run, but it could be run: $3"
  fi
}

# check_output FILE LINE TEXT: a line that the last command printed.
check_output() {
  n_lines=$((n_lines + 1))
  if ! grep -qxF -- "$3" "$work/log"; then
    complain "$1" "$2" "the command did not print: $3"
    tail -n 20 "$work/log"
  fi
}

# read_document FILE: walks through its lines. A command goes on after a backslash.
read_document() {
  local block=none number=0 line command='' first=0
  while IFS= read -r line || [[ -n $line ]]; do
    number=$((number + 1))
    if [[ $line == '```'* ]]; then
      case $block:$line in
        'none:```sh') block=run ;;
        'none:```sh no-run') block=list ;;
        'none:```output') block=output ;;
        'none:```sh'*) complain "$1" "$number" "unknown kind of block: $line" ;;
        none:*) block=other ;;
        *) block=none ;;
      esac
      continue
    fi
    if [[ $block == output ]]; then
      check_output "$1" "$number" "$line"
    fi
    if [[ $block != run && $block != list ]]; then
      continue
    fi
    [[ -n $command ]] || first=$number
    command+=$line
    if [[ $command == *\\ ]]; then
      command=${command%\\}
    elif [[ -n $command && $command != '#'* ]]; then
      "${block}_command" "$1" "$first" "$command"
      command=''
    else
      command=''
    fi
  done < "$root/$1"
  [[ $block == none ]] || complain "$1" "$number" "the last block does not end"
}

for document in "${documents[@]}"; do
  make_scratch
  read_document "$document"
done
printf '%d documents: %d commands run, %d lines of output compared, %d failures\n' \
  "${#documents[@]}" "$n_run" "$n_lines" "$n_failed"
((n_run > 0 && n_failed == 0))
