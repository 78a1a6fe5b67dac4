"""Where the links of a body are: joints and solid shapes read from a URDF, placed for many poses at once.

Pinocchio reads the file; the placing is our own arithmetic over all poses together, since placing them one by one and
fetching every placement from the library takes twice the time (a test holds both together).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.action import JOINT_NAMES
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.motion.setpoint import JointArray

Floats = npt.NDArray[np.float64]
ARMS = ("left", "right")
FINGERS = ("finger_a", "finger_b")
WANTED = "wanted boxes, cylinders and spheres alone"


@dataclass(frozen=True, eq=False)
class Shape:
    """One solid of a link: a box, a cylinder along z or a sphere.

    Attributes:
        link: name of its link.
        joint: index of the joint that carries it; 0 stands for the world.
        placement: float64[4, 4], from the shape's frame to the joint's.
        half: float64[3], half extents of a box, zero otherwise.
        radius: of a cylinder or sphere, zero for a box.
        half_length: of a cylinder, zero otherwise.
        solid: the same for the distance library.
    """

    link: str
    joint: int
    placement: Floats
    half: Floats
    radius: float
    half_length: float
    solid: Any

    @property
    def arm(self) -> str:
        """Return the arm that the link belongs to."""
        return self.link.partition("_")[0]

    @property
    def part(self) -> str:
        """Return the name of the link without its arm: ``link3``, ``finger_a``."""
        return self.link.partition("_")[2].removesuffix("_link")

    @property
    def is_ball(self) -> bool:
        """Return whether it is a sphere."""
        return self.radius > 0 and self.half_length == 0

    @property
    def bound(self) -> float:
        """Return the radius of the sphere around the centre that encloses the shape."""
        return float(np.hypot(np.linalg.norm(self.half) + self.radius, self.half_length))


class Body:
    """The joints of both arms and their solid shapes.

    Attributes:
        shapes: every solid shape.
        columns: int[joints], the column of the project's layout that each joint of the description follows.
        reach: float64[shapes, joints], the furthest that a point of the shape can be from each joint that moves it.
        moves: bool[shapes, joints], which joints move the shape.
        tool_reach: float64[2, joints], the same for the tool points.
    """

    def __init__(self, urdf: Path, finger_travel: float) -> None:
        """Read a URDF.

        Args:
            urdf: file with joints named as in the project's layout, ``<arm>_finger_a|b`` and frames ``<arm>_tcp``.
            finger_travel: metres that each finger moves while the gripper's opening goes from 0 to 1.

        Raises:
            SetupError: FV-SAF-032 when the file cannot be read, FV-SAF-033 when a joint or tool frame is missing,
                FV-SAF-034 for a shape that is no box, cylinder or sphere.
        """
        import pinocchio

        try:
            text = urdf.read_text(encoding="utf-8")
            model = pinocchio.buildModelFromXML(text)
            solids = pinocchio.buildGeomFromUrdfString(model, text, pinocchio.GeometryType.COLLISION)
        except (OSError, ValueError, RuntimeError) as error:
            raise SetupError("FV-SAF-032", f"cannot read the robot description {urdf}: {error}") from error
        # The reader leaves out a shape that it does not understand, and nobody would see that link again.
        described = len(ElementTree.fromstring(text).findall("link/collision"))  # noqa: S314  # The operator's own file.
        if len(solids.geometryObjects) != described:
            read = len(solids.geometryObjects)
            raise SetupError("FV-SAF-034", f"{urdf}: {read} of {described} collision shapes could be read; {WANTED}.")
        names = list(model.names)
        self._parents = [int(parent) for parent in model.parents]
        self.columns, self._scales = _columns(names, finger_travel, urdf)
        self._basis = _motions(model)
        self._slides: npt.NDArray[np.bool_] = np.any(self._basis[:, 3] != 0.0, axis=1)
        self._levels = _levels(self._parents)
        self._tools = [_tool(model, f"{arm}_tcp", urdf) for arm in ARMS]
        self.shapes = tuple(_shape(item, model, urdf) for item in solids.geometryObjects)
        self._carriers = np.array([shape.joint for shape in self.shapes])
        self._placements = np.array([shape.placement for shape in self.shapes])[:, None]
        steps = np.linalg.norm([placement.translation for placement in model.jointPlacements], axis=1)
        ends = [(s.joint, float(np.linalg.norm(s.placement[:3, 3])) + s.bound) for s in self.shapes]
        self.reach = np.array([self._reach_row(joint, end, steps) for joint, end in ends])
        self.moves = self.reach > 0
        tips = [(joint, float(np.linalg.norm(point[:3]))) for joint, point in self._tools]
        self.tool_reach = np.array([self._reach_row(joint, end, steps) for joint, end in tips])

    def joint_values(self, rows: JointArray) -> Floats:
        """Return float64[n, joints] of the description (rad, metres) for float64[n, 14] rows."""
        return np.asarray(rows[:, self.columns] * self._scales)

    def joint_frames(self, rows: JointArray) -> Floats:
        """Return float64[joints, n, 4, 4], the frame of every joint in the world for float64[n, 14] rows."""
        values = self.joint_values(rows).T
        weights = np.stack([np.ones_like(values), np.sin(values), 1.0 - np.cos(values), values], axis=2)
        frames = (weights @ self._basis).reshape(*values.shape, 4, 4)
        for children, parents in self._levels:
            frames[children] = frames[parents] @ frames[children]
        return np.asarray(frames)

    def shape_frames(self, joint_frames: Floats) -> Floats:
        """Return float64[shapes, n, 4, 4], the frame of every shape in the world."""
        return np.asarray(joint_frames[self._carriers] @ self._placements)

    def tool_points(self, joint_frames: Floats) -> Floats:
        """Return float64[2, n, 3], the tool point of the left and the right arm in the world, metres."""
        return np.stack([(joint_frames[joint] @ point)[:, :3] for joint, point in self._tools])

    def _reach_row(self, joint: int, end: float, steps: Floats) -> Floats:
        """Return float64[joints], how far a point ``end`` metres from a joint can be from every joint before it.

        The sum of the links between them bounds it for all poses. A sliding joint moves a point by just its own
        displacement; its entry is 2 because :func:`~finevla_runtime.safety.sweep.bows` meets every pair of a turn and
        a displacement twice.
        """
        row = np.zeros(len(self._parents))
        while joint:
            row[joint] = 2.0 if self._slides[joint] else end
            end += float(steps[joint]) + (float(self._scales[joint]) if self._slides[joint] else 0.0)
            joint = self._parents[joint]
        return row


def _columns(names: list[str], finger_travel: float, urdf: Path) -> tuple[npt.NDArray[np.intp], Floats]:
    """Return for every joint of the description the column of the project's layout and the factor to its unit."""
    known = {name: (column, 1.0) for column, name in enumerate(JOINT_NAMES) if not name.endswith("_gripper")}
    for arm in ARMS:
        for finger in FINGERS:
            known[f"{arm}_{finger}"] = (JOINT_NAMES.index(f"{arm}_gripper"), finger_travel)
    if set(names[1:]) != set(known):
        odd = ", ".join(sorted(set(names[1:]) ^ set(known)))
        raise SetupError("FV-SAF-033", f"{urdf}: the joints that move are not those of the layout; differing: {odd}.")
    found = [(0, 0.0), *(known[name] for name in names[1:])]
    return np.array([column for column, _ in found], dtype=np.intp), np.array([scale for _, scale in found])


def _motions(model: Any) -> Floats:
    """Return float64[joints, 4, 16]: a joint's frame in its parent's is these weighted by 1, sin q, 1 - cos q and q."""
    import pinocchio

    # The twist of every joint is read off from where it goes, so that the kind of joint does not matter.
    data = model.createData()
    pinocchio.forwardKinematics(model, data, np.ones(model.nq))
    basis = np.zeros((model.njoints, 4, 16))
    basis[0, 0] = np.eye(4).ravel()
    for joint in range(1, model.njoints):
        fixed = model.jointPlacements[joint]
        twist = pinocchio.log6(fixed.actInv(data.liMi[joint]))
        turn, slide = np.zeros((4, 4)), np.zeros((4, 4))
        turn[:3, :3] = pinocchio.skew(twist.angular)
        slide[:3, 3] = twist.linear
        basis[joint] = [(fixed.homogeneous @ part).ravel() for part in (np.eye(4), turn, turn @ turn, slide)]
    return basis


def _levels(parents: list[int]) -> list[tuple[list[int], list[int]]]:
    """Return joints with their parents, grouped so that every parent comes in an earlier group."""
    depth = [0] * len(parents)
    for joint in range(1, len(parents)):
        depth[joint] = depth[parents[joint]] + 1
    groups = [[joint for joint in range(len(parents)) if depth[joint] == level] for level in range(1, max(depth) + 1)]
    return [(group, [parents[joint] for joint in group]) for group in groups if any(parents[joint] for joint in group)]


def _tool(model: Any, name: str, urdf: Path) -> tuple[int, Floats]:
    if not model.existFrame(name):
        raise SetupError("FV-SAF-033", f"{urdf}: there is no frame {name}; it is the tool point.")
    frame = model.frames[model.getFrameId(name)]
    return int(frame.parentJoint), np.append(frame.placement.translation, 1.0)


def _shape(item: Any, model: Any, urdf: Path) -> Shape:
    import coal

    solid, half, radius, half_length = item.geometry, np.zeros(3), 0.0, 0.0
    if isinstance(solid, coal.Box):
        half = np.array(solid.halfSide)
    elif isinstance(solid, coal.Cylinder):
        radius, half_length = float(solid.radius), float(solid.halfLength)
    elif isinstance(solid, coal.Sphere):
        radius = float(solid.radius)
    else:
        kind = type(solid).__name__
        raise SetupError("FV-SAF-034", f"{urdf}: {item.name} is a {kind}; {WANTED}.")
    link = str(model.frames[item.parentFrame].name)
    placement = np.array(item.placement.homogeneous)
    return Shape(link, int(item.parentJoint), placement, half, radius, half_length, solid)
