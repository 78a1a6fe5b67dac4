"""The border no traceback, path or internal crosses: callers get an incident id, the log gets the cause."""

from __future__ import annotations

import logging
import secrets

from finevla_runtime.transport.refusal import Reason, Refusal

LOG = logging.getLogger(__name__)


def incident(error: BaseException) -> Refusal:
    """Log an unexpected error under a fresh id and return the refusal that names only the id."""
    number = secrets.token_hex(6)
    LOG.error("incident %s", number, exc_info=error)
    return Refusal(Reason.INTERNAL, f"the server failed on this request; incident {number} in its log.")
