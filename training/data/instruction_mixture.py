"""Which samples make a step: a pure function of (seed, step), the same for any number of loader workers and ranks.

A sample is fine-grained with probability ``fg_share``, whatever its dataset: the ratio is a property of the samples,
not of a list of folders. Then a dataset is drawn by weight, then a frame. Draws of a rank are the rank's contiguous
part of the draws of the step, so n processes together see exactly what one process would.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError, unknown_name
from training.data.row_store import IntArray
from training.data.vla_dataset import VLADataset

REQUIRE, ANNOTATED_ONLY = "require", "annotated_only"
UNANNOTATED_RULES = (REQUIRE, ANNOTATED_ONLY)
FRAMES, TASKS = "frames", "tasks"
UNIFORM_OVER = (FRAMES, TASKS)
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MixturePlan:
    """How samples are drawn.

    Attributes:
        batch: samples per step over all ranks.
        fg_share: probability that a sample carries fine-grained text; see ``parse_share``.
        unannotated: what happens to episodes without fine-grained text. ``require`` refuses a dataset that has any;
            ``annotated_only`` draws fine-grained samples from annotated episodes (of datasets that have some, by
            weight) and raw samples from all, which is how the paper trains on data of which 7 to 21 % is annotated.
        uniform_over: ``frames``: every frame of a dataset is as likely as any other. ``tasks``: every task is, then
            every frame inside it. The paper's runs list one folder per task with weight 1 and draw a uniform step in
            it, so ``tasks`` on a merged dataset is the paper's distribution.
    """

    batch: int
    fg_share: float
    unannotated: str = ANNOTATED_ONLY
    uniform_over: str = FRAMES


@dataclass(frozen=True, eq=False)
class Draws:
    """The samples of one step, or of one rank's part of it.

    Attributes:
        step: training step.
        dataset, episode, frame: int64[B], positions in the mixture, the dataset and the episode.
        fine_grained: bool[B], which text the sample carries.
    """

    step: int
    dataset: IntArray
    episode: IntArray
    frame: IntArray
    fine_grained: BoolArray

    def __len__(self) -> int:
        return len(self.frame)

    def part(self, rank: int, world: int) -> Draws:
        """Return the contiguous part of one of ``world`` ranks.

        Raises:
            SetupError: FV-DAT-012 when the batch cannot be split evenly or there is no such rank.
        """
        if not 0 <= rank < world or len(self) % world:
            raise SetupError(
                "FV-DAT-012",
                f"rank {rank} of {world} for a batch of {len(self)}; the batch must be a multiple of the ranks.",
            )
        size = len(self) // world
        span = slice(rank * size, (rank + 1) * size)
        return Draws(self.step, self.dataset[span], self.episode[span], self.frame[span], self.fine_grained[span])


@dataclass(frozen=True)
class SourceReport:
    """What a mixture draws from one dataset.

    Attributes:
        name: the dataset.
        episodes, annotated: all episodes, and those with fine-grained text.
        raw_probability, fine_probability: probability that a raw, respectively a fine-grained, sample comes from it.
    """

    name: str
    episodes: int
    annotated: int
    raw_probability: float
    fine_probability: float


class InstructionMixture:
    """Draws samples from weighted datasets at a given FG:Raw share."""

    def __init__(self, datasets: Sequence[VLADataset], plan: MixturePlan, seed: int) -> None:
        """Check the plan against the datasets and index what can be drawn.

        Raises:
            SetupError: FV-DAT-009 for an impossible plan, FV-DAT-010 naming the first episode without fine-grained
                text where all must have some, FV-DAT-011 when none has any.
        """
        _check(datasets, plan)
        self.datasets = tuple(datasets)
        self.plan = plan
        self.seed = seed
        everything = [_Pool.of(dataset, None, plan.uniform_over) for dataset in datasets]
        self._pools = {False: everything, True: everything}
        if plan.fg_share > 0:
            _check_annotations(datasets, plan)
            self._pools[True] = [_Pool.of(dataset, dataset.annotated, plan.uniform_over) for dataset in datasets]
        self._weights = {fine: _weights(datasets, pools) for fine, pools in self._pools.items()}

    def draw(self, step: int, rank: int = 0, world: int = 1) -> Draws:
        """Return the samples of ``step`` for one rank (FV-DAT-012 when the batch cannot be split)."""
        rng = np.random.default_rng([self.seed, step])
        fine_grained = rng.random(self.plan.batch) < self.plan.fg_share
        chances = rng.random((self.plan.batch, 3))
        picked = np.empty((self.plan.batch, 3), dtype=np.int64)
        for place, fine in enumerate(fine_grained):
            which, group, frame = chances[place]
            number = int(np.searchsorted(self._weights[bool(fine)], which, side="right"))
            picked[place] = number, *self._pools[bool(fine)][number].pick(group, frame)
        return Draws(step, picked[:, 0], picked[:, 1], picked[:, 2], fine_grained).part(rank, world)

    def measured_share(self, steps: range) -> float:
        """Return the share of fine-grained samples that the given steps really hold, over all ranks.

        Because draws are a function of the step, this also holds for steps before a resumption.
        """
        counts = [
            np.count_nonzero(np.random.default_rng([self.seed, step]).random(self.plan.batch) < self.plan.fg_share)
            for step in steps
        ]
        return float(np.sum(counts)) / (len(steps) * self.plan.batch) if len(steps) else 0.0

    def report(self) -> tuple[SourceReport, ...]:
        """Return what is drawn from each dataset, for the log and the checkpoint."""
        shares = {fine: np.diff(np.concatenate([[0.0], weights])) for fine, weights in self._weights.items()}
        return tuple(
            SourceReport(
                dataset.name,
                len(dataset.source),
                len(dataset.annotated),
                float(shares[False][number]),
                float(shares[True][number]) if self.plan.fg_share > 0 else 0.0,
            )
            for number, dataset in enumerate(self.datasets)
        )


@dataclass(frozen=True, eq=False)
class _Pool:
    """What can be drawn from one dataset: groups of episodes, and the running number of frames in each group."""

    episodes: tuple[IntArray, ...]
    ends: tuple[IntArray, ...]

    @staticmethod
    def of(dataset: VLADataset, episodes: IntArray | None, uniform_over: str) -> _Pool:
        listed = np.arange(len(dataset.source), dtype=np.int64) if episodes is None else episodes
        groups = [listed] if len(listed) else []
        if uniform_over == TASKS:
            tasks = np.array([dataset.task_of(int(number)) for number in listed], dtype=np.int64)
            groups = [listed[tasks == task] for task in np.unique(tasks)]
        lengths = np.diff(dataset.rows.first_row)
        return _Pool(tuple(groups), tuple(np.cumsum(lengths[group]) for group in groups))

    def pick(self, group_chance: float, frame_chance: float) -> tuple[int, int]:
        """Return (episode, frame) for two numbers in [0, 1)."""
        group = int(group_chance * len(self.episodes))
        ends = self.ends[group]
        place = int(frame_chance * int(ends[-1]))
        episode = int(np.searchsorted(ends, place, side="right"))
        first = int(ends[episode - 1]) if episode else 0
        return int(self.episodes[group][episode]), place - first


def _weights(datasets: Sequence[VLADataset], pools: Sequence[_Pool]) -> npt.NDArray[np.float64]:
    """Return the running probability of the datasets; one from which nothing can be drawn has none."""
    weights = np.array([d.weight if p.episodes else 0.0 for d, p in zip(datasets, pools, strict=True)])
    running = np.cumsum(weights / weights.sum())
    # The last dataset that has a weight ends at exactly 1, so that no chance below 1 falls behind it.
    running[running >= running[-1]] = 1.0
    return running


def _check(datasets: Sequence[VLADataset], plan: MixturePlan) -> None:
    for kind, name, known in (
        ("rule for episodes without fine-grained text", plan.unannotated, UNANNOTATED_RULES),
        ("way to draw frames", plan.uniform_over, UNIFORM_OVER),
    ):
        if name not in known:
            raise unknown_name("FV-DAT-009", kind, name, known)
    if not datasets or plan.batch < 1 or not 0 <= plan.fg_share <= 1:
        raise SetupError(
            "FV-DAT-009",
            f"{len(datasets)} datasets, batch {plan.batch}, FG share {plan.fg_share}; wanted at least one of each and "
            "a share from 0 to 1.",
        )
    for dataset in datasets:
        if not (np.isfinite(dataset.weight) and dataset.weight >= 0):
            raise SetupError("FV-DAT-009", f"dataset {dataset.name} has weight {dataset.weight}, wanted 0 or more.")
    if not any(dataset.weight > 0 for dataset in datasets):
        raise SetupError("FV-DAT-009", "every dataset has weight 0; nothing could be drawn.")


def _check_annotations(datasets: Sequence[VLADataset], plan: MixturePlan) -> None:
    drawn = [dataset for dataset in datasets if dataset.weight > 0]
    if not any(len(dataset.annotated) for dataset in drawn):
        files = ", ".join(str(dataset.source.root / "meta" / "FineGrainedInstruction.jsonl") for dataset in drawn)
        raise SetupError(
            "FV-DAT-011",
            f"FG share is {plan.fg_share:g} and no episode has fine-grained text ({files} missing or empty); annotate "
            "the data or train with FG:Raw 'raw'.",
        )
    if plan.unannotated != REQUIRE:
        return
    for dataset in drawn:
        missing = np.setdiff1d(np.arange(len(dataset.source)), dataset.annotated)
        if len(missing):
            raise SetupError(
                "FV-DAT-010",
                f"episode {missing[0]} of {dataset.source.root} has no line in meta/FineGrainedInstruction.jsonl "
                f"({len(missing)} of {len(dataset.source)} have none); annotate them, or draw fine-grained samples "
                f"from annotated episodes alone ({ANNOTATED_ONLY!r}).",
            )
