"""Messages become the core's values without a loss, or are refused by code."""

from __future__ import annotations

from array import array
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Image

from finevla_cobot.conversions import ExecutionSettings, chunk_message, chunk_of, pixels_of, stamp_ns
from finevla_interfaces.msg import ActionChunk as ChunkMessage
from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.contracts.errors import BodyError, PolicyError, SetupError
from finevla_runtime.motion.chunk_queue import Ticket
from finevla_runtime.robot.topic_profile import CameraTopic

FLOATS = st.floats(-1e6, 1e6, width=32)
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=20)
CHUNKS = st.builds(
    ActionChunk,
    chunk_id=TEXTS,
    positions=arrays.arrays(np.float32, st.tuples(st.integers(1, 50), st.just(DOF)), elements=FLOATS),
    first_control_step=st.integers(0, 2**40),
    step_s=st.floats(1e-3, 1.0),
    capture_time_ns=st.integers(0, 2**62),
    model_name=st.just(""),
    model_version=st.just(""),
    model_s=st.floats(0.0, 10.0),
)
TICKETS = st.builds(Ticket, TEXTS, st.integers(0, 2**32 - 1))
CAMERA = CameraTopic("cam_high", "camera/image", "rgb8", 6, 4, "header")


@settings(max_examples=50)
@given(TICKETS, CHUNKS)
def test_a_chunk_comes_through_the_wire_as_it_was(ticket: Ticket, chunk: ActionChunk) -> None:
    wire = serialize_message(chunk_message(ticket, chunk, latency_s=0.25))
    message = deserialize_message(wire, ChunkMessage)
    got_ticket, got = chunk_of(message)
    assert got_ticket == ticket
    np.testing.assert_array_equal(got.positions, chunk.positions)
    for name in ("chunk_id", "first_control_step", "step_s", "capture_time_ns", "model_s"):
        assert getattr(got, name) == getattr(chunk, name)
    assert message.latency_s == 0.25


@given(st.integers(0, 20), st.integers(0, 300))
def test_a_chunk_of_another_length_than_it_says_is_refused(rows: int, values: int) -> None:
    message = ChunkMessage(chunk_id="c", rows=rows, step_s=0.1, positions=array("f", [0.0] * values))
    if values == rows * DOF and rows:
        assert chunk_of(message)[1].rows == rows
    else:
        with pytest.raises(PolicyError, match="FV-ACT-003: chunk c"):
            chunk_of(message)


@given(st.integers(0, 8 * DOF - 1), st.sampled_from([np.nan, np.inf, -np.inf]))
def test_a_chunk_with_one_value_that_is_not_finite_is_refused_whole(place: int, value: float) -> None:
    positions = [0.0] * (8 * DOF)
    positions[place] = value
    with pytest.raises(PolicyError, match="FV-ACT-003"):
        chunk_of(ChunkMessage(chunk_id="c", rows=8, step_s=0.1, positions=array("f", positions)))


def picture(pixels: np.ndarray, encoding: str, padding: int, filler: int = 7) -> Image:
    """A message of RGB uint8[height, width, 3], with so many bytes after each row."""
    height, width, _ = pixels.shape
    ordered = pixels if encoding == "rgb8" else pixels[..., ::-1]
    rows = np.full((height, width * 3 + padding), filler, np.uint8)
    rows[:, : width * 3] = ordered.reshape(height, width * 3)
    return Image(height=height, width=width, encoding=encoding, step=rows.shape[1], data=array("B", rows.tobytes()))


@given(arrays.arrays(np.uint8, (CAMERA.height, CAMERA.width, 3)), st.sampled_from(["rgb8", "bgr8"]), st.integers(0, 9))
def test_a_picture_is_the_same_in_every_encoding_and_with_every_stride(
    pixels: np.ndarray, encoding: str, padding: int
) -> None:
    got = pixels_of(picture(pixels, encoding, padding), replace(CAMERA, encoding=encoding))
    assert got.dtype == np.uint8
    np.testing.assert_array_equal(got, pixels)


@pytest.mark.parametrize(
    "change",
    [
        {"encoding": "bgr8"},
        {"encoding": "rgba8"},
        {"encoding": ""},
        {"height": 5},
        {"width": 3},
        {"step": 11},
        {"step": 13},
        {"step": 0},
        {"data": array("B", [0] * 71)},
        {"data": array("B")},
    ],
)
def test_a_picture_that_is_not_what_the_profile_says_is_refused(change: dict[str, object]) -> None:
    message = picture(np.zeros((CAMERA.height, CAMERA.width, 3), np.uint8), "rgb8", 0)
    pixels_of(message, CAMERA)
    for name, value in change.items():
        setattr(message, name, value)
    with pytest.raises(BodyError, match="FV-ROS-020: cam_high on camera/image"):
        pixels_of(message, CAMERA)


def test_a_stamp_counts_only_where_the_profile_trusts_it() -> None:
    message = Image()
    message.header.stamp.sec, message.header.stamp.nanosec = 1_800_000_000, 123_456_789
    assert stamp_ns(message, CAMERA) == 1_800_000_000_123_456_789
    assert stamp_ns(message, replace(CAMERA, stamp="arrival")) == 0


@pytest.mark.parametrize(
    ("values", "code"),
    [({"strategy": "eager"}, "FV-MOT-003"), ({"execution_rows": 0}, "FV-MOT-002"), ({"blend_s": -1.0}, "FV-MOT-002")],
)
def test_settings_that_mean_nothing_are_refused(values: dict[str, object], code: str) -> None:
    with pytest.raises(SetupError, match=code):
        ExecutionSettings(**values).execution()  # type: ignore[arg-type]
