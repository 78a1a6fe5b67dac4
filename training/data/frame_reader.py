"""Single frames of recorded episodes at the size the model sees, from a cache bounded in bytes.

A random frame costs one seek to the key frame before it (LeRobot's videos have one every second frame) or one picture
of the parquet file; whole episodes are never decoded. What is kept: frames after resizing, which are several times
smaller than decoded ones, and the encoded pictures of episodes whose frames lie in parquet files.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.policy import CameraSpec
from finevla_runtime.processing.images import resize
from finevla_runtime.recording.recorded_episode import RecordedEpisode
from finevla_runtime.recording.seekable_video import SeekableVideo
from training.data.byte_cache import ByteCache

OPEN_VIDEOS = 32
DEFAULT_CACHE_BYTES = 512 << 20

_Key = tuple[str, int, str, int]
_ENCODED = -1


class FrameReader:
    """Reads frames for any number of threads.

    Open containers are kept beside the cache (at most ``open_videos`` idle ones): opening one costs more than a seek.
    """

    def __init__(self, cache_bytes: int = DEFAULT_CACHE_BYTES, open_videos: int = OPEN_VIDEOS) -> None:
        """Begin with an empty cache (FV-DAT-020 for a negative capacity)."""
        self.cache: ByteCache[_Key, ByteArray | list[bytes]] = ByteCache(cache_bytes)
        self._videos = _IdleVideos(open_videos)

    def frame(self, episode: RecordedEpisode, camera: str, wanted: CameraSpec, step: int) -> ByteArray:
        """Return uint8[wanted.height, wanted.width, 3] RGB of one control step, read-only.

        Args:
            episode: recorded episode.
            camera: camera name in the dataset.
            wanted: size and resize rule of the model.
            step: control step, 0 .. length - 1.

        Raises:
            SetupError: FV-REC-004, FV-REC-005, FV-REC-008 naming episode, frame, camera and file.
            PolicyError: FV-IMG-001 when the size differs and the spec forbids resizing.
        """
        view = f"{camera}>{wanted.name}:{wanted.height}x{wanted.width}:{wanted.resize}"
        key = (str(episode.dataset), episode.index, view, step)
        kept = self.cache.get(key)
        if kept is not None and not isinstance(kept, list):
            return kept
        frame = resize(self._decode(episode, camera, step), wanted)
        frame.setflags(write=False)
        self.cache.put(key, frame, frame.nbytes)
        return frame

    def close(self) -> None:
        """Close the videos that are open."""
        self._videos.close()

    def _decode(self, episode: RecordedEpisode, camera: str, step: int) -> ByteArray:
        if episode.format.frames != "video":
            return episode.picture(self._pictures(episode, camera)[step], camera, step)
        path = episode.videos[camera].path
        try:
            with self._videos.borrow(path) as video:
                return episode.video_frame(video, camera, step)
        except ValueError as error:
            raise episode.fail("FV-REC-008", f"frame {step} of {camera} ({path}): {error}") from error

    def _pictures(self, episode: RecordedEpisode, camera: str) -> list[bytes]:
        key = (str(episode.dataset), episode.index, camera, _ENCODED)
        kept = self.cache.get(key)
        if isinstance(kept, list):
            return kept
        pictures = episode.pictures(camera)
        self.cache.put(key, pictures, sum(len(picture) for picture in pictures))
        return pictures


class _IdleVideos:
    """Open containers that no thread uses at the moment; a decoder has a position, so each has one user at a time."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._idle: OrderedDict[int, SeekableVideo] = OrderedDict()
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, path: Path) -> Iterator[SeekableVideo]:
        """Yield an open container for this thread alone; ValueError when it cannot be opened."""
        video = self._take(path) or SeekableVideo(path)
        try:
            yield video
        except BaseException:
            video.close()
            raise
        self._give_back(video)

    def close(self) -> None:
        with self._lock:
            videos, self._idle = list(self._idle.values()), OrderedDict()
        for video in videos:
            video.close()

    def _take(self, path: Path) -> SeekableVideo | None:
        with self._lock:
            found = next((number for number, video in self._idle.items() if video.path == path), None)
            return None if found is None else self._idle.pop(found)

    def _give_back(self, video: SeekableVideo) -> None:
        with self._lock:
            self._idle[id(video)] = video
            surplus = self._idle.popitem(last=False)[1] if len(self._idle) > self._most else None
        if surplus is not None:
            surplus.close()
