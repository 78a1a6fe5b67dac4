"""The loop of one measuring client; needs nothing but Python, because both sides' environments run it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

WARM_UP = 5


def serve_rounds(ask: Callable[[int], None]) -> None:
    """Warm up, then for every line ``SECONDS`` on standard input ask for so long and print one JSON line.

    The line holds the latencies in milliseconds and the CPU seconds of this process.
    """
    step = 0
    for _ in range(WARM_UP):
        ask(step)
        step += 1
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    for line in sys.stdin:
        end = time.perf_counter() + float(line)
        cpu = time.process_time()
        latencies = []
        while time.perf_counter() < end:
            start = time.perf_counter()
            ask(step)
            latencies.append((time.perf_counter() - start) * 1e3)
            step += 1
        sys.stdout.write(json.dumps({"ms": latencies, "cpu_s": time.process_time() - cpu}) + "\n")
        sys.stdout.flush()
