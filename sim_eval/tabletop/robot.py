"""The dual-arm robot of the suite: a URDF written from numbers, and its joints inside a SAPIEN scene."""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.tabletop import kinematics as km

if TYPE_CHECKING:
    import sapien

FINGER_TRAVEL = 0.045
"""Metres each finger moves from closed (0) to open (1)."""
ARMS = ("left", "right")
"""Arm names in the order of the arm axis."""
JOINT_NAMES = tuple(name for arm in ARMS for name in (*(f"{arm}_j{index}" for index in range(1, 7)), f"{arm}_gripper"))
"""The project's 14-D joint layout."""
ARM_STIFFNESS, ARM_DAMPING, ARM_FORCE = 2000.0, 160.0, 150.0
FINGER_STIFFNESS, FINGER_DAMPING, FINGER_FORCE = 1000.0, 60.0, 45.0
_SHELL = {"left": "0.86 0.86 0.90 1", "right": "0.22 0.22 0.26 1"}
_TIPS = {"left": "0.62 0.16 0.80 1", "right": "0.05 0.80 0.80 1"}
Floats = NDArray[np.float64]
Vector = tuple[float, float, float]
_VISUAL = re.compile(r"<visual>.*?</visual>")


def _box(size: Vector, xyz: Vector, colour: str, solid: bool = True) -> str:
    """One URDF box as visual, and as collision too when solid."""
    shape = (
        f'<origin xyz="{xyz[0]:.4f} {xyz[1]:.4f} {xyz[2]:.4f}"/>'
        f'<geometry><box size="{size[0]:.4f} {size[1]:.4f} {size[2]:.4f}"/></geometry>'
    )
    visual = f'<visual>{shape}<material name="{colour}"><color rgba="{colour}"/></material></visual>'
    return visual + (f"<collision>{shape}</collision>" if solid else "")


def _link(name: str, mass: float, shapes: str) -> str:
    """One URDF link with a round inertia that keeps the position drives well conditioned."""
    spin = mass * 0.01
    return (
        f'<link name="{name}"><inertial><mass value="{mass}"/><inertia ixx="{spin}" iyy="{spin}" izz="{spin}" '
        f'ixy="0" ixz="0" iyz="0"/></inertial>{shapes}</link>'
    )


def _joint(name: str, kind: str, parent: str, child: str, xyz: str, rpy: str, rest: str) -> str:
    """One URDF joint."""
    return (
        f'<joint name="{name}" type="{kind}"><parent link="{parent}"/><child link="{child}"/>'
        f'<origin xyz="{xyz}" rpy="{rpy}"/>{rest}</joint>'
    )


def _hinge(arm: str, index: int, parent: str, xyz: str, rpy: str, axis: str) -> str:
    """The joint j<index> of an arm, with its limits."""
    low, high = km.LOWER[index - 1], km.UPPER[index - 1]
    rest = f'<axis xyz="{axis}"/><limit lower="{low}" upper="{high}" effort="150" velocity="6"/>'
    return _joint(f"{arm}_j{index}", "revolute", parent, f"{arm}_link{index}", xyz, rpy, rest)


def _arm(arm: str, base: tuple[float, float, float]) -> str:
    """Links and joints of one arm; the frames are those of kinematics.py."""
    shell, tips = _SHELL[arm], _TIPS[arm]
    pi = "3.141592653589793"
    parts = [
        _link(f"{arm}_base", 2.0, _box((0.12, 0.12, 0.08), (0, 0, 0.04), shell, solid=False)),
        _joint(
            f"{arm}_mount",
            "fixed",
            "world_root",
            f"{arm}_base",
            f"{base[0]} {base[1]} {base[2]}",
            "0 0 1.5707963267948966",
            "",
        ),
        _hinge(arm, 1, f"{arm}_base", f"0 0 {km.SHOULDER_HEIGHT}", "0 0 0", "0 0 1"),
        _link(f"{arm}_link1", 1.0, _box((0.08, 0.08, 0.08), (0, 0, 0), shell, solid=False)),
        _hinge(arm, 2, f"{arm}_link1", "0 0 0", f"0 -{pi} 0", "0 1 0"),
        _link(f"{arm}_link2", 1.0, _box((km.UPPER_ARM, 0.06, 0.06), (km.UPPER_ARM / 2, 0, 0), shell)),
        _hinge(arm, 3, f"{arm}_link2", f"{km.UPPER_ARM} 0 0", f"0 {pi} 0", "0 1 0"),
        _link(f"{arm}_link3", 0.8, _box((km.FOREARM - 0.06, 0.05, 0.05), (km.FOREARM / 2 - 0.03, 0, 0), shell)),
        _hinge(arm, 4, f"{arm}_link3", f"{km.FOREARM} 0 0", "0 0 0", "1 0 0"),
        _link(f"{arm}_link4", 0.3, _box((0.05, 0.04, 0.04), (-0.03, 0, 0), shell, solid=False)),
        _hinge(arm, 5, f"{arm}_link4", "0 0 0", "0 0 0", "0 1 0"),
        _link(f"{arm}_link5", 0.3, _box((0.05, 0.045, 0.045), (0.02, 0, 0), shell, solid=False)),
        _hinge(arm, 6, f"{arm}_link5", "0 0 0", "0 0 0", "1 0 0"),
        _link(f"{arm}_link6", 0.3, _box((0.05, 0.12, 0.05), (0.075, 0, 0), shell)),
    ]
    for finger, sign in (("a", 1), ("b", -1)):
        name = f"{arm}_finger_{finger}"
        limit = f'<axis xyz="0 {sign} 0"/><limit lower="0" upper="{FINGER_TRAVEL}" effort="45" velocity="1"/>'
        parts += [
            _joint(name, "prismatic", f"{arm}_link6", f"{name}_link", "0.1 0 0", "0 0 0", limit),
            _link(f"{name}_link", 0.1, _box((0.082, 0.010, 0.022), (0.041, sign * 0.005, 0), tips)),
        ]
    return "".join(parts)


def robot_urdf(visuals: bool = True) -> str:
    """The robot as URDF text: 2 x 6 hinges, and two sliding fingers per gripper that follow one opening.

    Without visuals the text loads where no renderer exists.
    """
    root = '<link name="world_root"/>'
    arms = "".join(_arm(arm, base) for arm, base in zip(ARMS, km.BASES, strict=True))
    text = f'<?xml version="1.0"?><robot name="cobot_magic_sim">{root}{arms}</robot>'
    return text if visuals else _VISUAL.sub("", text)


def write_urdf(visuals: bool = True, folder: Path | None = None) -> Path:
    """Writes the URDF under a name derived from its content, atomically, so that parallel workers may share it."""
    text = robot_urdf(visuals)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    target = (folder or Path(tempfile.gettempdir())) / f"finevla-tabletop-{digest}.urdf"
    handle, part = tempfile.mkstemp(dir=target.parent, suffix=".urdf.part")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
    Path(part).replace(target)
    return target


@dataclass(frozen=True, slots=True)
class RobotHandle:
    """The robot inside one SAPIEN scene.

    Attributes:
        articulation: the SAPIEN articulation.
        order: for each of the 16 sliding or turning joints (arm joints and single fingers) of the layout below,
            its index in ``articulation.get_qpos()``: [left j1..j6, left fingers a b, right j1..j6, right fingers a b].
        joints: the SAPIEN joints in that order.
        hands: link6 of each arm.
    """

    articulation: Any
    order: NDArray[np.intp]
    joints: tuple[Any, ...]
    hands: tuple[Any, Any]

    def reset(self, target: Floats) -> None:
        """Puts the robot at a 14-D joint position with no velocity and aims the drives there."""
        wide = widen(target)
        qpos = np.zeros(len(self.order), dtype=np.float32)
        qpos[self.order] = wide
        self.articulation.set_qpos(qpos)
        self.articulation.set_qvel(np.zeros_like(qpos))
        self.drive(wide)

    def drive(self, wide: Floats) -> None:
        """Sets the 16 drive targets (rad, m)."""
        for joint, value in zip(self.joints, wide.tolist(), strict=True):
            joint.set_drive_target(value)

    def measured(self) -> Floats:
        """Measured 14-D joint position: rad, and gripper opening 0..1 as the mean of its two fingers."""
        qpos = np.asarray(self.articulation.get_qpos(), dtype=np.float64)[self.order]
        return narrow(qpos)


def widen(target: Floats) -> Floats:
    """Spreads a 14-D target to the 16 driven joints: each gripper value becomes two finger positions in metres."""
    row = np.asarray(target, dtype=np.float64)
    left, right = np.clip(row[6], 0.0, 1.0) * FINGER_TRAVEL, np.clip(row[13], 0.0, 1.0) * FINGER_TRAVEL
    return np.concatenate([row[:6], [left, left], row[7:13], [right, right]])


def narrow(wide: Floats) -> Floats:
    """The inverse of :func:`widen`; the two fingers of a gripper are averaged."""
    left, right = wide[6:8].mean() / FINGER_TRAVEL, wide[14:16].mean() / FINGER_TRAVEL
    return np.concatenate([wide[:6], [left], wide[8:14], [right]])


def load_robot(scene: sapien.Scene, visuals: bool) -> RobotHandle:
    """Adds the robot to a scene: gravity off on its links, no collisions inside one arm, grippy fingers."""
    from sapien.pysapien.physx import PhysxMaterial

    loader: Any = scene.create_urdf_loader()
    loader.fix_root_link = True
    robot: Any = loader.load(str(write_urdf(visuals)))
    grip = PhysxMaterial(1.4, 1.2, 0.0)
    for link in robot.get_links():
        link.disable_gravity = True
        for shape in link.get_collision_shapes():
            groups = list(shape.get_collision_groups())
            groups[2] |= 1 << (1 if link.name.startswith("left") else 2)
            shape.set_collision_groups(groups)
            if "finger" in link.name:
                shape.set_physical_material(grip)
    active = {joint.name: (index, joint) for index, joint in enumerate(robot.get_active_joints())}
    names = [
        name
        for arm in ARMS
        for name in (*(f"{arm}_j{index}" for index in range(1, 7)), f"{arm}_finger_a", f"{arm}_finger_b")
    ]
    for name in names:
        finger = "finger" in name
        stiffness, damping, force = (
            (FINGER_STIFFNESS, FINGER_DAMPING, FINGER_FORCE) if finger else (ARM_STIFFNESS, ARM_DAMPING, ARM_FORCE)
        )
        active[name][1].set_drive_properties(stiffness, damping, force, "force")
    hands = tuple(robot.find_link_by_name(f"{arm}_link6") for arm in ARMS)
    order = np.array([active[name][0] for name in names], dtype=np.intp)
    return RobotHandle(robot, order, tuple(active[name][1] for name in names), (hands[0], hands[1]))
