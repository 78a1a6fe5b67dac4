"""Steering: does the behaviour change with the instruction while the scene stays the same?

Per cent compliance alone is no steerability score: a policy that ignores language complies half the time. The pair
table and the steering index J look at both instructions of a scene together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.rubric import NONE, UNCLEAR
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.detectable import detectable_steering
from finevla_runtime.evidence.intervals import Interval, mean_interval, tango
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.run import Run
from finevla_runtime.evidence.signflip import SignFlip, sign_flip

Pair = tuple["TrialRecord | None", "TrialRecord | None"]


@dataclass(frozen=True, slots=True)
class PairTable:
    """What happened in the pairs of one factor: the same scene under two instructions.

    Attributes:
        followed: both instructions were followed.
        same: the same behaviour twice, whatever was said.
        swapped: each time the behaviour of the other instruction.
        incomplete: at least one of the two was not run, not engaged or unclear.
    """

    followed: int
    same: int
    swapped: int
    incomplete: int

    @property
    def pairs(self) -> int:
        """Return all pairs."""
        return self.followed + self.same + self.swapped + self.incomplete


@dataclass(frozen=True, slots=True)
class Steering:
    """Steering of one policy by one factor under one kind of instruction.

    Attributes:
        family: family id.
        first, second: the levels A and B.
        first_told_first, first_told_second: P(observed A | told A) and P(observed A | told B).
        second_told_second, second_told_first: the same seen from level B.
        scenes: scenes in which both instructions have a clear record.
        table: the pair table.
        differences: [A seen, told A] - [A seen, told B] per scene, -1..1.
        interval: 95 % interval of J: Tango's paired interval, or over scene means where scenes hold several pairs.
        test: exact one-sided sign-flip test of J over scenes.
        detectable: smallest J that this many scenes show with 80 % power; None when they never can.
    """

    family: str
    first: str
    second: str
    first_told_first: float
    first_told_second: float
    second_told_second: float
    second_told_first: float
    scenes: int
    table: PairTable
    differences: tuple[float, ...]
    interval: Interval
    test: SignFlip
    detectable: float | None

    @property
    def index(self) -> float | None:
        """Return J = P(A | told A) - P(A | told B): 0 deaf to language, 1 perfect, below 0 inverted."""
        return self.first_told_first - self.first_told_second if self.scenes else None

    @property
    def index_second(self) -> float | None:
        """Return the same difference for level B; it differs from J only when some trials were not engaged."""
        return self.second_told_second - self.second_told_first if self.scenes else None


@dataclass(frozen=True, slots=True)
class PooledSteering:
    """Steering over several factors.

    Attributes:
        index: plain mean of their J, None when one has no clear scene.
        test: exact one-sided sign-flip test over the scenes of all factors.
    """

    index: float | None
    test: SignFlip


def pooled(factors: Sequence[Steering]) -> PooledSteering:
    """Return the steering over several factors; every factor weighs the same in the index."""
    known = [item.index for item in factors if item.index is not None]
    complete = bool(known) and len(known) == len(factors)
    test = sign_flip([value for item in factors for value in item.differences])
    return PooledSteering(sum(known) / len(known) if complete else None, test)


def pairs_of(run: Run, policy: str, kind: InstructionKind, column: Column) -> dict[int, list[Pair]]:
    """Return scene -> pairs (told A, told B) of planned trials; a trial without a counting record is None."""
    if column.pair is None:
        raise ValueError(f"family {column.family!r} has no pair of variants")
    sides = []
    for variant in column.pair:
        by_scene: dict[int, list[TrialRecord | None]] = defaultdict(list)
        for trial in run.trials(policy, kind, column.family, (variant,)):
            by_scene[trial.scene_seed].append(run.counting.get(trial.trial_id))
        sides.append(by_scene)
    first, second = sides
    return {
        scene: list(zip_longest(first.get(scene, []), second.get(scene, []))) for scene in sorted({*first, *second})
    }


def _level(record: TrialRecord | None) -> str:
    """Return the observed level; a missing record is as unclear as an unreadable one."""
    return record.outcome.observed if record else UNCLEAR


def _classify(told_first: str, told_second: str, first: str, second: str) -> str:
    """Return the column of the pair table."""
    if {told_first, told_second} & {NONE, UNCLEAR}:
        return "incomplete"
    if (told_first, told_second) == (first, second):
        return "followed"
    return "swapped" if (told_first, told_second) == (second, first) else "same"


def steering(run: Run, policy: str, kind: InstructionKind, column: Column) -> Steering | None:
    """Return the steering of one factor, None when the family has no pair or nothing of it was planned."""
    if column.pair is None:
        return None
    scenes = pairs_of(run, policy, kind, column)
    if not scenes:
        return None
    first, second = column.level(column.pair[0]), column.level(column.pair[1])
    counts = {"followed": 0, "same": 0, "swapped": 0, "incomplete": 0}
    shares: list[tuple[float, float, float, float]] = []
    for pairs in scenes.values():
        clear = []
        for pair in pairs:
            levels = (_level(pair[0]), _level(pair[1]))
            counts[_classify(*levels, first, second)] += 1
            if UNCLEAR not in levels:
                clear.append(levels)
        if clear:
            shares.append(
                (
                    sum(told == first for told, _ in clear) / len(clear),
                    sum(told == first for _, told in clear) / len(clear),
                    sum(told == second for _, told in clear) / len(clear),
                    sum(told == second for told, _ in clear) / len(clear),
                )
            )
    differences = [share[0] - share[1] for share in shares]
    means = [sum(share[i] for share in shares) / len(shares) if shares else 0.0 for i in range(4)]
    return Steering(
        family=column.family,
        first=first,
        second=second,
        first_told_first=means[0],
        first_told_second=means[1],
        second_told_second=means[2],
        second_told_first=means[3],
        scenes=len(shares),
        table=PairTable(**counts),
        differences=tuple(differences),
        interval=_interval(differences),
        test=sign_flip(differences),
        detectable=detectable_steering(len(shares)),
    )


def _interval(differences: list[float]) -> Interval:
    """Return the interval of J from its differences per scene."""
    if all(value in (-1.0, 0.0, 1.0) for value in differences):
        return tango(differences.count(1.0), differences.count(-1.0), len(differences))
    return mean_interval(differences, low=-1.0, high=1.0)
