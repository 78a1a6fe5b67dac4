"""Runs freshly written graphs with ONNX Runtime, to hold them against torch before they become a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from finevla_runtime.contracts.graph_plan import GraphPlan
from training.export.onnx import Inputs

TIME_BUCKETS = 1000


def run_graphs(folder: Path, plan: GraphPlan, inputs: Inputs, pad_id: int) -> npt.NDArray[np.float32]:
    """Return float32[B, rows, dof] of the graphs in ``folder``, every prompt by itself in its own bucket."""
    graphs = {name: _Graph(folder / f"{name}.onnx") for name in ("vision", "prefix", "head")}
    count = len(next(iter(inputs.values())))
    rows = [_one(graphs, plan, {n: np.asarray(v)[i : i + 1] for n, v in inputs.items()}, pad_id) for i in range(count)]
    return np.concatenate(rows)


def _one(graphs: dict[str, _Graph], plan: GraphPlan, inputs: Inputs, pad_id: int) -> npt.NDArray[np.float32]:
    used = int(np.flatnonzero(np.asarray(inputs["tokens"])[0] != pad_id)[-1]) + 1
    tokens = np.asarray(inputs["tokens"])[:, : plan.bucket(used)]
    embeds = graphs["vision"].run(inputs)
    hidden = graphs["prefix"].run({"tokens": tokens, "image_embeds": embeds})
    feed: Inputs = {**inputs, "tokens": tokens, "hidden": hidden}
    if not plan.denoise_steps:
        return graphs["head"].run(feed)
    x = np.asarray(inputs["noise"], dtype=np.float32)
    for step in range(plan.denoise_steps):
        time = np.full(len(x), step * TIME_BUCKETS // plan.denoise_steps, dtype=np.int64)
        x = x + graphs["head"].run({**feed, "x": x, "time": time}) / np.float32(plan.denoise_steps)
    return x


class _Graph:
    def __init__(self, path: Path) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def run(self, feed: Inputs) -> npt.NDArray[np.float32]:
        found = self._session.run(None, {name: feed[name] for name in self._inputs})[0]
        return np.asarray(found, dtype=np.float32)
