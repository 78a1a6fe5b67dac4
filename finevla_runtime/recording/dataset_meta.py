"""What both LeRobot versions say in the same words: ``info.json``, fine-grained instructions, trial notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import ACTION, STATE, CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote
from finevla_runtime.recording.json_lines import JsonObject, read_lines, read_object, texts, value
from finevla_runtime.recording.lerobot_writer import DATASET_FILE

FINE_GRAINED_FILE = "FineGrainedInstruction.jsonl"
_FLOATS = ("float16", "float32", "float64")


def read_format(info: JsonObject, where: str) -> DatasetFormat:
    """Return cameras, rate and names of a dataset of any robot (FV-REC-002 naming the key that is wrong)."""
    features = value(info, "features", dict, where)
    cameras, kinds = [], set()
    for key, feature in features.items():
        if isinstance(feature, dict) and feature.get("dtype") in ("image", "video") and not _is_depth(feature):
            height, width = _picture_size(feature, f"{where} ({key})")
            name = key.removeprefix("observation.images.")
            cameras.append(CameraFormat(name, height, width, "" if name != key else key))
            kinds.add(feature["dtype"])
    if len(kinds) > 1:
        raise SetupError("FV-REC-002", f"{where}: some cameras are images, others videos; wanted one of both.")
    fps = value(info, "fps", float, where)
    if fps <= 0 or fps != int(fps):
        raise SetupError("FV-REC-002", f"{where}: fps is {fps}, wanted a positive whole number.")
    robot = info.get("robot_type")
    return DatasetFormat(
        robot_type=robot if isinstance(robot, str) else "",
        fps=int(fps),
        cameras=tuple(cameras),
        frames="video" if kinds == {"video"} else "png",
        joints=read_vectors(info, where).get(ACTION, ()),
        chunk_episodes=value(info, "chunks_size", int, where),
    )


def read_vectors(info: JsonObject, where: str) -> Mapping[str, tuple[str, ...]]:
    """Return feature -> names of its dimensions for every vector of floats, state and action first."""
    features = value(info, "features", dict, where)
    found = {}
    for key in sorted(features, key=lambda key: (key not in (STATE, ACTION), key)):
        feature = features[key]
        if not isinstance(feature, dict) or feature.get("dtype") not in _FLOATS or key == "timestamp":
            continue
        shape = value(feature, "shape", list, f"{where} ({key})")
        if len(shape) == 1 and isinstance(shape[0], int):
            found[key] = _dimension_names(feature.get("names"), key, shape[0], f"{where} ({key})")
    return found


def read_fine_grained(meta: Path, episodes: int) -> Mapping[int, tuple[str, ...]]:
    """Return episode -> sentences from ``FineGrainedInstruction.jsonl``; nothing when there is no such file.

    Raises:
        SetupError: FV-REC-002 (malformed line), FV-REC-027 (an episode the dataset does not have, an episode twice,
            or a line without words).
    """
    path = meta / FINE_GRAINED_FILE
    if not path.exists():
        return {}
    found: dict[int, tuple[str, ...]] = {}
    for number, entry in enumerate(read_lines(path), start=1):
        where = f"{path}:{number}"
        episode, sentences = value(entry, "episode_id", int, where), texts(entry, "FineGrainedInstruction", where)
        if not 0 <= episode < episodes or episode in found:
            problem = "appears twice" if episode in found else f"is none of the {episodes} episodes"
            raise SetupError("FV-REC-027", f"{where}: episode_id {episode} {problem}; each episode has one line.")
        if not " ".join(sentences).strip():
            raise SetupError("FV-REC-027", f"{where}: episode {episode} has no words; remove the line or annotate it.")
        found[episode] = sentences
    return found


def read_notes(meta: Path) -> Mapping[int, DemonstrationNote]:
    """Return episode -> what is known about a simulated demonstration, from ``finevla_trials.jsonl``."""
    path = meta / "finevla_trials.jsonl"
    if not path.exists():
        return {}
    return {
        value(entry, "episode_index", int, f"{path}:{n}"): DemonstrationNote.from_json(entry, f"{path}:{n}")
        for n, entry in enumerate(read_lines(path), start=1)
    }


def recorded_digest(root: Path) -> str:
    """Return the content hash that our writer recorded, empty for datasets of other writers."""
    path = root / DATASET_FILE
    return value(read_object(path), "digest", str, str(path)) if path.exists() else ""


def check_totals(info: JsonObject, lengths: Sequence[int], listed: str, where: str) -> None:
    """Refuse totals of ``info.json`` that contradict the lengths in the file ``listed`` (FV-REC-006)."""
    for key, count in {"total_episodes": len(lengths), "total_frames": sum(lengths)}.items():
        if value(info, key, int, where) != count:
            raise SetupError("FV-REC-006", f"{where}: {key} is {info[key]}, {listed} adds up to {count}.")


def file_name(template: str, where: str, **numbers: int | str) -> str:
    """Fill a path template of ``info.json`` (FV-REC-002 when it has other fields or leaves the dataset)."""
    try:
        name = template.format(**numbers)
    except (KeyError, IndexError, ValueError) as error:
        raise SetupError("FV-REC-002", f"{where}: path template {template!r} cannot be filled: {error}.") from error
    if name.startswith("/") or ".." in Path(name).parts:
        raise SetupError("FV-REC-002", f"{where}: path template {template!r} leaves the dataset's folder.")
    return name


def _is_depth(feature: JsonObject) -> bool:
    details = feature.get("info") or feature.get("video_info")
    return isinstance(details, dict) and details.get("video.is_depth_map") is True


def _picture_size(feature: JsonObject, where: str) -> tuple[int, int]:
    """Return (height, width); the axes are found by their names, [height, width, 3] when there are none."""
    shape = value(feature, "shape", list, where)
    if len(shape) != 3 or not all(isinstance(size, int) for size in shape):
        raise SetupError("FV-REC-002", f"{where}: shape is {shape}, wanted [height, width, 3].")
    names = feature.get("names")
    first = isinstance(names, list) and len(names) == 3 and names[0] in ("channel", "channels")
    height, width = (shape[1], shape[2]) if first else (shape[0], shape[1])
    return height, width


def _dimension_names(names: object, key: str, width: int, where: str) -> tuple[str, ...]:
    """Return the names of the dimensions; LeRobot allows a list, a group of lists and none at all."""
    if isinstance(names, dict):
        names = [name for group in names.values() if isinstance(group, list) for name in group]
    if not isinstance(names, list) or not names:
        return tuple(f"{key}[{number}]" for number in range(width))
    if len(names) != width or not all(isinstance(name, str) for name in names):
        raise SetupError("FV-REC-002", f"{where}: {len(names)} names for {width} dimensions.")
    return tuple(names)
