"""Learning rates are closed forms, and those of transformers where they carry its names."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from training.schedule import SCHEDULES, Schedule

STEPS = 40


def rates(schedule: Schedule, peak: float, steps: int = STEPS) -> list[float]:
    return [schedule.rate(peak, step, step / steps, steps) for step in range(steps)]


def test_a_constant_rate_is_the_peak_after_its_warmup() -> None:
    found = rates(Schedule("constant", warmup_steps=4), 2.0)
    assert found[:5] == [0.5, 1.0, 1.5, 2.0, 2.0]
    assert set(found[4:]) == {2.0}
    assert set(rates(Schedule("constant"), 3.0)) == {3.0}


def test_a_cosine_falls_from_the_peak_to_zero_over_the_steps_after_the_warmup() -> None:
    found = rates(Schedule("cosine", warmup_steps=10), 1.0)
    for step in range(10, STEPS):
        assert found[step] == pytest.approx(0.5 * (1 + math.cos(math.pi * (step - 10) / 30)))
    assert Schedule("cosine", 10).rate(1.0, STEPS, 1.0, STEPS) == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("warmup", [0, 10])
def test_the_rates_are_those_of_transformers_for_every_parameter_group(warmup: int) -> None:
    from transformers import get_scheduler

    base, head, floor = 2e-5, 1e-4, 5e-7
    parameters = [torch.nn.Parameter(torch.zeros(1)) for _ in range(2)]
    optimizer = torch.optim.AdamW(
        [{"params": [parameters[0]], "lr": base}, {"params": [parameters[1]], "lr": head}], base
    )
    theirs = get_scheduler("cosine_with_min_lr", optimizer, warmup, STEPS, scheduler_specific_kwargs={"min_lr": floor})
    ours = Schedule("cosine_with_min_lr", warmup, floor, base)
    for step in range(STEPS):
        if step >= warmup:
            for group, peak in zip(optimizer.param_groups, (base, head), strict=True):
                assert ours.rate(peak, step, step / STEPS, STEPS) == pytest.approx(group["lr"], rel=1e-6)
        optimizer.step()
        theirs.step()
    assert ours.rate(base, STEPS, 1.0, STEPS) == pytest.approx(floor)


def test_warmup_scales_a_cosine_over_the_whole_run_also_when_the_budget_is_minutes() -> None:
    schedule = Schedule("cosine_times_warmup", warmup_steps=5)
    assert schedule.rate(1.0, 1, 0.25) == pytest.approx(0.4 * 0.5 * (1 + math.cos(math.pi * 0.25)))
    assert schedule.rate(1.0, 99, 1.5) == pytest.approx(0.0, abs=1e-12)


@given(
    kind=st.sampled_from(SCHEDULES),
    warmup=st.integers(0, 50),
    step=st.integers(0, 200),
    steps=st.integers(1, 200),
    peak=st.floats(1e-7, 1.0),
)
def test_no_schedule_leaves_zero_to_peak(kind: str, warmup: int, step: int, steps: int, peak: float) -> None:
    rate = Schedule(kind, warmup, 1e-8, 1.0).rate(peak, step, min(1.0, step / steps), steps)
    assert 0.0 <= rate <= peak * (1 + 1e-12)


def test_impossible_schedules_are_refused() -> None:
    with pytest.raises(SetupError, match="Did you mean 'cosine'") as caught:
        Schedule("cosin")
    assert caught.value.code == "FV-TRN-028"
    with pytest.raises(SetupError, match="min_lr"):
        Schedule("cosine_with_min_lr", 0, 1e-3, 1e-4)
