"""Judge words about touching, holding and lifting."""

from __future__ import annotations

import numpy as np

from sim_eval.tabletop.judge.expression import ARM, EACH, NAME, NAMES, NUMBER, OBJECT, TRUTH, TRUTHS, word
from sim_eval.tabletop.judge.view import ARMS, GAP_S, View
from sim_eval.tabletop.trace import Bools

TIE_S = 0.03
"""Two things that happen within this time cannot be put in order: ``unclear``."""
_ARM_NAMES = tuple(ARMS)


def _first(view: View, starts: dict[str, int | None]) -> str:
    """Name of what happened first, ``none`` when nothing did, ``unclear`` for a tie."""
    times = sorted((float(view.trace.time[at]), name) for name, at in starts.items() if at is not None)
    if not times:
        return "none"
    tied = len(times) > 1 and times[1][0] - times[0][0] <= TIE_S
    return "unclear" if tied else times[0][1]


def _onset(truth: Bools) -> int | None:
    """First true sample."""
    return int(np.argmax(truth)) if truth.any() else None


@word((NAMES,), NAME)
def first_held(view: View, names: list[str]) -> str:
    """Which of several objects was gripped firmly first."""
    return _first(view, {name: view.first_grip(name) for name in names})


@word((NAMES,), NAME)
def first_touched(view: View, names: list[str]) -> str:
    """Which of several objects an arm touched first."""
    return _first(view, {name: _onset(~view.free(name)) for name in names})


@word((OBJECT,), NAME)
def first_arm(view: View, name: str) -> str:
    """Which arm touched an object first."""
    if not view.knows(name):
        return "none"
    touched = view.touched(name)
    return _first(view, {arm: _onset(touched[:, index]) for arm, index in ARMS.items()})


@word((OBJECT, ARM), TRUTH)
def touched_by(view: View, name: str, arm: str) -> bool:
    """Whether an arm ever touched an object."""
    return view.knows(name) and arm in ARMS and bool(view.touched(name)[:, ARMS[arm]].any())


@word((EACH, NUMBER), TRUTH, optional=1)
def held(view: View, name: str, seconds: float | None = None) -> bool:
    """Whether an object was ever gripped firmly, for that long."""
    return any(_held_by(view, name, arm, seconds) for arm in _ARM_NAMES)


@word((EACH, ARM, NUMBER), TRUTH, optional=1)
def held_by(view: View, name: str, arm: str, seconds: float | None = None) -> bool:
    """Whether one arm ever gripped an object firmly."""
    return _held_by(view, name, arm, seconds)


def _held_by(view: View, name: str, arm: str, seconds: float | None) -> bool:
    return view.knows(name) and arm in ARMS and bool(view.grips(ARMS[arm], name, seconds))


@word((EACH, NUMBER), TRUTH, optional=1)
def holding(view: View, name: str, seconds: float | None = None) -> bool:
    """Whether an object is gripped at the end and has been for that long."""
    if not view.knows(name):
        return False
    runs = [run for arm in ARMS.values() for run in view.grips(arm, name, seconds)]
    end = view.trace.time[-1]
    return any(end - view.trace.time[stop] <= GAP_S for _, stop in runs)


@word((EACH,), TRUTH)
def released(view: View, name: str) -> bool:
    """Whether an object was held once and no arm touches it at the end."""
    if not view.knows(name) or view.first_grip(name) is None:
        return False
    return view.finally_(view.free(name))


@word((EACH,), TRUTH)
def free(view: View, name: str) -> bool:
    """Whether no arm touches an object at the end, held before or not."""
    return view.knows(name) and view.finally_(view.free(name))


@word((EACH, NUMBER), TRUTH)
def lifted(view: View, name: str, height: float) -> bool:
    """Whether an object was ever that high above its start while an arm held it."""
    return any(_lifted_by(view, name, arm, height) for arm in _ARM_NAMES)


@word((EACH, ARM, NUMBER), TRUTH)
def lifted_by(view: View, name: str, arm: str, height: float) -> bool:
    """Whether one arm ever held an object that high above its start."""
    return _lifted_by(view, name, arm, height)


def _lifted_by(view: View, name: str, arm: str, height: float) -> bool:
    if not view.knows(name) or arm not in ARMS:
        return False
    clearance = view.clearance(name)
    return any(bool((clearance[a : b + 1] >= height).any()) for a, b in view.grips(ARMS[arm], name))


@word((EACH, NUMBER), TRUTH)
def raised(view: View, name: str, height: float) -> bool:
    """Whether an object is that high above its start at the end."""
    return view.knows(name) and view.finally_(view.clearance(name) >= height)


@word((EACH, NUMBER), TRUTH)
def near(view: View, name: str, distance: float) -> bool:
    """Whether the point between some gripper's fingers ever came that close to an object."""
    return any(_near_by(view, name, arm, distance) for arm in _ARM_NAMES)


@word((EACH, ARM, NUMBER), TRUTH)
def near_by(view: View, name: str, arm: str, distance: float) -> bool:
    """Whether the point between one gripper's fingers ever came that close to an object."""
    return _near_by(view, name, arm, distance)


def _near_by(view: View, name: str, arm: str, distance: float) -> bool:
    return view.knows(name) and arm in ARMS and bool(view.tcp_distance(ARMS[arm], name).min() <= distance)


@word((TRUTHS,), NUMBER)
def count(view: View, truths: list[bool]) -> float:
    """How many of several answers are yes."""
    return float(sum(truths))


@word((TRUTHS,), TRUTH)
def all_(view: View, truths: list[bool]) -> bool:
    """Whether all of several answers are yes."""
    return all(truths)


@word((TRUTHS,), TRUTH)
def any_(view: View, truths: list[bool]) -> bool:
    """Whether any of several answers is yes."""
    return any(truths)
