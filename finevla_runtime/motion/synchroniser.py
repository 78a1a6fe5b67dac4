"""Images and joints of one instant, or why there is none."""

from __future__ import annotations

import zlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.motion.stamp_clock import STEP_S, StampClock
from finevla_runtime.safety.verdict import Reason

# A few images are enough to find the one nearest to the others; more would only hide that a camera lags.
IMAGES_KEPT = 6
JOINTS_KEPT = 200
# Every fourth pixel of every fourth row tells a frozen picture from a live one: sensor noise is everywhere.
_STRIDE = 4


@dataclass(frozen=True)
class Freshness:
    """How old and how far apart the parts of an observation may be.

    Attributes:
        image_age_s: largest age of an image.
        joint_age_s: largest age of the joints.
        skew_s: largest time between the images of one observation.
        freeze_frames: same pictures in a row after which a camera counts as frozen; 0 never (a scene without any
            noise, where a picture may rightly stay the same).
    """

    image_age_s: float
    joint_age_s: float
    skew_s: float
    freeze_frames: int


@dataclass(frozen=True, eq=False)
class Synchronised:
    """What was seen and felt at one instant.

    Attributes:
        images: camera -> uint8[height, width, 3], RGB.
        image_ns: camera -> when it was captured, the robot's clock.
        joints: float64[14], measured, at ``capture_ns``.
        capture_ns: capture of the oldest image.
    """

    images: Mapping[str, ByteArray]
    image_ns: Mapping[str, int]
    joints: JointArray
    capture_ns: int


@dataclass(frozen=True, eq=False)
class _Image:
    captured_ns: int
    pixels: ByteArray


class _Camera:
    """The last images of one camera, and whether it still lives."""

    def __init__(self) -> None:
        self.clock = StampClock()
        self.images: deque[_Image] = deque(maxlen=IMAGES_KEPT)
        self.same = 0
        self._stamp_ns = -1
        self._digest = -1

    def add(self, stamp_ns: int, arrived_ns: int, pixels: ByteArray) -> None:
        digest = zlib.crc32(pixels[::_STRIDE, ::_STRIDE].tobytes())
        # Stamps that go back by more than a clock drifts are a clock that was set; the stamp clock deals with those.
        stuck = stamp_ns != 0 and 0 <= self._stamp_ns - stamp_ns < STEP_S * 1e9
        self.same = self.same + 1 if digest == self._digest or stuck else 0
        self._digest, self._stamp_ns = digest, stamp_ns
        if stuck:
            # A picture with an old stamp is an old picture, whenever it was sent.
            return
        self.images.append(_Image(self.clock.captured_ns(stamp_ns, arrived_ns), pixels))

    def nearest(self, instant_ns: int) -> _Image:
        return min(self.images, key=lambda image: abs(image.captured_ns - instant_ns))


class Synchroniser:
    """Keeps the last messages of every source and puts together what belongs to one instant."""

    def __init__(self, cameras: tuple[str, ...], freshness: Freshness) -> None:
        """Wait for these cameras and for the joints of both arms."""
        self._freshness = freshness
        self._cameras = {name: _Camera() for name in cameras}
        self._arms: tuple[deque[tuple[int, JointArray]], ...] = (deque(maxlen=JOINTS_KEPT), deque(maxlen=JOINTS_KEPT))

    def add_image(self, camera: str, stamp_ns: int, arrived_ns: int, pixels: ByteArray) -> None:
        """Take one image; a camera nobody waits for is left alone.

        Args:
            camera: project's name of the camera.
            stamp_ns: the driver's stamp, any clock; 0 when it does not stamp.
            arrived_ns: the robot's monotonic clock.
            pixels: uint8[height, width, 3], RGB.
        """
        if camera in self._cameras:
            self._cameras[camera].add(stamp_ns, arrived_ns, pixels)

    def add_joints(self, arm: int, arrived_ns: int, row: JointArray) -> None:
        """Take the measured float64[7] of arm 0 (left) or 1 (right)."""
        self._arms[arm].append((arrived_ns, row))

    @property
    def clock_steps(self) -> Mapping[str, int]:
        """Return how often each camera's clock was set anew."""
        return {name: camera.clock.steps for name, camera in self._cameras.items()}

    def latest(self, now_ns: int) -> Synchronised | tuple[Reason, ...]:
        """Return the newest observation whose parts fit together, or everything that is wrong (FV-SYN-*)."""
        problems = (*self._wrong_with_cameras(now_ns), *self._wrong_with_joints(now_ns))
        if problems:
            return problems
        instant_ns = min(camera.images[-1].captured_ns for camera in self._cameras.values())
        images = {name: camera.nearest(instant_ns) for name, camera in self._cameras.items()}
        times = {name: image.captured_ns for name, image in images.items()}
        capture_ns = min(times.values())
        skew_s = (max(times.values()) - capture_ns) / 1e9
        if skew_s > self._freshness.skew_s:
            early, late = min(times, key=times.__getitem__), max(times, key=times.__getitem__)
            text = f"{early} and {late} are {skew_s:.3f} s apart, at most {self._freshness.skew_s:g} s."
            return (Reason("FV-SYN-004", text),)
        pixels = {name: image.pixels for name, image in images.items()}
        return Synchronised(pixels, times, self._joints_at(capture_ns), capture_ns)

    def _wrong_with_cameras(self, now_ns: int) -> list[Reason]:
        found = []
        for name, camera in self._cameras.items():
            if not camera.images:
                found.append(Reason("FV-SYN-001", f"{name}: no image has come."))
                continue
            age_s = (now_ns - camera.images[-1].captured_ns) / 1e9
            if self._freshness.freeze_frames and camera.same >= self._freshness.freeze_frames:
                found.append(Reason("FV-SYN-003", f"{name} is frozen: {camera.same + 1} times the same picture."))
            elif age_s > self._freshness.image_age_s:
                limit_s = self._freshness.image_age_s
                found.append(Reason("FV-SYN-002", f"{name}: its image is {age_s:.2f} s old, at most {limit_s:g} s."))
        return found

    def _wrong_with_joints(self, now_ns: int) -> list[Reason]:
        found = []
        for side, samples in zip(("left", "right"), self._arms, strict=True):
            if not samples:
                found.append(Reason("FV-SYN-005", f"{side} arm: no joint position has come."))
                continue
            age_s = (now_ns - samples[-1][0]) / 1e9
            if age_s > self._freshness.joint_age_s:
                limit_s = self._freshness.joint_age_s
                found.append(
                    Reason("FV-SYN-006", f"{side} arm: its joints are {age_s:.2f} s old, at most {limit_s:g} s.")
                )
            elif not np.isfinite(samples[-1][1]).all():
                found.append(Reason("FV-SYN-007", f"{side} arm: a measured joint position is not finite."))
        return found

    def _joints_at(self, instant_ns: int) -> JointArray:
        """Return the joints at an instant, on a straight line between two samples."""
        row = np.empty(DOF)
        for arm, samples in enumerate(self._arms):
            row[arm * 7 : arm * 7 + 7] = _interpolated(samples, instant_ns)
        return row


def _interpolated(samples: deque[tuple[int, JointArray]], instant_ns: int) -> JointArray:
    later = samples[-1]
    for sample in reversed(samples):
        if sample[0] <= instant_ns:
            span = later[0] - sample[0]
            share = (min(instant_ns, later[0]) - sample[0]) / span if span else 0.0
            return np.asarray(sample[1] + share * (later[1] - sample[1]))
        later = sample
    return later[1]
