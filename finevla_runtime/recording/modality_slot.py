"""One slot of ``modality.json``: a name for some columns of a feature."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.json_lines import JsonObject, value

REFERENCES = ("abs", "delta", "rel")
ROTATIONS = ("joint", "quat", "wxyz", "euler", "rotvec")
KINDS = tuple(f"{reference}_{rotation}" for reference in REFERENCES for rotation in ROTATIONS)


@dataclass(frozen=True)
class ColumnSource:
    """One number per row: a column of a feature."""

    key: str
    column: int


@dataclass(frozen=True)
class Slot:
    """Some columns of one feature.

    Attributes:
        key: feature of the dataset.
        columns: its columns, in order.
        kind: one of ``KINDS`` in FineVLA-Tool's dialect; in GR00T's empty, or ``rel_joint`` where the file says that
            the values are not absolute.
    """

    key: str
    columns: tuple[int, ...]
    kind: str

    def sources(self) -> tuple[ColumnSource, ...]:
        """Return the columns one by one."""
        return tuple(ColumnSource(self.key, column) for column in self.columns)


def read_slots(group: JsonObject, default_key: str, where: str) -> Mapping[str, Slot]:
    """Read the slots of ``state`` or ``action``.

    Args:
        group: slot name -> entry.
        default_key: feature of slots without ``original_key``; empty when every slot must have one.
        where: file and group, for errors.

    Raises:
        SetupError: FV-REC-002 naming the slot and key, FV-REC-023 when ``dim`` contradicts the columns.
    """
    found = {}
    for name, entry in group.items():
        place = f"{where}, slot {name}"
        if not isinstance(entry, dict):
            raise SetupError("FV-REC-002", f"{place} holds {type(entry).__name__}, wanted an object.")
        named = "original_key" in entry or not default_key
        key = value(entry, "original_key", str, place) if named else default_key
        columns = _columns(entry, place)
        if "dim" in entry and value(entry, "dim", int, place) != len(columns):
            raise SetupError("FV-REC-023", f"{place}: dim is {entry['dim']}, its columns are {len(columns)}.")
        found[name] = Slot(key, columns, _kind(entry, place))
    return found


def _columns(entry: JsonObject, where: str) -> tuple[int, ...]:
    """Return the columns of ``indices`` or of ``start`` and ``end``; both at once are ambiguous."""
    if "indices" in entry:
        if "start" in entry or "end" in entry:
            raise SetupError("FV-REC-022", f"{where} has indices and start/end; keep one of them.")
        listed = value(entry, "indices", list, where)
        if (
            not listed
            or not all(type(index) is int and index >= 0 for index in listed)
            or len(set(listed)) < len(listed)
        ):
            raise SetupError("FV-REC-002", f"{where}: indices are {listed}, wanted different whole numbers from 0 on.")
        return tuple(listed)
    start, end = value(entry, "start", int, where), value(entry, "end", int, where)
    if not 0 <= start < end:
        raise SetupError("FV-REC-002", f"{where}: columns {start}..{end}; end must be greater than start.")
    return tuple(range(start, end))


def _kind(entry: JsonObject, where: str) -> str:
    if "type" not in entry:
        return "rel_joint" if entry.get("absolute") is False else ""
    kind = value(entry, "type", str, where)
    if kind not in KINDS:
        raise SetupError("FV-REC-002", f"{where}: type is {kind!r}, wanted one of {', '.join(KINDS)}.")
    return kind
