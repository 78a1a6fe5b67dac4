#!/usr/bin/env bash
# Makes .venv ready, and nothing when it already is.
#
# usage: scripts/setup.sh demo     what `make demo` needs: serve, simulate, report (no torch)
#        scripts/setup.sh all      what `make test` needs: every extra, the development tools, Chromium
#
# PYTHON names the interpreter to use (3.11 or newer); PIP_ARGS is handed to pip, for example an index with CPU builds.
# A stamp in .venv carries a hash of what pyproject.toml asks for and of constraints.txt, so a second call needs no network.
set -euo pipefail
cd "$(dirname "$0")/.."
script=setup
. scripts/venv.sh

level="${1:-all}"
venv=.venv
case "$level" in
  demo) extras="server,sim,report" ;;
  all) extras="server,sim,train,data,report,robot,dev" ;;
  *) echo "setup: unknown level '$level'; known: demo, all" >&2; exit 2 ;;
esac

# SAPIEN's physics links X11 and OpenCV links GL, also where nothing is shown; a slim system lacks them.
install_libraries() {
  local missing=""
  for pair in libGL.so.1:libgl1 libX11.so.6:libx11-6 libgthread-2.0.so.0:libglib2.0-0 libgomp.so.1:libgomp1; do
    ldconfig -p | grep -q "${pair%%:*}" || missing="$missing ${pair#*:}"
  done
  if [ -z "$missing" ]; then return; fi
  if as_root; then
    # shellcheck disable=SC2086
    apt_install $missing
  else
    say "these system libraries are missing and may be needed:$missing"
  fi
}

hash="$( { asked_for; cat constraints.txt; } | sha256sum | cut -c1-16)"
if [ ! -e "$venv/stamp-$level-$hash" ] && [ ! -e "$venv/stamp-all-$hash" ]; then
  [ -x "$venv/bin/python" ] || make_venv "$venv"
  install_libraries
  say "installing finevla-runtime[$extras]; this takes some minutes the first time"
  # shellcheck disable=SC2086
  "$venv/bin/python" -m pip install -q --disable-pip-version-check ${PIP_ARGS:-} -c constraints.txt -e ".[$extras]"
  if [ "$level" = all ]; then
    # TensorRT-RTX builds engines without a GPU, which is all that a test needs. Its metapackage is a source archive that
    # downloads from elsewhere, so its two real wheels are installed by name; x86-64 only.
    if [ "$(uname -m)" = x86_64 ]; then
      # shellcheck disable=SC2086
      "$venv/bin/python" -m pip install -q --disable-pip-version-check ${PIP_ARGS:-} -c constraints.txt --no-deps \
        tensorrt-rtx-cu13-libs tensorrt-rtx-cu13-bindings
    fi
  fi
  touch "$venv/stamp-$level-$hash"
fi
scripts/vulkan.sh "$venv/bin/python" || say "going on without rendering; physics-only commands work"
if [ "$level" = all ]; then scripts/chromium.sh || say "going on without a browser; the tests that open a page will fail"; fi
