"""The trace of one episode: everything a judge may look at, sampled at 50 Hz from the simulator state.

The arrays are plain numpy so that judges can be tested on hand-made traces without a simulator.
Axes: ``T`` samples, ``A`` = 2 arms (0 left, 1 right), ``F`` = 2 fingers (0 at +y of the TCP frame, 1 at -y),
``N`` objects in the order of :attr:`Trace.objects`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

import numpy as np
from numpy.typing import NDArray

SAMPLE_SUBSTEPS = 5
"""Physics substeps between two samples."""
SAMPLE_RATE_HZ = 50.0
"""Samples per simulated second: 250 Hz physics divided by SAMPLE_SUBSTEPS."""
LEFT, RIGHT = 0, 1
"""Indices of the arm axis."""

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class ObjectInfo:
    """What a judge needs to know about one object besides its pose.

    Attributes:
        name: role in the scene, the word a rubric uses (``red_cube``, ``mat``, ``left_bowl`` ...).
        kind: actor that plays the role (several scenes may give one actor different roles).
        half_size: half extents in metres of the object's bounding box in its own frame.
        center: centre of that box in the object's frame. Graspable primitives have (0, 0, 0) and their pose
            is their centroid; containers and the mat have their origin at the middle of their underside.
        inner_half_size: half extents of the free interior of a container (0, 0, 0 for everything else). The
            interior box is centred above the origin: x and y in +-inner, z from 0 to 2 * inner z.
        long_axis: unit vector in the object's frame of the axis that is vertical when the object stands.
        movable: False for actors fixed to the table.
    """

    name: str
    kind: str
    half_size: tuple[float, float, float]
    center: tuple[float, float, float] = (0.0, 0.0, 0.0)
    inner_half_size: tuple[float, float, float] = (0.0, 0.0, 0.0)
    long_axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    movable: bool = True


@dataclass(frozen=True, slots=True)
class TraceSample:
    """One instant of a trace; the arrays are those of :class:`Trace` without the time axis."""

    time: float
    object_pose: Floats
    tcp_pose: Floats
    gripper: Floats
    joint_position: Floats
    target: Floats
    touch: Bools
    finger_touch: Bools
    contact: Bools
    support: Bools
    arm_table: Bools
    arm_arm: bool


@dataclass(frozen=True, slots=True)
class Trace:
    """Everything observable of an episode.

    Attributes:
        family: task family id.
        seed: scene seed.
        table_height: z in metres of the table top.
        info: one entry per object of the scene (parked actors are left out), the order of the axis ``N``.
        time: float64 [T], simulated seconds since reset; the first sample is at 0 before any motion.
        object_pose: float64 [T, N, 7], xyz in metres and quaternion wxyz, world frame (x right, y away from the
            robot, z up; the robot stands at negative y and looks along +y, so the left arm is at negative x).
        tcp_pose: float64 [T, 2, 7], pose of the point between the finger tips; its x axis points out of the
            gripper (direction of approach), its y axis along the opening of the fingers.
        gripper: float64 [T, 2], measured opening, 0 closed .. 1 open.
        joint_position: float64 [T, 14], measured joints in the project's layout.
        target: float64 [T, 14], commanded joints at that instant.
        touch: bool [T, 2, N], any link of the arm (fingers included) touches the object.
        finger_touch: bool [T, 2, 2, N], that finger of that arm touches the object.
        contact: bool [T, N, N + 1], object i touches object j; the last column is the table top.
        support: bool [T, N, N + 1], object i rests on object j: a contact whose normal is within 60 degrees of
            vertical, with i above j; the last column is the table top.
        arm_table: bool [T, 2], a link of the arm touches the table top.
        arm_arm: bool [T], a link of one arm touches a link of the other.
    """

    family: str
    seed: int
    table_height: float
    info: tuple[ObjectInfo, ...]
    time: Floats
    object_pose: Floats
    tcp_pose: Floats
    gripper: Floats
    joint_position: Floats
    target: Floats
    touch: Bools
    finger_touch: Bools
    contact: Bools
    support: Bools
    arm_table: Bools
    arm_arm: Bools

    @property
    def objects(self) -> tuple[str, ...]:
        """Names of the objects, the order of the axis N."""
        return tuple(item.name for item in self.info)

    def index(self, name: str) -> int:
        """Index of an object on the axis N.

        Raises:
            KeyError: when the scene has no object of that name.
        """
        try:
            return self.objects.index(name)
        except ValueError:
            raise KeyError(f"no object {name!r} in this trace, it has {', '.join(self.objects)}") from None


@dataclass(slots=True)
class TraceRecorder:
    """Collects samples while the world steps and stacks them into a :class:`Trace`."""

    family: str
    seed: int
    table_height: float
    info: tuple[ObjectInfo, ...]
    samples: list[TraceSample] = field(default_factory=list)

    def append(self, sample: TraceSample) -> None:
        """Adds one sample."""
        self.samples.append(sample)

    def finish(self) -> Trace:
        """Stacks the samples collected so far; the recorder stays usable.

        Raises:
            ValueError: when no sample was recorded.
        """
        if not self.samples:
            raise ValueError("a trace needs at least one sample")
        columns = {
            item.name: np.asarray([getattr(sample, item.name) for sample in self.samples])
            for item in fields(TraceSample)
        }
        return Trace(self.family, self.seed, self.table_height, self.info, **columns)
