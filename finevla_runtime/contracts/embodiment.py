"""One robot body: joints, limits, cameras, rates and what holding means; loaded strictly from ``hw_configs/``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.action import GRIPPER_INDICES, JOINT_NAMES, ActionSpace
from finevla_runtime.contracts.errors import unknown_name
from finevla_runtime.contracts.strict_yaml import Node, load_yaml


@dataclass(frozen=True)
class Joint:
    """One joint of the project's layout.

    Attributes:
        name: project name, for example ``left_j3``.
        lower, upper: position limits, rad (gripper: open fraction 0..1).
        velocity_s: speed limit in units per second.
        home: home position in the same unit.
    """

    name: str
    lower: float
    upper: float
    velocity_s: float
    home: float


@dataclass(frozen=True)
class CameraMount:
    """One camera of the body.

    Attributes:
        name: camera name that policies and observations use.
        height, width: pixels of the frames it delivers.
        fov_y_deg: vertical field of view, degrees.
        link: link it is fixed to; ``world`` for a static camera.
        position: metres in the link frame (x, y, z).
        forward, up: viewing direction and image-up direction in the link frame.
    """

    name: str
    height: int
    width: int
    fov_y_deg: float
    link: str
    position: tuple[float, float, float]
    forward: tuple[float, float, float]
    up: tuple[float, float, float]


@dataclass(frozen=True)
class Embodiment:
    """The contract of one body.

    Attributes:
        name: file stem in ``hw_configs/``.
        joints: fourteen joints in the project's layout.
        cameras: cameras in policy order (head first, then wrists).
        control_hz: rate at which targets are given.
        hold: what the body does when it gets no target; there is no default on purpose.
    """

    name: str
    joints: tuple[Joint, ...]
    cameras: tuple[CameraMount, ...]
    control_hz: float
    hold: str

    @property
    def action_space(self) -> ActionSpace:
        """Return the absolute joint action space of this body."""
        return ActionSpace(
            names=tuple(j.name for j in self.joints),
            units=tuple("open_fraction" if i in GRIPPER_INDICES else "rad" for i in range(len(self.joints))),
            lower=tuple(j.lower for j in self.joints),
            upper=tuple(j.upper for j in self.joints),
        )

    def camera(self, name: str) -> CameraMount:
        """Return the camera called ``name`` (SetupError FV-EMB-003 when there is none)."""
        for camera in self.cameras:
            if camera.name == name:
                return camera
        raise unknown_name("FV-EMB-003", "camera", name, [c.name for c in self.cameras], self.name)


HOLD_BEHAVIOURS = ("hold_position",)


def load_embodiment(path: Path) -> Embodiment:
    """Read one ``hw_configs/*.yaml``.

    Raises:
        SetupError: FV-CFG-* for unknown, missing or mistyped keys; FV-EMB-001 for a joint order other than the
            project's layout; FV-EMB-002 for an empty range or a home pose outside it.
    """
    root = load_yaml(path)
    keys = root.mapping(["embodiment", "control_hz", "hold", "joints", "cameras"])
    keys["embodiment"].one_of([path.stem])
    joints = keys["joints"].map(_read_joint)
    names = tuple(j.name for j in joints)
    if names != JOINT_NAMES:
        raise keys["joints"].fail(
            "FV-EMB-001", f"joints are {', '.join(names)}; wanted exactly {', '.join(JOINT_NAMES)}."
        )
    return Embodiment(
        name=path.stem,
        joints=joints,
        cameras=keys["cameras"].map(_read_camera),
        control_hz=keys["control_hz"].number(),
        hold=keys["hold"].one_of(HOLD_BEHAVIOURS),
    )


def _read_joint(node: Node) -> Joint:
    keys = node.mapping(["name", "lower", "upper", "velocity_s", "home"])
    joint = Joint(
        keys["name"].text(),
        keys["lower"].number(),
        keys["upper"].number(),
        keys["velocity_s"].number(),
        keys["home"].number(),
    )
    if not joint.lower < joint.upper or not joint.lower <= joint.home <= joint.upper or joint.velocity_s <= 0:
        raise node.fail("FV-EMB-002", f"{joint.name}: wanted lower <= home <= upper and a positive velocity.")
    return joint


def _read_camera(node: Node) -> CameraMount:
    keys = node.mapping(["name", "height", "width", "fov_y_deg", "link", "position", "forward", "up"])
    return CameraMount(
        name=keys["name"].text(),
        height=keys["height"].integer(),
        width=keys["width"].integer(),
        fov_y_deg=keys["fov_y_deg"].number(),
        link=keys["link"].text(),
        position=_read_vector(keys["position"]),
        forward=_read_vector(keys["forward"]),
        up=_read_vector(keys["up"]),
    )


def _read_vector(node: Node) -> tuple[float, float, float]:
    values = node.map(Node.number)
    if len(values) != 3:
        raise node.fail("FV-CFG-006", f"wanted three numbers, got {len(values)}.")
    return values[0], values[1], values[2]
