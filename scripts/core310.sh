#!/usr/bin/env bash
# Runs the core's tests on Python 3.10, the Python of ROS 2 Humble, where the machine has one.
#
# The environment holds the libraries of the core and of the `robot` extra and nothing else, so it also shows that nothing
# else is needed.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv310
python=""
for candidate in python3.10 "${HOME:-/root}"/.pyenv/versions/3.10.*/bin/python; do
  if "$candidate" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 10))' 2>/dev/null; then python="$candidate"; break; fi
done
if [ -z "$python" ]; then echo "core310: no Python 3.10 on this machine; the core ran on $(.venv/bin/python -V) only" >&2; exit 0; fi

hash="$(sha256sum constraints-core310.txt | cut -c1-16)"
if [ ! -e "$venv/stamp-$hash" ]; then
  echo "core310: making $venv" >&2
  "$python" -m venv --clear "$venv"
  "$venv/bin/pip" install -q --disable-pip-version-check -c constraints-core310.txt \
    numpy pyyaml grpcio protobuf tyro rich pytest hypothesis ruckig pin coal scipy rosbags
  touch "$venv/stamp-$hash"
fi
# Folders of tests that need the core alone; processing, reports and recordings bring libraries of their own.
folders=()
for name in contracts core safety motion robot evidence session cli; do
  if [ -d "tests/$name" ]; then folders+=("tests/$name"); fi
done
# The intervals are held against scipy, which the core does not need; they are tested on the main Python.
PYTHONPATH=. "$venv/bin/python" -m pytest -q -p no:cacheprovider --ignore=tests/evidence/test_intervals.py "${folders[@]}"
