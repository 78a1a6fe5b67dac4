"""FG:Raw is what was asked for, and a step is the same whoever draws it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from training.data.fg_share import PAPER_RATIOS, parse_share, ratio_name
from training.data.instruction_mixture import Draws, InstructionMixture, MixturePlan
from training.data.vla_dataset import VLADataset

seeds = st.integers(0, 2**32)
shares = st.sampled_from([parse_share(ratio) for ratio in PAPER_RATIOS]) | st.floats(0, 1)


def drawn(mixture: InstructionMixture, steps: int) -> Draws:
    """All draws of the first steps as one."""
    found = [mixture.draw(step) for step in range(steps)]
    joined = [np.concatenate([getattr(d, n) for d in found]) for n in ("dataset", "episode", "frame", "fine_grained")]
    return Draws(0, *joined)


def same(a: Draws, b: Draws) -> bool:
    return all(np.array_equal(getattr(a, n), getattr(b, n)) for n in ("dataset", "episode", "frame", "fine_grained"))


@settings(max_examples=25, deadline=None)
@given(seed=seeds, share=shares)
def test_the_share_is_the_one_asked_for_in_every_dataset(
    partly: VLADataset, fully: VLADataset, seed: int, share: float
) -> None:
    mixture = InstructionMixture([partly, fully], MixturePlan(256, share), seed)
    found = drawn(mixture, 16)
    for picked in (np.full(len(found), True), found.dataset == 0, found.dataset == 1):
        count = int(np.count_nonzero(picked))
        sigma = math.sqrt(share * (1 - share) / count)
        assert abs(found.fine_grained[picked].mean() - share) <= 5 * sigma
    assert mixture.measured_share(range(16)) == pytest.approx(found.fine_grained.mean())


@settings(max_examples=30, deadline=None)
@given(seed=seeds, share=shares, step=st.integers(0, 10**6), world=st.sampled_from([1, 2, 3, 4, 6, 12]))
def test_the_ranks_together_draw_what_one_process_draws(
    partly: VLADataset, fully: VLADataset, seed: int, share: float, step: int, world: int
) -> None:
    mixture = InstructionMixture([partly, fully], MixturePlan(12, share), seed)
    parts = [mixture.draw(step, rank, world) for rank in range(world)]
    joined = Draws(
        step, *(np.concatenate([getattr(p, n) for p in parts]) for n in ("dataset", "episode", "frame", "fine_grained"))
    )
    assert same(joined, mixture.draw(step))


@settings(max_examples=20, deadline=None)
@given(seed=seeds, step=st.integers(0, 10**9))
def test_a_run_resumed_at_any_step_draws_the_same_samples(
    partly: VLADataset, fully: VLADataset, seed: int, step: int
) -> None:
    plan = MixturePlan(16, 0.5)
    first = InstructionMixture([partly, fully], plan, seed)
    first.draw(0)
    wanted = first.draw(step)
    assert same(InstructionMixture([partly, fully], plan, seed).draw(step), wanted)
    assert not same(first.draw(step + 1), wanted)
    assert not same(InstructionMixture([partly, fully], plan, seed + 1).draw(step), wanted)


def test_every_draw_is_a_frame_of_its_episode_and_fine_text_comes_from_annotated_ones(
    partly: VLADataset, plain: VLADataset
) -> None:
    found = drawn(InstructionMixture([partly, plain], MixturePlan(64, 0.5), 3), 40)
    for dataset, episode, frame, fine in zip(
        found.dataset, found.episode, found.frame, found.fine_grained, strict=True
    ):
        source = (partly, plain)[dataset]
        assert 0 <= frame < source.source.episodes[episode].length
        assert source.text(int(episode), int(frame), bool(fine))
        if fine:
            assert (dataset, episode) in {(0, 0), (0, 2)}
    raw = found.dataset[~found.fine_grained]
    assert abs((raw == 1).mean() - 2 / 3) < 5 * math.sqrt(2 / 9 / len(raw))
    reports = InstructionMixture([partly, plain], MixturePlan(64, 0.5), 3).report()
    assert [(r.annotated, r.fine_probability) for r in reports] == [(2, 1.0), (0, 0.0)]
    assert reports[1].raw_probability == pytest.approx(2 / 3)


def test_frames_are_uniform_over_a_dataset_or_over_its_tasks(partly: VLADataset) -> None:
    lengths = np.array([5, 7, 9, 4])
    by_frames = drawn(InstructionMixture([partly], MixturePlan(500, 0.0), 1), 20)
    share = np.bincount(by_frames.episode, minlength=4) / len(by_frames)
    assert share == pytest.approx(lengths / 25, abs=0.025)
    by_tasks = drawn(InstructionMixture([partly], MixturePlan(500, 0.0, uniform_over="tasks"), 1), 20)
    share = np.bincount(by_tasks.episode, minlength=4) / len(by_tasks)
    assert share == pytest.approx(np.array([5 / 14, 7 / 11, 9 / 14, 4 / 11]) / 2, abs=0.025)
    frames = np.bincount(by_frames.frame[by_frames.episode == 2], minlength=9)
    assert frames.min() > 0.7 * frames.mean()


def test_a_dataset_of_weight_zero_is_never_drawn(partly: VLADataset, plain: VLADataset) -> None:
    from dataclasses import replace

    for order in ([replace(plain, weight=0.0), partly], [partly, replace(plain, weight=0.0)]):
        found = drawn(InstructionMixture(order, MixturePlan(100, 0.5), 0), 10)
        assert {order[number].name for number in found.dataset} == {"partly"}


def test_episodes_without_text_are_refused_where_all_must_have_some(partly: VLADataset, fully: VLADataset) -> None:
    plan = MixturePlan(8, 0.25, unannotated="require")
    with pytest.raises(SetupError, match=r"FV-DAT-010: episode 1 of .*partly.*2 of 4"):
        InstructionMixture([fully, partly], plan, 0)
    assert InstructionMixture([fully], plan, 0).draw(0).fine_grained.dtype == bool
    InstructionMixture([partly], MixturePlan(8, 0.0, unannotated="require"), 0)


def test_a_share_of_fine_text_without_any_is_refused_by_file(plain: VLADataset) -> None:
    with pytest.raises(SetupError, match=r"FV-DAT-011.*FineGrainedInstruction\.jsonl"):
        InstructionMixture([plain], MixturePlan(8, 0.5), 0)
    InstructionMixture([plain], MixturePlan(8, 0.0), 0)


@pytest.mark.parametrize(
    ("plan", "code"),
    [
        (MixturePlan(0, 0.5), "FV-DAT-009"),
        (MixturePlan(8, 1.5), "FV-DAT-009"),
        (MixturePlan(8, 0.5, unannotated="ignore"), "FV-DAT-009"),
        (MixturePlan(8, 0.5, uniform_over="episodes"), "FV-DAT-009"),
    ],
)
def test_an_impossible_plan_is_refused(partly: VLADataset, plan: MixturePlan, code: str) -> None:
    with pytest.raises(SetupError, match=code):
        InstructionMixture([partly], plan, 0)


def test_a_batch_that_the_ranks_cannot_share_is_refused(partly: VLADataset) -> None:
    mixture = InstructionMixture([partly], MixturePlan(8, 0.5), 0)
    for rank, world in ((0, 3), (2, 2), (-1, 2)):
        with pytest.raises(SetupError, match="FV-DAT-012"):
            mixture.draw(0, rank, world)


@pytest.mark.parametrize(
    ("ratio", "share"),
    [
        ("raw", 0.0),
        ("FG", 1.0),
        ("1:2", 1 / 3),
        ("4:1", 0.8),
        (" 1 : 1 ", 0.5),
        ("0:1", 0.0),
        (0.33, 0.33),
        ("0.2", 0.2),
    ],
)
def test_a_ratio_is_read_as_the_paper_writes_it(ratio: str | float, share: float) -> None:
    assert parse_share(ratio) == pytest.approx(share)


def test_the_papers_ratios_keep_their_names() -> None:
    assert [ratio_name(parse_share(ratio)) for ratio in PAPER_RATIOS] == list(PAPER_RATIOS)
    assert ratio_name(0.33) == "33% fg"


@pytest.mark.parametrize("ratio", ["", "0:0", "-1:2", "1:2:3", "half", "nan", 1.2, -0.1, math.nan, "inf:1"])
def test_a_ratio_that_is_none_is_refused(ratio: str | float) -> None:
    with pytest.raises(SetupError, match="FV-DAT-008"):
        parse_share(ratio)
