"""Between messages and the core's values; nothing here decides anything."""

from __future__ import annotations

from array import array
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Image

from finevla_interfaces.msg import ActionChunk as ChunkMessage
from finevla_interfaces.msg import Episode
from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.contracts.arrays import ByteArray
from finevla_runtime.contracts.errors import BodyError, PolicyError
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.motion.execution import Execution, Strategy
from finevla_runtime.robot.topic_profile import CameraTopic


@dataclass(frozen=True)
class ExecutionSettings:
    """Parameters that commander and policy client share; give both the same.

    Attributes:
        strategy: synchronous, asynchronous or ensemble.
        execution_rows: rows of a chunk after which the policy is asked again.
        blend_s: seconds in which the motion goes over from one chunk to the next.
        ensemble_decay: how much less each newer chunk weighs where several predict a row.
        longest_age_s: age of an observation from which its chunk is refused.
    """

    strategy: str = "asynchronous"
    execution_rows: int = 8
    blend_s: float = 0.1
    ensemble_decay: float = 0.01
    longest_age_s: float = 1.0

    def execution(self) -> Execution:
        """Return the core's settings.

        Raises:
            SetupError: FV-MOT-002 for values that mean nothing, FV-MOT-003 for an unknown strategy.
        """
        return Execution(
            Strategy.named(self.strategy),
            self.execution_rows,
            self.blend_s,
            self.ensemble_decay,
            self.longest_age_s,
        )


def chunk_message(ticket: Ticket, chunk: ActionChunk, latency_s: float) -> ChunkMessage:
    """Return the message of a chunk."""
    return ChunkMessage(
        chunk_id=chunk.chunk_id,
        episode_id=ticket.episode_id,
        epoch=ticket.epoch,
        first_control_step=chunk.first_control_step,
        step_s=chunk.step_s,
        capture_time_ns=chunk.capture_time_ns,
        model_s=chunk.model_s,
        latency_s=latency_s,
        rows=chunk.rows,
        positions=array("f", chunk.positions.tobytes()),
    )


def chunk_of(message: ChunkMessage) -> tuple[Ticket, ActionChunk]:
    """Return the chunk of a message.

    Raises:
        PolicyError: FV-ACT-003 for a wrong length or a value that is not finite.
    """
    positions = np.array(message.positions, dtype=np.float32)
    if positions.size != message.rows * DOF or message.rows < 1:
        raise PolicyError(
            "FV-ACT-003", f"chunk {message.chunk_id}: {positions.size} values for {message.rows} rows of {DOF}."
        )
    chunk = ActionChunk(
        chunk_id=message.chunk_id,
        positions=positions.reshape(message.rows, DOF),
        first_control_step=message.first_control_step,
        step_s=message.step_s,
        capture_time_ns=message.capture_time_ns,
        model_name="",
        model_version="",
        model_s=message.model_s,
    )
    return Ticket(message.episode_id, message.epoch), chunk


def same_episode(one: Episode, other: Episode) -> bool:
    """Return whether two messages say the same state, episode and instruction."""
    return (one.state, one.episode_id, one.epoch) == (other.state, other.episode_id, other.epoch)


def pixels_of(message: Image, camera: CameraTopic) -> ByteArray:
    """Return uint8[height, width, 3] in RGB, a view into the message where its order is RGB already.

    Raises:
        BodyError: FV-ROS-020 for another encoding or size than the topic profile says, or a cut message.
    """
    got = (message.encoding, message.height, message.width)
    if got != (camera.encoding, camera.height, camera.width):
        raise BodyError(
            "FV-ROS-020",
            f"{camera.name} on {camera.topic} is {got[0]} {got[1]}x{got[2]}, the topic profile says {camera.encoding} "
            f"{camera.height}x{camera.width}; set up the camera or the profile.",
        )
    row, length = camera.width * 3, message.step * camera.height
    if message.step < row or len(message.data) != length:
        raise BodyError(
            "FV-ROS-020",
            f"{camera.name} on {camera.topic}: {len(message.data)} bytes in rows of {message.step}, wanted {length}.",
        )
    rows = np.frombuffer(message.data, dtype=np.uint8).reshape(camera.height, message.step)[:, :row]
    pixels = rows.reshape(camera.height, camera.width, 3)
    return pixels if camera.encoding == "rgb8" else np.ascontiguousarray(pixels[..., ::-1])


def stamp_ns(message: Image, camera: CameraTopic) -> int:
    """Return the driver's stamp; 0 where the profile says that it is no good."""
    if camera.stamp != "header":
        return 0
    stamp = message.header.stamp
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)
