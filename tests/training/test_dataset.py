"""What training refuses to read, and that decoded frames are the recorded ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.lerobot_reader import read_dataset
from training.data.tabletop_dataset import TabletopDataset, open_tabletop_dataset
from training.tokenizer import build_tokenizer

from .conftest import write_dataset

VIEWS = ("cam_high", "cam_left_wrist", "cam_right_wrist")


def opened(root: Path, cache: Path, cameras: tuple[str, ...] = VIEWS, workers: int = 1) -> TabletopDataset:
    return open_tabletop_dataset(root, cameras, 2, cache, workers, lambda done, total: None)


def test_stored_frames_and_rows_are_the_recorded_ones(demos: Path, tmp_path: Path) -> None:
    dataset = opened(demos, tmp_path)
    for number in (0, 7, 29):
        recorded, entry = dataset.source.episodes[number], dataset.episodes[number]
        for camera in VIEWS:
            stored = dataset.store.frames[camera][entry.first_frame : entry.first_frame + entry.frames]
            assert np.array_equal(stored, recorded.frames(camera)[::2])
        rows = slice(entry.first_row, entry.first_row + entry.length)
        assert np.array_equal(dataset.store.action[rows], recorded.action())
        assert np.array_equal(dataset.store.state[rows], recorded.state())


def test_a_second_opening_decodes_nothing_and_other_data_never_reuses_the_store(demos: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    open_tabletop_dataset(demos, VIEWS, 2, tmp_path, 1, lambda done, total: seen.append(done))
    decoded = len(seen)
    open_tabletop_dataset(demos, VIEWS, 2, tmp_path, 1, lambda done, total: seen.append(done))
    assert decoded == len(seen) > 0
    other = write_dataset(tmp_path / "other", scenes=2)
    assert opened(other, tmp_path).store.key != opened(demos, tmp_path).store.key


def test_several_processes_decode_the_same_store(demos: Path, tmp_path: Path) -> None:
    one, two = opened(demos, tmp_path / "one"), opened(demos, tmp_path / "two", workers=2)
    assert np.array_equal(one.store.frames["cam_high"], two.store.frames["cam_high"])
    assert np.array_equal(one.store.action, two.store.action)


def test_a_missing_camera_is_named(demos: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cam_top") as caught:
        opened(demos, tmp_path, ("cam_top",))
    assert caught.value.code == "FV-TRN-001"


@pytest.mark.parametrize("name", ["FineGrainedInstruction.jsonl", "finevla_trials.jsonl"])
def test_an_episode_without_its_texts_is_named(name: str, tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "demos", scenes=2)
    path = root / "meta" / name
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:3]))
    with pytest.raises(SetupError, match=f"episode 3 .*{name}") as caught:
        opened(root, tmp_path)
    assert caught.value.code == "FV-TRN-004"


def test_an_empty_fine_grained_file_stops_the_run(tmp_path: Path) -> None:
    root = write_dataset(tmp_path / "demos", scenes=1)
    (root / "meta" / "FineGrainedInstruction.jsonl").write_text("")
    with pytest.raises(SetupError, match="episode 0") as caught:
        opened(root, tmp_path)
    assert caught.value.code == "FV-TRN-004"


def test_a_target_that_is_not_a_number_is_named_with_episode_and_frame(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = write_dataset(tmp_path / "demos", scenes=1)
    path = root / read_dataset(root).format.data_path(1)
    table = pq.read_table(path)
    rows = np.array(table.column("action").to_pylist(), np.float32)
    rows[2, 5] = np.nan
    column = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 14)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), path)
    with pytest.raises(SetupError, match=r"episode 1 .*frame 2.*left_j6"):
        opened(root, tmp_path)


def test_rows_of_the_wrong_width_are_named(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    root = write_dataset(tmp_path / "demos", scenes=1)
    path = root / read_dataset(root).format.data_path(1)
    table = pq.read_table(path)
    column = pa.FixedSizeListArray.from_arrays(pa.array(np.zeros(6 * 12, np.float32)), 12)
    pq.write_table(table.set_column(table.schema.get_field_index("action"), "action", column), path)
    with pytest.raises(SetupError, match="episode 1"):
        opened(root, tmp_path)


def test_the_tokenizer_depends_on_the_words_alone() -> None:
    one = build_tokenizer(["Pick up the cube.", "left arm"])
    assert one == build_tokenizer(["left arm", "pick up the cube ."])
    with pytest.raises(SetupError) as caught:
        build_tokenizer(["", "  "])
    assert caught.value.code == "FV-TRN-003"
