"""Strict JSON: canonical text for hashing, and reading that refuses unknown keys and wrong types."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from finevla_runtime.contracts.errors import SetupError

T = TypeVar("T")
Json: TypeAlias = "bool | int | float | str | Sequence[Json] | Mapping[str, Json] | None"


def canonical(value: Json) -> str:
    """Return the one spelling of a JSON value: sorted keys, no blanks, ASCII only (so that any text survives).

    Raises:
        ValueError: for NaN and infinity, which JSON cannot hold.
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def sha256_hex(text: str) -> str:
    """Return the sha256 of ASCII text in hexadecimal."""
    return hashlib.sha256(text.encode("ascii")).hexdigest()


@dataclass(frozen=True)
class JsonNode:
    """One value of a JSON document that knows its place, so that errors can name it.

    Attributes:
        where: file and line or another name of the document.
        path: keys from the top to this value.
        value: the plain Python value.
        code: error code raised for anything unexpected in this document.
    """

    where: str
    path: str
    value: object
    code: str

    def fail(self, message: str) -> SetupError:
        """Build the SetupError for this place."""
        return SetupError(self.code, f"{self.where} ({self.path or 'top level'}): {message}")

    def mapping(self, keys: Iterable[str]) -> dict[str, JsonNode]:
        """Return the children of an object that has exactly ``keys``."""
        children = self.free_mapping()
        wanted = set(keys)
        for key in sorted(set(children) - wanted):
            raise self.fail(f"unknown key {key!r}; known: {', '.join(sorted(wanted))}.")
        for key in sorted(wanted - set(children)):
            raise self.fail(f"missing key {key!r}.")
        return children

    def free_mapping(self) -> dict[str, JsonNode]:
        """Return the children of an object whose keys are free."""
        if not isinstance(self.value, dict):
            raise self.fail("wanted an object.")
        return {
            str(key): JsonNode(self.where, f"{self.path}.{key}".lstrip("."), child, self.code)
            for key, child in self.value.items()
        }

    def elements(self) -> list[JsonNode]:
        """Return the children of a list."""
        if not isinstance(self.value, list):
            raise self.fail("wanted a list.")
        return [JsonNode(self.where, f"{self.path}[{i}]", item, self.code) for i, item in enumerate(self.value)]

    def map_values(self, read: Callable[[JsonNode], T]) -> dict[str, T]:
        """Read every value of an object with free keys."""
        return {key: read(child) for key, child in self.free_mapping().items()}

    def text(self) -> str:
        """Return a string."""
        if not isinstance(self.value, str):
            raise self.fail(f"wanted text, got {self.value!r}.")
        return self.value

    def number(self) -> float:
        """Return a finite number as float."""
        if isinstance(self.value, bool) or not isinstance(self.value, (int, float)):
            raise self.fail(f"wanted a number, got {self.value!r}.")
        if not math.isfinite(self.value):
            raise self.fail(f"wanted a finite number, got {self.value!r}.")
        return float(self.value)

    def integer(self) -> int:
        """Return a whole number."""
        if isinstance(self.value, bool) or not isinstance(self.value, int):
            raise self.fail(f"wanted a whole number, got {self.value!r}.")
        return self.value

    def flag(self) -> bool:
        """Return true or false."""
        if not isinstance(self.value, bool):
            raise self.fail(f"wanted true or false, got {self.value!r}.")
        return self.value

    def one_of(self, known: Iterable[str]) -> str:
        """Return a string that must be one of ``known``."""
        names = list(known)
        if self.value not in names:
            raise self.fail(f"got {self.value!r}, wanted one of {', '.join(names)}.")
        return str(self.value)


def _unique_keys(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Refuse repeated keys, which plain JSON readers resolve silently."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key appears twice")
    return found


def parse_json(text: str, where: str, code: str) -> JsonNode:
    """Parse one JSON document into a JsonNode.

    Raises:
        SetupError: ``code`` when the text is not JSON, repeats a key or nests too deeply.
    """
    try:
        return JsonNode(where, "", json.loads(text, object_pairs_hook=_unique_keys), code)
    except (ValueError, RecursionError) as error:
        raise SetupError(code, f"{where} is not the JSON that was expected: {error}.") from error
