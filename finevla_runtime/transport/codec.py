"""Wire to contract and back: every check and every size cap of the wire is here, so that the rest trusts types."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from finevla_runtime.contracts.action import ActionChunk, ChunkPrefix, to_layout
from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.errors import FineVLAError, SetupError, nearest
from finevla_runtime.contracts.instruction import MAX_INSTRUCTION_CHARACTERS, Instruction, InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import CameraSpec, PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json, spec_to_json
from finevla_runtime.processing.continuation import Continuation
from finevla_runtime.processing.normalise import normalise
from finevla_runtime.transport import policy_pb2 as pb
from finevla_runtime.transport.refusal import Reason, Refusal

PROTOCOL_VERSION = "1"
STATE_GROUP = "joint_position"
MAX_IMAGE_SIDE = 4_096
MAX_TENSOR_ELEMENTS = 1 << 16
MAX_ID_CHARACTERS = 128
MAX_REQUEST_BYTES = 32 << 20
LENGTH_DELIMITED = 2

_DTYPES: dict[int, np.dtype[np.floating]] = {
    pb.DTYPE_FLOAT32: np.dtype("<f4"),
    pb.DTYPE_FLOAT64: np.dtype("<f8"),
}
_KINDS = {
    pb.INSTRUCTION_KIND_RAW: InstructionKind.RAW,
    pb.INSTRUCTION_KIND_FINE_GRAINED: InstructionKind.FINE_GRAINED,
}
_KIND_NUMBERS = {kind: number for number, kind in _KINDS.items()}


def decode_tensor(tensor: pb.Tensor, what: str) -> FloatArray:
    """Return the tensor as float32; float32 data is a read-only view of the message, not a copy.

    Raises:
        Refusal: BAD_DTYPE, BAD_SHAPE (claimed size is not the data's), NON_FINITE (names the first index).
    """
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        raise Refusal(Reason.BAD_DTYPE, f"{what} has dtype {tensor.dtype}, wanted DTYPE_FLOAT32 or DTYPE_FLOAT64.")
    shape = tuple(tensor.shape)
    elements = 1
    for size in shape:
        elements *= size
    if not shape or len(shape) > 4 or elements > MAX_TENSOR_ELEMENTS:
        raise Refusal(
            Reason.BAD_SHAPE,
            f"{what} claims shape {list(shape)[:8]}; 1 to 4 axes and {MAX_TENSOR_ELEMENTS} values fit.",
        )
    data = tensor.data
    if elements * dtype.itemsize != len(data):
        raise Refusal(
            Reason.BAD_SHAPE,
            f"{what} claims shape {list(shape)} of {dtype.name}, which is {elements * dtype.itemsize} bytes; "
            f"it holds {len(data)}.",
        )
    with np.errstate(over="ignore"):  # A float64 beyond float32 becomes infinite and is refused below.
        values = np.frombuffer(data, dtype=dtype).astype(np.float32, copy=False).reshape(shape)
    if not np.isfinite(values).all():
        index = [int(i) for i in np.argwhere(~np.isfinite(values))[0]]
        raise Refusal(Reason.NON_FINITE, f"{what} is {values[tuple(index)]} at index {index}.")
    return values


def encode_tensor(values: FloatArray) -> pb.Tensor:
    """Return float32 values of any shape as a wire tensor."""
    rows = np.ascontiguousarray(values, dtype=np.dtype("<f4"))
    return pb.Tensor(dtype=pb.DTYPE_FLOAT32, shape=list(rows.shape), data=rows.tobytes())


def decode_image(image: pb.Image, camera: CameraSpec) -> ByteArray:
    """Return uint8[height, width, 3], read-only.

    Raises:
        Refusal: BAD_ENCODING, BAD_SHAPE.
    """
    what = f"image {camera.name!r}"
    if image.encoding != pb.IMAGE_ENCODING_RAW_RGB8:
        raise Refusal(Reason.BAD_ENCODING, f"{what} has encoding {image.encoding}; this server reads RAW_RGB8.")
    height, width = image.height, image.width
    if not (0 < height <= MAX_IMAGE_SIDE and 0 < width <= MAX_IMAGE_SIDE):
        raise Refusal(Reason.BAD_SHAPE, f"{what} is {height}x{width}; each side must be 1..{MAX_IMAGE_SIDE}.")
    if camera.resize == "refuse" and (height, width) != (camera.height, camera.width):
        raise Refusal(Reason.BAD_SHAPE, f"{what} is {height}x{width}, wanted exactly {camera.height}x{camera.width}.")
    data = image.data  # Every access copies the pixels out of the message, so there is one.
    if len(data) != height * width * 3:
        raise Refusal(
            Reason.BAD_SHAPE, f"{what} claims {height}x{width}x3 = {height * width * 3} bytes and holds {len(data)}."
        )
    return np.frombuffer(data, dtype=np.uint8).reshape(height, width, 3)


def encode_image(camera: str, pixels: ByteArray, capture_time_ns: int) -> pb.Image:
    """Return one frame uint8[height, width, 3] as a wire image."""
    return pb.Image(
        camera=camera,
        encoding=pb.IMAGE_ENCODING_RAW_RGB8,
        height=pixels.shape[0],
        width=pixels.shape[1],
        capture_time_ns=capture_time_ns,
        data=pixels.tobytes(),
    )


def decode_instruction(message: pb.Instruction) -> Instruction:
    """Return the instruction (Refusal BAD_INSTRUCTION for empty or overlong text or no kind)."""
    kind = _KINDS.get(message.kind)
    if kind is None:
        raise Refusal(Reason.BAD_INSTRUCTION, "the instruction kind is unset; send RAW or FINE_GRAINED.")
    if max(len(message.task_id), len(message.variant_id)) > MAX_ID_CHARACTERS:
        raise Refusal(Reason.BAD_INSTRUCTION, f"task_id and variant_id hold at most {MAX_ID_CHARACTERS} characters.")
    if len(message.text) > MAX_INSTRUCTION_CHARACTERS:
        raise Refusal(
            Reason.BAD_INSTRUCTION,
            f"the instruction has {len(message.text)} characters, at most {MAX_INSTRUCTION_CHARACTERS} fit.",
        )
    try:
        return Instruction(message.text, kind, message.task_id, message.variant_id)
    except SetupError as error:
        raise Refusal(Reason.BAD_INSTRUCTION, error.message) from error


def encode_instruction(instruction: Instruction) -> pb.Instruction:
    """Return the instruction as a wire message."""
    return pb.Instruction(
        text=instruction.text,
        kind=_KIND_NUMBERS[instruction.kind],
        task_id=instruction.task_id,
        variant_id=instruction.variant_id,
    )


def decode_observation(message: pb.Observation, spec: PolicySpec, instruction: Instruction | None) -> Observation:
    """Return a checked observation whose images are views of the message.

    Args:
        message: what came over the wire.
        spec: contract of the session's model.
        instruction: the session's instruction, used when the message carries none.

    Raises:
        Refusal: BAD_CAMERA, BAD_SHAPE, BAD_DTYPE, BAD_ENCODING, BAD_STATE, NON_FINITE, BAD_INSTRUCTION or
            BAD_OBSERVATION.
    """
    if message.HasField("instruction"):
        instruction = decode_instruction(message.instruction)
    if instruction is None:
        raise Refusal(Reason.BAD_INSTRUCTION, "neither the observation nor its session carries an instruction.")
    images = _decode_images(message, spec)
    position = _decode_state(message, spec)
    if message.control_step > sys.maxsize:
        raise Refusal(Reason.BAD_OBSERVATION, f"control_step is {message.control_step}, which no robot reaches.")
    try:
        return Observation(
            images=images,
            joint_position=position,
            instruction=instruction,
            capture_time_ns=message.capture_time_ns,
            control_step=message.control_step,
            image_time_ns={image.camera: image.capture_time_ns for image in message.images},
        )
    except FineVLAError as error:
        raise Refusal(Reason.BAD_OBSERVATION, error.message, error.code) from error


def _decode_images(message: pb.Observation, spec: PolicySpec) -> Mapping[str, ByteArray]:
    cameras = {camera.name: camera for camera in spec.cameras}
    images: dict[str, ByteArray] = {}
    for image in message.images:
        camera = cameras.get(image.camera)
        if camera is None:
            guess = nearest(image.camera[:MAX_ID_CHARACTERS], cameras)
            hint = f" Did you mean {guess!r}?" if guess else ""
            raise Refusal(
                Reason.BAD_CAMERA,
                f"unknown camera {image.camera[:MAX_ID_CHARACTERS]!r}.{hint} Known: {', '.join(cameras)}.",
            )
        if image.camera in images:
            raise Refusal(Reason.BAD_CAMERA, f"camera {image.camera!r} appears twice.")
        images[image.camera] = decode_image(image, camera)
    missing = [name for name in cameras if name not in images]
    if missing:
        raise Refusal(Reason.BAD_CAMERA, f"no image of {', '.join(missing)}; the model reads {', '.join(cameras)}.")
    return images


def _decode_state(message: pb.Observation, spec: PolicySpec) -> FloatArray:
    unknown = [group for group in message.state if group != STATE_GROUP]
    if unknown or STATE_GROUP not in message.state:
        got = ", ".join(sorted(name[:MAX_ID_CHARACTERS] for name in message.state)[:8]) or "none"
        raise Refusal(Reason.BAD_STATE, f"state groups are {got}; wanted exactly {STATE_GROUP}.")
    position = decode_tensor(message.state[STATE_GROUP], STATE_GROUP)
    if position.shape != (spec.action.size,):
        raise Refusal(Reason.BAD_SHAPE, f"{STATE_GROUP} has shape {list(position.shape)}, wanted [{spec.action.size}].")
    return position


def encode_observation(observation: Observation) -> pb.Observation:
    """Return an observation as a wire message."""
    return pb.Observation(
        images=[
            encode_image(name, pixels, observation.image_time_ns.get(name, observation.capture_time_ns))
            for name, pixels in observation.images.items()
        ],
        state={STATE_GROUP: encode_tensor(observation.joint_position)},
        instruction=encode_instruction(observation.instruction),
        capture_time_ns=observation.capture_time_ns,
        control_step=observation.control_step,
    )


def encode_request(request: pb.InferRequest, observation: Observation) -> bytes:
    """Return the wire bytes of ``request`` with ``observation``, copying every pixel once instead of three times.

    Protobuf reads the same message as from ``request.observation.CopyFrom(encode_observation(observation))``: fields of
    a message may come in pieces and in any order.
    """
    bare = replace(observation, images={})
    parts: list[bytes | memoryview] = [encode_observation(bare).SerializeToString()]
    for name, pixels in observation.images.items():
        head = pb.Image(
            camera=name,
            encoding=pb.IMAGE_ENCODING_RAW_RGB8,
            height=pixels.shape[0],
            width=pixels.shape[1],
            capture_time_ns=observation.image_time_ns.get(name, observation.capture_time_ns),
        ).SerializeToString()
        data = np.ascontiguousarray(pixels).data.cast("B")
        head += _delimiter(pb.Image.DATA_FIELD_NUMBER, data.nbytes)
        parts += [_delimiter(pb.Observation.IMAGES_FIELD_NUMBER, len(head) + data.nbytes), head, data]
    size = sum(len(part) for part in parts)
    opening = _delimiter(pb.InferRequest.OBSERVATION_FIELD_NUMBER, size)
    return b"".join([request.SerializeToString(), opening, *parts])


def encode_prefix(prefix: ChunkPrefix, spec: PolicySpec) -> pb.RtcPrefix:
    """Return the rows that an answer must continue, in the model's own space as the wire wants them."""
    rows = normalise(to_layout(prefix.positions, spec.layout), spec.normalisation)
    return pb.RtcPrefix(
        prev_chunk_id=prefix.chunk_id,
        prev_actions=encode_tensor(rows),
        inference_delay_steps=prefix.delay_rows,
        execution_horizon=prefix.execution_rows,
    )


def decode_prefix(message: pb.RtcPrefix, spec: PolicySpec) -> Continuation:
    """Return the checked rows, in the model's own space, that an answer must continue.

    Raises:
        Refusal: BAD_SHAPE, BAD_DTYPE, NON_FINITE, or BAD_PREFIX for values, delay or horizon that cannot be.
    """
    if len(message.prev_chunk_id) > MAX_ID_CHARACTERS:
        raise Refusal(Reason.BAD_PREFIX, f"prev_chunk_id holds at most {MAX_ID_CHARACTERS} characters.")
    rows = decode_tensor(message.prev_actions, "rtc.prev_actions")
    if rows.ndim != 2 or not 1 <= rows.shape[0] <= spec.chunk_rows or rows.shape[1] != spec.action.size:
        raise Refusal(
            Reason.BAD_SHAPE,
            f"rtc.prev_actions has shape {list(rows.shape)}, wanted [1 to {spec.chunk_rows}, {spec.action.size}].",
        )
    try:
        return Continuation(rows, message.inference_delay_steps, message.execution_horizon)
    except FineVLAError as error:
        raise Refusal(Reason.BAD_PREFIX, error.message) from error


def _delimiter(field: int, size: int) -> bytes:
    """Return the tag of a length-delimited field and the length that follows it."""
    coded = bytearray()
    for value in (field << 3 | LENGTH_DELIMITED, size):
        while value > 0x7F:
            coded.append(value & 0x7F | 0x80)
            value >>= 7
        coded.append(value)
    return bytes(coded)


def decode_chunk(response: pb.InferResponse, spec: PolicySpec) -> ActionChunk:
    """Return the answer as a checked chunk.

    Raises:
        Refusal: BAD_SHAPE, BAD_DTYPE or NON_FINITE when the answer is not what the spec promises.
    """
    rows = decode_tensor(response.actions, f"chunk {response.chunk_id!r}")
    if rows.shape != (spec.chunk_rows, spec.action.size):
        raise Refusal(
            Reason.BAD_SHAPE,
            f"chunk {response.chunk_id!r} has shape {list(rows.shape)}, "
            f"the spec promises [{spec.chunk_rows}, {spec.action.size}].",
        )
    return ActionChunk(
        chunk_id=response.chunk_id,
        positions=rows,
        first_control_step=response.first_control_step,
        step_s=response.step_seconds,
        capture_time_ns=response.capture_time_ns,
        model_name=response.model_name,
        model_version=response.model_version,
        model_s=response.timing.model_ns / 1e9,
    )


def encode_chunk(chunk: ActionChunk) -> pb.InferResponse:
    """Return a chunk as a wire message without request id, epoch and timing."""
    return pb.InferResponse(
        chunk_id=chunk.chunk_id,
        model_name=chunk.model_name,
        model_version=chunk.model_version,
        capture_time_ns=chunk.capture_time_ns,
        first_control_step=chunk.first_control_step,
        step_seconds=chunk.step_s,
        actions=encode_tensor(chunk.positions),
    )


def encode_spec(spec: PolicySpec, message: pb.ModelSpec) -> pb.ModelSpec:
    """Fill the parts of ``message`` that come from the PolicySpec and return it."""
    message.name = spec.name
    message.version = spec.version
    message.spec_hash = spec.spec_hash
    message.policy_spec_json = spec_to_json(spec)
    return message


def decode_spec(message: pb.ModelSpec) -> PolicySpec:
    """Return the PolicySpec of a handshake.

    Raises:
        SetupError: FV-SPC-* for a bad spec, FV-NET-003 when it does not hash to the announced spec hash.
    """
    spec = spec_from_json(message.policy_spec_json)
    if spec.spec_hash != message.spec_hash:
        raise SetupError(
            "FV-NET-003",
            f"the spec of {message.name!r} hashes to {spec.spec_hash[:12]}, the server announced "
            f"{message.spec_hash[:12]}; client and server are of different versions.",
        )
    return spec
