"""Version 3.0 datasets: many episodes per file, and what is refused in them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.lerobot_reader import read_dataset
from finevla_runtime.recording.seekable_video import SeekableVideo, video_shortfall
from finevla_runtime.recording.video import read_video, write_video
from tests.recording.episodes import conformance_episodes

GOLDEN = Path(__file__).parent / "golden"
EPISODES = "meta/episodes/chunk-000/file-000.parquet"
DATA = "data/chunk-000/file-000.parquet"
VIDEO = "videos/observation.images.cam_high/chunk-000/file-000.mp4"


def copy(tmp_path: Path, kind: str = "png") -> Path:
    return Path(shutil.copytree(GOLDEN / f"v30_{kind}", tmp_path / "set"))


def change(path: Path, **columns: list[object]) -> None:
    table = pq.read_table(path)
    for name, values in columns.items():
        name = name.replace("__", "/")
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(name), [pa.array(values, table.schema.field(name).type)])
    pq.write_table(table, path)


def test_episodes_spread_over_several_files_and_row_groups_are_found(tmp_path: Path) -> None:
    root = copy(tmp_path)
    table = pq.read_table(root / DATA)
    pq.write_table(table.slice(0, 11), root / DATA, row_group_size=4)
    pq.write_table(table.slice(11), root / DATA.replace("file-000", "file-001"), row_group_size=4)
    change(root / EPISODES, data__file_index=[0, 0, 1])
    dataset = read_dataset(root)
    assert len(dataset.row_files()) == 2
    assert [episode.row_span.first for episode in dataset] == [0, 5, 0]
    for recorded, wanted in zip(dataset, conformance_episodes(), strict=True):
        recorded.check(decode_frames=True)
        assert np.array_equal(recorded.action(), wanted.action)
    read = {episode.index: episode.vector(table, "action") for episode, table in dataset.tables(["action"])}
    assert all(np.array_equal(read[number], e.action) for number, e in enumerate(conformance_episodes()))


def test_fine_grained_instructions_lie_beside_a_version_3_dataset_too(tmp_path: Path) -> None:
    root = copy(tmp_path)
    line = {"episode_id": 1, "FineGrainedInstruction": ["Use the left arm.", "Stack slowly."]}
    (root / "meta/FineGrainedInstruction.jsonl").write_text(json.dumps(line) + "\n")
    assert [episode.fine_grained_text for episode in read_dataset(root)] == ["", "Use the left arm. Stack slowly.", ""]


def test_rows_of_another_episode_are_not_taken_for_this_one(tmp_path: Path) -> None:
    root = copy(tmp_path)
    change(root / EPISODES, dataset_from_index=[0, 6, 11], dataset_to_index=[5, 12, 18])
    with pytest.raises(SetupError, match=r"FV-REC-009: episode 1 .*frame 5: episode_index"):
        read_dataset(root).episodes[1].check()


@pytest.mark.parametrize(
    ("columns", "code"),
    [
        ({"episode_index": [0, 2, 1]}, "FV-REC-009"),
        ({"length": [5, 7, 7]}, "FV-REC-006"),
        ({"dataset_to_index": [5, 11, 11]}, "FV-REC-006"),
        ({"length": [5, 6, 6], "dataset_to_index": [5, 11, 17]}, "FV-REC-006"),
    ],
)
def test_a_list_of_episodes_that_contradicts_itself_is_refused(
    tmp_path: Path, columns: dict[str, list[object]], code: str
) -> None:
    root = copy(tmp_path)
    change(root / EPISODES, **columns)
    with pytest.raises(SetupError, match=code):
        read_dataset(root)


def test_a_video_that_its_times_make_too_short_is_refused(tmp_path: Path) -> None:
    root = copy(tmp_path, "video")
    change(root / EPISODES, **{"videos__observation.images.cam_high__to_timestamp": [0.3, 1.1, 1.8]})
    with pytest.raises(SetupError, match=r"FV-REC-006.*cam_high is shown for 0\.300 s"):
        read_dataset(root)


@pytest.mark.parametrize("name", [EPISODES, "meta/tasks.parquet"])
@pytest.mark.parametrize("content", [None, b"PAR1 junk"])
def test_a_missing_or_damaged_meta_file_is_refused_by_name(tmp_path: Path, name: str, content: bytes | None) -> None:
    root = copy(tmp_path)
    (root / name).unlink()
    if content is not None:
        (root / name).write_bytes(content)
    with pytest.raises(SetupError, match="FV-REC-001" if content is None else "FV-REC-002") as caught:
        read_dataset(root)
    assert name.split("/")[1].removesuffix(".parquet") in str(caught.value)


def test_a_path_template_may_not_leave_the_dataset(tmp_path: Path) -> None:
    root = copy(tmp_path)
    info = json.loads((root / "meta/info.json").read_text())
    for template in ("../{chunk_index}/{file_index}", "/etc/{file_index}", "data/{nothing}"):
        (root / "meta/info.json").write_text(json.dumps(info | {"data_path": template}))
        with pytest.raises(SetupError, match=r"FV-REC-002.*template"):
            read_dataset(root)


def test_a_missing_or_short_file_is_named_with_its_episode(tmp_path: Path) -> None:
    root = copy(tmp_path, "video")
    dataset = read_dataset(root)
    (root / VIDEO).unlink()
    with pytest.raises(SetupError, match=r"FV-REC-006: episode 2 .*file-000\.mp4"):
        dataset.episodes[2].frames("cam_high")
    table = pq.read_table(root / DATA)
    pq.write_table(table.slice(0, 15), root / DATA)
    with pytest.raises(SetupError, match=r"FV-REC-006: episode 2 .*4 rows"):
        dataset.episodes[2].rows()
    with pytest.raises(SetupError, match=r"FV-REC-006: episode 2 .*4 rows"):
        list(dataset.tables(["action"]))
    assert len(dataset.episodes[1].action()) == 6


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
    """Videos of 23 frames with a key frame every 1, 2, 7 and 50 frames."""
    root = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (4, 6, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1) for _ in range(23)]
    for every in (1, 2, 7, 50):
        write_video(root / f"{every}.mp4", frames, 30, keyframe_every=every)
    return {every: root / f"{every}.mp4" for every in (1, 2, 7, 50)}


@settings(max_examples=25, deadline=None)
@given(every=st.sampled_from([1, 2, 7, 50]), steps=st.lists(st.integers(0, 22), min_size=1, max_size=8))
def test_a_sought_frame_is_the_frame_of_sequential_decoding(
    videos: dict[int, Path], every: int, steps: list[int]
) -> None:
    whole = read_video(videos[every])
    with SeekableVideo(videos[every]) as video:
        for step in steps:
            assert np.array_equal(video.frame_at(step / 30, 0.5 / 30), whole[step])
        assert np.array_equal(video.frames_from(steps[0] / 30, 23 - steps[0], 0.5 / 30), whole[steps[0] :])


def test_a_time_without_a_frame_and_a_file_that_is_no_video_are_refused(
    videos: dict[int, Path], tmp_path: Path
) -> None:
    with SeekableVideo(videos[7]) as video:
        for time_s in (23 / 30, 5.0):
            with pytest.raises(ValueError, match="shows no frame"):
                video.frame_at(time_s, 0.5 / 30)
        with pytest.raises(ValueError, match="ends 3 frames after"):
            video.frames_from(20 / 30, 4, 0.5 / 30)
    (tmp_path / "junk.mp4").write_bytes(b"junk")
    for path in (tmp_path / "junk.mp4", tmp_path / "none.mp4"):
        with pytest.raises(ValueError, match=path.name):
            SeekableVideo(path)
        assert video_shortfall(path, 1)
    assert video_shortfall(videos[2], 23) == ""
    assert "23 frames, wanted 24" in video_shortfall(videos[2], 24)
