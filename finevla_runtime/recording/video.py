"""H.264 video through PyAV."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.errors import SetupError


def write_video(
    path: Path, frames: Iterable[ByteArray], fps: float, *, crf: int = 23, keyframe_every: int = 20
) -> None:
    """Write frames as an H.264 mp4 that browsers play, atomically and with one thread (same frames, same bytes).

    Args:
        path: file to write; its folder is made.
        frames: uint8[height, width, 3] RGB, all of one size; odd sizes lose their last row or column, because
            yuv420p halves both sides.
        fps: frames per second.
        crf: quality, 0 lossless .. 51 worst.
        keyframe_every: frames between key frames; 2 makes random access cheap, as LeRobot datasets want.

    Raises:
        SetupError: FV-REC-014 when there is no frame or one differs in size from the first.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.partial")
    size: tuple[int, int] | None = None
    with av.open(str(partial), "w", format="mp4", options={"movflags": "faststart"}) as container:
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1000))
        for number, frame in enumerate(frames):
            even = frame[: frame.shape[0] // 2 * 2, : frame.shape[1] // 2 * 2]
            if size is None:
                size = (even.shape[0], even.shape[1])
                stream.height, stream.width = size
                stream.pix_fmt, stream.thread_count = "yuv420p", 1
                stream.options = {"crf": str(crf), "g": str(keyframe_every), "preset": "veryfast"}
            if even.shape[:2] != size:
                raise SetupError("FV-REC-014", f"{path}: frame {number} is {even.shape[:2]}, the first was {size}.")
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(even), format="rgb24")))
        if size is None:
            raise SetupError("FV-REC-014", f"{path}: a video needs at least one frame.")
        container.mux(stream.encode(None))
    partial.replace(path)


def read_video(path: Path) -> ByteArray:
    """Return all frames of a video as uint8[frames, height, width, 3] RGB.

    Raises:
        SetupError: FV-REC-004 when the file is missing or no video.
    """
    import av

    try:
        with av.open(str(path)) as container:
            pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    except (OSError, av.FFmpegError) as error:
        raise SetupError("FV-REC-004", f"cannot read video {path}: {error}.") from error
    if not pictures:
        raise SetupError("FV-REC-004", f"video {path} has no frame.")
    return np.stack(pictures)
