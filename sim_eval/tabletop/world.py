"""The simulated world: the robot and the objects of one scene, stepped at 10 Hz."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.actors import KINDS, TABLE_HEIGHT, build_actor, build_table
from sim_eval.tabletop.cameras import CameraRig, prepare_renderer
from sim_eval.tabletop.contacts import ContactReader
from sim_eval.tabletop.robot import RobotHandle, load_robot, widen
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.trace import SAMPLE_SUBSTEPS, ObjectInfo, Trace, TraceRecorder, TraceSample

PHYSICS_HZ = 250
"""Physics substeps per simulated second."""
CONTROL_HZ = 10
"""Control steps per simulated second."""
SUBSTEPS = PHYSICS_HZ // CONTROL_HZ
"""Physics substeps in one control step."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class WorldObservation:
    """What a policy may see: RGB uint8 images [height, width, 3] by camera, measured joints float32 [14]."""

    images: dict[str, NDArray[np.uint8]]
    joint_position: NDArray[np.float32]


def home_target() -> Floats:
    """The 14-D home position: both arms at home, both grippers open."""
    joints = km.home_joints()
    return np.concatenate([joints[0], [1.0], joints[1], [1.0]])


@dataclass(frozen=True, slots=True)
class _Stage:
    """The SAPIEN scene of one episode and what stands in it."""

    scene: Any
    robot: RobotHandle
    entities: tuple[Any, ...]
    rig: CameraRig | None
    contacts: ContactReader
    recorder: TraceRecorder


class TabletopWorld:
    """The robot and the objects of one scene at a time.

    Deterministic: the same scene and actions give the same :meth:`state_hash`, with or without rendering, in any
    process, and whatever was simulated before. The physics engine keeps hidden state between episodes when actors
    are merely moved back, so every reset builds a fresh SAPIEN scene; that takes about 10 ms.
    """

    def __init__(self, render: bool) -> None:
        """Prepares a world; with ``render=False`` no renderer is ever touched and observations have no images.

        Raises:
            SetupError: FV-SIM-005 when images are wanted and no Vulkan device can render them.
        """
        self._render = render
        if render:
            prepare_renderer()
        self._stage_or_none: _Stage | None = None
        self._target = home_target()
        self._substep = 0

    def reset(self, scene: Scene) -> None:
        """Builds the start of a scene, with the robot at home, and begins a new trace."""
        self._stage_or_none = None
        self._stage_or_none = _build_stage(scene, self._render)
        self._target = home_target()
        self._substep = 0
        self._stage.robot.reset(self._target)
        self._stage.recorder.append(self._sample())

    def step(self, target: NDArray[np.float32] | Floats) -> None:
        """One control step of 0.1 s: the drives follow a straight line from the last target to this one [14].

        Raises:
            SetupError: FV-SIM-007 for a wrong shape or a value that is not finite; nothing moves then.
        """
        goal = _checked(target)
        start, end = widen(self._target), widen(goal)
        self._target = goal
        for index in range(1, SUBSTEPS + 1):
            self._advance(start + (end - start) * (index / SUBSTEPS), recorded=True)

    def drive(self, target: NDArray[np.float32] | Floats, substeps: int, recorded: bool = True) -> None:
        """Physics substeps of 1 / PHYSICS_HZ seconds with the drives aimed at one target [14] all along.

        Where :meth:`step` follows a line of its own, this is for a caller that gives every point of the motion.

        Args:
            target: joint targets [14].
            substeps: how many; the trace is sampled as in :meth:`step`, so that the same judge sees both alike.
            recorded: False leaves them out of the trace.

        Raises:
            SetupError: FV-SIM-007 for a wrong shape or a value that is not finite; nothing moves then.
        """
        self._target = _checked(target)
        wide = widen(self._target)
        for _ in range(substeps):
            self._advance(wide, recorded)

    @property
    def time_s(self) -> float:
        """Simulated seconds since the last reset."""
        return self._substep / PHYSICS_HZ

    def observe(self) -> WorldObservation:
        """Renders the cameras (none in a physics-only world) and reads the joints."""
        rig = self._stage.rig
        images = rig.take() if rig is not None else {}
        return WorldObservation(images, self.joint_position())

    def joint_position(self) -> NDArray[np.float32]:
        """Measured joints float32 [14]."""
        return self._stage.robot.measured().astype(np.float32)

    def trace(self) -> Trace:
        """The trace since the last reset."""
        return self._stage.recorder.finish()

    def object_poses(self) -> Floats:
        """Poses [N, 7] (xyz, wxyz) of the scene's objects, in the order of the scene."""
        rows = [np.concatenate([entity.pose.p, entity.pose.q]) for entity in self._stage.entities]
        return np.asarray(rows, dtype=np.float64)

    def hand_poses(self) -> Floats:
        """Simulated poses [2, 7] (xyz, wxyz) of the two hands' wrist frames (link6)."""
        rows = [np.concatenate([hand.entity.pose.p, hand.entity.pose.q]) for hand in self._stage.robot.hands]
        return np.asarray(rows, dtype=np.float64)

    def state_hash(self) -> str:
        """SHA-256 over the bytes of all shown poses and of the robot's joint positions and velocities."""
        robot = self._stage.robot.articulation
        parts = [self.object_poses(), np.asarray(robot.get_qpos()), np.asarray(robot.get_qvel())]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    @property
    def _stage(self) -> _Stage:
        if self._stage_or_none is None:
            raise SetupError("FV-SIM-006", "the world holds no scene yet; call reset(scene) first.")
        return self._stage_or_none

    def _advance(self, wide: Floats, recorded: bool) -> None:
        """One physics substep with the 16 drives at these targets."""
        stage = self._stage
        stage.robot.drive(wide)
        stage.scene.step()
        self._substep += 1
        if recorded and self._substep % SAMPLE_SUBSTEPS == 0:
            stage.recorder.append(self._sample())

    def _sample(self) -> TraceSample:
        """One trace sample of the present state."""
        measured = self._stage.robot.measured()
        tcp = np.stack([_tcp_pose(arm, measured) for arm in (0, 1)])
        flags = self._stage.contacts.read(self._stage.scene.get_contacts(), self.object_poses())
        return TraceSample(
            time=self.time_s,
            object_pose=self.object_poses(),
            tcp_pose=tcp,
            gripper=measured[[6, 13]],
            joint_position=measured,
            target=self._target,
            touch=flags.touch,
            finger_touch=flags.finger_touch,
            contact=flags.contact,
            support=flags.support,
            arm_table=flags.arm_table,
            arm_arm=flags.arm_arm,
        )


def _checked(target: NDArray[np.float32] | Floats) -> Floats:
    """A target as float64 [14], or SetupError FV-SIM-007."""
    goal = np.asarray(target, dtype=np.float64)
    if goal.shape != (14,) or not np.isfinite(goal).all():
        raise SetupError("FV-SIM-007", f"wanted 14 finite joint targets, got shape {goal.shape}: {goal}.")
    return goal


def _build_stage(scene: Scene, render: bool) -> _Stage:
    """A fresh SAPIEN scene with table, robot and the objects of a scene."""
    import sapien
    from sapien.pysapien import physx

    config = physx.PhysxSceneConfig()
    config.enable_enhanced_determinism = True
    physx.set_scene_config(config)
    systems: list[Any] = [physx.PhysxCpuSystem()]
    if render:
        systems.append(sapien.render.RenderSystem())
    stage: Any = sapien.Scene(systems)
    stage.set_timestep(1.0 / PHYSICS_HZ)
    build_table(stage, render)
    robot = load_robot(stage, render)
    entities = []
    for item in scene.objects:
        pose = sapien.Pose(list(item.pose[:3]), list(item.pose[3:]))
        entities.append(build_actor(stage, KINDS[item.kind], pose, render))
    rig = CameraRig(stage, robot) if render else None
    info = tuple(_named(KINDS[item.kind].info, item.name) for item in scene.objects)
    recorder = TraceRecorder(scene.family, scene.seed, TABLE_HEIGHT, info)
    contacts = ContactReader(tuple(item.kind for item in scene.objects))
    return _Stage(stage, robot, tuple(entities), rig, contacts, recorder)


def _named(info: ObjectInfo, name: str) -> ObjectInfo:
    """The geometry of a kind under the name of the role it plays."""
    return ObjectInfo(name, info.kind, info.half_size, info.center, info.inner_half_size, info.long_axis, info.movable)


def _tcp_pose(arm: int, measured: Floats) -> Floats:
    """Tool pose [7] (xyz, wxyz) of an arm from measured joints [14]."""
    position, rotation = km.forward(arm, measured[arm * 7 : arm * 7 + 6])
    return np.concatenate([position, km.quaternion(rotation)])
