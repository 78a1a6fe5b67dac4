"""The simulated world: one robot and one set of actors, put in place at reset and stepped at 10 Hz."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.actors import KINDS, TABLE_HEIGHT, build_actor, build_table
from sim_eval.tabletop.cameras import CameraRig, use_own_shader
from sim_eval.tabletop.contacts import ContactReader
from sim_eval.tabletop.robot import load_robot, widen
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


class TabletopWorld:
    """The robot, the table and every actor in one SAPIEN scene that is never rebuilt.

    Deterministic: the same scene and actions give the same :meth:`state_hash`, with or without rendering, and
    whatever was simulated before.
    """

    def __init__(self, render: bool) -> None:
        """Builds the world; with ``render=False`` no renderer is ever touched and observations have no images."""
        import sapien
        from sapien.pysapien import physx

        config = physx.PhysxSceneConfig()
        config.enable_enhanced_determinism = True
        physx.set_scene_config(config)
        systems: list[Any] = [physx.PhysxCpuSystem()]
        if render:
            use_own_shader()
            systems.append(sapien.render.RenderSystem())
        self._scene: Any = sapien.Scene(systems)
        self._scene.set_timestep(1.0 / PHYSICS_HZ)
        build_table(self._scene, render)
        self._robot = load_robot(self._scene, render)
        self._entities: dict[str, Any] = {
            kind: build_actor(self._scene, item, render) for kind, item in KINDS.items()
        }
        self._bodies = {kind: _body(entity) for kind, entity in self._entities.items()}
        self._rig = CameraRig(self._scene, self._robot) if render else None
        self._shown: list[Any] = []
        self._contacts = ContactReader(())
        self._target = home_target()
        self._substep = 0
        self._recorder: TraceRecorder | None = None

    def reset(self, scene: Scene) -> None:
        """Teleports robot and actors to the start of a scene and begins a new trace."""
        import sapien

        self._park_all()
        self._scene.step()
        self._target = home_target()
        self._robot.reset(self._target)
        self._shown = []
        for item in scene.objects:
            entity, body = self._entities[item.kind], self._bodies[item.kind]
            pose = sapien.Pose(list(item.pose[:3]), list(item.pose[3:]))
            entity.set_pose(pose)
            if KINDS[item.kind].info.movable:
                body.disable_gravity = False
                body.wake_up()
            self._shown.append(entity)
        self._contacts = ContactReader(tuple(item.kind for item in scene.objects))
        self._substep = 0
        info = tuple(_named(KINDS[item.kind].info, item.name) for item in scene.objects)
        self._recorder = TraceRecorder(scene.family, scene.seed, TABLE_HEIGHT, info)
        self._recorder.append(self._sample())

    def step(self, target: NDArray[np.float32] | Floats) -> None:
        """One control step of 0.1 s: the drives follow a straight line from the last target to this one [14]."""
        goal = np.asarray(target, dtype=np.float64)
        start, end = widen(self._target), widen(goal)
        self._target = goal
        for index in range(1, SUBSTEPS + 1):
            self._robot.drive(start + (end - start) * (index / SUBSTEPS))
            self._scene.step()
            self._substep += 1
            if self._substep % SAMPLE_SUBSTEPS == 0 and self._recorder is not None:
                self._recorder.append(self._sample())

    def observe(self) -> WorldObservation:
        """Renders the cameras (none in a physics-only world) and reads the joints."""
        images = self._rig.take() if self._rig is not None else {}
        return WorldObservation(images, self.joint_position())

    def joint_position(self) -> NDArray[np.float32]:
        """Measured joints float32 [14]."""
        return self._robot.measured().astype(np.float32)

    def trace(self) -> Trace:
        """The trace since the last reset.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._recorder is None:
            raise RuntimeError("no trace before the first reset")
        return self._recorder.finish()

    def object_poses(self) -> Floats:
        """Poses [N, 7] (xyz, wxyz) of the scene's objects, in the order of the scene."""
        rows = [np.concatenate([entity.pose.p, entity.pose.q]) for entity in self._shown]
        return np.asarray(rows, dtype=np.float64)

    def state_hash(self) -> str:
        """SHA-256 over the bytes of all shown poses and of the robot's joint positions and velocities."""
        robot = self._robot.articulation
        parts = [self.object_poses(), np.asarray(robot.get_qpos()), np.asarray(robot.get_qvel())]
        digest = hashlib.sha256()
        for part in parts:
            digest.update(np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()

    def _park_all(self) -> None:
        """Puts every actor out of sight, apart from one another, weightless and at rest."""
        import sapien

        for index, (kind, entity) in enumerate(self._entities.items()):
            entity.set_pose(sapien.Pose([-3.0 + 0.5 * index, -6.0, 0.5]))
            if KINDS[kind].info.movable:
                body = self._bodies[kind]
                body.disable_gravity = True
                body.set_linear_velocity([0.0, 0.0, 0.0])
                body.set_angular_velocity([0.0, 0.0, 0.0])
        self._robot.reset(home_target())

    def _sample(self) -> TraceSample:
        """One trace sample of the present state."""
        measured = self._robot.measured()
        tcp = np.stack([_tcp_pose(arm, measured) for arm in (0, 1)])
        flags = self._contacts.read(self._scene.get_contacts(), self.object_poses())
        return TraceSample(
            time=self._substep / PHYSICS_HZ,
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


def _body(entity: Any) -> Any:
    """The rigid body component of an entity."""
    from sapien.pysapien.physx import PhysxRigidBaseComponent

    return next(part for part in entity.components if isinstance(part, PhysxRigidBaseComponent))


def _named(info: ObjectInfo, name: str) -> ObjectInfo:
    """The geometry of a kind under the name of the role it plays."""
    return ObjectInfo(
        name, info.kind, info.half_size, info.center, info.inner_half_size, info.long_axis, info.movable
    )


def _tcp_pose(arm: int, measured: Floats) -> Floats:
    """Tool pose [7] (xyz, wxyz) of an arm from measured joints [14]."""
    position, rotation = km.forward(arm, measured[arm * 7 : arm * 7 + 6])
    return np.concatenate([position, km.quaternion(rotation)])
