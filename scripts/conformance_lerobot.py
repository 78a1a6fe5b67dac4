"""One side of `make conformance`, run inside .venv-conformance: PyPI lerobot reads our datasets and writes its own.

`conformance_lerobot.py read DATASET RESULT.json` opens a v2.1 dataset with lerobot 0.3.3 and writes down what it saw;
`conformance_lerobot.py write FOLDER` writes v3.0 datasets with lerobot 0.4.4. Which lerobot is imported is decided by
PYTHONPATH in scripts/conformance.sh.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import torch

from tests.recording.episodes import CAMERAS, JOINTS, conformance_episodes

# torchvision's compiled operators need CUDA libraries; its Python parts, all that lerobot uses here, need two names.
_OPERATORS = torch.library.Library("torchvision", "DEF")
_OPERATORS.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
_OPERATORS.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

NUMBERS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
VECTORS = ("observation.state", "action")


def read(root: Path, result: Path) -> None:
    """Write down every row, picture and statistic that lerobot finds in a dataset."""
    from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

    dataset = LeRobotDataset("finevla/conformance", root=root)
    pictures = not dataset.meta.video_keys
    rows = []
    for position in range(len(dataset)):
        item = dataset[position] if pictures else dataset.hf_dataset[position]
        row: dict[str, object] = {name: item[name].item() for name in NUMBERS}
        row |= {name: item[name].tolist() for name in VECTORS}
        row["task"] = dataset.meta.tasks[int(item["task_index"])]
        if pictures:
            row["pictures"] = {key: _digest(item[key]) for key in dataset.meta.camera_keys}
        rows.append(row)
    seen = {
        "reader": f"lerobot {CODEBASE_VERSION}",
        "fps": dataset.fps,
        "robot_type": dataset.meta.robot_type,
        "episodes": dataset.num_episodes,
        "lengths": [dataset.meta.episodes[number]["length"] for number in range(dataset.num_episodes)],
        "cameras": list(dataset.meta.camera_keys),
        "videos": [str(dataset.meta.get_video_file_path(0, key)) for key in dataset.meta.video_keys],
        "action_mean": np.asarray(dataset.meta.stats["action"]["mean"]).tolist(),
        "action_max": np.asarray(dataset.meta.stats["action"]["max"]).tolist(),
        "rows": rows,
    }
    result.parent.mkdir(parents=True, exist_ok=True)
    result.write_text(json.dumps(seen) + "\n", encoding="utf-8")


def _digest(picture: torch.Tensor) -> str:
    """Hash a picture float[3, height, width] in 0..1 as the uint8[height, width, 3] bytes it came from."""
    pixels = (picture.permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()


def write(folder: Path) -> None:
    """Write the same episodes as pictures and as videos, and what lerobot itself says about their rows."""
    from lerobot.datasets.lerobot_dataset import LeRobotDataset

    for name, videos in (("v30_png", False), ("v30_video", True)):
        features: dict[str, dict[str, object]] = {
            key: {"dtype": "float32", "shape": (len(JOINTS),), "names": list(JOINTS)} for key in VECTORS
        }
        for camera in CAMERAS:
            shape = (camera.height, camera.width, 3)
            names = ["height", "width", "channels"]
            features[camera.feature] = {"dtype": "video" if videos else "image", "shape": shape, "names": names}
        dataset = LeRobotDataset.create(
            "finevla/conformance",
            10,
            features,
            root=folder / name,
            robot_type="cobot_magic_sim",
            use_videos=videos,
            vcodec="h264",
        )
        for episode in conformance_episodes():
            for step in range(episode.length):
                frame: dict[str, object] = {VECTORS[0]: episode.state[step], VECTORS[1]: episode.action[step]}
                frame |= {camera.feature: episode.frames[camera.name][step] for camera in CAMERAS}
                dataset.add_frame(frame | {"task": episode.task})
            dataset.save_episode()
        dataset.finalize()


if __name__ == "__main__":
    if sys.argv[1] == "read":
        read(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        write(Path(sys.argv[2]))
