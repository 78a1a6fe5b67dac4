#!/usr/bin/env bash
# Generates the Python code of the wire from policy.proto into the given folder (default: the repository itself).
set -euo pipefail
cd "$(dirname "$0")/.."
out="${1:-.}"
mkdir -p "$out"
"${PYTHON:-.venv/bin/python}" -m grpc_tools.protoc -I. \
    --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" finevla_runtime/transport/policy.proto
