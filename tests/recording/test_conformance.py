"""Our files and PyPI lerobot's: what it read from ours, and what we read from its own.

The golden files were made by `scripts/conformance.sh --keep`; that script runs these tests on fresh results.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from finevla_runtime.recording.lerobot_reader import Dataset, read_dataset
from finevla_runtime.recording.lerobot_writer import DatasetWriter
from finevla_runtime.recording.seekable_video import SeekableVideo
from tests.recording.episodes import CAMERAS, conformance_episodes, small_format

GOLDEN = Path(os.environ.get("CONFORMANCE", Path(__file__).parent / "golden"))
KINDS = ("png", "video")


def ours(root: Path, kind: str) -> Dataset:
    writer = DatasetWriter(root, small_format(kind))
    for episode in conformance_episodes():
        writer.add_episode(episode)
    writer.finish()
    return read_dataset(root)


@pytest.mark.parametrize("kind", KINDS)
def test_lerobot_reads_from_our_files_what_we_wrote(kind: str, tmp_path: Path) -> None:
    seen = json.loads((GOLDEN / f"read_{kind}.json").read_text())
    dataset = ours(tmp_path / "set", kind)
    assert (seen["fps"], seen["robot_type"], seen["episodes"]) == (10, "cobot_magic_sim", 3)
    assert seen["lengths"] == [episode.length for episode in dataset]
    assert seen["cameras"] == [camera.feature for camera in CAMERAS]
    assert len(seen["rows"]) == dataset.total_frames
    position = 0
    for number, episode in enumerate(conformance_episodes()):
        for step in range(episode.length):
            row = seen["rows"][position]
            assert (row["episode_index"], row["frame_index"], row["index"]) == (number, step, position)
            assert row["timestamp"] == pytest.approx(step / 10)
            assert row["task"] == episode.task == dataset.tasks[row["task_index"]]
            assert np.array_equal(np.float32(row["observation.state"]), episode.state[step])
            assert np.array_equal(np.float32(row["action"]), episode.action[step])
            if kind == "png":
                for camera in CAMERAS:
                    digest = hashlib.sha256(episode.frames[camera.name][step].tobytes()).hexdigest()
                    assert row["pictures"][camera.feature] == digest
            position += 1


def test_lerobot_finds_our_videos_and_pools_our_statistics(tmp_path: Path) -> None:
    seen = json.loads((GOLDEN / "read_video.json").read_text())
    dataset = ours(tmp_path / "set", "video")
    assert [str(span.path.relative_to(dataset.root)) for span in dataset.episodes[0].videos.values()] == seen["videos"]
    rows = np.concatenate([episode.action for episode in conformance_episodes()]).astype(np.float64)
    assert seen["action_mean"] == pytest.approx(rows.mean(axis=0), abs=1e-6)
    assert seen["action_max"] == pytest.approx(rows.max(axis=0))


@pytest.mark.parametrize("kind", KINDS)
def test_a_version_3_dataset_of_lerobot_is_read_like_our_own(kind: str) -> None:
    dataset = read_dataset(GOLDEN / f"v30_{kind}")
    assert dataset.version == "v3.0"
    assert dataset.format.frames == kind
    assert dataset.format.cameras == CAMERAS
    assert len(dataset.row_files()) == 1
    for recorded, wanted in zip(dataset, conformance_episodes(), strict=True):
        recorded.check(decode_frames=True)
        assert np.array_equal(recorded.state(), wanted.state)
        assert np.array_equal(recorded.action(), wanted.action)
        assert recorded.tasks == (wanted.task,)
        for camera, frames in wanted.frames.items():
            apart = np.abs(recorded.frames(camera).astype(float) - frames).mean()
            assert apart == 0.0 if kind == "png" else apart < 8.0


@pytest.mark.parametrize("kind", KINDS)
def test_the_rows_of_all_episodes_are_read_with_one_pass_over_each_file(kind: str) -> None:
    dataset = read_dataset(GOLDEN / f"v30_{kind}")
    for episode, table in dataset.tables(["action", "episode_index", "frame_index", "task_index"]):
        episode.check_numbering(table)
        assert np.array_equal(episode.vector(table, "action"), episode.action())
        tasks = {dataset.tasks[number] for number in table.column("task_index").to_pylist()}
        assert tasks == set(episode.tasks)


def test_one_frame_of_a_shared_video_is_the_frame_of_the_whole_reading() -> None:
    dataset = read_dataset(GOLDEN / "v30_video")
    for episode in dataset:
        whole = episode.frames("cam_high")
        with SeekableVideo(episode.videos["cam_high"].path) as video:
            for step in reversed(range(episode.length)):
                assert np.array_equal(episode.video_frame(video, "cam_high", step), whole[step])


def test_the_statistics_that_lerobot_stored_are_those_of_the_rows_that_we_read() -> None:
    root = GOLDEN / "v30_png"
    stats = json.loads((root / "meta/stats.json").read_text())
    rows = np.concatenate([episode.action() for episode in read_dataset(root)]).astype(np.float64)
    assert stats["action"]["mean"] == pytest.approx(rows.mean(axis=0), abs=1e-6)
    assert stats["action"]["min"] == pytest.approx(rows.min(axis=0))
    meta = pq.read_table(root / "meta/episodes/chunk-000/file-000.parquet")
    assert meta.column("length").to_pylist() == [episode.length for episode in conformance_episodes()]
