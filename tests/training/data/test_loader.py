"""Batches are the same however they are prepared, memory is bounded, and errors say where they come from."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.policy import CameraSpec
from finevla_runtime.processing.images import resize
from tests.training.data.vla_sets import builder, opened, processor, write_set
from training.data.batch import Batch, BatchBuilder
from training.data.byte_cache import ByteCache
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture, MixturePlan
from training.data.loader import PrefetchingLoader
from training.data.vla_dataset import VLADataset

PLAN = MixturePlan(8, 0.5)


def same(a: Batch, b: Batch) -> bool:
    inputs = a.inputs.keys() == b.inputs.keys() and all(np.array_equal(a.inputs[k], b.inputs[k]) for k in a.inputs)
    return inputs and np.array_equal(a.actions, b.actions) and a.samples == b.samples and a.step == b.step


def test_a_batch_holds_the_stacked_inputs_of_the_serving_path(partly: VLADataset, fully: VLADataset) -> None:
    batch = builder([partly, fully], PLAN).build(3)
    assert {key: (value.dtype.name, value.shape) for key, value in batch.inputs.items()} == {
        "image.cam_high": ("uint8", (8, 24, 32, 3)),
        "image.cam_left_wrist": ("uint8", (8, 16, 16, 3)),
        "tokens": ("int64", (8, 24)),
        "state": ("float32", (8, 14)),
    }
    assert (batch.actions.dtype.name, batch.actions.shape) == ("float32", (8, 16, 14))
    made = processor()
    for number, sample in enumerate(batch.samples):
        dataset = {"partly": partly, "fully": fully}[sample.dataset]
        recorded = dataset.episode(sample.episode)
        for camera in ("cam_high", "cam_left_wrist"):
            assert np.array_equal(batch.inputs[f"image.{camera}"][number], recorded.frames(camera)[sample.frame])
        text = dataset.text(sample.episode, sample.frame, sample.kind is InstructionKind.FINE_GRAINED)
        assert np.array_equal(batch.inputs["tokens"][number], made.prompt.tokens(text))
        rows = dataset.chunk(sample.episode, sample.frame, 16)
        assert np.array_equal(batch.actions[number], made.model_rows(rows))
    assert f"episode {batch.samples[2].episode}, frame {batch.samples[2].frame}" in batch.where(2)


@pytest.mark.parametrize("workers", [0, 1, 3])
def test_the_number_of_workers_does_not_change_the_batches(partly: VLADataset, fully: VLADataset, workers: int) -> None:
    wanted = [builder([partly, fully], PLAN).build(step) for step in range(6)]
    with PrefetchingLoader(builder([partly, fully], PLAN).build, workers) as loader:
        for number, batch in enumerate(loader.items(range(6))):
            assert same(batch, wanted[number])


def test_the_batches_of_the_ranks_are_the_parts_of_the_single_process_batch(
    partly: VLADataset, fully: VLADataset
) -> None:
    whole = builder([partly, fully], PLAN).build(11)
    for rank in range(4):
        part = builder([partly, fully], PLAN, rank, 4).build(11)
        span = slice(2 * rank, 2 * rank + 2)
        assert part.samples == whole.samples[span]
        assert np.array_equal(part.actions, whole.actions[span])
        assert all(np.array_equal(part.inputs[key], whole.inputs[key][span]) for key in whole.inputs)


def test_a_loader_asked_for_another_step_gives_that_step(partly: VLADataset) -> None:
    made = builder([partly], PLAN)
    with PrefetchingLoader(made.build, 2) as loader:
        for step in (0, 1, 900, 901, 3):
            assert same(loader.item(step), made.build(step))


def test_a_loader_never_prepares_more_than_it_may() -> None:
    asked: list[int] = []
    gate = threading.Event()

    def build(step: int) -> int:
        asked.append(step)
        gate.wait(10)
        return step

    with PrefetchingLoader(build, workers=2, ahead=3, last_step=6) as loader:
        gate.set()
        for step in range(6):
            assert loader.item(step) == step
            assert loader.prepared <= 3
    assert sorted(asked) == list(range(6))


def test_an_error_waits_for_its_step(partly: VLADataset) -> None:
    def build(step: int) -> int:
        if step == 2:
            raise SetupError("FV-TEST-001", "step two")
        return step

    with PrefetchingLoader(build, 2) as loader:
        assert [loader.item(0), loader.item(1)] == [0, 1]
        with pytest.raises(SetupError, match="step two"):
            loader.item(2)
        assert loader.item(3) == 3
    with pytest.raises(SetupError, match="FV-DAT-021"):
        PrefetchingLoader(build, -1)


def first_error(dataset: VLADataset) -> FineVLAError:
    with PrefetchingLoader(builder([dataset], PLAN).build, 2) as loader, pytest.raises(FineVLAError) as caught:
        for _ in loader.items(range(40)):
            pass
    return caught.value


def test_a_video_that_broke_during_the_run_is_named_by_step_episode_and_frame(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", (12,), (0,), "video")
    dataset = opened(root, tmp_path)
    path = root / "videos/chunk-000/observation.images.cam_high/episode_000000.mp4"
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * 0.8)])
    error = first_error(dataset)
    assert error.code == "FV-REC-008"
    assert "step 0, episode 0, frame " in error.message
    assert str(path) in error.message
    path.unlink()
    assert first_error(dataset).code == "FV-REC-008"


def test_a_missing_parquet_file_during_the_run_is_named(tmp_path: Path) -> None:
    root = write_set(tmp_path / "set", (12,), (0,))
    dataset = opened(root, tmp_path)
    shutil.rmtree(root / "data")
    error = first_error(dataset)
    assert error.code == "FV-REC-004"
    assert "step 0, episode 0, frame " in error.message


def test_a_text_that_is_too_long_is_found_before_the_first_step(partly: VLADataset, fully: VLADataset) -> None:
    mixture = InstructionMixture([partly, fully], PLAN, 0)
    assert BatchBuilder(mixture, processor(), FrameReader()).check_texts() == 5
    with pytest.raises(PolicyError, match=r"FV-TOK-003: episode 0, frame 0 of partly \(fine_grained text\)"):
        BatchBuilder(mixture, processor(max_tokens=8), FrameReader()).check_texts()


def test_frames_are_resized_by_the_serving_path_alone(partly: VLADataset, fully: VLADataset) -> None:
    small = processor(scale=0.5)
    for dataset in (partly, fully):
        mixture = InstructionMixture([dataset], PLAN, 0)
        batch = BatchBuilder(mixture, small, FrameReader()).build(0)
        for number, sample in enumerate(batch.samples):
            frame = dataset.episode(sample.episode).frames("cam_high")[sample.frame]
            assert np.array_equal(batch.inputs["image.cam_high"][number], resize(frame, small.spec.cameras[0]))


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(0, 50),
    puts=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 60)), max_size=60),
)
def test_a_cache_never_exceeds_its_capacity_and_forgets_what_was_not_used(
    capacity: int, puts: list[tuple[int, int]]
) -> None:
    cache: ByteCache[int, int] = ByteCache(capacity)
    sizes: dict[int, int] = {}
    for number, (key, size) in enumerate(puts):
        cache.put(key, number, size)
        if size <= capacity:
            sizes[key] = size
            assert cache.get(key) == number
        assert cache.used_bytes <= cache.peak_bytes <= capacity
    kept = {key: size for key, size in sizes.items() if cache.get(key) is not None}
    assert cache.used_bytes == sum(kept.values())


def test_a_negative_capacity_is_refused() -> None:
    with pytest.raises(SetupError, match="FV-DAT-020"):
        FrameReader(-1)


@pytest.mark.parametrize("cache_bytes", [0, 5_000, 40_000])
def test_frames_read_by_many_threads_are_right_and_the_cache_stays_within_its_bytes(
    partly: VLADataset, fully: VLADataset, cache_bytes: int
) -> None:
    reader = FrameReader(cache_bytes, open_videos=2)
    camera = CameraSpec("cam_high", 24, 32)
    frames = {(d.name, e.index): e.frames("cam_high") for d in (partly, fully) for e in d.source}
    wrong: list[tuple[str, int, int]] = []

    def read(seed: int) -> None:
        rng = np.random.default_rng(seed)
        for _ in range(60):
            dataset = (partly, fully)[rng.integers(2)]
            episode = dataset.episode(int(rng.integers(len(dataset.source))))
            step = int(rng.integers(episode.length))
            found = reader.frame(episode, "cam_high", camera, step)
            if not np.array_equal(found, frames[dataset.name, episode.index][step]):
                wrong.append((dataset.name, episode.index, step))

    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader.close()
    assert wrong == []
    assert reader.cache.peak_bytes <= cache_bytes
    assert (reader.cache.hits > 0) == (cache_bytes > 0)
