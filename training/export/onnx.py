"""A checkpoint to a policy bundle: one ONNX graph, its golden batch and where it comes from."""

from __future__ import annotations

import json
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from finevla_runtime.bundle import Bundle, Parity, write_bundle
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json
from training.checkpoint import Checkpoint, load_checkpoint, load_weights
from training.data.mixture import MixtureSettings
from training.policies.tabletop_policy import TabletopPolicy
from training.recipes import LossSettings, TabletopRecipe
from training.tabletop_task import build_policy
from training.tokenizer import vocabulary_size

OPSET = 20
ATOL = 1e-4
Inputs = dict[str, npt.NDArray[np.generic]]


@dataclass(frozen=True)
class Exported:
    """A written bundle and how far its graph is from the torch network.

    Attributes:
        bundle: the verified bundle.
        difference: largest absolute difference on the golden batch, normalised units.
        graph_bytes: size of the graph.
    """

    bundle: Bundle
    difference: float
    graph_bytes: int


class _Act(nn.Module):
    """The exported part of the policy: no auxiliary readings."""

    def __init__(self, policy: TabletopPolicy) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, *inputs: Tensor) -> Tensor:
        """Return normalised rows float[B, rows, 14] for three views, tokens and the noise if there is any."""
        return self.policy.act(*inputs)


def export_bundle(checkpoint: Path, out: Path, golden: Inputs | None = None) -> Exported:
    """Export the averaged weights of a checkpoint.

    Args:
        checkpoint: file written by training.
        out: folder of the bundle; an older bundle there is replaced atomically.
        golden: real frames and tokens for the parity batch; random ones when None.

    Raises:
        SetupError: FV-TRN-009, FV-TRN-010, FV-BUN-006; FV-TRN-015 when ONNX Runtime and torch disagree.
    """
    read = load_checkpoint(checkpoint)
    spec = spec_from_json(read.meta["spec"])
    policy = restore_policy(read, spec)
    inputs = golden if golden is not None else _random_inputs(spec, vocabulary_size(read.meta["tokenizer"]))
    with torch.inference_mode():
        said = policy.act(*(torch.from_numpy(np.asarray(value)) for value in inputs.values())).numpy()
    graph = export_graph(policy, spec)
    found = run_graph(graph, inputs)
    difference = float(np.abs(found - said).max())
    if not difference <= ATOL:
        raise SetupError(
            "FV-TRN-015", f"ONNX Runtime differs from torch by {difference:.2g}, at most {ATOL:g} is allowed."
        )
    parity = Parity(inputs, {"actions": np.asarray(said, dtype=np.float32)}, ATOL)
    bundle = write_bundle(
        out, spec, {"policy": graph}, read.meta["tokenizer"], parity, _provenance(read, policy.parameter_count())
    )
    return Exported(bundle, difference, len(graph))


def restore_policy(checkpoint: Checkpoint, spec: PolicySpec) -> TabletopPolicy:
    """Return the policy of a checkpoint with its averaged weights, in evaluation mode."""
    recipe = read_recipe(checkpoint.meta["recipe"])
    factors = len(json.loads(checkpoint.meta["factors"]))
    policy = build_policy(recipe, vocabulary_size(checkpoint.meta["tokenizer"]), factors, spec)
    load_weights(checkpoint, "ema", policy)
    return policy.eval()


def read_recipe(text: str) -> TabletopRecipe:
    """Return the recipe a checkpoint was trained with (FV-TRN-009 when this version does not know its keys)."""
    try:
        entry = json.loads(text)
        entry["cameras"] = tuple(entry["cameras"])
        entry["mixture"] = MixtureSettings(**entry["mixture"])
        entry["loss"] = LossSettings(**entry["loss"])
        return TabletopRecipe(**entry)
    except (ValueError, TypeError, KeyError) as error:
        raise SetupError("FV-TRN-009", f"the checkpoint's recipe cannot be read: {error}") from error


def export_graph(policy: TabletopPolicy, spec: PolicySpec) -> bytes:
    """Return the ONNX file: uint8 frames and tokens in, ``actions`` out, dynamic batch."""
    import onnx

    # A batch of two keeps the exporter from treating the batch axis as the constant one.
    inputs = _random_inputs(spec, 10, batch=2)
    names, sample = list(inputs), tuple(torch.from_numpy(v) for v in inputs.values())
    batch = torch.export.Dim("batch", min=1, max=4096)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "policy.onnx"
        torch.onnx.export(
            _Act(policy).eval(),
            sample,
            str(path),
            input_names=names,
            output_names=["actions"],
            dynamic_shapes=(tuple({0: batch} for _ in names),),
            opset_version=OPSET,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        model = onnx.load(str(path))
    for node in model.graph.node:
        # Stack traces of the exporting machine have no place in a published file.
        del node.metadata_props[:]
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())


def run_graph(graph: bytes, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Return ``actions`` of a graph run by ONNX Runtime on one CPU thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(["actions"], inputs)[0], dtype=np.float32)


def _random_inputs(spec: PolicySpec, vocabulary: int, batch: int = 4) -> Inputs:
    rng = np.random.default_rng(0)
    inputs: Inputs = {
        f"image.{c.name}": rng.integers(0, 256, (batch, c.height, c.width, 3), dtype=np.uint8) for c in spec.cameras
    }
    tokens = rng.integers(1, vocabulary, (batch, spec.prompt.max_tokens), dtype=np.int64)
    tokens[:, spec.prompt.max_tokens // 2 :] = spec.prompt.pad_id
    inputs["tokens"] = tokens
    if spec.framework == "gr00t":
        inputs["noise"] = rng.standard_normal((batch, spec.chunk_rows, spec.action.size), dtype=np.float32)
    return inputs


def _provenance(checkpoint: Checkpoint, parameters: int) -> Mapping[str, str]:
    recipe = read_recipe(checkpoint.meta["recipe"])
    done = checkpoint.progress
    return {
        "recipe": checkpoint.meta["recipe"],
        "recipe_digest": recipe.digest,
        "seed": str(recipe.seed),
        "dataset_digest": checkpoint.meta["dataset_digest"],
        "episodes": checkpoint.meta["episodes"],
        "training_samples": str(done.samples),
        "training_steps": str(done.step),
        "training_minutes": f"{done.trained_s / 60:.1f}",
        "fg_share": f"{done.fg_share:.4f}",
        "parameters": str(parameters),
        "torch": torch.__version__,
        "git_commit": _git_commit(),
    }


def _git_commit() -> str:
    """Return the commit of the checkout, or ``unknown`` in an installed wheel."""
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()
