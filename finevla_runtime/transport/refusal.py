"""Why a server refused a request: reasons, stable codes and their gRPC status."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import grpc

from finevla_runtime.contracts.errors import FineVLAError, PolicyError, SetupError
from finevla_runtime.transport import policy_pb2 as pb

DOMAIN = "finevla"
STATUS_TRAILER = "grpc-status-details-bin"
ERROR_INFO_TYPE = "type.googleapis.com/google.rpc.ErrorInfo"


@dataclass(frozen=True)
class Rule:
    """What one reason means.

    Attributes:
        code: stable code.
        status: gRPC status of a unary answer.
        setup: whether the client raises SetupError (before motion) instead of PolicyError.
        remedy: what the caller can do.
    """

    code: str
    status: grpc.StatusCode
    setup: bool
    remedy: str


class Reason(Enum):
    """Every reason a server gives, as ErrorInfo.reason."""

    MALFORMED = "MALFORMED"
    BAD_CAMERA = "BAD_CAMERA"
    BAD_SHAPE = "BAD_SHAPE"
    BAD_DTYPE = "BAD_DTYPE"
    BAD_ENCODING = "BAD_ENCODING"
    NON_FINITE = "NON_FINITE"
    BAD_INSTRUCTION = "BAD_INSTRUCTION"
    BAD_STATE = "BAD_STATE"
    TOO_LARGE = "TOO_LARGE"
    BAD_OBSERVATION = "BAD_OBSERVATION"
    BAD_PREFIX = "BAD_PREFIX"
    UNKNOWN_MODEL = "UNKNOWN_MODEL"
    SPEC_MISMATCH = "SPEC_MISMATCH"
    RTC_UNSUPPORTED = "RTC_UNSUPPORTED"
    UNKNOWN_SESSION = "UNKNOWN_SESSION"
    STALE_EPOCH = "STALE_EPOCH"
    SUPERSEDED = "SUPERSEDED"
    TOO_MANY_SESSIONS = "TOO_MANY_SESSIONS"
    TOO_OLD = "TOO_OLD"
    CANCELLED = "CANCELLED"
    QUEUE_FULL = "QUEUE_FULL"
    WOULD_MISS_DEADLINE = "WOULD_MISS_DEADLINE"
    DRAINING = "DRAINING"
    ACTION_NON_FINITE = "ACTION_NON_FINITE"
    INTERNAL = "INTERNAL"
    UNAUTHENTICATED = "UNAUTHENTICATED"


_S = grpc.StatusCode
_FIX = "Correct the request; GetModelSpec tells what this model reads."
RULES: dict[Reason, Rule] = {
    Reason.MALFORMED: Rule("FV-REQ-001", _S.INVALID_ARGUMENT, False, "Send the messages of policy.proto."),
    Reason.BAD_CAMERA: Rule("FV-REQ-002", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.BAD_SHAPE: Rule("FV-REQ-003", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.BAD_DTYPE: Rule("FV-REQ-004", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.BAD_ENCODING: Rule("FV-REQ-005", _S.INVALID_ARGUMENT, False, "Send raw RGB8 images."),
    Reason.NON_FINITE: Rule("FV-REQ-006", _S.INVALID_ARGUMENT, False, "Check the sensor that gave the value."),
    Reason.BAD_INSTRUCTION: Rule("FV-REQ-007", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.BAD_STATE: Rule("FV-REQ-008", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.TOO_LARGE: Rule("FV-REQ-009", _S.RESOURCE_EXHAUSTED, False, "Send fewer items or smaller images."),
    Reason.BAD_OBSERVATION: Rule("FV-REQ-010", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.BAD_PREFIX: Rule("FV-REQ-011", _S.INVALID_ARGUMENT, False, _FIX),
    Reason.UNKNOWN_MODEL: Rule("FV-SRV-001", _S.NOT_FOUND, True, "GetServerInfo lists the models."),
    Reason.SPEC_MISMATCH: Rule(
        "FV-SRV-002",
        _S.FAILED_PRECONDITION,
        True,
        "Serve the bundle the client was made for, or re-plan with this one.",
    ),
    Reason.RTC_UNSUPPORTED: Rule("FV-SRV-003", _S.FAILED_PRECONDITION, True, "Send requests without an rtc prefix."),
    Reason.QUEUE_FULL: Rule("FV-SRV-004", _S.RESOURCE_EXHAUSTED, False, "Retry later or use fewer clients."),
    Reason.WOULD_MISS_DEADLINE: Rule(
        "FV-SRV-005", _S.DEADLINE_EXCEEDED, False, "Allow more time or load the server less."
    ),
    Reason.DRAINING: Rule("FV-SRV-006", _S.UNAVAILABLE, False, "Connect to another server or wait for a restart."),
    Reason.ACTION_NON_FINITE: Rule("FV-SRV-007", _S.INTERNAL, False, "Hold; check the bundle with its parity batch."),
    Reason.INTERNAL: Rule("FV-SRV-008", _S.INTERNAL, False, "Look up the incident id in the server's log."),
    Reason.UNKNOWN_SESSION: Rule("FV-SES-001", _S.NOT_FOUND, False, "Open a new session."),
    Reason.STALE_EPOCH: Rule("FV-SES-002", _S.ABORTED, False, "Drop it: the episode it belongs to is over."),
    Reason.SUPERSEDED: Rule("FV-SES-003", _S.ABORTED, False, "Wait for the answer to the newer observation."),
    Reason.TOO_MANY_SESSIONS: Rule(
        "FV-SES-004", _S.RESOURCE_EXHAUSTED, True, "Close sessions or raise --max-sessions."
    ),
    Reason.TOO_OLD: Rule("FV-SES-005", _S.DEADLINE_EXCEEDED, False, "Send a fresh observation."),
    Reason.CANCELLED: Rule("FV-SES-006", _S.CANCELLED, False, "Nothing to do: the caller went away."),
    Reason.UNAUTHENTICATED: Rule("FV-SEC-001", _S.UNAUTHENTICATED, True, "Pass the server's token (--token-file)."),
}


class Refusal(PolicyError):
    """A request the server does not answer with a chunk.

    Attributes:
        reason: why.
        rule: code, status and remedy of the reason.
    """

    def __init__(self, reason: Reason, message: str, code: str = "") -> None:
        """Use the code of ``reason`` unless the cause had its own."""
        rule = RULES[reason]
        super().__init__(code or rule.code, message)
        self.reason = reason
        self.rule = rule


def status_of(refusal: Refusal) -> pb.Status:
    """Return the refusal as the wire's Status with one ErrorInfo."""
    status = pb.Status(code=int(refusal.rule.status.value[0]), message=str(refusal))
    info = pb.ErrorInfo(reason=refusal.reason.value, domain=DOMAIN, metadata={"code": refusal.code})
    detail = status.details.add()
    detail.type_url = ERROR_INFO_TYPE
    detail.value = info.SerializeToString()
    return status


def error_of(status: pb.Status) -> FineVLAError:
    """Return the client's exception for a Status: the server's code and message, and what to do.

    A reason this client does not know still becomes a PolicyError with the server's own code.
    """
    reason, code = "", "FV-NET-004"
    for detail in status.details:
        if detail.type_url == ERROR_INFO_TYPE:
            info = pb.ErrorInfo.FromString(detail.value)
            reason, code = info.reason, info.metadata.get("code", code)
    text = status.message.removeprefix(f"{code}: ") or f"status {status.code} without a message."
    if reason not in Reason.__members__:
        return PolicyError(code, f"{text} ({reason or 'no reason given'})")
    rule = RULES[Reason[reason]]
    if rule.setup:
        return SetupError(code, f"{text} {rule.remedy}")
    return Refusal(Reason[reason], f"{text} {rule.remedy}", code)
