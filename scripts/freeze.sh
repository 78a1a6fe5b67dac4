#!/usr/bin/env bash
# Writes constraints.txt from what .venv holds now and, where there is a .venv-ros, constraints-ros.txt from that.
set -euo pipefail
cd "$(dirname "$0")/.."

# The lines of comment in $1, then the list on standard input.
rewrite() {
  { grep '^#' "$1"; cat; } > "$1.new"
  mv "$1.new" "$1"
}

.venv/bin/pip freeze --exclude-editable | sed -E 's/\+cpu$//' | grep -viE '^(#|finevla)' | rewrite constraints.txt
if [ -x .venv-ros/bin/python ]; then
  # The wheels of ROS carry the metadata of what they were built from as well; only what pip recorded was installed by it.
  .venv-ros/bin/python - <<'PY' | rewrite constraints-ros.txt
from importlib import metadata
installed = {dist.name: dist.version for dist in metadata.distributions() if dist.read_text("RECORD")}
installed = {name: version for name, version in installed.items() if name not in ("finevla-runtime", "pip")}
print("\n".join(sorted((f"{name}=={version}" for name, version in installed.items()), key=str.lower)))
PY
fi
