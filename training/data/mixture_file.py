"""A mixture written down: which datasets, how often, and how each of them is to be read.

Datasets of one mixture need not agree on units and names. Cobot Magic data alone has three gripper standards
(``training.data.gripper_range``), so what holds for one dataset is stated with it:

    datasets:
      - folders: rdt/*            # relative to this file; a pattern takes every dataset it matches
        weight: 1                 # of each folder, 1 when left out
        gripper: {closed: 0, open: 4.7}
      - folders: robomind2/*
        gripper: {closed: 0, open: 0.07}
        cameras: {cam_high: front}  # camera of the policy: camera of the dataset
        language: human.action.task_description
"""

from __future__ import annotations

from pathlib import Path

from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from training.data.gripper_range import GripperRange
from training.data.vla_dataset import DataSource

SUFFIXES = (".yaml", ".yml")
# A folder is a dataset when it has this file (LeRobot v2.1 and v3.0).
_MARK = Path("meta") / "info.json"


def read_mixture(path: Path) -> tuple[DataSource, ...]:
    """Read a mixture file.

    Raises:
        SetupError: FV-CFG-* naming file and line for unknown, missing or mistyped keys, FV-DAT-005 for an empty
            gripper range, FV-DAT-015 for a pattern that no dataset matches, a folder that is named twice, a weight
            below zero or a file without datasets.
    """
    listed = load_yaml(path).mapping(["datasets"])["datasets"]
    sources: dict[Path, DataSource] = {}
    for entry in listed.elements():
        for source in _entry(entry, path.parent):
            place = source.root.resolve()
            if place in sources:
                raise entry.fail("FV-DAT-015", f"{source.root} is named twice; give it one entry and a weight.")
            sources[place] = source
    if not sources:
        raise listed.fail("FV-DAT-015", "no dataset; list at least one entry with folders.")
    return tuple(sources.values())


def _entry(entry: Node, base: Path) -> list[DataSource]:
    keys = entry.mapping(["folders"], ["weight", "gripper", "cameras", "language"])
    weight = keys["weight"].number() if "weight" in keys else 1.0
    if weight < 0:
        raise keys["weight"].fail("FV-DAT-015", f"weight {weight:g}; wanted 0 or more.")
    grippers = _grippers(keys["gripper"]) if "gripper" in keys else GripperRange()
    cameras = {name: node.text() for name, node in keys["cameras"].items()} if "cameras" in keys else {}
    language = keys["language"].text() if "language" in keys else ""
    return [
        DataSource(folder, weight, grippers=grippers, cameras=cameras, language=language)
        for folder in _folders(keys["folders"], base)
    ]


def _folders(node: Node, base: Path) -> list[Path]:
    """Return the datasets that a folder or a pattern names, in the order of their names."""
    pattern = Path(node.text())
    # A pattern is matched below the part of it without wildcards; an absolute one starts at its root.
    start = Path(pattern.anchor) if pattern.is_absolute() else base
    inside = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
    try:
        found = sorted(place for place in start.glob(str(inside)) if (place / _MARK).is_file())
    except (ValueError, IndexError) as error:
        # An empty name is an IndexError, ``**`` beside other characters a ValueError.
        raise node.fail("FV-DAT-015", f"{node.text()!r} is no folder and no pattern ({error}).") from error
    if not found:
        raise node.fail("FV-DAT-015", f"no LeRobot dataset (a folder with {_MARK}) matches {start / inside}.")
    return found


def _grippers(node: Node) -> GripperRange:
    keys = node.mapping(["closed", "open"])
    closed, opened = keys["closed"].number(), keys["open"].number()
    if closed == opened:
        raise node.fail("FV-DAT-005", f"the gripper reads {closed:g} both closed and open; state its two readings.")
    return GripperRange(closed, opened)
