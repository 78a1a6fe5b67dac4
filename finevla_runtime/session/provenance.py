"""Where the figures of a run come from: versions, machine and command, as plain text beside the manifest."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path

from finevla_runtime.session.manifest import write_durably
from finevla_runtime.session.strict_json import JsonNode, parse_json

PROVENANCE = "provenance.json"
_PACKAGES = ("finevla-runtime", "numpy", "sapien", "onnxruntime")


def collect_provenance(command: str, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return what to write down about a run.

    Args:
        command: what was typed, for example ``finevla eval tabletop --out out/run``.
        extra: further facts, for example the engine or the machine's name for the robot.
    """
    found = {"command": command, "python": platform.python_version(), "system": platform.platform()}
    found.update(_versions(_PACKAGES))
    found.update(extra or {})
    return found


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return the versions of those packages that are installed."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return found


def save_provenance(run_dir: Path, facts: Mapping[str, str]) -> None:
    """Write ``provenance.json`` into a run folder; a resumed run keeps the facts of its beginning."""
    path = run_dir / PROVENANCE
    if not path.exists():
        run_dir.mkdir(parents=True, exist_ok=True)
        write_durably(path, (json.dumps(dict(facts), indent=2) + "\n").encode("utf-8"))


def load_provenance(run_dir: Path) -> dict[str, str]:
    """Read the facts of a run; a run without the file has none.

    Raises:
        SetupError: FV-MAN-006 when the file is not an object of texts.
    """
    path = run_dir / PROVENANCE
    if not path.is_file():
        return {}
    return parse_json(path.read_text(encoding="utf-8"), str(path), "FV-MAN-006").map_values(JsonNode.text)
