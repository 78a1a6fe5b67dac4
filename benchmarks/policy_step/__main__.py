"""Measures one policy step per engine and batch size beside plain Hugging Face; writes a Markdown table.

`python -m benchmarks.policy_step [--size tiny|4b] [--device cpu|cuda] [--framework oft|gr00t] [--engines …]`, or with
`--bundle BUNDLE` the engines of an exported bundle alone.
"""

from __future__ import annotations

import gc
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from benchmarks.policy_step.counts import Work, step_products, work_of
from benchmarks.policy_step.page import Result, page
from benchmarks.policy_step.rates import device_name, measure_rates, used_bytes
from benchmarks.policy_step.sides import Missing, Side, engine_sides, interleave, torch_sides
from benchmarks.policy_step.subject import SIZES, Arrays, Subject
from benchmarks.policy_step.subject_bundle import build_subject_engine, write_subject_bundle
from benchmarks.policy_step.train_step import measure_training
from finevla_runtime.bundle import Bundle, load_bundle
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.errors import SetupError
from policy_server.engines.engine import EngineOptions

# Large enough to reach a device's best rate, small enough to be done in a moment.
PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}
TENSORRT = "tensorrt"
COPY_BYTES = {"cpu": 256 << 20, "cuda": 4 << 30}


@dataclass(frozen=True)
class StepOptions:
    """Measure one policy step, from observation tensors to rows, on every engine that runs here."""

    out: Path = Path("docs/results")
    """Folder of the table."""
    size: Literal["tiny", "4b"] = "tiny"
    """Random weights, tiny or at the sizes of Qwen3.5-4B."""
    device: Literal["cpu", "cuda"] = "cpu"
    """Where to run."""
    framework: tuple[Literal["oft", "gr00t"], ...] = ("oft", "gr00t")
    """Heads to measure."""
    engines: tuple[str, ...] = ("onnxruntime", "torch")
    """Engines to measure; ENGINE:PRECISION for another than the stored precision."""
    precision: Literal["float32", "float16", "bfloat16"] = "float32"
    """Precision of the bundle that engines of a policy with random weights get."""
    bundle: Path | None = None
    """Measure the engines of this bundle instead of a policy with random weights."""
    engine_dir: Path | None = None
    """Built TensorRT engine of that bundle; that of a policy with random weights is built on the way."""
    batches: tuple[int, ...] = (1, 2, 8)
    """Observations per step."""
    rounds: int = 10
    """Rounds per batch size; the sides alternate."""
    steps: int = 5
    """Steps of one side per round."""
    compile: bool = True
    """Measure torch.compile too; its first run takes a minute or more."""
    train_batch: int = 0
    """Also measure a training step of so many samples; 0 for none."""
    threads: int = 0
    """CPU threads; 0 for all."""


def main(argv: Sequence[str]) -> int:
    """Measure and write the table."""
    options = parse(StepOptions, argv, prog="python -m benchmarks.policy_step")
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.bundle is not None and options.precision != "float32":
        raise SystemExit("--precision is for a policy with random weights; a --bundle has its own.")
    if options.bundle is None and options.engine_dir is not None:
        raise SystemExit("--engine-dir belongs to a --bundle; other engines are built here.")
    device = torch.device(options.device)
    if options.bundle is not None:
        results = [measure_bundle(load_bundle(options.bundle), options, device)]
    else:
        results = [measure_subject(framework, options, device) for framework in options.framework]
    command = " ".join(["python -m benchmarks.policy_step", *argv])
    text = page(results, command, device_name(device), _notes(options))
    options.out.mkdir(parents=True, exist_ok=True)
    told = [v for v in (options.size, options.precision) if v not in ("tiny", "float32")]
    (options.out / ("_".join(["policy_step", *told]) + ".md")).write_text(text, encoding="utf-8")
    sys.stdout.write(text)
    return 0


def measure_bundle(bundle: Bundle, options: StepOptions, device: torch.device) -> Result:
    """Measure the engines of a bundle on its own golden batch, repeated to the sizes asked for."""
    batches = {size: _repeated(bundle, size) for size in options.batches}
    found = engine_sides(bundle, _engines(options), device, batches[max(batches)])
    sides = [side for side in found if isinstance(side, Side)]
    interleave(sides, batches, options.rounds, options.steps, device)
    missing = [side for side in found if isinstance(side, Missing)]
    return Result(f"Bundle {bundle.spec.name} {bundle.spec.version}", sides, missing, {})


def measure_subject(framework: str, options: StepOptions, device: torch.device) -> Result:
    """Measure a policy with random weights; floors and the training step where they are asked for or on a GPU."""
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    before = used_bytes(device)
    subject = Subject(SIZES[options.size], framework, device, dtype)
    batches = {size: subject.inputs(size) for size in options.batches}
    base = max(0, used_bytes(device) - before)
    sides = torch_sides(subject, base, batches[max(batches)], options.compile)
    with tempfile.TemporaryDirectory() as folder:
        found = _subject_engines(subject, options, Path(folder), batches[max(batches)])
    sides += [side for side in found if isinstance(side, Side)]
    missing = [side for side in found if isinstance(side, Missing)]
    interleave(sides, batches, options.rounds, options.steps, device)
    rates = measure_rates(device, dtype, PRODUCT_SIDE[device.type], COPY_BYTES[device.type])
    work = {size: floor_of(subject, size) for size in options.batches}
    training = measure_training(subject, rates, options.train_batch) if options.train_batch else None
    parameters = sum(parameter.numel() for parameter in subject.policy.parameters())
    title = f"{framework}, {options.size}, {parameters / 1e6:.1f} M parameters, {subject.length} tokens, {dtype}"
    del subject
    gc.collect()
    return Result(title.replace("torch.", ""), sides, missing, work, rates, training)


def _subject_engines(subject: Subject, options: StepOptions, folder: Path, probe: Arrays) -> list[Side | Missing]:
    """Export the subject and load the engines asked for; one that does not run here comes back with its reason."""
    engines = _engines(options)
    if not engines:
        return []
    bundle = write_subject_bundle(subject, folder / "bundle", options.precision, TENSORRT in engines)
    missing: list[Side | Missing] = []
    if TENSORRT in engines:
        try:
            built = build_subject_engine(bundle, folder / "engine", max(options.batches))
            engines[TENSORRT] = replace(engines[TENSORRT], folder=built)
        except SetupError as error:
            missing.append(Missing(TENSORRT, str(error)))
            del engines[TENSORRT]
    return [*engine_sides(bundle, engines, subject.device, probe), *missing]


def floor_of(subject: Subject, batch: int) -> Work:
    """Return what a step of the subject needs at least, in the precision of its backbone."""
    half_bytes = next(subject.policy.backbone.parameters()).element_size()
    return work_of(step_products(subject.policy, batch, subject.length), half_bytes)


def _engines(options: StepOptions) -> dict[str, EngineOptions]:
    device = "" if options.device == "cpu" else "cuda:0"
    found = {}
    for entry in options.engines:
        name, _, precision = entry.partition(":")
        found[name] = EngineOptions(options.threads, precision or "stored", options.engine_dir, device)
    return found


def _repeated(bundle: Bundle, size: int) -> Arrays:
    return {
        name: np.ascontiguousarray(np.resize(value, (size, *value.shape[1:])))
        for name, value in bundle.parity.inputs.items()
    }


def _notes(options: StepOptions) -> str:
    if options.bundle is not None:
        return "Inputs are the bundle's golden batch, repeated to the batch size."
    return (
        "Weights are random; the step's time does not depend on them. The Hugging Face side gets its patches cut by "
        "our module on the\ndevice, which is faster than its image processor. Floors count what the arithmetic needs "
        "at least: causal pairs, the\nrecurrent delta rule, every weight read once."
    )


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
