"""What a body must keep away from: loaded strictly from ``hw_configs/spaces/``, one file for each body and place."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.strict_yaml import Node, load_yaml
from finevla_runtime.safety.body import ARMS

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Box:
    """An axis-parallel box in the world: its lowest and highest corner in metres."""

    lower: Vector
    upper: Vector


@dataclass(frozen=True)
class KeepOut:
    """A box that no moving part of the body may come near.

    Attributes:
        name: what stands there, for messages.
        box: where.
        distance: least distance to it, metres.
    """

    name: str
    box: Box
    distance: float


@dataclass(frozen=True)
class SpaceConfig:
    """The surroundings of one body, all in metres in the world frame of its URDF.

    Attributes:
        embodiment: body it is for.
        urdf: its description.
        measured: whether somebody has measured mounts, table and boxes at the place; False: they are assumed.
        finger_travel: how far each finger moves while the gripper's opening goes from 0 to 1.
        table_height: z of the table plane.
        table_links: least height of moving links above it.
        table_fingers: the same for the fingers, which pick things up from it; below zero they may press on it.
        workspace: where the tool point of the left and of the right arm must stay.
        keep_out: boxes to stay away from.
        between_arms: least distance between a part of one arm and a part of the other.
        within_arm: least distance between the parts of one arm in ``pairs``.
        pairs: parts of one arm that could touch; parts beside one another in the chain always do and are not listed.
    """

    embodiment: str
    urdf: Path
    measured: bool
    finger_travel: float
    table_height: float
    table_links: float
    table_fingers: float
    workspace: tuple[Box, Box]
    keep_out: tuple[KeepOut, ...]
    between_arms: float
    within_arm: float
    pairs: tuple[tuple[str, str], ...]


def load_space_config(path: Path) -> SpaceConfig:
    """Read one ``hw_configs/spaces/*.yaml``; the URDF is named relative to the file.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys, FV-SAF-030 for an empty box, FV-SAF-031 for a
            distance that is not positive.
    """
    keys = load_yaml(path).mapping(
        ["embodiment", "urdf", "measured", "gripper", "table", "workspace", "keep_out", "arm_to_arm", "within_arm"]
    )
    table = keys["table"].mapping(["height", "links", "fingers"])
    arms = keys["workspace"].mapping(ARMS)
    within = keys["within_arm"].mapping(["distance", "pairs"])
    return SpaceConfig(
        embodiment=keys["embodiment"].text(),
        urdf=path.parent / keys["urdf"].text(),
        measured=keys["measured"].flag(),
        finger_travel=_positive(keys["gripper"].mapping(["finger_travel"])["finger_travel"]),
        table_height=table["height"].number(),
        table_links=_positive(table["links"]),
        table_fingers=table["fingers"].number(),
        workspace=(_read_box(arms["left"]), _read_box(arms["right"])),
        keep_out=keys["keep_out"].map(_read_keep_out),
        between_arms=_positive(keys["arm_to_arm"].mapping(["distance"])["distance"]),
        within_arm=_positive(within["distance"]),
        pairs=within["pairs"].map(_read_pair),
    )


def _read_box(node: Node) -> Box:
    keys = node.mapping(["lower", "upper"])
    return _box(node, keys)


def _read_keep_out(node: Node) -> KeepOut:
    keys = node.mapping(["name", "lower", "upper", "distance"])
    return KeepOut(keys["name"].text(), _box(node, keys), _positive(keys["distance"]))


def _box(node: Node, keys: dict[str, Node]) -> Box:
    lower, upper = _read_vector(keys["lower"]), _read_vector(keys["upper"])
    if not all(low < high for low, high in zip(lower, upper, strict=True)):
        raise node.fail("FV-SAF-030", f"{lower} to {upper} is an empty box; wanted lower below upper.")
    return Box(lower, upper)


def _read_pair(node: Node) -> tuple[str, str]:
    names = node.map(Node.text)
    if len(names) != 2:
        raise node.fail("FV-CFG-006", f"wanted two parts, got {len(names)}.")
    return names[0], names[1]


def _read_vector(node: Node) -> Vector:
    values = node.map(Node.number)
    if len(values) != 3:
        raise node.fail("FV-CFG-006", f"wanted three numbers, got {len(values)}.")
    return values[0], values[1], values[2]


def _positive(node: Node) -> float:
    value = node.number()
    if value <= 0:
        raise node.fail("FV-SAF-031", f"{value:g}; wanted above 0.")
    return value
