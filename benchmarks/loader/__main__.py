"""Samples per second of the loader alone against the appetite of a training step.

`python -m benchmarks.loader [--appetite SAMPLES_PER_S] [--out docs/results]` writes loader.md. Datasets are made on the
fly; every sample has three views, its text, its state and 16 target rows.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.loader.made_dataset import VIEWS, Setting, made_processor, write_made_dataset
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import SteadyClock, elapsed_s, process_cpu_s, wall_clock_utc
from training.data.batch import BatchBuilder
from training.data.frame_reader import FrameReader
from training.data.instruction_mixture import InstructionMixture, MixturePlan
from training.data.loader import PrefetchingLoader
from training.data.vla_dataset import DataSource, VLADataset, open_vla_dataset

OUT = Path("docs/results")
PAPER, TABLETOP = (480, 640), (96, 96)
SETTINGS = (
    Setting("480x640 video", "video", PAPER, 224),
    Setting("480x640 PNG", "png", PAPER, 224),
    Setting("96x96 PNG", "png", TABLETOP),
)
# One H200 at 4 billion parameters: 8 FLOPs per parameter and token (forward, backward, recomputed activations), about
# 300 tokens a sample (192 of images), 45 % of 700 TFLOP/s: 315e12 / (8 * 4e9 * 300). An estimate, not a measurement.
BIG_STEP_SAMPLES_S = 33.0
APPETITE_BATCH, APPETITE_STEPS = 32, 6


@dataclass(frozen=True)
class LoaderOptions:
    """Measure how fast batches are prepared, and whether training would wait for them."""

    appetite: float = 0.0
    """Samples per second that the training step eats; 0 measures the tabletop policy's step on one core here."""
    batch: int = 16
    """Samples per batch."""
    batches: int = 12
    """Batches per measurement."""
    workers: tuple[int, ...] = (1, 2)
    """Numbers of threads to compare."""
    cache_mb: tuple[int, ...] = (0, 512)
    """Sizes of the frame cache to compare, megabytes."""
    episodes: int = 4
    """Episodes per dataset."""
    length: int = 60
    """Control steps per episode."""
    out: Path = OUT
    """Folder of the table."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """One measurement.

    Attributes:
        setting: which frames.
        workers: threads.
        cache_mb: capacity of the cache.
        per_s: samples per second of wall time.
        cpu_ms: CPU milliseconds of the process per sample.
        hits: share of frames found in the cache.
        peak_mb: most bytes the cache held.
    """

    setting: Setting
    workers: int
    cache_mb: int
    per_s: float
    cpu_ms: float
    hits: float
    peak_mb: float

    @property
    def per_core(self) -> float:
        """Return the samples that one free core prepares per second."""
        return 1e3 / self.cpu_ms


def measure(dataset: VLADataset, setting: Setting, workers: int, cache_mb: int, options: LoaderOptions) -> Throughput:
    """Prepare batches as fast as the loader can, the first two not counted."""
    clock, reader = SteadyClock(), FrameReader(cache_mb << 20)
    mixture = InstructionMixture([dataset], MixturePlan(options.batch, 0.5), seed=0)
    builder = BatchBuilder(mixture, made_processor(setting), reader)
    with PrefetchingLoader(builder.build, workers, last_step=options.batches + 2) as loader:
        for step in range(2):
            loader.item(step)
        begin_ns, begin_cpu_s = clock.now_ns(), process_cpu_s()
        for step in range(2, options.batches + 2):
            loader.item(step)
        wall_s, cpu_s = elapsed_s(clock, begin_ns), process_cpu_s() - begin_cpu_s
    reader.close()
    samples, looked = options.batch * options.batches, reader.cache.hits + reader.cache.misses
    return Throughput(
        setting,
        workers,
        cache_mb,
        samples / wall_s,
        1e3 * cpu_s / samples,
        reader.cache.hits / max(1, looked),
        reader.cache.peak_bytes / 2**20,
    )


def measured_appetite() -> float:
    """Return the samples that forward, backward and update of the tabletop policy eat per CPU second."""
    import torch

    from training.policies.tabletop_oft import TabletopOFT, TabletopOFTConfig

    torch.set_num_threads(1)
    torch.manual_seed(0)
    policy = TabletopOFT(TabletopOFTConfig(vocabulary=64))
    optimiser = torch.optim.AdamW(policy.parameters())
    high = torch.randint(0, 255, (APPETITE_BATCH, 96, 96, 3), dtype=torch.uint8)
    left, right = (torch.randint(0, 255, (APPETITE_BATCH, 64, 64, 3), dtype=torch.uint8) for _ in range(2))
    tokens, wanted = torch.randint(1, 64, (APPETITE_BATCH, 48)), torch.zeros(APPETITE_BATCH, 16, 14)
    begin_cpu_s = process_cpu_s()
    for step in range(APPETITE_STEPS + 1):
        if step == 1:
            begin_cpu_s = process_cpu_s()
        optimiser.zero_grad()
        torch.nn.functional.l1_loss(policy(high, left, right, tokens).actions, wanted).backward()
        optimiser.step()
    return APPETITE_STEPS * APPETITE_BATCH / (process_cpu_s() - begin_cpu_s)


def page(found: Sequence[Throughput], appetite: float, source: str, options: LoaderOptions) -> str:
    """Return the result page."""
    rows = "\n".join(
        f"| {t.setting.name} to {t.setting.sizes[0]}x{t.setting.sizes[1]} | {t.workers} | {t.cache_mb} | "
        f"{t.per_s:.0f} | {t.cpu_ms:.1f} | {100 * t.hits:.0f} % | {t.peak_mb:.0f} | {t.per_core / appetite:.1f} | "
        f"{BIG_STEP_SAMPLES_S / t.per_core:.2f} |"
        for t in found
    )
    return f"""# The loader alone

`python -m benchmarks.loader`, {wall_clock_utc()[:10]}, {os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} at
the end. {options.batches} batches of {options.batch} samples, three views each, {options.episodes} episodes of
{options.length} steps, frames drawn at random, a key frame every second frame in videos.

| frames | threads | cache MB | samples/s | CPU ms | cache hits | cache peak MB | one core / appetite | cores for 4B |
|---|---|---|---|---|---|---|---|---|
{rows}

- Appetite of a training step: {appetite:.0f} samples/s, {source}.
  `one core / appetite` above 1 means that one core prepares more than the step eats.
- `cores for 4B`: cores that feed one H200 at {BIG_STEP_SAMPLES_S:.0f} samples/s, an estimate for a 4B policy whose
  arithmetic stands in the benchmark's source.
- A cache of 0 MB stands for a dataset far larger than the cache: every frame is decoded. Samples/s is wall time and
  falls with the machine's load; CPU time does not, so the last two columns use it.
"""


def main(argv: Sequence[str]) -> int:
    """Measure and write the page."""
    options = parse(LoaderOptions, argv, prog="python -m benchmarks.loader")
    found = []
    with tempfile.TemporaryDirectory(prefix="finevla-bench-") as folder:
        for number, setting in enumerate(SETTINGS):
            root = Path(folder) / f"set{number}"
            write_made_dataset(root, setting, options.episodes, options.length)
            dataset = open_vla_dataset(DataSource(root), VIEWS, Path(folder) / "cache")
            for cache_mb in options.cache_mb:
                found += [measure(dataset, setting, workers, cache_mb, options) for workers in options.workers]
    given = options.appetite > 0
    source = "as given" if given else f"measured: the tabletop policy's step, batch {APPETITE_BATCH}, on one core"
    text = page(found, options.appetite if given else measured_appetite(), source, options)
    options.out.mkdir(parents=True, exist_ok=True)
    (options.out / "loader.md").write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
