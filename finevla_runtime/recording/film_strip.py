"""A film strip: a few moments of an episode in one JPEG, for reports and for looking at."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.errors import SetupError

_GAP = 2
_CAPTION_HEIGHT = 18
_BACKGROUND = 24


def film_strip(frames: Sequence[ByteArray], columns: int, caption: str, height: int = 128) -> bytes:
    """Return a JPEG with up to ``columns`` frames spread evenly over the episode, first and last included.

    Args:
        frames: uint8[h, w, 3] RGB, all of one size.
        columns: pictures in the strip.
        caption: one line of ASCII text under the pictures; empty for none.
        height: pixels of each picture in the strip; frames are scaled by nearest neighbour.

    Raises:
        SetupError: FV-REC-014 when there is no frame or ``columns`` is less than 1.
    """
    import cv2

    if not frames or columns < 1:
        raise SetupError("FV-REC-014", f"a film strip needs frames and columns, got {len(frames)} and {columns}.")
    picked = [frames[index] for index in spread(len(frames), columns)]
    width = max(1, round(picked[0].shape[1] * height / picked[0].shape[0]))
    canvas_height = height + 2 * _GAP + (_CAPTION_HEIGHT if caption else 0)
    canvas = np.full((canvas_height, len(picked) * (width + _GAP) + _GAP, 3), _BACKGROUND, dtype=np.uint8)
    for column, frame in enumerate(picked):
        left = _GAP + column * (width + _GAP)
        canvas[_GAP : _GAP + height, left : left + width] = _scale(frame, height, width)
    if caption:
        origin = (_GAP + 2, height + 2 * _GAP + 12)
        cv2.putText(canvas, caption, origin, cv2.FONT_HERSHEY_SIMPLEX, 0.38, (230, 230, 230), 1, cv2.LINE_AA)
    encoded = cv2.imencode(".jpg", canvas[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return bytes(encoded.tobytes())


def spread(count: int, wanted: int) -> list[int]:
    """Return up to ``wanted`` distinct indices spread over ``range(count)``, both ends included."""
    if wanted >= count:
        return list(range(count))
    return sorted({round(i) for i in np.linspace(0, count - 1, wanted)})


def _scale(frame: ByteArray, height: int, width: int) -> ByteArray:
    rows = np.arange(height) * frame.shape[0] // height
    columns = np.arange(width) * frame.shape[1] // width
    scaled: ByteArray = frame[rows][:, columns]
    return scaled
