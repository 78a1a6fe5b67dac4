"""Runs freshly written stages, to hold them against the network before they become a bundle."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from finevla_runtime.contracts.graph_plan import GraphPlan
from training.export.onnx import Inputs
from training.export.stages import HEAD, PREFIX, STATIC_PREFIX, VISION, Stage
from training.export.torch_operations import TorchOperations
from training.policies.flow_matching import TIME_BUCKETS

Rows = npt.NDArray[np.float32]
# Runs the stage of a name on the values it declares among those given, and returns its one output.
Execute = Callable[[str, Inputs], Rows]
ERRORS_ONLY = 3


def largest_difference(
    execute: Execute, stages: Collection[str], plan: GraphPlan, inputs: Inputs, wanted: Rows, pad_id: int
) -> float:
    """Return the largest absolute difference of any language stage's answers from those wanted.

    Every prompt runs in every bucket that holds it, through the stage of any length and the one of that bucket.

    Args:
        execute: runs one stage.
        stages: names of what there is to run.
        plan: of the bundle.
        inputs: model inputs with a batch axis.
        wanted: float32[B, rows, dof].
        pad_id: fills prompts on the right.
    """
    tokens, worst = np.asarray(inputs["tokens"]), 0.0
    used = tokens.shape[1] - np.argmax(tokens[:, ::-1] != pad_id, axis=1)
    for size in plan.buckets:
        rows = used <= size
        cut: Inputs = {name: np.asarray(value)[rows] for name, value in inputs.items()}
        cut["tokens"] = tokens[rows, :size]
        for prefix in (PREFIX, f"{STATIC_PREFIX}{size}"):
            if rows.any() and prefix in stages:
                off = np.abs(_rows(execute, plan, cut, prefix) - wanted[rows])
                # A graph that gives no number is further off than any that does.
                worst = max(worst, float(np.nan_to_num(off, nan=np.inf).max()))
    return worst


def onnxruntime_execute(folder: Path) -> Execute:
    """Return a function that runs ``folder/<stage>.onnx`` on one CPU thread.

    Sessions are not kept, because each may hold the weights a second time.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = ERRORS_ONLY

    def execute(name: str, values: Inputs) -> Rows:
        path = str(folder / f"{name}.onnx")
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        feed = {value.name: values[value.name] for value in session.get_inputs()}
        return np.asarray(session.run(None, feed)[0], dtype=np.float32)

    return execute


def torch_execute(stages: Sequence[Stage]) -> Execute:
    """Return a function that runs the definitions themselves, for types that ONNX Runtime lacks on the CPU."""
    named = {stage.name: stage for stage in stages}

    def execute(name: str, values: Inputs) -> Rows:
        stage = named[name]
        feed = {port.name: torch.from_numpy(np.ascontiguousarray(values[port.name])) for port in stage.inputs}
        with torch.inference_mode():
            return np.asarray(stage.build(TorchOperations(), feed).numpy(), dtype=np.float32)

    return execute


def _rows(execute: Execute, plan: GraphPlan, inputs: Inputs, prefix: str) -> Rows:
    """Return rows float32[B, rows, dof] of inputs whose tokens have a length that ``prefix`` takes."""
    values = dict(inputs)
    values["image_embeds"] = execute(VISION, values)
    values["hidden"] = execute(prefix, values)
    if not plan.denoise_steps:
        return execute(HEAD, values)
    x = np.asarray(values["noise"], dtype=np.float32)
    for step in range(plan.denoise_steps):
        time = np.full(len(x), step * TIME_BUCKETS // plan.denoise_steps, dtype=np.int64)
        x = x + execute(HEAD, {**values, "x": x, "time": time}) / np.float32(plan.denoise_steps)
    return x
