"""The shape of a LeRobot v2.1 dataset: features, file names, ``info.json`` and ``modality.json``.

Source: LeRobot 0.3.3, the last release that writes v2.1; ``modality.json`` as in GR00T and the released FineVLA
training files.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.recording.json_lines import JsonObject

CODEBASE_VERSION = "v2.1"
STATE = "observation.state"
ACTION = "action"
INDEX_COLUMNS = ("timestamp", "frame_index", "episode_index", "index", "task_index")
DATA_PATH = "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet"
VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
FRAME_STORES = ("png", "video")


@dataclass(frozen=True)
class CameraFormat:
    """One camera of a dataset: its name and the pixels of its frames.

    Attributes:
        name: camera name.
        height, width: pixels.
        key: feature key in the dataset when it is not ``observation.images.<camera>``.
    """

    name: str
    height: int
    width: int
    key: str = ""

    @property
    def feature(self) -> str:
        """Return the feature key, ``observation.images.<camera>`` unless the dataset says otherwise."""
        return self.key or f"observation.images.{self.name}"


@dataclass(frozen=True)
class DatasetFormat:
    """Everything fixed before the first episode.

    Attributes:
        robot_type: body the episodes come from.
        fps: control steps per second; one row per control step.
        cameras: cameras in policy order.
        frames: ``png`` (PNG bytes inside the parquet files) or ``video`` (one H.264 mp4 per camera and episode).
        joints: names of the state and action dimensions.
        chunk_episodes: episodes per folder.
    """

    robot_type: str
    fps: int
    cameras: tuple[CameraFormat, ...]
    frames: str = "png"
    joints: tuple[str, ...] = JOINT_NAMES
    chunk_episodes: int = 1000

    def __post_init__(self) -> None:
        """Refuse an unknown way to store frames (FV-REC-013)."""
        if self.frames not in FRAME_STORES:
            raise unknown_name("FV-REC-013", "frame store", self.frames, FRAME_STORES)

    def data_path(self, episode: int) -> str:
        """Return the parquet file of an episode, relative to the dataset."""
        return DATA_PATH.format(episode_chunk=episode // self.chunk_episodes, episode_index=episode)

    def video_path(self, episode: int, camera: CameraFormat) -> str:
        """Return the video file of an episode and camera, relative to the dataset."""
        return VIDEO_PATH.format(
            episode_chunk=episode // self.chunk_episodes, video_key=camera.feature, episode_index=episode
        )

    def features(self) -> dict[str, JsonObject]:
        """Return the ``features`` entry of ``info.json``."""
        vector = {"dtype": "float32", "shape": [len(self.joints)], "names": list(self.joints)}
        listed: dict[str, JsonObject] = {STATE: vector, ACTION: vector}
        for camera in self.cameras:
            listed[camera.feature] = self._camera_feature(camera)
        for name in INDEX_COLUMNS:
            dtype = "float32" if name == "timestamp" else "int64"
            listed[name] = {"dtype": dtype, "shape": [1], "names": None}
        return listed

    def _camera_feature(self, camera: CameraFormat) -> JsonObject:
        feature: dict[str, object] = {
            "dtype": "image" if self.frames == "png" else "video",
            "shape": [camera.height, camera.width, 3],
            "names": ["height", "width", "channels"],
        }
        if self.frames == "video":
            feature["info"] = {
                "video.fps": float(self.fps),
                "video.height": camera.height,
                "video.width": camera.width,
                "video.channels": 3,
                "video.codec": "h264",
                "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False,
                "has_audio": False,
            }
        return feature

    def info(self, episodes: int, frames: int, tasks: int) -> JsonObject:
        """Return ``meta/info.json`` for the given totals."""
        videos = episodes * len(self.cameras) if self.frames == "video" else 0
        return {
            "codebase_version": CODEBASE_VERSION,
            "robot_type": self.robot_type,
            "total_episodes": episodes,
            "total_frames": frames,
            "total_tasks": tasks,
            "total_videos": videos,
            "total_chunks": -(-episodes // self.chunk_episodes),
            "chunks_size": self.chunk_episodes,
            "fps": self.fps,
            "splits": {"train": f"0:{episodes}"},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if self.frames == "video" else None,
            "features": self.features(),
        }

    def modality(self) -> JsonObject:
        """Return ``meta/modality.json`` in GR00T's dialect."""
        spans = (("left_joints", 0, 6), ("left_gripper", 6, 7), ("right_joints", 7, 13), ("right_gripper", 13, 14))

        def group(original_key: str) -> dict[str, JsonObject]:
            return {n: {"start": a, "end": b, "original_key": original_key} for n, a, b in spans}

        return {
            "state": group(STATE),
            "action": group(ACTION),
            "video": {camera.name: {"original_key": camera.feature} for camera in self.cameras},
            "annotation": {"human.action.task_description": {"original_key": "task_index"}},
        }

    def hugging_face_features(self) -> str:
        """Return the parquet schema metadata by which `datasets` decodes the image columns."""
        vector = {"feature": {"dtype": "float32", "_type": "Value"}, "length": len(self.joints), "_type": "Sequence"}
        features: dict[str, JsonObject] = {}
        if self.frames == "png":
            features.update({camera.feature: {"_type": "Image"} for camera in self.cameras})
        features.update({STATE: vector, ACTION: vector})
        for name in INDEX_COLUMNS:
            features[name] = {"dtype": "float32" if name == "timestamp" else "int64", "_type": "Value"}
        return json.dumps({"info": {"features": features}})
