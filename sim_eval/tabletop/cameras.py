"""The three cameras of the suite and the lights, with the suite's own shader pack."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop.robot import RobotHandle

if TYPE_CHECKING:
    import sapien

SHADER_FOLDER = Path(__file__).parent / "shaders" / "lit"
"""Own shader pack: ambient light and three directional Lambert terms."""
Image = NDArray[np.uint8]
Vector = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """One camera: name, pixels, vertical field of view (deg) and its mount.

    Attributes:
        hand: None for a camera fixed in the world, else the arm (0 left, 1 right) whose link6 carries it.
        position: metres in the frame of the mount.
        forward: viewing direction in the frame of the mount.
    """

    name: str
    width: int
    height: int
    fovy: float
    hand: int | None
    position: Vector
    forward: Vector


CAMERAS = (
    CameraSpec("cam_high", 96, 96, 42.0, None, (0.0, -0.51, 1.35), (0.0, 0.6, -0.8)),
    CameraSpec("cam_left_wrist", 64, 64, 60.0, 0, (0.07, 0.0, 0.080), (0.90, 0.0, -0.44)),
    CameraSpec("cam_right_wrist", 64, 64, 60.0, 1, (0.07, 0.0, 0.080), (0.90, 0.0, -0.44)),
)
"""The cameras in policy order."""


def look_rotation(forward: Vector) -> NDArray[np.float64]:
    """Rotation [3, 3] of a camera frame (x forward, y left, z up) that looks along a direction, not vertical."""
    x = np.asarray(forward, dtype=np.float64)
    x = x / np.linalg.norm(x)
    y = np.cross([0.0, 0.0, 1.0], x)
    y = y / np.linalg.norm(y)
    return np.stack([x, y, np.cross(x, y)], axis=1)


class CameraRig:
    """The cameras of one scene; exists only in worlds that render."""

    def __init__(self, scene: sapien.Scene, robot: RobotHandle) -> None:
        """Adds cameras and lights to a scene whose renderer is up (see :func:`prepare_renderer`)."""
        import sapien

        self._scene: Any = scene
        self._scene.set_ambient_light([0.45, 0.45, 0.45])
        self._scene.add_directional_light([0.25, 0.45, -1.0], [0.50, 0.50, 0.50])
        self._scene.add_directional_light([-0.9, 0.25, -0.4], [0.18, 0.18, 0.18])
        self._scene.add_directional_light([0.8, 0.5, -0.3], [0.10, 0.10, 0.12])
        self._cameras: dict[str, Any] = {}
        for spec in CAMERAS:
            lens = spec.name, spec.width, spec.height, float(np.deg2rad(spec.fovy)), 0.02, 10.0
            matrix = np.eye(4)
            matrix[:3, :3] = look_rotation(spec.forward)
            matrix[:3, 3] = spec.position
            pose = sapien.Pose(matrix)
            if spec.hand is None:
                camera = self._scene.add_camera(*lens)
                camera.entity.set_pose(pose)
            else:
                name, *rest = lens
                camera = self._scene.add_mounted_camera(name, robot.hands[spec.hand].entity, pose, *rest)
            self._cameras[spec.name] = camera

    def take(self) -> dict[str, Image]:
        """Renders every camera; RGB uint8 [height, width, 3] by camera name."""
        self._scene.update_render()
        images = {}
        for name, camera in self._cameras.items():
            camera.take_picture()
            colour = camera.get_picture("Color")[..., :3]
            images[name] = (np.clip(colour, 0.0, 1.0) * 255.0 + 0.5).astype(np.uint8)
        return images


def prepare_renderer() -> None:
    """Selects the suite's shader pack for cameras made from now on and checks that a device can render.

    Raises:
        SetupError: FV-SIM-005 when there is none.
    """
    import sapien

    sapien.render.set_camera_shader_dir(str(SHADER_FOLDER))
    try:
        sapien.render.RenderSystem()
    except RuntimeError as error:
        raise SetupError(
            "FV-SIM-005",
            f"no Vulkan device can render ({error}). Install a driver (on Debian 12 mesa-vulkan-drivers from "
            "bookworm-backports; `finevla doctor` names the remedy) or use a physics-only world.",
        ) from error
