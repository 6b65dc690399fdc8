#!/usr/bin/env bash
# Build the site from scratch into docs/_build/html, in the Python environment that is active. It needs estbench with
# its extra 'docs': pip install -c constraints.txt -e '.[docs]'. Warnings are errors.
set -euo pipefail
cd "$(dirname "$0")"

rm -rf _build
python -m sphinx -W --keep-going -n -b html -d _build/doctrees . _build/html "$@"
# The board: the committed results, whose pages are ours, and the archives that others contributed, which are data only.
own=()
for folder in ../results/*/; do
  [ "$folder" = ../results/contributed/ ] || own+=("$folder")
done
python -m estbench site "${own[@]}" ../results/contributed "${own[@]/#/--trust-pages=}" -o _build/html/board --jobs 2
