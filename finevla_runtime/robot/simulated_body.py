"""A simulated body: what stands in for the robot in dry runs and tests, and how one is found by its name.

Bodies register under the entry point group ``finevla.simulated_bodies``, so that a dry run may use a simulator of
another package and the core still knows nothing of it. An entry is called with the embodiment to stand in for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from typing import Protocol

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import BodyError, SetupError, unknown_name
from finevla_runtime.motion.setpoint import JointArray

GROUP = "finevla.simulated_bodies"
# The name by which a scene says that nothing stands in it; every body without scenes of its own has this one.
EMPTY_SCENE = "empty"
STATUS_OK = 0


@dataclass(frozen=True)
class BodyJudgement:
    """What a simulated body says about the motion since its last reset.

    Attributes:
        success: the goal was reached, and reached as told where the instruction told how.
        score: 0..100, weighted subgoals.
        record_json: one JSON object with all that was observed and what followed from it.
    """

    success: bool
    score: float
    record_json: str


class SimulatedBody(Protocol):
    """A body that moves in slices of time; whoever drives it decides how fast time goes."""

    @property
    def embodiment(self) -> str:
        """Return the name of the embodiment it stands in for."""
        ...

    def reset(self, scene: str) -> None:
        """Stand at home at the start of a scene, as if nothing had happened before.

        Raises:
            SetupError: FV-BDY-003, or a code of the simulator's own, when the body has no such scene.
        """
        ...

    def advance(self, target: JointArray, dt_s: float) -> None:
        """Let time go on while the drives aim at one target.

        A body that calculates in substeps keeps what is left of the time, so slices of any length add up.

        Args:
            target: float64[14] in the project's layout, rad and open fractions.
            dt_s: seconds, 0 or more.

        Raises:
            BodyError: FV-BDY-004 for a target or a time that no drive can follow; nothing moves then.
        """
        ...

    def measured(self) -> JointArray:
        """Return the measured joints, float64[14] in the project's layout."""
        ...

    def images(self) -> Mapping[str, ByteArray]:
        """Return what the cameras see now: RGB uint8[height, width, 3] by camera name."""
        ...

    def judge(self, variant: str, kind: str) -> BodyJudgement:
        """Judge all that happened since the last reset.

        Args:
            variant: id of the variant that was asked for.
            kind: ``raw`` or ``fine_grained``.

        Raises:
            SetupError: FV-BDY-005 when the body has no judge, or a code of the judge's own.
        """
        ...

    def status(self) -> int:
        """Return the status code of the arms; 0 when all is well, else a code of the arms' maker."""
        ...


BodyFactory = Callable[[Embodiment], SimulatedBody]


@dataclass(frozen=True)
class RegisteredBody:
    """One registered body.

    Attributes:
        name: what a dry run asks for.
        entry: ``module:callable`` that makes it.
        extra: extra of the distribution that brings its libraries; empty for the core.
    """

    name: str
    entry: str
    extra: str

    def build(self, embodiment: Embodiment) -> SimulatedBody:
        """Import and make the body.

        Raises:
            SetupError: FV-BDY-002 when a library that it needs is not installed, or why the body cannot be made.
        """
        try:
            factory: BodyFactory = metadata.EntryPoint(self.name, self.entry, GROUP).load()
            return factory(embodiment)
        except ModuleNotFoundError as error:
            extra = f"[{self.extra}]" if self.extra else ""
            raise SetupError(
                "FV-BDY-002",
                f"the simulated body {self.name!r} needs the library {error.name}. "
                f"Run: pip install 'finevla-runtime{extra}'.",
            ) from error


def registered_bodies() -> tuple[RegisteredBody, ...]:
    """Return every body that an installed distribution registers, sorted by name."""
    found = {entry.name: entry.value for entry in metadata.entry_points(group=GROUP)}
    return tuple(_registered(name, found[name]) for name in sorted(found))


def find_body(name: str) -> RegisteredBody:
    """Return the body registered as ``name``.

    Raises:
        SetupError: FV-BDY-001 when there is none; it lists the known ones and the nearest match.
    """
    known = {body.name: body for body in registered_bodies()}
    if name not in known:
        raise unknown_name("FV-BDY-001", "simulated body", name, known, "the installed packages")
    return known[name]


def _registered(name: str, value: str) -> RegisteredBody:
    """Read ``module:callable [extra]``; Python 3.10 and 3.11 disagree about what ``EntryPoint.extras`` holds."""
    entry, _, extra = value.partition("[")
    return RegisteredBody(name, entry.strip(), extra.rstrip("] "))


def checked_drive(target: JointArray, dt_s: float) -> JointArray:
    """Return the target as float64[14], refusing what no drive can follow.

    Raises:
        BodyError: FV-BDY-004 for a wrong shape, a number that is not finite, or a time that runs backwards.
    """
    goal = np.asarray(target, dtype=np.float64)
    if goal.shape != (DOF,) or not np.isfinite(goal).all():
        raise BodyError("FV-BDY-004", f"wanted {DOF} finite joint targets, got shape {goal.shape}: {goal}.")
    if not 0.0 <= dt_s < float("inf"):
        raise BodyError("FV-BDY-004", f"wanted 0 or more seconds to go on, got {dt_s}.")
    return goal


@dataclass(slots=True)
class Substeps:
    """Whole substeps in a stream of time slices of any length; what is left counts for the next slice.

    Attributes:
        rate_hz: substeps per second.
        owed: substeps, in fractions, that have been asked for and not taken.
    """

    rate_hz: float
    owed: float = 0.0

    def take(self, dt_s: float) -> int:
        """Return the whole substeps to take now that ``dt_s`` seconds more have passed."""
        self.owed += dt_s * self.rate_hz
        # Slices like 0.004 s have no exact binary form; a billionth of a substep too little is a whole one.
        whole = int(self.owed + 1e-9)
        self.owed -= whole
        return whole
