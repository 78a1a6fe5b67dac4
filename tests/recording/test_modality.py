"""Which columns and cameras a dataset means, in both dialects of modality.json."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.lerobot_reader import Dataset, read_dataset
from finevla_runtime.recording.lerobot_writer import DatasetWriter
from finevla_runtime.recording.modality import Modality, read_modality
from tests.recording.episodes import small_episode, small_format

Slots = dict[str, dict[str, object]]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("modality") / "set"
    writer = DatasetWriter(root, small_format())
    writer.add_episode(small_episode())
    writer.finish()
    return root


def read(written: Path, tmp_path: Path, content: Mapping[str, object] | None, vectors: object = None) -> Modality:
    """Read a modality.json beside the written dataset, whose vectors may be replaced."""
    (tmp_path / "meta").mkdir()
    if content is not None:
        (tmp_path / "meta/modality.json").write_text(json.dumps(content))
    dataset = replace(read_dataset(written), root=tmp_path)
    return read_modality(dataset if vectors is None else replace(dataset, vectors=vectors))


def spans(**typed: str) -> Slots:
    """GR00T's slots; with ``type=...`` FineVLA-Tool's."""
    names = (
        ("left_joint", "left_gripper", "right_joint", "right_gripper")
        if typed
        else ("left_joints", "left_gripper", "right_joints", "right_gripper")
    )
    places = ((0, 6), (6, 7), (7, 13), (13, 14))
    return {name: {"start": a, "end": b, **typed} for name, (a, b) in zip(names, places, strict=True)}


def tool(key: str, kind: str = "abs_joint") -> Slots:
    return {name: {**slot, "original_key": key} for name, slot in spans(type=kind).items()}


def columns(modality: Modality) -> list[int]:
    return [source.column for source in modality.action]


def test_our_own_file_is_read_as_gr00t(written: Path) -> None:
    modality = read_modality(read_dataset(written))
    assert modality.dialect == "gr00t"
    assert columns(modality) == list(range(14))
    assert {source.key for source in modality.state} == {"observation.state"}
    assert modality.cameras == {
        "cam_high": "observation.images.cam_high",
        "cam_left_wrist": "observation.images.cam_left_wrist",
    }
    assert modality.language_key == "task_index"


def test_the_tool_dialect_is_read_by_its_types_and_indices(written: Path, tmp_path: Path) -> None:
    wide = ("pad", *JOINT_NAMES, "torso")
    slots = tool("robot.command")
    slots["left_joint"] = {
        "original_key": "robot.command",
        "indices": [6, 5, 4, 3, 2, 1],
        "dim": 6,
        "type": "abs_joint",
    }
    slots["left_gripper"] |= {"start": 7, "end": 8}
    slots["right_joint"] |= {"start": 8, "end": 14}
    slots["right_gripper"] |= {"start": 14, "end": 15}
    slots["right_eef"] = {"original_key": "robot.command", "start": 0, "end": 7, "type": "delta_quat"}
    content = {"state": tool("observation.state"), "action": slots}
    vectors = {"observation.state": JOINT_NAMES, "robot.command": wide}
    modality = read(written, tmp_path, content, vectors)
    assert modality.dialect == "finevla_tool"
    assert columns(modality) == [6, 5, 4, 3, 2, 1, 7, 8, 9, 10, 11, 12, 13, 14]
    assert modality.cameras["cam_high"] == "observation.images.cam_high"


def test_dotted_parts_and_arms_of_seven_make_the_layout(written: Path, tmp_path: Path) -> None:
    state = {"left_joint_pos": {"start": 0, "end": 7}, "right_joint_pos": {"start": 7, "end": 14}}
    action = tool("action")
    del action["left_joint"]
    for name, (a, b) in {"left_joint.shoulder": (0, 2), "left_joint.wrist": (2, 6)}.items():
        action[name] = {"original_key": "action", "start": a, "end": b, "type": "abs_joint"}
    modality = read(written, tmp_path, {"state": _typed(state), "action": action})
    assert columns(modality) == list(range(14))
    assert [source.column for source in modality.state] == list(range(14))


def _typed(slots: Slots) -> Slots:
    return {name: {**slot, "original_key": "observation.state", "type": "abs_joint"} for name, slot in slots.items()}


def test_a_file_that_mixes_the_dialects_is_refused(written: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-REC-021.*action\.left_joint has a type.*state\.left_joints has none"):
        read(written, tmp_path, {"state": spans(), "action": tool("action")})


def without(name: str) -> Slots:
    return {key: slot for key, slot in spans().items() if key != name}


@pytest.mark.parametrize(
    ("action", "code", "words"),
    [
        (without("right_joints"), "FV-REC-022", "no joints of the right arm"),
        (without("left_gripper"), "FV-REC-022", "no gripper of the left arm"),
        (spans() | {"left_arm": {"start": 0, "end": 6}}, "FV-REC-022", "left_joints and left_arm"),
        (spans() | {"left_joints": {"start": 0, "end": 5}}, "FV-REC-023", "5 joints"),
        (spans() | {"right_gripper": {"start": 13, "end": 15}}, "FV-REC-023", "column 14 of action"),
        (spans() | {"left_joints": {"start": 0, "end": 6, "dim": 7}}, "FV-REC-023", "dim is 7"),
        (spans() | {"left_joints": {"start": 0, "end": 6, "original_key": "actoin"}}, "FV-REC-022", "'action'"),
        (spans() | {"left_joints": {"start": 6, "end": 6}}, "FV-REC-002", "end must be greater"),
        (spans() | {"left_joints": {"start": 0, "end": 6, "indices": [0]}}, "FV-REC-022", "keep one"),
        (spans() | {"left_joints": {"indices": [0, 0]}}, "FV-REC-002", "different whole numbers"),
        (spans() | {"left_joints": {"start": 0, "end": 6, "absolute": False}}, "FV-REC-024", "rel_joint"),
    ],
)
def test_an_action_that_is_not_fourteen_absolute_joints_is_refused_by_slot(
    written: Path, tmp_path: Path, action: Slots, code: str, words: str
) -> None:
    with pytest.raises(SetupError, match=code) as caught:
        read(written, tmp_path, {"state": spans(), "action": action})
    assert words in str(caught.value)
    assert "modality.json" in str(caught.value)


@pytest.mark.parametrize("kind", ["delta_joint", "rel_joint", "abs_quat"])
def test_joints_of_the_tool_dialect_that_are_not_absolute_are_refused(written: Path, tmp_path: Path, kind: str) -> None:
    with pytest.raises(SetupError, match=f"FV-REC-024.*{kind}"):
        read(written, tmp_path, {"state": tool("observation.state"), "action": tool("action", kind)})


def test_an_unknown_type_is_no_type(written: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"FV-REC-002.*type is 'absolute'"):
        read(written, tmp_path, {"state": tool("observation.state"), "action": tool("action", "absolute")})


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"video": {"cam_high": {"original_key": "observation.images.cam_hgih"}}}, "camera feature"),
        ({"video": {n: {"original_key": "observation.images.cam_high"} for n in "ab"}}, "already has another name"),
        ({"annotation": {"a": {}, "b": {}}}, "say which one"),
        ({"annotation": {}}, "say which one"),
    ],
)
def test_cameras_and_texts_that_are_unclear_are_refused(
    written: Path, tmp_path: Path, extra: dict[str, object], words: str
) -> None:
    with pytest.raises(SetupError, match="FV-REC-022") as caught:
        read(written, tmp_path, {"state": spans(), "action": spans(), **extra})
    assert words in str(caught.value)


def test_a_camera_may_have_another_name_than_its_feature(written: Path, tmp_path: Path) -> None:
    video = {"head": {"original_key": "observation.images.cam_high"}, "cam_left_wrist": {}}
    content = {"state": spans(), "action": spans(), "video": video, "annotation": {"human.task": {}}}
    modality = read(written, tmp_path, content)
    assert modality.cameras["head"] == "observation.images.cam_high"
    assert modality.language_key == "annotation.human.task"


def test_without_the_file_only_the_projects_own_joint_names_are_accepted(written: Path, tmp_path: Path) -> None:
    assert read(written, tmp_path, None).dialect == "names"
    (tmp_path / "meta").rmdir()
    with pytest.raises(SetupError, match=r"FV-REC-020.*left_waist"):
        read(written, tmp_path, None, {"observation.state": JOINT_NAMES, "action": ("left_waist",) * 14})


def test_a_robot_of_another_width_and_names_is_read_by_its_file(tmp_path: Path) -> None:
    """RoboCOIN's 26 columns: joints, gripper and more per arm, in lists of floats of one width."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = tmp_path / "set"
    writer = DatasetWriter(root, small_format())
    writer.add_episode(small_episode())
    writer.finish()
    wide = np.random.default_rng(5).normal(size=(7, 26))
    path = root / "data/chunk-000/episode_000000.parquet"
    table = pq.read_table(path)
    for name in ("action", "observation.state"):
        column = pa.array(wide.tolist(), type=pa.list_(pa.float64()))
        table = table.set_column(table.schema.get_field_index(name), name, column)
    pq.write_table(table, path)
    info = json.loads((root / "meta/info.json").read_text())
    for name in ("action", "observation.state"):
        info["features"][name] = {"dtype": "float64", "shape": [26], "names": {"motors": [f"m{i}" for i in range(26)]}}
    (root / "meta/info.json").write_text(json.dumps(info))
    slots = {
        "left_joints": {"start": 0, "end": 6},
        "left_gripper": {"start": 6, "end": 7},
        "right_joints": {"start": 13, "end": 19},
        "right_gripper": {"start": 19, "end": 20},
    }
    (root / "meta/modality.json").write_text(json.dumps({"state": slots, "action": slots}))
    dataset: Dataset = read_dataset(root)
    modality = read_modality(dataset)
    assert columns(modality) == [0, 1, 2, 3, 4, 5, 6, 13, 14, 15, 16, 17, 18, 19]
    assert np.array_equal(dataset.episodes[0].action(), wide.astype(np.float32))
