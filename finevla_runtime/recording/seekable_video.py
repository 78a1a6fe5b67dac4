"""Random access to the frames of a video: seek to the key frame before, decode from there, nothing more."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

import numpy as np

from finevla_runtime.contracts.arrays import ByteArray

if TYPE_CHECKING:
    import av

# Where a container's index points behind the wanted frame (reordered frames), the second try starts this much earlier.
_EARLIER_S = 2.0


class SeekableVideo:
    """One open video file; used by one thread at a time, because a decoder has a position.

    Frames are addressed by their presentation time in the container, as LeRobot does.
    """

    def __init__(self, path: Path) -> None:
        """Open the container with one decoding thread.

        Raises:
            ValueError: the file is missing or holds no video.
        """
        import av

        self.path = path
        try:
            self._container = av.open(str(path))
        except (OSError, av.FFmpegError) as error:
            raise ValueError(f"cannot open {path}: {error}") from error
        if not self._container.streams.video:
            self._container.close()
            raise ValueError(f"{path} holds no video stream")
        self._stream = self._container.streams.video[0]
        self._stream.thread_count = 1
        self._seek_base = float(self._stream.time_base or 0) or 1e-6

    def __enter__(self) -> SeekableVideo:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._container.close()

    def frame_at(self, time_s: float, tolerance_s: float) -> ByteArray:
        """Return uint8[height, width, 3] RGB of the frame shown at ``time_s``.

        Raises:
            ValueError: no frame lies within ``tolerance_s`` of the time, or it cannot be decoded.
        """
        return _pixels(next(self._frames(time_s, tolerance_s)))

    def frames_from(self, time_s: float, count: int, tolerance_s: float) -> ByteArray:
        """Return ``count`` consecutive frames uint8[count, height, width, 3], the first one shown at ``time_s``.

        Raises:
            ValueError: as in ``frame_at``, or the video ends before.
        """
        frames = []
        for frame in self._frames(time_s, tolerance_s):
            frames.append(_pixels(frame))
            if len(frames) == count:
                return np.stack(frames)
        raise ValueError(f"{self.path} ends {len(frames)} frames after {time_s:.3f} s, wanted {count}")

    def _frames(self, time_s: float, tolerance_s: float) -> Iterator[av.VideoFrame]:
        """Yield frames in order from the one at ``time_s`` on; one second try from an earlier key frame."""
        import av

        for begin_s in (time_s, max(0.0, time_s - _EARLIER_S)):
            found = False
            try:
                self._container.seek(max(0, round(begin_s / self._seek_base)), stream=self._stream, backward=True)
                for frame in self._container.decode(self._stream):
                    if frame.time is None or frame.time < time_s - tolerance_s:
                        continue
                    if not found and frame.time > time_s + tolerance_s:
                        break
                    if frame.is_corrupt:
                        raise ValueError(f"the frame of {self.path} at {frame.time:.3f} s is damaged")
                    found = True
                    yield frame
            except (OSError, av.FFmpegError) as error:
                raise ValueError(f"cannot decode {self.path} at {time_s:.3f} s: {error}") from error
            if found:
                return
        raise ValueError(f"{self.path} shows no frame within {tolerance_s:.3f} s of {time_s:.3f} s")


def video_shortfall(path: Path, frames: int) -> str:
    """Return what is wrong with a video file by its header and index alone, empty when nothing is.

    Finds missing, truncated and short files without decoding: the index says how many packets there are and where
    the last one ends. A container without an index passes; its frames are still checked when they are decoded.

    Args:
        path: video file.
        frames: frames that its episodes need.
    """
    import av

    try:
        with av.open(str(path)) as container:
            if not container.streams.video:
                return "it holds no video stream"
            # The entries are views into the open container: only their numbers outlive it.
            ends = [entry.pos + entry.size for entry in container.streams.video[0].index_entries]
    except (OSError, av.FFmpegError) as error:
        return str(error)
    if not ends:
        return ""
    if len(ends) < frames:
        return f"it has {len(ends)} frames, wanted {frames}"
    end, size = max(ends), path.stat().st_size
    return f"it is truncated: its index reaches byte {end}, the file has {size}" if end > size else ""


def _pixels(frame: av.VideoFrame) -> ByteArray:
    return np.asarray(frame.to_ndarray(format="rgb24"), dtype=np.uint8)
