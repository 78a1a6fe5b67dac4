#!/usr/bin/env bash
# Writes constraints.txt from what .venv holds now.
set -euo pipefail
cd "$(dirname "$0")/.."
head="$(grep '^#' constraints.txt)"
{ echo "$head"; .venv/bin/pip freeze --exclude-editable | sed -E 's/\+cpu$//' | grep -viE '^(#|finevla)'; } > constraints.txt.new
mv constraints.txt.new constraints.txt
