"""Renders one small picture and says on which device: `python -m sim_eval.render_probe`.

It runs in a process of its own, because a broken Vulkan driver may hang or abort the process that asks it.
"""

from __future__ import annotations

import json
import sys
from typing import Any


def main() -> int:
    """Print ``{"ok": bool, "detail": str}`` and return 0 when the picture shows what was put before the camera."""
    try:
        report = {"ok": True, "detail": _render_red_box()}
    except Exception as error:  # noqa: BLE001 - any failure of the driver is an answer of the probe.
        report = {"ok": False, "detail": f"{type(error).__name__}: {error}"}
    sys.stdout.write(json.dumps(report) + "\n")
    return 0 if report["ok"] else 1


def _render_red_box() -> str:
    """Render a red box in front of a camera; return the device name.

    Raises:
        RuntimeError: no device can render, or the centre of the picture is not red.
    """
    import sapien

    sapien.render.set_camera_shader_dir("trivial")
    device = sapien.render.RenderSystem().device
    scene: Any = sapien.Scene()
    builder = scene.create_actor_builder()
    material = sapien.render.RenderMaterial(base_color=[1.0, 0.0, 0.0, 1.0])
    builder.add_box_visual(half_size=[0.2, 0.2, 0.2], material=material)
    builder.build_static(name="box").set_pose(sapien.Pose([1.0, 0.0, 0.0]))
    camera = scene.add_camera("probe", width=16, height=16, fovy=1.0, near=0.01, far=10.0)
    scene.update_render()
    camera.take_picture()
    red, green, blue = (float(value) for value in camera.get_picture("Color")[8, 8, :3])
    if not red > 0.5 > max(green, blue):
        raise RuntimeError(f"the picture is wrong: centre pixel is ({red:.2f}, {green:.2f}, {blue:.2f})")
    return str(getattr(device, "name", device))


if __name__ == "__main__":
    raise SystemExit(main())
