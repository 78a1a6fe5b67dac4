from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF, ActionChunk
from finevla_runtime.contracts.errors import FineVLAError, SetupError
from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.codec import (
    MAX_TENSOR_ELEMENTS,
    decode_chunk,
    decode_image,
    decode_instruction,
    decode_observation,
    decode_spec,
    decode_tensor,
    encode_chunk,
    encode_instruction,
    encode_observation,
    encode_request,
    encode_spec,
    encode_tensor,
)
from finevla_runtime.transport.refusal import RULES, Reason, Refusal, error_of, status_of
from tests.serving.tiny_bundle import ROWS, observation, tiny_spec

SPEC = tiny_spec()
FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=200).filter(lambda text: text.strip())


@settings(deadline=None)
@given(st.lists(FINITE, min_size=1, max_size=40))
def test_float32_tensors_survive_the_wire_bit_by_bit(values: list[float]) -> None:
    array = np.asarray(values, np.float32)
    again = pb.Tensor.FromString(encode_tensor(array).SerializeToString())
    assert decode_tensor(again, "x").tobytes() == array.tobytes()


@settings(deadline=None)
@given(TEXT, st.sampled_from(InstructionKind), st.sampled_from(["", "colour"]))
def test_instructions_survive_the_wire_unchanged(text: str, kind: InstructionKind, task: str) -> None:
    instruction = Instruction(text, kind, task, "red")
    assert decode_instruction(encode_instruction(instruction)) == instruction


def test_observation_survives_the_wire_and_its_images_are_views() -> None:
    sent = observation(3, step=41)
    message = pb.Observation.FromString(encode_observation(sent).SerializeToString())
    got = decode_observation(message, SPEC, None)
    assert got.instruction == sent.instruction
    assert (got.capture_time_ns, got.control_step) == (sent.capture_time_ns, 41)
    assert np.array_equal(got.joint_position, sent.joint_position)
    for name, pixels in sent.images.items():
        assert np.array_equal(got.images[name], pixels)
        assert not got.images[name].flags.owndata
        assert not got.images[name].flags.writeable


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(1, 70), st.integers(1, 70), st.booleans()), max_size=3),
    st.text("abcé", max_size=200),
    st.integers(-(2**63), 2**63 - 1),
)
def test_requests_encoded_with_one_copy_are_the_message_protobuf_would_send(
    sizes: list[tuple[int, int, bool]], session: str, stamp: int
) -> None:
    rng = np.random.default_rng(0)
    images = {}
    for number, (height, width, mirrored) in enumerate(sizes):
        pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        images[f"camera{number}"] = pixels[:, ::-1] if mirrored else pixels
    sent = replace(observation(), images=images, capture_time_ns=stamp, image_time_ns={"camera0": 5})
    head = pb.InferRequest(session_id=session, epoch=3, request_id="9", max_age_ms=7)
    wanted = pb.InferRequest()
    wanted.CopyFrom(head)
    wanted.observation.CopyFrom(encode_observation(sent))
    assert pb.InferRequest.FromString(encode_request(head, sent)) == wanted


def test_float64_state_is_accepted_and_float64_overflow_is_refused() -> None:
    assert decode_tensor(pb.Tensor(dtype=pb.DTYPE_FLOAT64, shape=[1], data=np.float64(0.5).tobytes()), "x")[0] == 0.5
    with pytest.raises(Refusal, match="inf at index") as caught:
        decode_tensor(pb.Tensor(dtype=pb.DTYPE_FLOAT64, shape=[1], data=np.float64(1e300).tobytes()), "x")
    assert caught.value.reason is Reason.NON_FINITE


@settings(deadline=None)
@given(
    st.integers(0, 3),
    st.lists(st.integers(0, 4) | st.integers(0, 2**32 - 1), max_size=6),
    st.binary(max_size=64),
)
def test_any_tensor_is_decoded_to_its_claimed_shape_or_refused(dtype: int, shape: list[int], data: bytes) -> None:
    tensor = pb.Tensor(dtype=dtype, shape=shape, data=data)  # type: ignore[arg-type]
    sizes = {pb.DTYPE_FLOAT32: 4, pb.DTYPE_FLOAT64: 8}
    fits = dtype in sizes and 1 <= len(shape) <= 4 and math.prod(shape) * sizes[dtype] == len(data)
    if fits and np.isfinite(np.frombuffer(data, "<f4" if sizes[dtype] == 4 else "<f8").astype("<f4")).all():
        assert decode_tensor(tensor, "x").shape == tuple(shape)
    else:
        with pytest.raises(Refusal) as caught:
            decode_tensor(tensor, "x")
        assert caught.value.reason in (Reason.BAD_DTYPE, Reason.BAD_SHAPE, Reason.NON_FINITE)


def _no_images(m: pb.Observation) -> None:
    del m.images[:]


def _foreign_camera(m: pb.Observation) -> None:
    m.images[0].camera = "cam_hihg"


def _twice(m: pb.Observation) -> None:
    m.images.append(m.images[0])


def _zero_bytes(m: pb.Observation) -> None:
    m.images[0].data = b""


def _short(m: pb.Observation) -> None:
    m.images[0].data = m.images[0].data[:-1]


def _huge(m: pb.Observation) -> None:
    m.images[0].height = 2**32 - 1
    m.images[0].width = 2**32 - 1


def _other_size(m: pb.Observation) -> None:
    m.images[0].height, m.images[0].width, m.images[0].data = 2, 2, bytes(12)


def _jpeg(m: pb.Observation) -> None:
    m.images[0].encoding = 2  # type: ignore[assignment]


def _thirteen_joints(m: pb.Observation) -> None:
    m.state["joint_position"].CopyFrom(encode_tensor(np.zeros(13, np.float32)))


def _matrix_state(m: pb.Observation) -> None:
    m.state["joint_position"].CopyFrom(encode_tensor(np.zeros((2, 7), np.float32)))


def _claims_more(m: pb.Observation) -> None:
    m.state["joint_position"].shape[:] = [15]


def _no_dtype(m: pb.Observation) -> None:
    m.state["joint_position"].dtype = pb.DTYPE_UNSPECIFIED


def _nan_joint(m: pb.Observation) -> None:
    values = np.zeros(DOF, np.float32)
    values[3] = np.nan
    m.state["joint_position"].CopyFrom(encode_tensor(values))


def _large_tensor(m: pb.Observation) -> None:
    m.state["joint_position"].CopyFrom(encode_tensor(np.zeros(MAX_TENSOR_ELEMENTS + 1, np.float32)))


def _no_state(m: pb.Observation) -> None:
    m.state.clear()


def _foreign_group(m: pb.Observation) -> None:
    m.state["gripper"].CopyFrom(encode_tensor(np.zeros(2, np.float32)))


def _long_text(m: pb.Observation) -> None:
    m.instruction.text = "x" * 2001


def _blank_text(m: pb.Observation) -> None:
    m.instruction.text = "  "


def _no_kind(m: pb.Observation) -> None:
    m.instruction.kind = pb.INSTRUCTION_KIND_UNSPECIFIED


def _long_id(m: pb.Observation) -> None:
    m.instruction.task_id = "x" * 129


def _no_instruction(m: pb.Observation) -> None:
    m.ClearField("instruction")


def _far_step(m: pb.Observation) -> None:
    m.control_step = 2**64 - 1


FAULTS: list[tuple[Callable[[pb.Observation], None], Reason]] = [
    (_no_images, Reason.BAD_CAMERA),
    (_foreign_camera, Reason.BAD_CAMERA),
    (_twice, Reason.BAD_CAMERA),
    (_zero_bytes, Reason.BAD_SHAPE),
    (_short, Reason.BAD_SHAPE),
    (_huge, Reason.BAD_SHAPE),
    (_other_size, Reason.BAD_SHAPE),
    (_jpeg, Reason.BAD_ENCODING),
    (_thirteen_joints, Reason.BAD_SHAPE),
    (_matrix_state, Reason.BAD_SHAPE),
    (_claims_more, Reason.BAD_SHAPE),
    (_no_dtype, Reason.BAD_DTYPE),
    (_nan_joint, Reason.NON_FINITE),
    (_large_tensor, Reason.BAD_SHAPE),
    (_no_state, Reason.BAD_STATE),
    (_foreign_group, Reason.BAD_STATE),
    (_long_text, Reason.BAD_INSTRUCTION),
    (_blank_text, Reason.BAD_INSTRUCTION),
    (_no_kind, Reason.BAD_INSTRUCTION),
    (_long_id, Reason.BAD_INSTRUCTION),
    (_no_instruction, Reason.BAD_INSTRUCTION),
    (_far_step, Reason.BAD_OBSERVATION),
]


@pytest.mark.parametrize(("fault", "reason"), FAULTS, ids=lambda value: getattr(value, "__name__", "").strip("_"))
def test_every_faulty_observation_is_refused_with_its_reason(
    fault: Callable[[pb.Observation], None], reason: Reason
) -> None:
    message = encode_observation(observation())
    fault(message)
    with pytest.raises(Refusal) as caught:
        decode_observation(message, SPEC, None)
    assert caught.value.reason is reason


def test_unknown_camera_names_the_nearest_match() -> None:
    message = encode_observation(observation())
    message.images[0].camera = "cam_hihg"
    with pytest.raises(Refusal, match="Did you mean 'cam_high'"):
        decode_observation(message, SPEC, None)


def test_a_camera_that_may_be_resized_takes_other_sizes() -> None:
    camera = tiny_spec(resize="area").cameras[0]
    image = pb.Image(camera="cam_high", encoding=pb.IMAGE_ENCODING_RAW_RGB8, height=2, width=3, data=bytes(18))
    assert decode_image(image, camera).shape == (2, 3, 3)


def test_chunks_survive_the_wire_and_short_ones_are_refused() -> None:
    rows = np.random.default_rng(0).normal(size=(ROWS, DOF)).astype(np.float32)
    message = encode_chunk(ActionChunk("c", rows, 5, 0.1, 77, "tiny", "1"))
    got = decode_chunk(message, SPEC)
    assert np.array_equal(got.positions, rows)
    assert (got.first_control_step, got.step_s, got.capture_time_ns) == (5, 0.1, 77)
    message.actions.CopyFrom(encode_tensor(rows[:3]))
    with pytest.raises(Refusal, match="the spec promises"):
        decode_chunk(message, SPEC)


def test_specs_survive_the_handshake_and_a_false_hash_is_refused() -> None:
    message = encode_spec(SPEC, pb.ModelSpec())
    assert decode_spec(message) == SPEC
    message.spec_hash = "0" * 64
    with pytest.raises(SetupError, match="FV-NET-003"):
        decode_spec(message)


@pytest.mark.parametrize("reason", Reason)
def test_every_refusal_keeps_code_and_reason_across_the_wire(reason: Reason) -> None:
    error = error_of(pb.Status.FromString(status_of(Refusal(reason, "what happened.")).SerializeToString()))
    assert error.code == RULES[reason].code
    assert "what happened." in error.message
    assert RULES[reason].remedy in error.message
    assert isinstance(error, SetupError) == RULES[reason].setup


def test_codes_of_refusals_are_unique() -> None:
    codes = [RULES[reason].code for reason in Reason]
    assert len(set(codes)) == len(codes)


def test_a_reason_of_a_newer_server_is_still_a_coded_error() -> None:
    status = status_of(Refusal(Reason.INTERNAL, "hm."))
    info = pb.ErrorInfo(reason="TOO_MODERN", domain="finevla", metadata={"code": "FV-XYZ-001"})
    status.details[0].value = info.SerializeToString()
    error = error_of(status)
    assert isinstance(error, FineVLAError)
    assert error.code == "FV-XYZ-001"
