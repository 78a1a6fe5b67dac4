"""Writes what was said on topics into a rosbag2 folder (MCAP), and stops before the disk is full."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from finevla_runtime.contracts.errors import BodyError, SetupError, unknown_name
from finevla_runtime.recording.message_types import MessageTypes
from finevla_runtime.recording.unfinished_bag import close_unfinished

if TYPE_CHECKING:
    from rosbags.interfaces import Connection, Qos
    from rosbags.rosbag2 import Writer

FreeBytes = Callable[[Path], int]

# The disk is asked again after this much; three cameras write it in a twentieth of a second.
BYTES_BETWEEN_CHECKS = 4 * 2**20


def free_bytes_on_disk(folder: Path) -> int:
    """Return the bytes that are free where ``folder`` lies, or where it would be made."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


@dataclass(frozen=True)
class TopicQos:
    """What a publisher of the topic offers; a player of the bag offers the same."""

    is_reliable: bool = True
    is_transient_local: bool = False
    depth: int = 10


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag."""

    name: str
    type_name: str
    qos: TopicQos = TopicQos()


class BagWriter:
    """Writes one bag; whatever happens, what was written before stays readable.

    A message that no longer fits closes the bag before the error is raised. The bag of a killed process holds what was
    written up to the last ``flush``; ``unfinished_bag.close_unfinished`` makes it readable.

    Attributes:
        folder: folder of the bag.
        counts: number of messages written, per topic.
    """

    def __init__(
        self,
        folder: Path,
        *,
        least_free_bytes: int,
        types: MessageTypes | None = None,
        free_bytes: FreeBytes = free_bytes_on_disk,
    ) -> None:
        """Make the folder.

        Args:
            folder: folder of the bag; it must not exist.
            least_free_bytes: the disk keeps this much; recording stops before.
            types: the types that can be recorded; ROS 2's own ones where nothing is given.
            free_bytes: asks for the free bytes where a folder lies.

        Raises:
            SetupError: FV-REC-030 (the folder exists or cannot be made), FV-REC-031 (too little room on the disk).
        """
        from rosbags.rosbag2 import StoragePlugin, Writer

        self.folder, self.least_free_bytes = folder, least_free_bytes
        self.counts: dict[str, int] = {}
        self._free_bytes, self._unchecked = free_bytes, 0
        self._types = types or MessageTypes()
        self._connections: dict[str, Connection] = {}
        free = free_bytes(folder)
        if free < least_free_bytes:
            raise SetupError("FV-REC-031", f"{folder}: {self._shortage(free)} before recording; make room.")
        if folder.exists():
            raise SetupError("FV-REC-030", f"{folder} exists already; choose another name or remove it.")
        self._writer: Writer | None = Writer(folder, version=9, storage_plugin=StoragePlugin.MCAP)
        try:
            self._writer.open()
        except OSError as error:
            raise SetupError("FV-REC-030", f"cannot make {folder}: {error}.") from error

    @property
    def is_open(self) -> bool:
        """Say whether messages can still be written."""
        return self._writer is not None

    @property
    def messages(self) -> int:
        """Number of messages written."""
        return sum(self.counts.values())

    def add_topic(self, topic: BagTopic) -> None:
        """Name a topic; its messages can be written from here on.

        Raises:
            SetupError: FV-REC-033 (no definition of the type), FV-REC-034 (the topic is there already), FV-REC-035
                (the bag is closed).
        """
        writer = self._open_writer()
        if topic.name in self._connections:
            raise SetupError("FV-REC-034", f"{self.folder} has the topic {topic.name} already.")
        self._types.learn(topic.type_name)
        self.counts[topic.name] = 0
        self._connections[topic.name] = writer.add_connection(
            topic.name, topic.type_name, typestore=self._types.store, offered_qos_profiles=[rosbag_qos(topic.qos)]
        )

    def write(self, topic: str, stamp_ns: int, message: bytes) -> None:
        """Add one message.

        Args:
            topic: name of one of the bag's topics.
            stamp_ns: when it was received, in nanoseconds of the wall clock, as rosbag2 has it.
            message: the message as it came over the wire (CDR with its 4-byte header).

        Raises:
            SetupError: FV-REC-034 when the topic is none of the bag's, FV-REC-035 when the bag is closed.
            BodyError: FV-REC-032 when the disk is about to be full, or refuses; the bag is closed then.
        """
        writer = self._open_writer()
        connection = self._connections.get(topic)
        if connection is None:
            raise unknown_name("FV-REC-034", "topic", topic, self._connections, str(self.folder))
        self._unchecked += len(message)
        if self._unchecked >= BYTES_BETWEEN_CHECKS:
            self.check_room()
        try:
            writer.write(connection, stamp_ns, message)
        except OSError as error:
            raise self._broken_off(error) from error
        self.counts[topic] += 1

    def check_room(self) -> None:
        """Ask the disk for its free bytes; done by ``write`` now and then, and to be done when nothing comes.

        Raises:
            BodyError: FV-REC-032 when there is too little; the bag is closed then, complete up to here.
        """
        self._unchecked = 0
        free = self._free_bytes(self.folder)
        if free < self.least_free_bytes:
            self.close()
            raise BodyError("FV-REC-032", f"{self.folder}: {self._shortage(free)}; recording stopped. Make room.")

    def flush(self) -> None:
        """Hand everything so far to the system, so that it survives the end of this process.

        Raises:
            BodyError: FV-REC-032 when the disk refuses; the bag is closed then.
        """
        from rosbags.rosbag2.storage_mcap import McapWriter

        storage = self._writer.storage if self._writer else None
        if not isinstance(storage, McapWriter) or not storage.chunk.bio.tell():
            return
        try:
            storage.close_chunk()
            storage.bio.flush()
        except OSError as error:
            raise self._broken_off(error) from error

    def close(self) -> None:
        """Write index and metadata; closing twice does nothing.

        Raises:
            BodyError: FV-REC-032 when the disk refuses.
        """
        if self._writer is None:
            return
        try:
            self._writer.close()
        except OSError as error:
            raise self._broken_off(error) from error
        self._writer = None

    def _open_writer(self) -> Writer:
        if self._writer is None:
            raise SetupError("FV-REC-035", f"{self.folder} is closed; start another recording.")
        return self._writer

    def _broken_off(self, error: OSError) -> BodyError:
        """Give up the writer, keep what is whole in the file, and return what to raise."""
        writer, self._writer = self._writer, None
        with suppress(OSError):  # Closing the file writes what it still holds, which fails once more.
            if writer is not None:
                writer.abort()
        with suppress(OSError):  # Where even the last few bytes find no room, it can be done later.
            close_unfinished(self.folder)
        return BodyError("FV-REC-032", f"{self.folder}: {error}; recording broke off. Make room and check the disk.")

    def _shortage(self, free: int) -> str:
        return f"{free / 2**20:.0f} MiB are free, {self.least_free_bytes / 2**20:.0f} MiB must stay free"

    def __enter__(self) -> BagWriter:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, also when something else failed: what was recorded is true."""
        self.close()


def rosbag_qos(qos: TopicQos) -> Qos:
    """Return the profile as rosbags has it; what ``TopicQos`` does not say keeps the middleware's default."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    # Deadlines and leases that never end, as ROS 2 writes them into bags.
    never = QosTime(9223372036, 854775807)
    return Qos(
        history=QosHistory.KEEP_LAST,
        depth=qos.depth,
        reliability=QosReliability.RELIABLE if qos.is_reliable else QosReliability.BEST_EFFORT,
        durability=QosDurability.TRANSIENT_LOCAL if qos.is_transient_local else QosDurability.VOLATILE,
        deadline=never,
        lifespan=never,
        liveliness=QosLiveliness.AUTOMATIC,
        liveliness_lease_duration=never,
        avoid_ros_namespace_conventions=False,
    )
