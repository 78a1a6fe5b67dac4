from google.protobuf import any_pb2 as _any_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    DTYPE_UNSPECIFIED: _ClassVar[DType]
    DTYPE_FLOAT32: _ClassVar[DType]
    DTYPE_FLOAT64: _ClassVar[DType]

class ImageEncoding(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IMAGE_ENCODING_UNSPECIFIED: _ClassVar[ImageEncoding]
    IMAGE_ENCODING_RAW_RGB8: _ClassVar[ImageEncoding]

class InstructionKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    INSTRUCTION_KIND_UNSPECIFIED: _ClassVar[InstructionKind]
    INSTRUCTION_KIND_RAW: _ClassVar[InstructionKind]
    INSTRUCTION_KIND_FINE_GRAINED: _ClassVar[InstructionKind]
DTYPE_UNSPECIFIED: DType
DTYPE_FLOAT32: DType
DTYPE_FLOAT64: DType
IMAGE_ENCODING_UNSPECIFIED: ImageEncoding
IMAGE_ENCODING_RAW_RGB8: ImageEncoding
INSTRUCTION_KIND_UNSPECIFIED: InstructionKind
INSTRUCTION_KIND_RAW: InstructionKind
INSTRUCTION_KIND_FINE_GRAINED: InstructionKind

class Tensor(_message.Message):
    __slots__ = ("dtype", "shape", "data")
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    dtype: DType
    shape: _containers.RepeatedScalarFieldContainer[int]
    data: bytes
    def __init__(self, dtype: _Optional[_Union[DType, str]] = ..., shape: _Optional[_Iterable[int]] = ..., data: _Optional[bytes] = ...) -> None: ...

class Image(_message.Message):
    __slots__ = ("camera", "encoding", "height", "width", "capture_time_ns", "data")
    CAMERA_FIELD_NUMBER: _ClassVar[int]
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    HEIGHT_FIELD_NUMBER: _ClassVar[int]
    WIDTH_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    camera: str
    encoding: ImageEncoding
    height: int
    width: int
    capture_time_ns: int
    data: bytes
    def __init__(self, camera: _Optional[str] = ..., encoding: _Optional[_Union[ImageEncoding, str]] = ..., height: _Optional[int] = ..., width: _Optional[int] = ..., capture_time_ns: _Optional[int] = ..., data: _Optional[bytes] = ...) -> None: ...

class Instruction(_message.Message):
    __slots__ = ("text", "kind", "variant_id", "task_id")
    TEXT_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    VARIANT_ID_FIELD_NUMBER: _ClassVar[int]
    TASK_ID_FIELD_NUMBER: _ClassVar[int]
    text: str
    kind: InstructionKind
    variant_id: str
    task_id: str
    def __init__(self, text: _Optional[str] = ..., kind: _Optional[_Union[InstructionKind, str]] = ..., variant_id: _Optional[str] = ..., task_id: _Optional[str] = ...) -> None: ...

class RtcPrefix(_message.Message):
    __slots__ = ("prev_chunk_id", "prev_actions", "inference_delay_steps", "execution_horizon")
    PREV_CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    PREV_ACTIONS_FIELD_NUMBER: _ClassVar[int]
    INFERENCE_DELAY_STEPS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_HORIZON_FIELD_NUMBER: _ClassVar[int]
    prev_chunk_id: str
    prev_actions: Tensor
    inference_delay_steps: int
    execution_horizon: int
    def __init__(self, prev_chunk_id: _Optional[str] = ..., prev_actions: _Optional[_Union[Tensor, _Mapping]] = ..., inference_delay_steps: _Optional[int] = ..., execution_horizon: _Optional[int] = ...) -> None: ...

class Observation(_message.Message):
    __slots__ = ("images", "state", "instruction", "capture_time_ns", "control_step")
    class StateEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    images: _containers.RepeatedCompositeFieldContainer[Image]
    state: _containers.MessageMap[str, Tensor]
    instruction: Instruction
    capture_time_ns: int
    control_step: int
    def __init__(self, images: _Optional[_Iterable[_Union[Image, _Mapping]]] = ..., state: _Optional[_Mapping[str, Tensor]] = ..., instruction: _Optional[_Union[Instruction, _Mapping]] = ..., capture_time_ns: _Optional[int] = ..., control_step: _Optional[int] = ...) -> None: ...

class InferRequest(_message.Message):
    __slots__ = ("session_id", "epoch", "request_id", "observation", "rtc", "max_age_ms")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    OBSERVATION_FIELD_NUMBER: _ClassVar[int]
    RTC_FIELD_NUMBER: _ClassVar[int]
    MAX_AGE_MS_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    request_id: str
    observation: Observation
    rtc: RtcPrefix
    max_age_ms: int
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., request_id: _Optional[str] = ..., observation: _Optional[_Union[Observation, _Mapping]] = ..., rtc: _Optional[_Union[RtcPrefix, _Mapping]] = ..., max_age_ms: _Optional[int] = ...) -> None: ...

class Timing(_message.Message):
    __slots__ = ("decode_ns", "queue_ns", "model_ns", "total_ns", "batch_size")
    DECODE_NS_FIELD_NUMBER: _ClassVar[int]
    QUEUE_NS_FIELD_NUMBER: _ClassVar[int]
    MODEL_NS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_NS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    decode_ns: int
    queue_ns: int
    model_ns: int
    total_ns: int
    batch_size: int
    def __init__(self, decode_ns: _Optional[int] = ..., queue_ns: _Optional[int] = ..., model_ns: _Optional[int] = ..., total_ns: _Optional[int] = ..., batch_size: _Optional[int] = ...) -> None: ...

class InferResponse(_message.Message):
    __slots__ = ("request_id", "chunk_id", "epoch", "model_name", "model_version", "capture_time_ns", "first_control_step", "step_seconds", "actions", "timing", "status")
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    CHUNK_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_VERSION_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_TIME_NS_FIELD_NUMBER: _ClassVar[int]
    FIRST_CONTROL_STEP_FIELD_NUMBER: _ClassVar[int]
    STEP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ACTIONS_FIELD_NUMBER: _ClassVar[int]
    TIMING_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    request_id: str
    chunk_id: str
    epoch: int
    model_name: str
    model_version: str
    capture_time_ns: int
    first_control_step: int
    step_seconds: float
    actions: Tensor
    timing: Timing
    status: Status
    def __init__(self, request_id: _Optional[str] = ..., chunk_id: _Optional[str] = ..., epoch: _Optional[int] = ..., model_name: _Optional[str] = ..., model_version: _Optional[str] = ..., capture_time_ns: _Optional[int] = ..., first_control_step: _Optional[int] = ..., step_seconds: _Optional[float] = ..., actions: _Optional[_Union[Tensor, _Mapping]] = ..., timing: _Optional[_Union[Timing, _Mapping]] = ..., status: _Optional[_Union[Status, _Mapping]] = ...) -> None: ...

class Status(_message.Message):
    __slots__ = ("code", "message", "details")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    DETAILS_FIELD_NUMBER: _ClassVar[int]
    code: int
    message: str
    details: _containers.RepeatedCompositeFieldContainer[_any_pb2.Any]
    def __init__(self, code: _Optional[int] = ..., message: _Optional[str] = ..., details: _Optional[_Iterable[_Union[_any_pb2.Any, _Mapping]]] = ...) -> None: ...

class ErrorInfo(_message.Message):
    __slots__ = ("reason", "domain", "metadata")
    class MetadataEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    REASON_FIELD_NUMBER: _ClassVar[int]
    DOMAIN_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    reason: str
    domain: str
    metadata: _containers.ScalarMap[str, str]
    def __init__(self, reason: _Optional[str] = ..., domain: _Optional[str] = ..., metadata: _Optional[_Mapping[str, str]] = ...) -> None: ...

class GetServerInfoRequest(_message.Message):
    __slots__ = ("client_name", "client_version")
    CLIENT_NAME_FIELD_NUMBER: _ClassVar[int]
    CLIENT_VERSION_FIELD_NUMBER: _ClassVar[int]
    client_name: str
    client_version: str
    def __init__(self, client_name: _Optional[str] = ..., client_version: _Optional[str] = ...) -> None: ...

class ServerInfo(_message.Message):
    __slots__ = ("server_version", "protocol_version", "instance_id", "max_request_bytes", "max_sessions", "max_batch_items", "image_encodings", "models", "default_model")
    SERVER_VERSION_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    INSTANCE_ID_FIELD_NUMBER: _ClassVar[int]
    MAX_REQUEST_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_SESSIONS_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_ITEMS_FIELD_NUMBER: _ClassVar[int]
    IMAGE_ENCODINGS_FIELD_NUMBER: _ClassVar[int]
    MODELS_FIELD_NUMBER: _ClassVar[int]
    DEFAULT_MODEL_FIELD_NUMBER: _ClassVar[int]
    server_version: str
    protocol_version: str
    instance_id: str
    max_request_bytes: int
    max_sessions: int
    max_batch_items: int
    image_encodings: _containers.RepeatedScalarFieldContainer[ImageEncoding]
    models: _containers.RepeatedScalarFieldContainer[str]
    default_model: str
    def __init__(self, server_version: _Optional[str] = ..., protocol_version: _Optional[str] = ..., instance_id: _Optional[str] = ..., max_request_bytes: _Optional[int] = ..., max_sessions: _Optional[int] = ..., max_batch_items: _Optional[int] = ..., image_encodings: _Optional[_Iterable[_Union[ImageEncoding, str]]] = ..., models: _Optional[_Iterable[str]] = ..., default_model: _Optional[str] = ...) -> None: ...

class GetModelSpecRequest(_message.Message):
    __slots__ = ("model",)
    MODEL_FIELD_NUMBER: _ClassVar[int]
    model: str
    def __init__(self, model: _Optional[str] = ...) -> None: ...

class ModelSpec(_message.Message):
    __slots__ = ("name", "version", "bundle_digest", "engine", "spec_hash", "policy_spec_json", "max_batch", "rtc_supported")
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_DIGEST_FIELD_NUMBER: _ClassVar[int]
    ENGINE_FIELD_NUMBER: _ClassVar[int]
    SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    POLICY_SPEC_JSON_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_FIELD_NUMBER: _ClassVar[int]
    RTC_SUPPORTED_FIELD_NUMBER: _ClassVar[int]
    name: str
    version: str
    bundle_digest: str
    engine: str
    spec_hash: str
    policy_spec_json: str
    max_batch: int
    rtc_supported: bool
    def __init__(self, name: _Optional[str] = ..., version: _Optional[str] = ..., bundle_digest: _Optional[str] = ..., engine: _Optional[str] = ..., spec_hash: _Optional[str] = ..., policy_spec_json: _Optional[str] = ..., max_batch: _Optional[int] = ..., rtc_supported: _Optional[bool] = ...) -> None: ...

class OpenSessionRequest(_message.Message):
    __slots__ = ("model", "expected_spec_hash", "client_label", "instruction", "idle_timeout_s")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_SPEC_HASH_FIELD_NUMBER: _ClassVar[int]
    CLIENT_LABEL_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    IDLE_TIMEOUT_S_FIELD_NUMBER: _ClassVar[int]
    model: str
    expected_spec_hash: str
    client_label: str
    instruction: Instruction
    idle_timeout_s: int
    def __init__(self, model: _Optional[str] = ..., expected_spec_hash: _Optional[str] = ..., client_label: _Optional[str] = ..., instruction: _Optional[_Union[Instruction, _Mapping]] = ..., idle_timeout_s: _Optional[int] = ...) -> None: ...

class Session(_message.Message):
    __slots__ = ("session_id", "epoch", "spec")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    epoch: int
    spec: ModelSpec
    def __init__(self, session_id: _Optional[str] = ..., epoch: _Optional[int] = ..., spec: _Optional[_Union[ModelSpec, _Mapping]] = ...) -> None: ...

class ResetSessionRequest(_message.Message):
    __slots__ = ("session_id", "instruction", "episode_seed")
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    INSTRUCTION_FIELD_NUMBER: _ClassVar[int]
    EPISODE_SEED_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    instruction: Instruction
    episode_seed: int
    def __init__(self, session_id: _Optional[str] = ..., instruction: _Optional[_Union[Instruction, _Mapping]] = ..., episode_seed: _Optional[int] = ...) -> None: ...

class CloseSessionRequest(_message.Message):
    __slots__ = ("session_id",)
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    session_id: str
    def __init__(self, session_id: _Optional[str] = ...) -> None: ...

class CloseSessionResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InferBatchRequest(_message.Message):
    __slots__ = ("requests",)
    REQUESTS_FIELD_NUMBER: _ClassVar[int]
    requests: _containers.RepeatedCompositeFieldContainer[InferRequest]
    def __init__(self, requests: _Optional[_Iterable[_Union[InferRequest, _Mapping]]] = ...) -> None: ...

class InferBatchResponse(_message.Message):
    __slots__ = ("responses",)
    RESPONSES_FIELD_NUMBER: _ClassVar[int]
    responses: _containers.RepeatedCompositeFieldContainer[InferResponse]
    def __init__(self, responses: _Optional[_Iterable[_Union[InferResponse, _Mapping]]] = ...) -> None: ...
