"""Watch the choice, not the loss: does one picture with two twin instructions give the two twin motions?

On held-out scenes, at frames where twins still look alike, the policy is asked with both instructions on the same
picture. An answer is right when it is nearer to the chunk of the variant it was told than to the other one. A deaf
policy scores 0.5 however low its L1 is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.arrays import FloatArray
from training.data.mixture import padded
from training.data.tabletop_dataset import EpisodeEntry, IntArray, TabletopDataset

Act = Callable[[IntArray, IntArray], FloatArray]
"""Maps frames int64[B] and tokens int64[B, L] to normalised rows float32[B, rows, 14]."""


@dataclass(frozen=True)
class FamilyCheck:
    """How the policy does on the held-out scenes of one family.

    Attributes:
        family: family id.
        choice: share of right answers at choice frames, NaN when the family has none.
        questions: how many were asked.
        l1: mean L1 on fine-grained samples spread over the episodes.
    """

    family: str
    choice: float
    questions: int
    l1: float


@dataclass(frozen=True, eq=False)
class _Questions:
    frames: IntArray
    tokens: list[IntArray]
    told: IntArray
    other: IntArray


class ChoiceCheck:
    """Fixed questions on held-out scenes, asked the same way at every evaluation."""

    def __init__(
        self,
        dataset: TabletopDataset,
        labels: FloatArray,
        choice: npt.NDArray[np.bool_],
        tokens: dict[str, IntArray],
        chunk: int,
        seed: int,
        per_family: int = 96,
    ) -> None:
        """Draw the questions; ``labels`` are normalised targets float32[T, 14] of every control step."""
        self._dataset, self._labels, self._chunk = dataset, labels, chunk
        rng = np.random.default_rng([seed, 7])
        groups = dataset.groups(held_out=True)
        self._choices: dict[str, _Questions] = {}
        self._spread: dict[str, _Questions] = {}
        for name in dataset.families:
            mine = [positions for (family, _), positions in groups.items() if family == name]
            asked = _choice_questions(dataset, mine, choice)
            keep = rng.permutation(len(asked))[:per_family]
            self._choices[name] = _questions([asked[i] for i in keep], tokens, rng)
            spread = _spread_questions(dataset, mine, per_family, rng)
            self._spread[name] = _questions(spread, tokens, rng)

    def run(self, act: Act) -> tuple[FamilyCheck, ...]:
        """Ask all questions and return one row per family."""
        return tuple(self._family(name, act) for name in self._dataset.families)

    def _family(self, name: str, act: Act) -> FamilyCheck:
        asked, spread = self._choices[name], self._spread[name]
        share, l1 = float("nan"), float("nan")
        if len(asked.frames):
            rows = act(asked.frames, padded(asked.tokens))
            share = float((self._error(rows, asked.told) < self._error(rows, asked.other)).mean())
        if len(spread.frames):
            l1 = float(self._error(act(spread.frames, padded(spread.tokens)), spread.told).mean())
        return FamilyCheck(name, share, len(asked.frames), l1)

    def _error(self, rows: FloatArray, frames: IntArray) -> FloatArray:
        labels = self._labels[self._dataset.chunk_rows(frames, self._chunk)]
        return np.asarray(np.abs(rows - labels).mean(axis=(1, 2)), dtype=np.float32)


# (frame shown, episode whose text is given, its frame at that step, the twin's frame at that step)
_Question = tuple[int, EpisodeEntry, int, int]


def _choice_questions(
    dataset: TabletopDataset, groups: list[tuple[int, ...]], choice: npt.NDArray[np.bool_]
) -> list[_Question]:
    found: list[_Question] = []
    for positions in groups:
        for a in positions:
            for b in positions:
                shown, twin = dataset.episodes[a], dataset.episodes[b]
                if a == b:
                    continue
                for step in range(min(shown.frames, twin.frames)):
                    mine, theirs = shown.first_frame + step, twin.first_frame + step
                    if choice[mine]:
                        found += [(mine, shown, mine, theirs), (mine, twin, theirs, mine)]
    return found


def _spread_questions(
    dataset: TabletopDataset, groups: list[tuple[int, ...]], count: int, rng: np.random.Generator
) -> list[_Question]:
    episodes = [dataset.episodes[p] for positions in groups for p in positions]
    found: list[_Question] = []
    for _ in range(count if episodes else 0):
        episode = episodes[rng.integers(len(episodes))]
        frame = episode.first_frame + int(rng.integers(episode.frames))
        found.append((frame, episode, frame, frame))
    return found


def _questions(asked: list[_Question], tokens: dict[str, IntArray], rng: np.random.Generator) -> _Questions:
    def text(episode: EpisodeEntry) -> IntArray:
        listed = episode.note.fine_grained_texts
        return tokens[listed[rng.integers(len(listed))]]

    return _Questions(
        np.array([q[0] for q in asked], dtype=np.int64),
        [text(q[1]) for q in asked],
        np.array([q[2] for q in asked], dtype=np.int64),
        np.array([q[3] for q in asked], dtype=np.int64),
    )
