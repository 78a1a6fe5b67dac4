"""What an inference script does in Python between camera and policy, for ever; as a thread or as a process of its own.

Scripts pad and resize three pictures, make floats of them and take lists apart by hand; much of that holds the lock of
the interpreter. Run as a module it works alone in its process.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

ByteArray = npt.NDArray[np.uint8]
SIDE = 224


def preprocess(image: ByteArray) -> list[float]:
    """Return the means of the columns of one picture uint8[480, 640, 3], padded, resized and made floats."""
    height, width, _ = image.shape
    side = max(height, width)
    padded = np.zeros((side, side, 3), np.uint8)
    padded[(side - height) // 2 :][:height] = image
    places = np.arange(SIDE) * side // SIDE
    small = padded[places][:, places].astype(np.float32) / 255.0
    return [sum(column) / len(column) for column in small[:, :, 0].tolist()]


def work(newest: Callable[[], list[ByteArray]], goes_on: Callable[[], bool]) -> int:
    """Preprocess the newest pictures again and again; return how often."""
    done = 0
    while goes_on():
        for image in newest():
            preprocess(image)
        done += 1
    return done


if __name__ == "__main__":
    pictures = [np.full((480, 640, 3), shade, np.uint8) for shade in (0, 100, 200)]
    work(lambda: pictures, lambda: True)
