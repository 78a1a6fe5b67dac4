"""Capsules never claim more room than there is, and between two rows nothing goes further than the sweep says."""

from __future__ import annotations

import coal
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.body import Floats, Shape
from finevla_runtime.safety.capsules import enclose, segment_distances
from finevla_runtime.safety.contacts import distance
from finevla_runtime.safety.placed_path import Placer
from tests.safety.bodies import BODIES, NAMES, short_ways, surface_points

SEEDS = st.integers(0, 2**32 - 1)
PLACERS = {name: Placer(body) for name, body in BODIES.items()}
NOWHERE = np.eye(4)


def random_shape(rng: np.random.Generator) -> Shape:
    """A box, a cylinder or a ball of a few centimetres."""
    sizes = rng.uniform(0.005, 0.3, 3)
    kind = rng.integers(3)
    if kind == 0:
        return Shape("left_box", 1, NOWHERE, sizes / 2, 0.0, 0.0, coal.Box(*sizes))
    if kind == 1:
        return Shape("left_can", 1, NOWHERE, np.zeros(3), sizes[0], sizes[1], coal.Cylinder(sizes[0], 2 * sizes[1]))
    return Shape("left_ball", 1, NOWHERE, np.zeros(3), sizes[0], 0.0, coal.Sphere(sizes[0]))


def random_frame(rng: np.random.Generator) -> Floats:
    frame = np.eye(4)
    turn, upper = np.linalg.qr(rng.normal(size=(3, 3)))
    turn *= np.sign(np.diag(upper))
    frame[:3, :3] = turn if np.linalg.det(turn) > 0 else -turn
    frame[:3, 3] = rng.uniform(-0.5, 0.5, 3)
    return frame


@settings(deadline=None)
@given(SEEDS)
def test_segments_are_as_far_apart_as_their_nearest_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    centres, halves = rng.normal(size=(2, 3)), rng.normal(size=(2, 3))
    # Points and parallel segments are the cases in which a formula divides by nothing.
    if seed % 4 == 1:
        halves[1] = halves[0] * rng.uniform(-2.0, 2.0)
    if seed % 4 == 2:
        halves[seed % 8 // 4] = 0.0
    (found,) = segment_distances(centres[:1], halves[:1], centres[1:], halves[1:])
    along = np.linspace(-1.0, 1.0, 401)
    one, other = (centre + along[:, None] * half for centre, half in zip(centres, halves, strict=True))
    sampled = np.sqrt(((one[:, None] - other[None]) ** 2).sum(axis=2)).min()
    assert found <= sampled + 1e-9
    assert found >= sampled - np.linalg.norm(halves, axis=1).sum() / 400


@settings(deadline=None, max_examples=300)
@given(SEEDS)
def test_capsules_are_never_further_apart_than_the_solids_in_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [random_shape(rng), random_shape(rng)]
    frames = np.array([random_frame(rng), random_frame(rng)])
    halves, radii = enclose(shapes)
    centres, turned = frames[:, :3, 3], (frames[:, :3, :3] @ halves[:, :, None])[..., 0]
    (between,) = segment_distances(centres[:1], turned[:1], centres[1:], turned[1:])
    exact = distance(shapes[0].solid, frames[0], shapes[1].solid, frames[1])
    assert between - radii.sum() <= max(exact, 0.0) + 1e-6
    assert np.linalg.norm(centres[0] - centres[1]) - sum(shape.bound for shape in shapes) <= max(exact, 0.0) + 1e-6


@settings(deadline=None, max_examples=60)
@given(name=st.sampled_from(NAMES), way=short_ways())
def test_between_two_rows_no_point_goes_further_than_the_sweep_says(name: str, way: JointArray) -> None:
    placer = PLACERS[name]
    placed = placer.place(way)
    between = placer.place(np.linspace(way[0], way[1], 33))
    share = np.linspace(0.0, 1.0, 33)[:, None]
    for index, shape in enumerate(placer.body.shapes):
        start, *_, end = places = [(frame @ surface_points(shape))[:3].T for frame in between.frames[index]]
        for s, points in zip(share[:, 0], places, strict=True):
            straight = start + s * (end - start)
            assert np.linalg.norm(points - straight, axis=1).max() <= placed.sweep.bow[index, 0] + 1e-9
            nearest = start if s <= 0.5 else end
            assert np.linalg.norm(points - nearest, axis=1).max() <= placed.sweep.half_way[index, 0] + 1e-9
    for arm in (0, 1):
        straight = between.tools[arm, 0] + share * (between.tools[arm, -1] - between.tools[arm, 0])
        off = np.linalg.norm(between.tools[arm] - straight, axis=1).max()
        assert off <= placed.sweep.tool_bow[arm, 0] + 1e-9


def test_one_row_alone_has_no_way_around_it() -> None:
    placed = PLACERS["cobot_magic_sim"].place(np.zeros((1, 14)))
    assert not placed.sweep.bow.any()
    assert not placed.sweep.half_way.any()
    assert not placed.sweep.tool_bow.any()
