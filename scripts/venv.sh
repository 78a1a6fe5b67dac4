# Functions that set-up scripts share; sourced, not run. `script` names the caller in what is said.

say() { echo "$script: $*" >&2; }

as_root() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

apt_install() {
  say "installing $*"
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >/dev/null
}

# Prints the interpreter to use: PYTHON where it is set, else the oldest one that everything runs on.
find_python() {
  local candidate
  for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
    if "$candidate" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' 2>/dev/null; then
      command -v "$candidate"
      return
    fi
  done
  say "no Python 3.11 to 3.13 found; install one (apt-get install python3 python3-venv) or name it: make setup PYTHON=..."
  exit 1
}

# Makes the virtual environment in the folder $1.
make_venv() {
  local python
  python="$(find_python)"
  say "making $1 with $python"
  if "$python" -m venv "$1" >/dev/null 2>&1; then return; fi
  # Debian keeps the part of venv that brings pip in a package of its own.
  rm -rf "$1"
  if as_root; then
    apt_install python3-venv
    "$python" -m venv "$1"
  else
    "$python" -m venv --without-pip "$1"
    "$python" -m pip --python "$1/bin/python" install -q pip
  fi
}

# What of pyproject.toml decides about an installation: all but the settings of tools.
asked_for() { sed '/^\[tool\.pytest/,$d' pyproject.toml; }
