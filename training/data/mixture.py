"""Which samples make a batch: a pure function of (seed, step), so that a resumed run draws the same sequence.

A batch is made of slots of two samples. A fine-grained slot of a paired family holds a frame and its twin (same
scene, same step, other variant), so that only the text explains their different labels. A raw slot draws from
habitual demonstrations: what a demonstrator does who was told the goal alone. FG:Raw is a probability per slot, hence
per sample, and is measured, not assumed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.errors import SetupError, unknown_name
from finevla_runtime.processing.prompt import Prompt
from training.data.tabletop_dataset import IntArray, TabletopDataset
from training.tokenizer import PAD_ID, UNKNOWN_ID

RAW_SOURCES = ("habitual", "all", "same")
BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class MixtureSettings:
    """How samples are drawn.

    Attributes:
        batch: samples per step, even.
        fg_share: probability that a sample carries fine-grained text (FG:Raw = 1:1 is 0.5).
        choice_share: share of paired fine-grained slots drawn from choice frames.
        early_share: share of the other slots drawn before the first contact.
        family_weights: relative weight per family; families not named have 1.
        raw_from: ``habitual`` (raw text goes with what a demonstrator told only the goal would do), ``all`` (with any
            demonstration) or ``same`` (frames are drawn without regard to the text, twins included, so that runs
            of different ``fg_share`` see one sequence of frames and only the words differ). Where both variants
            go with one raw text an L1 policy regresses to the middle.
        word_dropout: share of words replaced by the unknown id; words that tell variants apart are never replaced.
    """

    batch: int = 192
    fg_share: float = 0.5
    choice_share: float = 0.4
    early_share: float = 0.25
    family_weights: Mapping[str, float] = field(default_factory=dict)
    raw_from: str = "habitual"
    word_dropout: float = 0.06


@dataclass(frozen=True, eq=False)
class Draw:
    """The samples of one step.

    Attributes:
        frames: int64[B] frame positions in the store; samples 2i and 2i+1 share a slot.
        tokens: int64[B, L] word ids, cut to the longest of the batch.
        fine_grained: bool[B].
        twins: bool[B], whether the two samples of the slot are twins.
        gain: float32[B], brightness factor.
    """

    frames: IntArray
    tokens: IntArray
    fine_grained: BoolArray
    twins: BoolArray
    gain: npt.NDArray[np.float32]

    def parts(self, count: int) -> list[Draw]:
        """Return the batch in ``count`` parts; the samples of a slot stay together."""
        cuts = [2 * round(i * len(self.frames) / 2 / count) for i in range(count + 1)]
        spans = [slice(a, b) for a, b in pairwise(cuts) if b > a]
        return [Draw(self.frames[s], self.tokens[s], self.fine_grained[s], self.twins[s], self.gain[s]) for s in spans]


@dataclass(frozen=True, eq=False)
class _Family:
    name: str
    twins: tuple[tuple[int, ...], ...]
    episodes: tuple[int, ...]
    habitual: tuple[int, ...]


class Mixture:
    """Draws batches from the training scenes of a dataset."""

    def __init__(
        self,
        dataset: TabletopDataset,
        prompt: Prompt,
        choice: BoolArray,
        settings: MixtureSettings,
        seed: int,
    ) -> None:
        """Prepare the indices.

        Raises:
            SetupError: FV-TRN-006 for an odd batch or shares outside 0..1, FV-TRN-007 for an unknown family weight.
        """
        _check(settings, dataset)
        self._dataset = dataset
        self._settings = settings
        self._seed = seed
        self._choice = choice
        self._families = _families(dataset, settings.raw_from)
        weights = np.array([settings.family_weights.get(f.name, 1.0) for f in self._families])
        self._weights = weights / weights.sum()
        self._token_rows, self._protected = _tokenise(dataset, prompt)

    def draw(self, step: int) -> Draw:
        """Return the samples of ``step``."""
        rng = np.random.default_rng([self._seed, step])
        slots = self._settings.batch // 2
        frames, tokens, fine, twins = [], [], [], []
        same = self._settings.raw_from == "same"
        # Words have their own random numbers where they must not decide which frames come next.
        words = np.random.default_rng([self._seed, step, 1]) if same else rng
        for slot_family in rng.choice(len(self._families), size=slots, p=self._weights):
            family = self._families[slot_family]
            fine_grained = bool(words.random() < self._settings.fg_share)
            paired = (fine_grained or same) and bool(family.twins)
            pair = self._twins(family, rng) if paired else self._independent(family, fine_grained or same, rng)
            for frame in pair:
                frames.append(frame)
                tokens.append(self._words(frame, fine_grained, words))
            fine += [fine_grained] * 2
            twins += [paired] * 2
        return Draw(
            np.array(frames, dtype=np.int64),
            padded(tokens),
            np.array(fine),
            np.array(twins),
            rng.uniform(0.93, 1.07, size=2 * slots).astype(np.float32),
        )

    def _twins(self, family: _Family, rng: np.random.Generator) -> tuple[int, int]:
        positions = family.twins[rng.integers(len(family.twins))]
        one, other = (self._dataset.episodes[positions[i]] for i in rng.permutation(len(positions))[:2])
        frames = np.arange(one.first_frame, one.first_frame + one.frames)
        if rng.random() < self._settings.choice_share and self._choice[frames].any():
            frame = int(rng.choice(frames[self._choice[frames]]))
        else:
            frame = self._frame(one.first_frame, one.frames, one.note.decision_steps, rng)
        return frame, other.first_frame + min(frame - one.first_frame, other.frames - 1)

    def _independent(self, family: _Family, fine_grained: bool, rng: np.random.Generator) -> tuple[int, int]:
        positions = family.episodes if fine_grained else family.habitual
        picked = []
        for _ in range(2):
            episode = self._dataset.episodes[positions[rng.integers(len(positions))]]
            picked.append(self._frame(episode.first_frame, episode.frames, episode.note.decision_steps, rng))
        return picked[0], picked[1]

    def _frame(self, first: int, count: int, decision_steps: int, rng: np.random.Generator) -> int:
        """Draw a frame of one episode, more often one before the first contact."""
        early = min(count, max(1, decision_steps // self._dataset.store.stride))
        limit = early if rng.random() < self._settings.early_share else count
        return first + int(rng.integers(limit))

    def _words(self, frame: int, fine_grained: bool, rng: np.random.Generator) -> IntArray:
        note = self._dataset.episodes[self._dataset.frame_episode[frame]].note
        texts = note.fine_grained_texts if fine_grained else note.raw_texts
        ids = self._token_rows[texts[rng.integers(len(texts))]].copy()
        dropped = (rng.random(len(ids)) < self._settings.word_dropout) & ~self._protected[note.family][ids]
        ids[dropped] = UNKNOWN_ID
        return ids


def padded(rows: list[IntArray]) -> IntArray:
    """Return int64[B, L], padded on the right to the longest row."""
    out = np.full((len(rows), max(len(row) for row in rows)), PAD_ID, dtype=np.int64)
    for place, row in enumerate(rows):
        out[place, : len(row)] = row
    return out


def token_rows(texts: tuple[str, ...], prompt: Prompt) -> dict[str, IntArray]:
    """Return text -> its ids without padding."""
    rows = {}
    for text in texts:
        ids = prompt.tokens(text)
        rows[text] = np.asarray(ids[ids != PAD_ID], dtype=np.int64)
    return rows


def _check(settings: MixtureSettings, dataset: TabletopDataset) -> None:
    shares = (settings.fg_share, settings.choice_share, settings.early_share, settings.word_dropout)
    if settings.batch < 2 or settings.batch % 2 or not all(0 <= share <= 1 for share in shares):
        raise SetupError(
            "FV-TRN-006", f"batch is {settings.batch} (wanted even) and shares are {shares} (wanted 0..1)."
        )
    if settings.raw_from not in RAW_SOURCES:
        raise unknown_name("FV-TRN-006", "source of raw samples", settings.raw_from, RAW_SOURCES)
    for name in settings.family_weights:
        if name not in dataset.families:
            raise unknown_name("FV-TRN-007", "family", name, dataset.families, "family weights")


def _families(dataset: TabletopDataset, raw_from: str) -> tuple[_Family, ...]:
    """Index the training scenes by family."""
    families = []
    groups = dataset.groups(held_out=False)
    for name in dataset.families:
        mine = [positions for (family, _), positions in groups.items() if family == name]
        episodes = tuple(position for positions in mine for position in positions)
        if not episodes:
            raise SetupError("FV-TRN-005", f"family {name} has only held-out scenes; record more of them.")
        habitual = tuple(p for p in episodes if raw_from != "habitual" or dataset.episodes[p].note.habitual)
        twins = tuple(p for p in mine if len(p) > 1)
        families.append(_Family(name, twins, episodes, habitual or episodes))
    return tuple(families)


def _tokenise(dataset: TabletopDataset, prompt: Prompt) -> tuple[dict[str, IntArray], dict[str, BoolArray]]:
    """Return the ids of every text, and per family the ids that word dropout must not touch."""
    rows = token_rows(dataset.texts(), prompt)
    size = int(max(ids.max() for ids in rows.values())) + 1
    words: dict[tuple[str, str], set[int]] = {}
    for episode in dataset.episodes:
        found = words.setdefault((episode.note.family, episode.note.variant), set())
        for text in episode.note.fine_grained_texts:
            found.update(int(i) for i in rows[text])
    protected = {}
    for name in dataset.families:
        sets: list[set[int]] = [found for (family, _), found in words.items() if family == name]
        mask = np.zeros(size, dtype=bool)
        shared = sets[0].intersection(*sets[1:])
        mask[sorted(sets[0].union(*sets[1:]) - shared)] = True
        protected[name] = mask
    return rows, protected
