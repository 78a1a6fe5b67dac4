"""``meta/modality.json``: which columns of a dataset make the project's fourteen joint values, which camera is which.

Two dialects share the file name. GR00T's (also StarVLA's and FineVLA's training files) names spans of
``observation.state`` and ``action``, cameras and annotations. FineVLA-Tool's gives every slot an ``original_key`` and
a ``type`` such as ``abs_joint`` and has no cameras. They are told apart by ``type``, never guessed: a file in which
some slots have a type and others have none is refused. Source: StarVLA's Robotwin/train_files/modality.json and
FineVLA-Tool/CanonicalizeAndClean.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.recording.dataset_format import ACTION, STATE
from finevla_runtime.recording.json_lines import JsonObject, read_object, value
from finevla_runtime.recording.modality_slot import ColumnSource, Slot, read_slots
from finevla_runtime.recording.recorded_dataset import Dataset

GR00T, FINEVLA_TOOL, NAMES = "gr00t", "finevla_tool", "names"
TASK_INDEX = "task_index"
TASK_ANNOTATION = "human.action.task_description"
ARM_JOINTS = 6
SIDES = ("left", "right")
_JOINTS = ("joints", "joint", "arm", "joint_pos", "arm_joints", "joint_position")
_GRIPPER = ("gripper", "gripper_pos", "gripper_position", "gripper_joint")
_ABSOLUTE = "abs_joint"


@dataclass(frozen=True)
class Modality:
    """How to read one dataset.

    Attributes:
        dialect: ``gr00t``, ``finevla_tool`` or ``names`` (no file; ``info.json`` names the project's joints).
        state, action: fourteen columns each, in the project's layout.
        cameras: camera name -> feature of the dataset.
        language_key: column whose numbers point into the list of tasks.
    """

    dialect: str
    state: tuple[ColumnSource, ...]
    action: tuple[ColumnSource, ...]
    cameras: Mapping[str, str]
    language_key: str

    def columns(self) -> list[str]:
        """Return every feature that state, action and language read, each once."""
        return list(dict.fromkeys([*(source.key for source in (*self.state, *self.action)), self.language_key]))


def read_modality(dataset: Dataset, language: str = "") -> Modality:
    """Read ``meta/modality.json`` of a dataset and check it against ``info.json``.

    Args:
        dataset: the dataset.
        language: annotation to read texts by when the file lists several; empty takes the task description.

    Raises:
        SetupError: FV-REC-020 (no file and no names to go by), FV-REC-021 (dialects mixed), FV-REC-022 (a slot, a
            camera or the language is missing or ambiguous), FV-REC-023 (wrong width), FV-REC-024 (not absolute joint
            positions), FV-REC-002 (malformed).
    """
    path = dataset.root / "meta" / "modality.json"
    if not path.exists():
        return _by_names(dataset)
    root, where = read_object(path), str(path)
    groups = {name: value(root, name, dict, where) for name in ("state", "action")}
    dialect = _dialect(groups, where)
    slots = {
        name: read_slots(
            group, {"state": STATE, "action": ACTION}[name] if dialect == GR00T else "", f"{where} ({name})"
        )
        for name, group in groups.items()
    }
    for name, found in slots.items():
        _check_columns(found, dataset, f"{where} ({name})")
    return Modality(
        dialect=dialect,
        state=_layout(slots["state"], f"{where} (state)"),
        action=_layout(slots["action"], f"{where} (action)"),
        cameras=_cameras(root, dataset, where),
        language_key=_language_key(root, language, where),
    )


def _dialect(groups: Mapping[str, JsonObject], where: str) -> str:
    """Tell the dialects apart by the key ``type``, which FineVLA-Tool requires and GR00T does not know."""
    typed: list[str] = []
    untyped: list[str] = []
    for name, group in groups.items():
        for slot, entry in group.items():
            (typed if isinstance(entry, dict) and "type" in entry else untyped).append(f"{name}.{slot}")
    if typed and untyped:
        raise SetupError(
            "FV-REC-021",
            f"{where}: {typed[0]} has a type (FineVLA-Tool's dialect), {untyped[0]} has none (GR00T's); the two read "
            "differently, so write all slots in one of them.",
        )
    return FINEVLA_TOOL if typed else GR00T


def _by_names(dataset: Dataset) -> Modality:
    """Accept a dataset without the file when its joints carry the project's names in the project's order."""
    for key in (STATE, ACTION):
        names = dataset.vectors.get(key)
        if names != JOINT_NAMES:
            got = "is missing" if names is None else f"has the dimensions {', '.join(names)}"
            raise SetupError(
                "FV-REC-020",
                f"{dataset.root} has no meta/modality.json and {key} {got}; write the file to say which columns are "
                f"the joints {', '.join(JOINT_NAMES)}.",
            )
    columns = {key: tuple(ColumnSource(key, number) for number in range(len(JOINT_NAMES))) for key in (STATE, ACTION)}
    cameras = {camera.name: camera.feature for camera in dataset.format.cameras}
    return Modality(NAMES, columns[STATE], columns[ACTION], cameras, TASK_INDEX)


def _check_columns(slots: Mapping[str, Slot], dataset: Dataset, where: str) -> None:
    """Refuse slots that point at no feature or beyond its width."""
    for name, slot in slots.items():
        names = dataset.vectors.get(slot.key)
        if names is None:
            raise unknown_name("FV-REC-022", "original_key", slot.key, dataset.vectors, f"{where}, slot {name}")
        if max(slot.columns) >= len(names):
            raise SetupError(
                "FV-REC-023",
                f"{where}: slot {name} reads column {max(slot.columns)} of {slot.key}, which has {len(names)} columns.",
            )


def _layout(slots: Mapping[str, Slot], where: str) -> tuple[ColumnSource, ...]:
    """Return the fourteen columns [left joints, left gripper, right joints, right gripper]."""
    found: list[ColumnSource] = []
    for side in SIDES:
        joints = _find(slots, side, _JOINTS, where)
        gripper = _find(slots, side, _GRIPPER, where)
        if not joints:
            known = [f"{side}_{name}" for name in _JOINTS]
            raise SetupError(
                "FV-REC-022",
                f"{where} has no joints of the {side} arm; it has {', '.join(slots) or 'no slot'}, wanted one of "
                f"{', '.join(known)}.",
            )
        # One slot of seven without a gripper slot is an arm whose last value is its gripper (left_joint_pos[7]).
        if not gripper and len(joints) == ARM_JOINTS + 1:
            joints, gripper = joints[:-1], joints[-1:]
        if not gripper:
            raise SetupError("FV-REC-022", f"{where} has no gripper of the {side} arm; it has {', '.join(slots)}.")
        if len(joints) != ARM_JOINTS or len(gripper) != 1:
            raise SetupError(
                "FV-REC-023",
                f"{where}: the {side} arm has {len(joints)} joints and {len(gripper)} gripper values, wanted "
                f"{ARM_JOINTS} and 1.",
            )
        found += [*joints, *gripper]
    return tuple(found)


def _find(slots: Mapping[str, Slot], side: str, names: tuple[str, ...], where: str) -> tuple[ColumnSource, ...]:
    """Return the columns of the one slot (or its dotted parts, in order) that has one of ``names``."""
    known = {f"{side}_{name}" for name in names}
    stems = list(dict.fromkeys(name.split(".")[0] for name in slots if name.split(".")[0] in known))
    if len(stems) > 1:
        raise SetupError("FV-REC-022", f"{where}: slots {' and '.join(stems)} both claim to be the {side} {names[0]}.")
    parts = [(name, slot) for name, slot in slots.items() if name.split(".")[0] in stems]
    for name, slot in parts:
        if slot.kind not in ("", _ABSOLUTE):
            raise SetupError(
                "FV-REC-024",
                f"{where}: slot {name} is {slot.kind!r}; training wants absolute joint positions ({_ABSOLUTE}). "
                "Convert the dataset first.",
            )
    return tuple(source for _, slot in parts for source in slot.sources())


def _cameras(root: JsonObject, dataset: Dataset, where: str) -> Mapping[str, str]:
    """Return camera name -> feature; a file without cameras leaves the names of ``info.json``."""
    features = {camera.feature: camera.name for camera in dataset.format.cameras}
    if "video" not in root:
        return {name: feature for feature, name in features.items()}
    found: dict[str, str] = {}
    for name, entry in value(root, "video", dict, where).items():
        place = f"{where} (video.{name})"
        if not isinstance(entry, dict):
            raise SetupError("FV-REC-002", f"{place} holds {type(entry).__name__}, wanted an object.")
        key = value(entry, "original_key", str, place) if "original_key" in entry else f"observation.images.{name}"
        if key not in features:
            raise unknown_name("FV-REC-022", "camera feature", key, features, place)
        if key in found.values():
            raise SetupError("FV-REC-022", f"{place}: {key} already has another name; each camera has one.")
        found[name] = key
    return found


def _language_key(root: JsonObject, language: str, where: str) -> str:
    """Return the column that points into the list of tasks."""
    if "annotation" not in root:
        if language:
            raise unknown_name("FV-REC-022", "annotation", language, (), where)
        return TASK_INDEX
    entries = value(root, "annotation", dict, where)
    name = language or (TASK_ANNOTATION if TASK_ANNOTATION in entries else "")
    if not name and len(entries) == 1:
        (name,) = entries
    if not name:
        listed = ", ".join(entries) or "none"
        raise SetupError("FV-REC-022", f"{where}: annotations are {listed}; say which one holds the instruction.")
    if name not in entries:
        raise unknown_name("FV-REC-022", "annotation", name, entries, where)
    entry = entries[name]
    key = entry.get("original_key") if isinstance(entry, dict) else None
    return key if isinstance(key, str) else f"annotation.{name}"
