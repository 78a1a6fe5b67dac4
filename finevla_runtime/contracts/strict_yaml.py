"""Strict YAML: an unknown or repeated key is refused with its file and line.

Hardware, rubric and suite files move robots and decide scores, so a misspelt key must never be ignored silently.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import yaml

from finevla_runtime.contracts.errors import SetupError, nearest

T = TypeVar("T")


@dataclass(frozen=True)
class Node:
    """One value of a YAML file that knows its place, so that errors can name file and line."""

    source: str
    path: str
    raw: yaml.Node

    @property
    def place(self) -> str:
        """Return ``file:line (path)`` for messages."""
        return f"{self.source}:{self.raw.start_mark.line + 1} ({self.path or 'top level'})"

    def fail(self, code: str, message: str) -> SetupError:
        """Build the SetupError for this place."""
        return SetupError(code, f"{self.place}: {message}")

    def mapping(self, required: Iterable[str], optional: Iterable[str] = ()) -> dict[str, Node]:
        """Return the children of a mapping whose keys are exactly known.

        Raises:
            SetupError: FV-CFG-002 (not a mapping), FV-CFG-003 (unknown key), FV-CFG-004 (missing key).
        """
        children = dict(self.items())
        required_keys = list(required)
        known = [*required_keys, *optional]
        for key, child in children.items():
            if key not in known:
                guess = nearest(key, known)
                hint = f" Did you mean {guess!r}?" if guess else ""
                raise child.fail("FV-CFG-003", f"unknown key {key!r}.{hint} Known: {', '.join(known)}.")
        for key in required_keys:
            if key not in children:
                raise self.fail("FV-CFG-004", f"missing key {key!r}; add it, there is no default.")
        return children

    def items(self) -> Iterator[tuple[str, Node]]:
        """Yield the (key, child) pairs of a mapping with free keys, refusing repeated keys."""
        if not isinstance(self.raw, yaml.MappingNode):
            raise self.fail("FV-CFG-002", "wanted a mapping.")
        seen: set[str] = set()
        for key_node, value in self.raw.value:
            key = str(key_node.value)
            child = Node(self.source, f"{self.path}.{key}".lstrip("."), value)
            if key in seen:
                raise child.fail("FV-CFG-005", f"key {key!r} appears twice.")
            seen.add(key)
            yield key, child

    def elements(self) -> list[Node]:
        """Return the children of a list."""
        if not isinstance(self.raw, yaml.SequenceNode):
            raise self.fail("FV-CFG-002", "wanted a list.")
        return [Node(self.source, f"{self.path}[{i}]", item) for i, item in enumerate(self.raw.value)]

    def scalar(self) -> object:
        """Return the plain Python value of a scalar."""
        if not isinstance(self.raw, yaml.ScalarNode):
            raise self.fail("FV-CFG-002", "wanted a single value.")
        try:
            return yaml.safe_load(yaml.serialize(self.raw))
        except (yaml.YAMLError, ValueError) as error:
            raise self.fail("FV-CFG-006", f"{self.raw.value!r} is no plain value.") from error

    def text(self) -> str:
        """Return a string value."""
        if isinstance(self.raw, yaml.ScalarNode) and isinstance(self.scalar(), str):
            return str(self.raw.value)
        raise self.fail("FV-CFG-006", "wanted text.")

    def number(self) -> float:
        """Return a finite number."""
        value = self.scalar()
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < float("inf"):
            raise self.fail("FV-CFG-006", f"wanted a finite number, got {value!r}.")
        return float(value)

    def integer(self) -> int:
        """Return a whole number."""
        value = self.scalar()
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.fail("FV-CFG-006", f"wanted a whole number, got {value!r}.")
        return value

    def flag(self) -> bool:
        """Return true or false."""
        value = self.scalar()
        if not isinstance(value, bool):
            raise self.fail("FV-CFG-006", f"wanted true or false, got {value!r}.")
        return value

    def one_of(self, known: Iterable[str]) -> str:
        """Return a string that must be one of ``known``."""
        value, names = self.text(), list(known)
        if value not in names:
            guess = nearest(value, names)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise self.fail("FV-CFG-007", f"got {value!r}, wanted one of {', '.join(names)}.{hint}")
        return value

    def map(self, read: Callable[[Node], T]) -> tuple[T, ...]:
        """Read every element of a list with ``read``."""
        return tuple(read(item) for item in self.elements())


def load_yaml(path: Path) -> Node:
    """Parse one YAML file into a Node.

    Raises:
        SetupError: FV-CFG-001 when the file is missing, empty or not YAML.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError("FV-CFG-001", f"cannot read {path}: {error.strerror}. Check the path.") from error
    except UnicodeDecodeError as error:
        raise SetupError("FV-CFG-001", f"{path} is no UTF-8 text (byte {error.start}); save it as UTF-8.") from error
    return parse_yaml(text, path.name)


def parse_yaml(text: str, source: str) -> Node:
    """Parse YAML text; ``source`` names it in messages."""
    try:
        raw = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise SetupError("FV-CFG-001", f"{source} is not valid YAML: {error}") from error
    if raw is None:
        raise SetupError("FV-CFG-001", f"{source} is empty.")
    return Node(source, "", raw)
