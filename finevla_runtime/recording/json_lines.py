"""JSON and JSON-lines files whose mistakes are reported with file, line and key."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from finevla_runtime.contracts.errors import SetupError

T = TypeVar("T")
JsonObject = Mapping[str, object]


def read_object(path: Path) -> JsonObject:
    """Read a file that holds one JSON object.

    Raises:
        SetupError: FV-REC-001 when the file is missing, FV-REC-002 when it is not a JSON object.
    """
    return _parse(_read_text(path), str(path))


def read_lines(path: Path) -> list[JsonObject]:
    """Read one JSON object per line; errors as in ``read_object``, naming the line."""
    lines = _read_text(path).splitlines()
    return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1) if line.strip()]


def value(entry: JsonObject, key: str, kind: type[T], where: str) -> T:
    """Return ``entry[key]``, which must be a ``kind``; a whole number also serves as a float.

    Raises:
        SetupError: FV-REC-002 naming the place, the key and what was found.
    """
    found = entry.get(key)
    if kind is float and isinstance(found, int) and not isinstance(found, bool):
        found = float(found)
    if not isinstance(found, kind) or (isinstance(found, bool) and kind is not bool):
        state = f"is {found!r}" if key in entry else "is missing"
        raise SetupError("FV-REC-002", f"{where}: key {key!r} {state}, wanted {kind.__name__}.")
    return found


def texts(entry: JsonObject, key: str, where: str) -> tuple[str, ...]:
    """Return a list of strings (FV-REC-002 when it is something else)."""
    items = value(entry, key, list, where)
    for item in items:
        if not isinstance(item, str):
            raise SetupError("FV-REC-002", f"{where}: key {key!r} holds {item!r}, wanted a list of texts.")
    return tuple(items)


def line(entry: JsonObject) -> str:
    """Return one line of JSON, keys in the order given."""
    return json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n"


def write_lines(path: Path, entries: Iterable[JsonObject]) -> None:
    """Replace a JSON-lines file atomically."""
    write_atomically(path, "".join(line(entry) for entry in entries).encode())


def write_object(path: Path, entry: JsonObject) -> None:
    """Replace a JSON file atomically, indented for people."""
    write_atomically(path, (json.dumps(entry, ensure_ascii=False, allow_nan=False, indent=2) + "\n").encode())


def write_atomically(path: Path, content: bytes) -> None:
    """Write beside ``path``, flush to disk and rename: a reader sees the old file or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise SetupError("FV-REC-001", f"cannot read {path}: {error.strerror}. Check the folder.") from error
    except UnicodeDecodeError as error:
        raise SetupError("FV-REC-002", f"{path} is not UTF-8 text (byte {error.start}).") from error


def _parse(text: str, where: str) -> JsonObject:
    try:
        entry = json.loads(text)
    except json.JSONDecodeError as error:
        raise SetupError("FV-REC-002", f"{where} is not valid JSON: {error.msg} (column {error.colno}).") from error
    if not isinstance(entry, dict):
        raise SetupError("FV-REC-002", f"{where} holds {type(entry).__name__}, wanted a JSON object.")
    return entry
