#!/usr/bin/env bash
# Our LeRobot files against PyPI's lerobot, both ways: 0.3.3 (the last v2.1 release) reads what our writer wrote, and
# our reader reads what 0.4.4 (v3.0) wrote. The results go to out/conformance and the golden tests run on them.
#
#   scripts/conformance.sh          compare
#   scripts/conformance.sh --keep   compare, then make the results the golden files that `make test` reads
#
# lerobot declares older torch, torchvision and hub versions than it needs for its datasets, so it is installed without
# its dependencies into its own folders, which never touch .venv. Neither release can decode video here (torchvision
# dropped its reader, torchcodec needs FFmpeg's shared libraries): lerobot reads pictures, and of videos the rows.
set -euo pipefail
cd "$(dirname "$0")/.."

venv=.venv-conformance
hash="$(sha256sum "$0" | cut -c1-16)"
if [ ! -e "$venv/stamp-$hash" ]; then
  echo "conformance: making $venv (about 2 GB)" >&2
  python3 -m venv --clear "$venv"
  pip=("$venv/bin/pip" install -q --disable-pip-version-check)
  "${pip[@]}" torch==2.13.0 datasets==4.1.1 av==18.1.0 numpy==2.4.6 pyarrow==26.0.1 jsonlines 'huggingface-hub<1' \
    einops packaging draccus==0.10.0 opencv-python-headless gymnasium imageio deepdiff safetensors tqdm pyyaml psutil
  "${pip[@]}" --no-deps torchvision==0.28.0 accelerate==1.15.0
  "${pip[@]}" --no-deps --target "$venv/lerobot-0.3.3" lerobot==0.3.3 datasets==3.6.0
  "${pip[@]}" --no-deps --target "$venv/lerobot-0.4.4" lerobot==0.4.4
  touch "$venv/stamp-$hash"
fi

out=out/conformance
rm -rf "$out"
mkdir -p "$out"
# An empty cache each time: the two `datasets` releases cannot read one another's.
export HF_HUB_OFFLINE=1 HF_HOME="$PWD/$out/cache" TOKENIZERS_PARALLELISM=false
lerobot() { PYTHONPATH="$PWD/$venv/lerobot-$1:$PWD" "$venv/bin/python" scripts/conformance_lerobot.py "${@:2}"; }

PYTHONPATH="$PWD" .venv/bin/python scripts/conformance_ours.py "$out"
for kind in png video; do
  lerobot 0.3.3 read "$out/ours_$kind" "$out/read_$kind.json"
  rm -rf "$HF_HOME"
done
lerobot 0.4.4 write "$out"
rm -rf "$HF_HOME"
chmod -R u=rwX,go=rX "$out"

CONFORMANCE="$PWD/$out" PYTHONPATH="$PWD" .venv/bin/python -m pytest -q -p no:cacheprovider tests/recording/test_conformance.py
if [ "${1:-}" = --keep ]; then
  golden=tests/recording/golden
  rm -rf "$golden"
  mkdir -p "$golden"
  cp -r "$out"/read_png.json "$out"/read_video.json "$out"/v30_png "$out"/v30_video "$golden"/
  echo "conformance: kept in $golden" >&2
fi
