"""What a dataset gives to training, and what it refuses before the first step."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finevla_runtime.contracts.errors import SetupError
from tests.training.data.vla_sets import CHUNK, TASKS, episode, opened, write_set
from training.data.gripper_range import GripperRange
from training.data.instruction_mixture import InstructionMixture, MixturePlan
from training.data.vla_dataset import VLADataset

GOLDEN = Path(__file__).parents[2] / "recording" / "golden"


def replace_column(path: Path, name: str, values: pa.Array) -> None:
    table = pq.read_table(path)
    pq.write_table(table.set_column(table.schema.get_field_index(name), name, values), path)


def rows_file(root: Path, number: int) -> Path:
    return root / f"data/chunk-000/episode_{number:06d}.parquet"


def vectors(rows: np.ndarray) -> pa.Array:
    return pa.FixedSizeListArray.from_arrays(pa.array(rows.astype(np.float32).reshape(-1)), rows.shape[1])


def test_a_chunk_is_the_next_rows_and_its_last_row_repeats_at_the_end(partly: VLADataset) -> None:
    recorded = episode(2, 9, True)
    assert np.array_equal(partly.chunk(2, 0, 4), recorded.action[:4])
    late = partly.chunk(2, 6, CHUNK)
    assert np.array_equal(late[:3], recorded.action[6:])
    assert np.array_equal(late[3:], np.repeat(recorded.action[8:], CHUNK - 3, axis=0))
    assert np.array_equal(partly.state(2, 6), recorded.state[6])


def test_a_sample_has_the_raw_or_the_joined_fine_text(partly: VLADataset) -> None:
    assert partly.text(1, 3, fine_grained=False) == TASKS[1]
    assert partly.text(2, 3, fine_grained=True) == "Use the left hand. Do it 2 times."
    with pytest.raises(SetupError, match="FV-DAT-010: episode 1"):
        partly.text(1, 3, fine_grained=True)


def test_a_version_3_dataset_of_lerobot_trains_like_a_version_2_one(tmp_path: Path) -> None:
    for kind in ("png", "video"):
        dataset = opened(GOLDEN / f"v30_{kind}", tmp_path, grippers=GripperRange(-4, 4))
        assert dataset.source.version == "v3.0"
        assert len(dataset.rows.action) == 18
        assert [dataset.text(number, 0, fine_grained=False) for number in range(3)] == [TASKS[0], TASKS[1], TASKS[0]]


def test_a_missing_camera_is_named_with_the_nearest_one(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    with pytest.raises(SetupError, match=r"FV-DAT-001.*'cam_hihg'.*'cam_high' the same"):
        opened(root, tmp_path, cameras={"cam_high": "cam_hihg"})


def test_a_camera_may_have_another_name_in_the_dataset(tmp_path: Path) -> None:
    dataset = opened(write_set(tmp_path / "set"), tmp_path, cameras={"cam_high": "cam_left_wrist"})
    assert dataset.cameras["cam_high"] == "cam_left_wrist"


def test_a_target_that_is_not_finite_is_named_with_episode_frame_and_joint(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    rows = episode(1, 7, False).action.copy()
    rows[4, 2] = np.nan
    replace_column(rows_file(root, 1), "action", vectors(rows))
    with pytest.raises(SetupError, match=r"FV-REC-007: episode 1 .*frame 4: action of left_j3"):
        opened(root, tmp_path)


def test_rows_of_the_wrong_width_are_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    replace_column(rows_file(root, 2), "action", vectors(np.zeros((9, 12))))
    with pytest.raises(SetupError, match=r"FV-REC-005: episode 2 .*float32\[9, 12\]"):
        opened(root, tmp_path)


def test_a_task_number_without_text_is_named_with_its_frame(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    replace_column(rows_file(root, 3), "task_index", pa.array([1, 1, 9, 1]))
    with pytest.raises(SetupError, match=r"FV-DAT-002: episode 3 .*frame 2: task 9"):
        opened(root, tmp_path)


@pytest.mark.parametrize("kept", [0, 0.5, 0.95])
def test_a_truncated_video_is_found_before_the_first_step(tmp_path: Path, kept: float) -> None:
    root = write_set(tmp_path / "set", frames="video")
    path = root / "videos/chunk-000/observation.images.cam_left_wrist/episode_000002.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(SetupError, match=r"FV-DAT-003: episode 2 .*episode_000002\.mp4"):
        opened(root, tmp_path)


def test_a_video_of_fewer_frames_or_none_at_all_is_found_before_the_first_step(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", frames="video")
    opened(root, tmp_path)
    folder = root / "videos/chunk-000/observation.images.cam_high"
    (folder / "episode_000002.mp4").write_bytes((folder / "episode_000003.mp4").read_bytes())
    with pytest.raises(SetupError, match=r"FV-DAT-003: episode 2 .*4 frames, wanted 9"):
        opened(root, tmp_path)
    (folder / "episode_000002.mp4").unlink()
    with pytest.raises(SetupError, match=r"FV-DAT-003: episode 2 .*missing"):
        opened(root, tmp_path)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ({"episode_id": 4, "FineGrainedInstruction": ["x"]}, "none of the 4 episodes"),
        ({"episode_id": 0, "FineGrainedInstruction": ["x"]}, "appears twice"),
        ({"episode_id": 1, "FineGrainedInstruction": [" "]}, "no words"),
    ],
)
def test_a_fine_grained_line_that_fits_no_episode_is_refused(
    tmp_path: Path, line: dict[str, object], words: str
) -> None:
    root = write_set(tmp_path / "set")
    with (root / "meta/FineGrainedInstruction.jsonl").open("a") as file:
        file.write(json.dumps(line) + "\n")
    with pytest.raises(SetupError, match=rf"FV-REC-027: .*FineGrainedInstruction\.jsonl:3.*{words}"):
        opened(root, tmp_path)


def test_a_raw_run_before_never_changes_what_a_fine_run_sees(tmp_path: Path) -> None:
    """Upstream's index of steps has one name for both kinds of runs: the second inherits the first one's episodes."""
    root = write_set(tmp_path / "set")

    def share(fg_share: float, cache: Path) -> tuple[float, set[int]]:
        mixture = InstructionMixture([opened(root, cache)], MixturePlan(512, fg_share), 0)
        draws = mixture.draw(0)
        return float(draws.fine_grained.mean()), {int(e) for e in draws.episode}

    fresh = share(1.0, tmp_path / "fresh")
    share(0.0, tmp_path / "used")
    assert share(1.0, tmp_path / "used") == fresh == (1.0, {0, 2})
    share(1.0, tmp_path / "other")
    assert share(0.0, tmp_path / "other") == (0.0, {0, 1, 2, 3})


def test_rows_are_read_again_when_their_file_changed_and_when_the_store_is_damaged(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set")
    first = opened(root, tmp_path)
    (store,) = (path for path in tmp_path.glob("rows-*") if path.is_dir())
    content = (store / "rows.f32").read_bytes()
    (store / "rows.f32").write_bytes(content[:100] + bytes([content[100] ^ 1]) + content[101:])
    assert np.array_equal(opened(root, tmp_path).rows.action, first.rows.action)
    (store / "store.json").write_text("{")
    assert np.array_equal(opened(root, tmp_path).rows.action, first.rows.action)
    (store / "task.i32").unlink()
    assert np.array_equal(opened(root, tmp_path).rows.task, first.rows.task)
    # The digest that our writer recorded still names the old content: the bytes decide, not the record.
    changed = episode(0, 5, True).action.copy()
    changed[:, 0] = 0.25
    replace_column(rows_file(root, 0), "action", vectors(changed))
    assert opened(root, tmp_path).rows.action[:5, 0].tolist() == [0.25] * 5


def test_grippers_in_another_unit_become_open_fractions_or_are_refused(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", (5,), (0,))
    rows = episode(0, 5, True).action.copy()
    rows[:, [6, 13]] = np.linspace(0, 4.7, 5)[:, None]
    for name in ("action", "observation.state"):
        replace_column(rows_file(root, 0), name, vectors(rows))
    with pytest.raises(SetupError, match=r"FV-DAT-005: episode 0 .*left_gripper reads 0\.\.4\.7"):
        opened(root, tmp_path)
    closed_is_zero = opened(root, tmp_path, grippers=GripperRange(0.0, 4.7))
    assert closed_is_zero.rows.action[:, 6] == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    closed_is_high = opened(root, tmp_path, grippers=GripperRange(4.7, 0.0))
    assert closed_is_high.rows.state[:, 13] == pytest.approx([1, 0.75, 0.5, 0.25, 0])
    assert closed_is_zero.rows.key != closed_is_high.rows.key
    with pytest.raises(SetupError, match="FV-DAT-005"):
        GripperRange(1.0, 1.0)
