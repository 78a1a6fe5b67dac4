"""Judge words about where things are, and whether they were dropped."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.judge.expression import EACH, NAME, NAMES, NUMBER, OBJECT, TRUTH, word
from sim_eval.tabletop.judge.view import ARMS, View
from sim_eval.tabletop.trace import Bools

RIM_MARGIN = 0.005
"""Metres an object's lowest corner must be below the rim of the container it is in."""
REST_M, REST_DEG = 0.003, 3.0
"""An object at rest moves and turns at most this much."""
SUPPORT_GAP = 0.006
"""Metres between the lowest corner of an object and the top of what it rests on."""


def _within(view: View, name: str, region: str) -> Bools:
    """Whether [T] the centre of an object is inside a container and its lowest corner below the rim."""
    inner = np.asarray(view.trace.info[view.trace.index(region)].inner_half_size)
    if not inner.all():
        return np.zeros(len(view.trace.time), dtype=np.bool_)
    sideways = np.abs(view.offset(name, region)[:, :2]) <= inner[:2]
    below = view.bottom(name) <= view.top(region) - RIM_MARGIN
    return np.asarray(sideways.all(axis=1) & below & (view.centre(name)[:, 2] >= view.bottom(region)))


@word((EACH, OBJECT), TRUTH)
def inside(view: View, name: str, region: str) -> bool:
    """Whether an object is in a container at the end."""
    return view.knows(name) and view.knows(region) and view.finally_(_within(view, name, region))


@word((OBJECT, NAMES), NAME)
def first_inside(view: View, name: str, regions: list[str]) -> str:
    """Which container held an object first, for the time of a firm grasp."""
    starts: list[tuple[int, str]] = []
    if not view.knows(name):
        return "none"
    for region in regions:
        stays = [run for run in view.runs(_within(view, name, region)) if view.lasts(run, view.hold_s)]
        starts.extend((run[0], region) for run in stays)
    return min(starts)[1] if starts else "none"


@word((EACH, OBJECT), TRUTH)
def on(view: View, name: str, base: str) -> bool:
    """Whether an object rests on another at the end: centred over it, at its height, supported by it."""
    if not (view.knows(name) and view.knows(base)):
        return False
    half = np.asarray(view.trace.info[view.trace.index(base)].half_size)
    over = (np.abs(view.offset(name, base)[:, :2]) <= half[:2]).all(axis=1)
    close = np.abs(view.bottom(name) - view.top(base)) <= SUPPORT_GAP
    if not view.finally_(over & close):
        return False
    # The engine stops reporting contacts of bodies that sleep, so one report while all that held is enough.
    window = view.last(view.settle_s)
    support = view.trace.support[:, view.trace.index(name), view.trace.index(base)]
    return bool(support[window].any()) or at_rest(view, name, view.settle_s) is True


@word((EACH, OBJECT, NUMBER), TRUTH, optional=1)
def above(view: View, name: str, base: str, distance: float | None = None) -> bool:
    """Whether an object was ever above another: within its outline, or within ``distance`` of its centre."""
    if not (view.knows(name) and view.knows(base)):
        return False
    offset = view.offset(name, base)[:, :2]
    if distance is None:
        half = np.asarray(view.trace.info[view.trace.index(base)].half_size)
        over = (np.abs(offset) <= half[:2]).all(axis=1)
    else:
        over = np.linalg.norm(offset, axis=1) <= distance
    return bool((over & (view.bottom(name) >= view.top(base) - SUPPORT_GAP)).any())


@word((EACH, NUMBER), TRUTH)
def at_rest(view: View, name: str, seconds: float) -> bool:
    """Whether an object stayed where it is during the last seconds."""
    window = view.last(seconds)
    if window is None or not view.knows(name):
        return False
    centre = view.centre(name)[window]
    rotation = view.rotation(name)[window]
    turned = (np.einsum("tij,ij->t", rotation, rotation[-1]) - 1.0) / 2.0
    still = np.linalg.norm(centre - centre[-1], axis=1) <= REST_M
    return bool(still.all() and (np.degrees(np.arccos(np.clip(turned, -1.0, 1.0))) <= REST_DEG).all())


@word((EACH, NUMBER), TRUTH)
def moved(view: View, name: str, distance: float) -> bool:
    """Whether an object was ever that far from where it started."""
    if not view.knows(name):
        return False
    centre = view.centre(name)
    return bool(np.linalg.norm(centre - centre[0], axis=1).max() >= distance)


@word((NUMBER,), TRUTH)
def dropped(view: View, height: float) -> bool:
    """Whether anything that was held fell by that height, other than into a container."""
    movable = [info.name for info in view.trace.info if info.movable]
    return any(_fell(view, name, height) for name in movable)


def _fell(view: View, name: str, height: float) -> bool:
    """Whether one object fell between the end of some grasp and the next grasp."""
    runs = sorted(run for arm in ARMS.values() for run in view.grips(arm, name, 0.1))
    bottom = view.bottom(name)
    containers = [info.name for info in view.trace.info if all(info.inner_half_size) and info.name != name]
    for index, (_, stop) in enumerate(runs):
        following = runs[index + 1][0] if index + 1 < len(runs) else len(bottom) - 1
        if following <= stop or bottom[stop] - bottom[stop : following + 1].min() < height:
            continue
        if not any(_within(view, name, container)[following] for container in containers):
            return True
    return False


@word((), NUMBER)
def arm_on_table(view: View) -> float:
    """Seconds during which an arm touched the table."""
    step = float(np.median(np.diff(view.trace.time))) if len(view.trace.time) > 1 else 0.0
    return step * float(view.trace.arm_table.any(axis=1).sum())


@word((), TRUTH)
def arms_touched(view: View) -> bool:
    """Whether the arms ever touched each other."""
    return bool(view.trace.arm_arm.any())
