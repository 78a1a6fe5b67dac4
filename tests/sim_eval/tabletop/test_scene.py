"""Scenes are a function of family and seed, and every family is counterbalanced."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop.actors import KINDS
from sim_eval.tabletop.catalog import FAMILIES, sample_scene

_FAMILY = st.sampled_from(tuple(FAMILIES))
_SEEDS = st.integers(0, 2_000_000)


def _digest(key: tuple[str, int]) -> str:
    return sample_scene(*key).digest()


@given(family=_FAMILY, seed=_SEEDS)
def test_a_scene_depends_on_family_and_seed_alone(family: str, seed: int) -> None:
    assert sample_scene(family, seed) == sample_scene(family, seed)
    assert sample_scene(family, seed).digest() != sample_scene(family, seed + 1).digest()


def test_another_process_draws_the_same_scenes() -> None:
    keys = [(family, seed) for family in FAMILIES for seed in (0, 1_000_000)]
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_digest, keys)) == [_digest(key) for key in keys]


@given(family=_FAMILY, seed=_SEEDS)
def test_every_object_is_known_upright_on_the_table_and_inside_the_head_view(family: str, seed: int) -> None:
    for item in sample_scene(family, seed).objects:
        x, y, z = np.array(item.pose[:3]) - np.array([0.0, -0.51, 1.35])
        depth = 0.6 * y - 0.8 * z
        limit = np.tan(np.deg2rad(21.0)) * depth
        assert item.kind in KINDS
        assert abs(x) < limit
        assert abs(0.8 * y + 0.6 * z) < limit
        assert np.isclose(np.linalg.norm(item.pose[3:]), 1.0)


@pytest.mark.parametrize(
    ("family", "name"),
    [("colour", "red_cube"), ("pose", "standing_bottle"), ("stack_block", "red"), ("clean_table", "cup")],
)
def test_sides_are_swapped_in_about_half_of_the_scenes(family: str, name: str) -> None:
    left = sum(sample_scene(family, seed).placement(name).pose[0] < 0 for seed in range(400))
    assert 160 < left < 240


def test_an_unknown_family_names_the_nearest_one() -> None:
    with pytest.raises(SetupError, match=r"FV-SIM-001.*'colour'"):
        sample_scene("color", 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(SetupError, match="FV-SIM-002"):
        sample_scene("colour", -1)


def test_a_missing_object_is_named() -> None:
    with pytest.raises(KeyError, match="green_cube"):
        sample_scene("colour", 0).placement("green_cube")
