#!/usr/bin/env bash
# Every relative link in a *.md file leads to a file of the repository, and its #anchor to a heading
# there. Links inside code blocks do not count.
set -euo pipefail
# shellcheck source=scripts/lib.sh
source "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"

# prose FILE: "LINE TEXT" for every line outside code blocks.
prose() {
  awk '/^```/ { code = !code; next } !code { print NR " " $0 }' "$1"
}

# anchors FILE: the anchors of its headings, made as GitHub makes them: lower case, without
# punctuation, spaces as hyphens.
anchors() {
  prose "$1" | sed -n 's/^[0-9]* #\{1,6\} //p' | tr '[:upper:]' '[:lower:]' |
    sed 's/[^a-z0-9 _-]//g; s/ /-/g'
}

mapfile -t files < <(source_files '*.md')
n_links=0
status=0
for file in "${files[@]}"; do
  while IFS=' ' read -r line link; do
    n_links=$((n_links + 1))
    target=${link%%#*}
    path=$file
    [[ -z $target ]] || path=$(dirname "$file")/$target
    if [[ ! -e $path ]]; then
      printf '%s:%d: links to %s, which does not exist\n' "$file" "$line" "$target"
      status=1
    elif [[ $link == *#* ]] && ! grep -qxF -- "${link#*#}" <(anchors "$path"); then
      printf '%s:%d: links to %s, but %s has no such heading\n' "$file" "$line" "$link" "$path"
      status=1
    fi
  done < <(prose "$file" | awk '{
    line = $1
    while (match($0, /\]\([^) ]+\)/)) {
      link = substr($0, RSTART + 2, RLENGTH - 3)
      if (link !~ /:\/\//) print line, link
      $0 = substr($0, RSTART + RLENGTH)
    }
  }')
done
if ((n_links == 0)); then
  printf 'no link was found: this check reads nothing\n'
  status=1
fi
exit "$status"
