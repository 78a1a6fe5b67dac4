"""What a device can do at best: its measured matrix-product rate and copy bandwidth, and the memory in use."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

REPEATS = 5


@dataclass(frozen=True, slots=True)
class Rates:
    """Measured rates of one device.

    Attributes:
        flops_per_s: multiplications and additions of a large matrix product, per second.
        bytes_per_s: bytes read plus bytes written by a large copy, per second.
        product: size and type of the product, for the page.
    """

    flops_per_s: float
    bytes_per_s: float
    product: str

    def floors_s(self, flops: float, moved: float) -> tuple[float, float]:
        """Return the seconds that the operations and the bytes of some work take at best."""
        return flops / self.flops_per_s, moved / self.bytes_per_s


def measure_rates(device: torch.device, dtype: torch.dtype, side: int, copy_bytes: int) -> Rates:
    """Return the best of several products of ``side`` x ``side`` matrices and of several copies."""
    a, b = torch.randn(2, side, side, device=device).to(dtype)
    source = torch.zeros(copy_bytes, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    product_s = best_s(lambda: a @ b, device)
    copy_s = best_s(lambda: target.copy_(source), device)
    return Rates(2 * side**3 / product_s, 2 * copy_bytes / copy_s, f"{side}³ in {str(dtype).removeprefix('torch.')}")


def best_s(work: Callable[[], object], device: torch.device, repeats: int = REPEATS) -> float:
    """Return the shortest of ``repeats`` runs after one that warms up, in seconds."""
    times = []
    for number in range(repeats + 1):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        if number:
            times.append(time.perf_counter() - start)
    return min(times)


def synchronise(device: torch.device) -> None:
    """Wait for everything queued on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def used_bytes(device: torch.device) -> int:
    """Return the memory in use: of the whole GPU, whoever allocated it, or resident memory of this process."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return total - free
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def device_name(device: torch.device) -> str:
    """Return the name of a GPU, or of the processor with the threads torch may use."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    model = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")
    return f"{model or platform.machine()}, {torch.get_num_threads()} of {os.cpu_count()} threads"
