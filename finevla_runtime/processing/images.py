"""Camera frames to the size the model sees."""

from __future__ import annotations

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.errors import PolicyError, SetupError, unknown_name
from finevla_runtime.contracts.policy import CameraSpec

RESIZE_RULES = ("refuse", "area", "bilinear", "bicubic")


def resize(image: ByteArray, camera: CameraSpec) -> ByteArray:
    """Return the frame as uint8[camera.height, camera.width, 3].

    A frame of the right size passes unchanged (same object), so simulation and training never resample. The
    whole frame is stretched, without padding or cropping, as the reference evaluation does.

    Raises:
        PolicyError: FV-IMG-001 when the rule is ``refuse`` and the size differs.
        SetupError: FV-IMG-002 for an unknown rule, FV-IMG-003 when opencv is not installed.
    """
    if camera.resize not in RESIZE_RULES:
        raise unknown_name("FV-IMG-002", "resize rule", camera.resize, RESIZE_RULES, camera.name)
    if image.shape[:2] == (camera.height, camera.width):
        return image
    if camera.resize == "refuse":
        raise PolicyError(
            "FV-IMG-001",
            f"camera {camera.name!r} delivered {image.shape[0]}x{image.shape[1]}, the model wants exactly "
            f"{camera.height}x{camera.width} and its spec forbids resizing.",
        )
    try:
        import cv2
    except ImportError as error:
        raise SetupError("FV-IMG-003", "resizing frames needs opencv: pip install opencv-python.") from error
    kernels = {"area": cv2.INTER_AREA, "bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
    resized: ByteArray = cv2.resize(image, (camera.width, camera.height), interpolation=kernels[camera.resize]).astype(
        "uint8", copy=False
    )
    return resized
