"""`finevla engine`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from finevla_runtime.cli.options import dispatch, parse


@dataclass(frozen=True)
class BuildOptions:
    """Build TensorRT plans from the graphs of a bundle, for `finevla serve --engine tensorrt --engine-dir`."""

    bundle: tyro.conf.Positional[Path]
    """Folder of the policy bundle."""
    out: Path
    """Folder of the engine; an older engine there is replaced."""
    precision: Literal["fp32", "fp16", "bf16"] | None = None
    """What products of vision and prefix with their weights are computed in; everything else stays float32. When left
    out, bf16, or the half precision that the bundle is stored in."""
    max_batch: int = 8
    """Largest batch of one run; the server splits larger ones."""


def engine(argv: Sequence[str]) -> int:
    """Build a TensorRT engine from a policy bundle."""
    return dispatch("finevla engine", {"build": build}, argv)


def build(argv: Sequence[str]) -> int:
    """Build TensorRT plans from the graphs of a bundle."""
    options = parse(BuildOptions, argv, prog="finevla engine build")
    from finevla_runtime.bundle import load_bundle
    from policy_server.engines.engine_record import default_precision
    from policy_server.engines.tensorrt_build import build_engine
    from policy_server.engines.tensorrt_library import tensorrt_library

    library = tensorrt_library()
    bundle = load_bundle(options.bundle)

    def report(line: str) -> None:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()

    precision = options.precision or default_precision(bundle)
    record = build_engine(bundle, options.out, precision, options.max_batch, library, report)
    report(f"built {bundle.spec.name} in {record.precision} with {record.flavour} {record.version} for {record.gpu}")
    report(f"finevla serve {options.bundle} --engine tensorrt --engine-dir {options.out}")
    return 0
