"""The scripted experts do what each variant asks, and their labels stay clean."""

from __future__ import annotations

import numpy as np
import pytest

from sim_eval.tabletop.catalog import FAMILIES, sample_scene
from sim_eval.tabletop.expert import Demonstration, expert_table, noise_level, plan, run_expert
from sim_eval.tabletop.kinematics import LOWER, UPPER
from sim_eval.tabletop.world import TabletopWorld

_ALL = [
    (item.id, variant) for item in FAMILIES.values() for variant in dict.fromkeys((*item.demo_variants, *item.variants))
]
_OTHER = {
    "red": "blue",
    "blue": "red",
    "standing": "lying",
    "lying": "standing",
    "left": "right",
    "right": "left",
    "clockwise": "counterclockwise",
    "counterclockwise": "clockwise",
    "left_to_left_bowl": "right_to_right_bowl",
    "right_to_right_bowl": "left_to_left_bowl",
    "left_to_right_bowl": "right_to_right_bowl",
}


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_succeed_on_the_first_held_out_seeds(family: str) -> None:
    for row in expert_table(4, first_seed=1_000_000, families=(family,)):
        assert row.failed == ()


@pytest.mark.parametrize("family", FAMILIES)
def test_experts_shrug_off_the_noise_of_demonstrations(family: str) -> None:
    for row in expert_table(4, first_seed=0, noise=None, families=(family,)):
        assert row.successes >= 3


@pytest.mark.parametrize(("family", "variant"), _ALL)
def test_plans_stay_inside_the_limits_and_within_the_time_limit(family: str, variant: str) -> None:
    low, high = np.append(LOWER, 0.0), np.append(UPPER, 1.0)
    for seed in range(10):
        script = plan(sample_scene(family, seed), variant)
        arms = script.targets.reshape(-1, 2, 7)
        assert np.all(arms >= low)
        assert np.all(arms <= high)
        assert len(script.targets) * 1.5 < FAMILIES[family].time_limit_steps


@pytest.mark.parametrize(("family", "variant"), [pair for pair in _ALL if pair[1] in _OTHER])
def test_reaching_one_variant_is_not_reaching_the_other(family: str, variant: str) -> None:
    demo = _run(family, variant, noise=0.0)
    assert FAMILIES[family].reached(demo.trace, variant)
    assert not FAMILIES[family].reached(demo.trace, _OTHER[variant])


def test_labels_are_clean_while_the_executed_targets_are_noisy() -> None:
    demo = _run("stack_block", "default", noise=0.02)
    quiet = _run("stack_block", "default", noise=0.0)
    assert np.array_equal(demo.clean, quiet.clean)
    assert np.array_equal(quiet.clean, quiet.executed)
    arms = [index for index in range(14) if index not in (6, 13)]
    assert np.all(np.abs(demo.executed - demo.clean)[:, arms].max(axis=0) > 1e-4)
    assert np.array_equal(demo.executed[:, [6, 13]], demo.clean[:, [6, 13]])


def test_turning_directions_share_the_motion_up_to_the_grasp() -> None:
    scene = sample_scene("rotate", 5)
    one, two = (plan(scene, variant).targets for variant in ("clockwise", "counterclockwise"))
    differs = np.flatnonzero(np.any(one != two, axis=1))[0]
    assert differs >= 15
    assert one[differs - 1, 13] == 0.0


def test_a_quarter_of_the_demonstrations_is_free_of_noise() -> None:
    levels = np.array([noise_level(seed) for seed in range(2000)])
    assert 0.22 < np.mean(levels == 0.0) < 0.28
    assert levels[levels > 0].min() >= 0.01
    assert levels.max() <= 0.03


def _run(family: str, variant: str, noise: float) -> Demonstration:
    return run_expert(TabletopWorld(render=False), sample_scene(family, 11), variant, noise, 11, observe=False)
