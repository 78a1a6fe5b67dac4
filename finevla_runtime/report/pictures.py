"""Film strips for the report: which pairs are shown, and their pictures as data URIs within a size budget."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.instruction import InstructionKind, differing_words
from finevla_runtime.contracts.trial import TrialRecord
from finevla_runtime.evidence.layout import Column
from finevla_runtime.evidence.outcomes import succeeded
from finevla_runtime.evidence.run import Run
from finevla_runtime.evidence.steering import pairs_of

FILM_STRIP = "film_strip"
BUDGET_BYTES = 9_000_000
_JPEG = b"\xff\xd8\xff"
_PAIRS_PER_FACTOR = 3


@dataclass(frozen=True, slots=True)
class Strip:
    """One trial with its film strip.

    Attributes:
        record: the trial.
        success: whether it was done as told.
        words: the instruction as (text, differs from its partner) pieces.
        uri: data URI of the JPEG.
    """

    record: TrialRecord
    success: bool
    words: tuple[tuple[str, bool], ...]
    uri: str


@dataclass(frozen=True, slots=True)
class Film:
    """Strips shown side by side: the two variants of one scene, or one trial of a family without a pair.

    Attributes:
        title: heading.
        policy: label of the policy.
        kind: instruction kind.
        scene_seed: the scene.
        strips: one or two strips.
    """

    title: str
    policy: str
    kind: InstructionKind
    scene_seed: int
    strips: tuple[Strip, ...]


class Album:
    """Collects films until the budget is used up."""

    def __init__(self, folder: Path, budget: int = BUDGET_BYTES) -> None:
        """Read pictures from the run folder ``folder``; ``budget`` bytes of data URIs at most."""
        self._folder = folder.resolve()
        self._left = budget

    def film(self, title: str, records: tuple[TrialRecord, ...]) -> Film | None:
        """Return the film of one or two trials, None when a picture is missing or the budget is used up."""
        uris = [self._uri(record) for record in records]
        size = sum(len(uri) for uri in uris)
        if not all(uris) or size > self._left:
            return None
        self._left -= size
        texts = [record.trial.instruction.text for record in records]
        pieces = marked(*texts) if len(texts) == 2 else (((texts[0], False),),)
        strips = tuple(
            Strip(record, succeeded(record), words, uri)
            for record, words, uri in zip(records, pieces, uris, strict=True)
        )
        trial = records[0].trial
        return Film(title, trial.policy, trial.instruction.kind, trial.scene_seed, strips)

    def _uri(self, record: TrialRecord) -> str:
        """Return the strip as a data URI; empty when there is none, it lies elsewhere or is no JPEG."""
        name = record.artifacts.get(FILM_STRIP, "")
        path = (self._folder / name).resolve()
        if not name or not path.is_relative_to(self._folder) or not path.is_file():
            return ""
        if path.stat().st_size > self._left:
            return ""
        data = path.read_bytes()
        return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii") if data[:3] == _JPEG else ""


def marked(first: str, second: str) -> tuple[tuple[tuple[str, bool], ...], tuple[tuple[str, bool], ...]]:
    """Split two instructions into pieces, marking the words in which they differ."""
    differences = differing_words(first, second)
    return (
        _pieces(first, [a for a, _ in differences]),
        _pieces(second, [b for _, b in differences]),
    )


def _pieces(text: str, runs: list[str]) -> tuple[tuple[str, bool], ...]:
    """Cut ``text`` at the differing runs, which appear in it in this order."""
    found: list[tuple[str, bool]] = []
    words = text.split()
    for run in runs:
        wanted = run.split()
        if not wanted:
            continue
        at = next(i for i in range(len(words)) if words[i : i + len(wanted)] == wanted)
        found += [(" ".join(words[:at]), False), (run, True)]
        words = words[at + len(wanted) :]
    found.append((" ".join(words), False))
    return tuple(piece for piece in found if piece[0])


def films_of(run: Run, album: Album, policy: str) -> tuple[Film, ...]:
    """Choose the films of one policy: for every column the first scene, then the first that went wrong.

    Fine-grained instructions come first. The rule looks at nothing but the order of scenes and the outcome, so the
    pictures are no selection of the best.
    """
    found: list[Film] = []
    for kind in run.kinds:
        for column in run.columns:
            for records in _chosen(run, policy, kind, column):
                film = album.film(column.title, records)
                if film is not None:
                    found.append(film)
    return tuple(found)


def _chosen(run: Run, policy: str, kind: InstructionKind, column: Column) -> Iterator[tuple[TrialRecord, ...]]:
    """Yield the first and the first unsuccessful scenes of one column."""
    groups = _scenes(run, policy, kind, column)
    first = groups[:1]
    failed = [group for group in groups[1:] if not all(succeeded(record) for record in group)]
    limit = _PAIRS_PER_FACTOR if kind is InstructionKind.FINE_GRAINED else 1
    yield from (first + failed)[:limit]


def _scenes(run: Run, policy: str, kind: InstructionKind, column: Column) -> list[tuple[TrialRecord, ...]]:
    """Return the finished pairs, or the finished single trials, of one column by scene."""
    if column.pair is None:
        return [(record,) for record in run.records(policy, kind, column.family, column.variants)]
    pairs = pairs_of(run, policy, kind, column)
    return [(a, b) for scene in pairs.values() for a, b in scene if a is not None and b is not None]
