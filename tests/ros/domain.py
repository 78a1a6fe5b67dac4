"""A DDS domain for this test process alone, however many run on the machine."""

from __future__ import annotations

import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# Ports of higher domains lie among those that the system hands out.
DOMAINS = range(1, 101)


def take(domain: int) -> tuple[int, int] | None:
    """Lock a domain and return it with the open lock, which the system releases when this process ends; or None."""
    lock = os.open(Path(tempfile.gettempdir(), f"finevla-ros-domain-{domain}.lock"), os.O_CREAT | os.O_RDWR)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return domain, lock


def remove_left_memory() -> None:
    """Remove the shared memory that killed nodes left behind; what a living process holds stays."""
    subprocess.run(["fastdds", "shm", "clean"], check=True, capture_output=True)


@contextmanager
def own_domain(logs: Path) -> Iterator[int]:
    """Hold a domain that nobody else holds; this process and its children are in it, on this machine only."""
    domain, lock = next(taken for taken in map(take, DOMAINS) if taken)
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ["ROS_LOG_DIR"] = str(logs)
    os.environ["RCUTILS_COLORIZED_OUTPUT"] = "0"
    remove_left_memory()
    try:
        yield domain
    finally:
        remove_left_memory()
        os.close(lock)
