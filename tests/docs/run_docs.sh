#!/usr/bin/env bash
# Runs every command in the documentation: fenced blocks marked ```sh in README.md and docs/. Blocks
# marked ```sh no-run (set-up, whole test suites) are listed, not run.
# Usage: run_docs.sh BUILD_FOLDER
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
build=$(realpath -- "$1")
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The documented commands name build/release and files of the repository.
mkdir "$scratch/build"
ln -s "$build" "$scratch/build/release"
for name in README.md configs scripts docs; do
  ln -s "$root/$name" "$scratch/$name"
done

n_run=0
n_failed=0
while IFS= read -r -d '' document; do
  block=""
  number=0
  while IFS= read -r line; do
    number=$((number + 1))
    case $line in
      '```sh') block=run ;;
      '```sh no-run') block=list ;;
      '```'*) block="" ;;
      *)
        if [[ $block == list && -n $line ]]; then
          printf 'not run here: %s:%d: %s\n' "${document#"$root"/}" "$number" "$line"
        elif [[ $block == run && -n $line && $line != '#'* ]]; then
          n_run=$((n_run + 1))
          if ! (cd "$scratch" && bash -c "$line") > "$scratch/log" 2>&1 < /dev/null; then
            n_failed=$((n_failed + 1))
            printf '%s:%d: failed: %s\n' "${document#"$root"/}" "$number" "$line"
            cat "$scratch/log"
          fi
        fi
        ;;
    esac
  done < "$document"
done < <(find "$root/README.md" "$root/CONTRIBUTING.md" "$root/docs" -name '*.md' -print0 | sort -z)

printf '%d commands run, %d failed\n' "$n_run" "$n_failed"
((n_run > 0 && n_failed == 0))
