"""The token every call must carry when the server has one."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from typing import Any

import grpc

from finevla_runtime.transport.refusal import RULES, STATUS_TRAILER, Reason, Refusal, status_of

# Whoever restarts servers asks for health without knowing the token; the answer says nothing but up or down.
OPEN_SERVICE = "/grpc.health.v1.Health/"


class TokenGate(grpc.ServerInterceptor):  # type: ignore[type-arg]
    """Refuses calls without ``authorization: Bearer TOKEN`` before their body is read."""

    def __init__(self, token: str) -> None:
        """Ask for ``token``."""
        self._wanted = f"Bearer {token}".encode()

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Pass the call on or answer it with UNAUTHENTICATED."""
        if details.method.startswith(OPEN_SERVICE):
            return continuation(details)
        shown = dict(details.invocation_metadata).get("authorization", "")
        shown = shown.encode("utf-8", "replace") if isinstance(shown, str) else shown
        if hmac.compare_digest(shown, self._wanted):
            return continuation(details)
        handler = continuation(details)
        if handler is not None and handler.request_streaming:
            return grpc.stream_stream_rpc_method_handler(_refuse)
        return grpc.unary_unary_rpc_method_handler(_refuse)


def _refuse(request: object, context: grpc.ServicerContext) -> bytes:
    status = status_of(Refusal(Reason.UNAUTHENTICATED, "the token is missing or wrong."))
    context.set_trailing_metadata(((STATUS_TRAILER, status.SerializeToString()),))
    context.abort(RULES[Reason.UNAUTHENTICATED].status, status.message)
    raise AssertionError("abort() raises.")
