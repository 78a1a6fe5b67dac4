#!/usr/bin/env bash
# Makes sure that the simulator can render: a Vulkan driver, in software where there is no GPU.
#
# usage: scripts/vulkan.sh [PYTHON]     PYTHON has sapien installed; it renders one probe picture.
#
# A machine that already renders is left alone. Debian 12's own software driver lacks a feature that SAPIEN needs
# (descriptorBindingPartiallyBound), so its newer build is taken from bookworm-backports. Without root the packages are
# unpacked into .cache/vulkan, and .cache/vulkan/env names the two variables that make the loader find them.
# FINEVLA_VULKAN=private takes that way also as root; FINEVLA_VULKAN=off does nothing.
set -euo pipefail
cd "$(dirname "$0")/.."

python="${1:-.venv/bin/python}"
private=".cache/vulkan"
packages="mesa-vulkan-drivers libvulkan1"
say() { echo "vulkan: $*" >&2; }

renders() {
  if [ -f "$private/env" ]; then
    # shellcheck disable=SC1091
    ( set -a; . "$private/env"; timeout 60 "$python" -W ignore -m sim_eval.render_probe )
  else
    timeout 60 "$python" -W ignore -m sim_eval.render_probe
  fi
}

release() { ( . /etc/os-release; echo "${ID:-unknown} ${VERSION_CODENAME:-unknown} ${VERSION_ID:-0}" ); }

# Adds Debian 12's backports from the mirror that the machine already uses.
add_backports() {
  if apt-cache policy | grep -q 'n=bookworm-backports'; then return; fi
  local mirror keyring
  mirror="$( { grep -hE '^URIs:' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -1 | awk '{print $2}'
               grep -hE '^deb .*bookworm( |$)' /etc/apt/sources.list 2>/dev/null | head -1 | sed -E 's/\[[^]]*\] *//' | awk '{print $2}'
             } | head -1 || true)"  # A machine has one of the two files; grep fails on the other.
  keyring=/usr/share/keyrings/debian-archive-keyring.gpg
  echo "deb [signed-by=$keyring] ${mirror:-http://deb.debian.org/debian} bookworm-backports main" \
    > /etc/apt/sources.list.d/finevla-backports.list
  say "added bookworm-backports to the package sources"
}

install_as_root() {
  local id codename target=()
  read -r id codename _ <<<"$(release)"
  export DEBIAN_FRONTEND=noninteractive
  if [ "$id $codename" = "debian bookworm" ]; then
    add_backports
    target=(-t bookworm-backports)
  fi
  apt-get update -qq
  # shellcheck disable=SC2086
  apt-get install -y -qq --no-install-recommends "${target[@]}" $packages >/dev/null
}

# Without root: own package lists (the system's may lack backports), the archives unpacked into one folder.
install_private() {
  local id codename root name target=()
  read -r id codename _ <<<"$(release)"
  root="$PWD/$private/apt"
  mkdir -p "$root/lists/partial" "$root/archives/partial" "$root/sources.d" "$private/root" "$private/debs"
  cp -rL /etc/apt/sources.list.d/. "$root/sources.d/" 2>/dev/null || true
  cp -L /etc/apt/sources.list "$root/sources.list" 2>/dev/null || : > "$root/sources.list"
  if [ "$id $codename" = "debian bookworm" ]; then
    if ! grep -rqs bookworm-backports "$root/sources.d" "$root/sources.list"; then
      echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://deb.debian.org/debian bookworm-backports main" \
        > "$root/sources.d/finevla-backports.list"
    fi
    target=(-t bookworm-backports)
  fi
  local options=(-o "Dir::State::lists=$root/lists" -o "Dir::Cache=$root" -o "Dir::Etc::sourcelist=$root/sources.list"
    -o "Dir::Etc::sourceparts=$root/sources.d" -o "APT::Sandbox::User=$(id -un)" -o "Debug::NoLocking=1")
  apt-get "${options[@]}" update -qq
  # What an installation would bring, less the OpenGL half of mesa, which the simulator never loads.
  apt-get "${options[@]}" -s install --no-install-recommends "${target[@]}" $packages \
    | sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+).*/\1=\3/p' \
    | grep -vE '^(lib)?(gl|egl|gbm|glx|glapi|osmesa)|-dev=|mesa-va' > "$root/wanted" || true
  while read -r name; do
    ( cd "$private/debs" && apt-get "${options[@]}" download -qq "$name" )
  done < "$root/wanted"
  if ! ls "$private"/debs/mesa-vulkan-drivers*.deb >/dev/null 2>&1; then
    ( cd "$private/debs" && apt-get "${options[@]}" download -qq "${target[@]}" mesa-vulkan-drivers )
  fi
  local deb libraries
  for deb in "$private"/debs/*.deb; do dpkg -x "$deb" "$private/root"; done
  libraries="$(dirname "$(find "$PWD/$private/root" -name 'libvulkan_lvp.so' | head -1)")"
  sed -E "s#\"library_path\": *\"[^\"]*\"#\"library_path\": \"$libraries/libvulkan_lvp.so\"#" \
    "$(find "$private/root" -name 'lvp_icd*.json' | head -1)" > "$private/lvp_icd.json"
  printf 'LD_LIBRARY_PATH="%s%s"\nVK_ICD_FILENAMES="%s"\n' "$libraries" '${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}' \
    "$PWD/$private/lvp_icd.json" > "$private/env"
  rm -rf "$root"
}

if [ "${FINEVLA_VULKAN:-auto}" = off ]; then say "left alone (FINEVLA_VULKAN=off)"; exit 0; fi
if [ "${FINEVLA_VULKAN:-auto}" != private ] && answer="$(renders 2>/dev/null)"; then say "renders: $answer"; exit 0; fi
if ! command -v apt-get >/dev/null; then
  say "this machine cannot render and has no apt; install a Vulkan 1.2 driver (mesa lavapipe >= 24 will do)"; exit 1
fi
if [ "$(id -u)" = 0 ] && [ "${FINEVLA_VULKAN:-auto}" != private ]; then install_as_root; else install_private; fi
if answer="$(renders)"; then say "renders: $answer"; else say "still cannot render: $answer"; exit 1; fi
