"""Keeps the heap of the process: by default glibc returns and re-faults megabytes for every camera message.

Measured with three 480x640 images per request: thousands of page faults and most of the client's CPU time. It is for
processes whose main work is sending or receiving images; a library must not decide it for its caller.
"""

from __future__ import annotations

import ctypes

M_TRIM_THRESHOLD = -1
M_TOP_PAD = -2
M_MMAP_THRESHOLD = -3
KEEP_BYTES = 1 << 30
TOP_PAD_BYTES = 64 << 20


def keep_heap() -> bool:
    """Tell glibc to reuse message buffers; return whether this C library understood (others ignore it)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = ((M_MMAP_THRESHOLD, KEEP_BYTES), (M_TRIM_THRESHOLD, KEEP_BYTES), (M_TOP_PAD, TOP_PAD_BYTES))
    return all(bool(mallopt(name, value)) for name, value in settings)
