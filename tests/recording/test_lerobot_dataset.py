"""What a LeRobot v2.1 dataset written here promises to whoever reads it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.lerobot_reader import read_dataset
from finevla_runtime.recording.lerobot_writer import DatasetWriter
from tests.recording.episodes import note, small_episode, small_format


def write(root: Path, count: int = 3, frames: str = "png", chunk_episodes: int = 1000) -> str:
    writer = DatasetWriter(root, small_format(frames, chunk_episodes))
    for number in range(count):
        writer.add_episode(small_episode(number, 5 + number), str(number))
    return writer.finish().digest


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(text) for text in path.read_text().splitlines()]


def test_what_was_written_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    write(tmp_path / "set")
    dataset = read_dataset(tmp_path / "set")
    assert len(dataset) == 3
    for number, episode in enumerate(dataset):
        wanted = small_episode(number, 5 + number)
        episode.check(decode_frames=True)
        assert np.array_equal(episode.state(), wanted.state)
        assert np.array_equal(episode.action(), wanted.action)
        for camera, frames in wanted.frames.items():
            assert np.array_equal(episode.frames(camera), frames)
        assert episode.note == note(number)
        assert episode.fine_grained_text == "Use the left hand. Put the red cube in the box."
        assert episode.tasks == ("Put the cube in the box.",)


def test_video_frames_come_back_close_to_what_was_recorded(tmp_path: Path) -> None:
    write(tmp_path / "set", frames="video")
    dataset = read_dataset(tmp_path / "set")
    assert dataset.format.frames == "video"
    for number, episode in enumerate(dataset):
        wanted = small_episode(number, 5 + number).frames["cam_high"].astype(float)
        found = episode.frames("cam_high").astype(float)
        assert found.shape == wanted.shape
        assert np.abs(found - wanted).mean() < 12


def test_the_folder_has_the_layout_that_lerobot_expects(tmp_path: Path) -> None:
    root = tmp_path / "set"
    write(root, count=3, frames="video", chunk_episodes=2)
    info = json.loads((root / "meta/info.json").read_text())
    assert info["codebase_version"] == "v2.1"
    assert (info["total_episodes"], info["total_frames"], info["total_chunks"]) == (3, 18, 2)
    assert info["total_videos"] == 6
    assert info["splits"] == {"train": "0:3"}
    assert list(info["features"])[:2] == ["observation.state", "action"]
    assert (root / "data/chunk-001/episode_000002.parquet").is_file()
    assert (root / "videos/chunk-001/observation.images.cam_high/episode_000002.mp4").is_file()
    assert lines(root / "meta/tasks.jsonl") == [{"task_index": 0, "task": "Put the cube in the box."}]
    assert lines(root / "meta/episodes.jsonl")[2] == {
        "episode_index": 2,
        "tasks": ["Put the cube in the box."],
        "length": 7,
    }
    table = pq.read_table(root / "data/chunk-001/episode_000002.parquet")
    assert table.column("index").to_pylist() == list(range(11, 18))
    assert table.column("timestamp").to_pylist() == pytest.approx([i / 10 for i in range(7)])


def test_image_columns_carry_the_metadata_by_which_datasets_decodes_them(tmp_path: Path) -> None:
    write(tmp_path / "set", count=1)
    schema = pq.read_schema(tmp_path / "set/data/chunk-000/episode_000000.parquet")
    features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    assert features["observation.images.cam_high"] == {"_type": "Image"}
    assert features["action"]["length"] == 14
    assert [f.name for f in schema.field("observation.images.cam_high").type] == ["bytes", "path"]


def test_statistics_are_those_of_the_rows_and_of_the_pixels_scaled_to_one(tmp_path: Path) -> None:
    write(tmp_path / "set", count=1)
    stats = lines(tmp_path / "set/meta/episodes_stats.jsonl")[0]["stats"]
    assert isinstance(stats, dict)
    episode = small_episode(0, 5)
    assert stats["action"]["mean"] == pytest.approx(episode.action.astype(float).mean(axis=0))
    assert stats["action"]["count"] == [5]
    pixels = episode.frames["cam_high"].reshape(-1, 3) / 255.0
    found = stats["observation.images.cam_high"]
    assert np.asarray(found["mean"]).shape == (3, 1, 1)
    assert np.ravel(found["mean"]) == pytest.approx(pixels.mean(axis=0))
    assert np.ravel(found["std"]) == pytest.approx(pixels.std(axis=0))
    assert stats["frame_index"]["max"] == [4]


def test_the_same_episodes_give_the_same_content_hash(tmp_path: Path) -> None:
    assert write(tmp_path / "a") == write(tmp_path / "b")
    assert write(tmp_path / "c", count=2) != write(tmp_path / "d", count=3)


@pytest.mark.parametrize("finished", [1, 2])
def test_a_killed_writer_goes_on_and_gives_the_same_dataset(tmp_path: Path, finished: int) -> None:
    whole = write(tmp_path / "whole")
    root = tmp_path / "killed"
    writer = DatasetWriter(root, small_format())
    for number in range(finished):
        writer.add_episode(small_episode(number, 5 + number), str(number))
    # The kill came while the next journal line and the next parquet file were half written.
    with (root / "meta/finevla_writer.jsonl").open("ab") as journal:
        journal.write(b'{"source": "9", "len')
    (root / "data/chunk-000" / ".episode_000009.parquet.partial").write_bytes(b"PAR1")
    again = DatasetWriter(root, small_format())
    assert again.sources == {str(number) for number in range(finished)}
    for number in range(finished, 3):
        again.add_episode(small_episode(number, 5 + number), str(number))
    assert again.finish().digest == whole


def test_a_killed_writer_leaves_the_finished_episodes_as_a_valid_dataset(tmp_path: Path) -> None:
    root = tmp_path / "set"
    writer = DatasetWriter(root, small_format())
    writer.add_episode(small_episode(0), "0")
    writer.add_episode(small_episode(1), "1")
    del writer
    DatasetWriter(root, small_format()).finish()
    dataset = read_dataset(root)
    dataset.verify_files()
    assert [episode.length for episode in dataset] == [7, 7]


def test_a_finished_dataset_is_never_written_over(tmp_path: Path) -> None:
    write(tmp_path / "set")
    with pytest.raises(SetupError, match="FV-REC-011"):
        DatasetWriter(tmp_path / "set", small_format())


def test_going_on_with_another_format_is_refused(tmp_path: Path) -> None:
    DatasetWriter(tmp_path / "set", small_format("png"))
    with pytest.raises(SetupError, match="FV-REC-012"):
        DatasetWriter(tmp_path / "set", small_format("video"))


def test_a_dataset_without_an_episode_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-REC-015"):
        DatasetWriter(tmp_path / "set", small_format()).finish()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"state": np.zeros((7, 13), np.float32)}, "observation.state"),
        ({"action": np.full((7, 14), np.nan, np.float32)}, "action is nan at index"),
        ({"frames": {}}, "cameras none"),
        ({"frames": {n: f[:3] for n, f in small_episode().frames.items()}}, "observation.images.cam_high"),
        ({"task": "  "}, "no task text"),
    ],
)
def test_an_episode_that_does_not_fit_is_refused_by_name(tmp_path: Path, change: dict[str, object], words: str) -> None:
    writer = DatasetWriter(tmp_path / "set", small_format())
    with pytest.raises(SetupError, match="FV-REC-010") as caught:
        writer.add_episode(replace(small_episode(), **change))
    assert words in str(caught.value)
    assert writer.episodes == 0


def rewrite(root: Path, episode: int, column: str, values: object) -> None:
    path = root / f"data/chunk-000/episode_{episode:06d}.parquet"
    table = pq.read_table(path)
    place = table.schema.get_field_index(column)
    pq.write_table(table.set_column(place, table.schema.field(column), [values]), path)


def test_a_frame_that_is_no_picture_is_named_by_episode_and_frame(tmp_path: Path) -> None:
    write(tmp_path / "set")
    column = [{"bytes": b"junk" if n == 4 else None, "path": ""} for n in range(6)]
    good = small_episode(1, 6)
    from finevla_runtime.recording.png import encode_png

    for number in range(4):
        column[number]["bytes"] = encode_png(good.frames["cam_high"][number])
    import pyarrow as pa

    schema = pq.read_schema(tmp_path / "set/data/chunk-000/episode_000001.parquet")
    kind = schema.field("observation.images.cam_high").type
    rewrite(tmp_path / "set", 1, "observation.images.cam_high", pa.array(column, type=kind))
    with pytest.raises(SetupError, match=r"FV-REC-008: episode 1 .*frame 4 of cam_high"):
        read_dataset(tmp_path / "set").episodes[1].frames("cam_high")


def test_a_value_that_is_not_finite_is_named_by_episode_frame_and_joint(tmp_path: Path) -> None:
    import pyarrow as pa

    write(tmp_path / "set")
    rows = small_episode(2, 7).action.copy()
    rows[3, 13] = np.inf
    values = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), 14)
    rewrite(tmp_path / "set", 2, "action", values)
    with pytest.raises(SetupError, match=r"FV-REC-007: episode 2 .*frame 3: action of right_gripper"):
        read_dataset(tmp_path / "set").episodes[2].check()


def test_a_jump_in_the_timestamps_is_named(tmp_path: Path) -> None:
    import pyarrow as pa

    write(tmp_path / "set")
    stamps = np.arange(5, dtype=np.float32) / 10
    stamps[2] += 0.05
    rewrite(tmp_path / "set", 0, "timestamp", pa.array(stamps))
    with pytest.raises(SetupError, match=r"FV-REC-009: episode 0 .*frame 2: timestamp"):
        read_dataset(tmp_path / "set").episodes[0].check()


def test_a_changed_byte_is_found_by_its_file(tmp_path: Path) -> None:
    write(tmp_path / "set")
    path = tmp_path / "set/data/chunk-000/episode_000001.parquet"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(SetupError, match=r"FV-REC-016: .*episode_000001"):
        read_dataset(tmp_path / "set").verify_files()


@pytest.mark.parametrize(
    ("file", "content", "code"),
    [
        ("meta/info.json", "{", "FV-REC-002"),
        ("meta/info.json", '{"codebase_version": "v1.6"}', "FV-REC-003"),
        ("meta/episodes.jsonl", '{"episode_index": 1, "tasks": [], "length": 3}', "FV-REC-009"),
        ("meta/episodes.jsonl", '{"episode_index": 0, "tasks": [], "length": 3}', "FV-REC-006"),
        ("meta/tasks.jsonl", '{"task_index": "0", "task": "x"}', "FV-REC-002"),
        ("meta/finevla_trials.jsonl", '{"episode_index": 0}', "FV-REC-002"),
    ],
)
def test_a_damaged_meta_file_is_refused_with_its_place(tmp_path: Path, file: str, content: str, code: str) -> None:
    write(tmp_path / "set")
    (tmp_path / "set" / file).write_text(content)
    with pytest.raises(SetupError, match=code) as caught:
        read_dataset(tmp_path / "set")
    assert Path(file).name in str(caught.value)


def test_a_missing_dataset_and_a_missing_episode_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="FV-REC-001"):
        read_dataset(tmp_path / "nowhere")
    write(tmp_path / "set")
    (tmp_path / "set/data/chunk-000/episode_000001.parquet").unlink()
    with pytest.raises(SetupError, match=r"FV-REC-004: episode 1"):
        read_dataset(tmp_path / "set").episodes[1].rows()


def test_an_unknown_camera_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path / "set", count=1)
    with pytest.raises(SetupError, match=r"FV-REC-013.*Did you mean 'cam_high'"):
        read_dataset(tmp_path / "set").episodes[0].frames("cam_hgih")


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tasks=st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=5), seed=st.integers(0, 100))
def test_numbering_is_gapless_and_every_task_has_one_index(
    tmp_path_factory: pytest.TempPathFactory, tasks: list[str], seed: int
) -> None:
    root = tmp_path_factory.mktemp("numbering") / "set"
    writer = DatasetWriter(root, small_format())
    for number, task in enumerate(tasks):
        writer.add_episode(small_episode(seed + number, 1 + (seed + number) % 3, task))
    summary = writer.finish()
    dataset = read_dataset(root)
    indices = [
        row
        for episode in dataset
        for row in pq.read_table(root / dataset.format.data_path(episode.index)).column("index").to_pylist()
    ]
    assert indices == list(range(summary.frames))
    assert sorted(dataset.tasks) == list(range(len(set(tasks))))
    for episode, task in zip(dataset, tasks, strict=True):
        table = pq.read_table(root / dataset.format.data_path(episode.index))
        assert {dataset.tasks[i] for i in table.column("task_index").to_pylist()} == {task}
