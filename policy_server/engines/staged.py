"""Runs the graphs of a bundle in the order of its plan, whatever library executes one graph."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

import numpy as np
import numpy.typing as npt

from finevla_runtime.bundle import Bundle
from finevla_runtime.contracts.arrays import FloatArray
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.graph_plan import GraphPlan
from finevla_runtime.processing.continuation import PREVIOUS, PREVIOUS_WEIGHT
from policy_server.engines.engine import Tensors

POLICY, VISION, PREFIX, HEAD = "policy", "vision", "prefix", "head"
STATIC_PREFIX = "prefix_static_"
# Flow-matching time enters the head as one of 1000 buckets (StarVLA GR00T head, num_timestep_buckets).
TIME_BUCKETS = 1000

T = TypeVar("T")


class GraphRunner(Protocol[T]):
    """Executes single graphs; its tensors ``T`` stay on its device between graphs."""

    def upload(self, array: npt.NDArray[np.generic]) -> T:
        """Return a contiguous array as a tensor of this runner."""
        ...

    def run(self, graph: str, inputs: Mapping[str, T]) -> T:
        """Return the one output of a graph; inputs it does not declare are left out (PolicyError FV-ENG-004)."""
        ...

    def advance(self, x: T, velocity: T, step: float) -> T:
        """Return ``x + step * velocity``."""
        ...

    def blend(self, x: T, target: T, weight: T) -> T:
        """Return ``(1 - weight) * x + weight * target``, which is exactly one of them for weights 0 and 1."""
        ...

    def download(self, tensor: T) -> FloatArray:
        """Return a tensor as float32 in host memory."""
        ...


@dataclass(frozen=True, slots=True)
class Stages:
    """Which graphs make one answer.

    Attributes:
        plan: the bundle's plan.
        policy: one graph from inputs to rows; None where vision, prefix and head are separate.
        cut: whether tokens are cut to the bucket first.
        prefixes: bucket -> prefix graph.
    """

    plan: GraphPlan
    policy: str | None = None
    cut: bool = False
    prefixes: Mapping[int, str] = field(default_factory=dict)

    @property
    def graphs(self) -> tuple[str, ...]:
        """Return every graph that must be loaded."""
        if self.policy is not None:
            return (self.policy,)
        return (VISION, *dict.fromkeys(self.prefixes.values()), HEAD)


def stages_of(bundle: Bundle, available: Collection[str], static_prefix: bool = False, what: str = "graphs") -> Stages:
    """Return what an engine has to run.

    Args:
        bundle: the bundle, for its plan.
        available: names of the graphs or programs the engine could load.
        static_prefix: whether the engine needs a prefix of fixed length; others prefer the one of any length.
        what: what the engine runs, ``graphs`` or ``programs``, for the error.

    Raises:
        SetupError: FV-ENG-001 when one is missing.
    """
    plan = bundle.plan
    if plan.kind == "single":
        stages = Stages(plan, POLICY)
    else:
        fixed = any(name.startswith(STATIC_PREFIX) for name in available)
        any_length = not static_prefix and (PREFIX in available or not fixed)
        prefixes = {size: PREFIX if any_length else f"{STATIC_PREFIX}{size}" for size in plan.buckets}
        stages = Stages(plan, None, True, prefixes)
    missing = [name for name in stages.graphs if name not in available]
    if missing:
        got = ", ".join(sorted(available)) or "none"
        advice = " without --no-programs" if what == "programs" else " without --no-tensorrt" if static_prefix else ""
        raise SetupError(
            "FV-ENG-001",
            f"{bundle.path} lacks the {what} {', '.join(missing)} (it has: {got}); export the bundle again{advice}.",
        )
    return stages


@dataclass(frozen=True, slots=True, eq=False)
class HeldPath:
    """The way of held rows from their noise to the actions of the chunk before.

    Attributes:
        noise, previous: float32[batch, rows, dof].
        weight: float32[batch, rows, 1], how firmly a row is held.
    """

    noise: FloatArray
    previous: FloatArray
    weight: FloatArray

    def at(self, time: float) -> FloatArray:
        """Return where the rows are at a flow time; 0 is noise, 1 the previous actions to the bit."""
        return np.float32(1.0 - time) * self.noise + np.float32(time) * self.previous


class StagedEngine(Generic[T]):
    """Vision, then the prefix once, then the head once or in Euler steps; or one graph for all of it."""

    def __init__(
        self, bundle: Bundle, stages: Stages, runner: GraphRunner[T], precision: str = "stored", max_batch: int = 0
    ) -> None:
        """Run ``stages`` on ``runner``.

        Args:
            bundle: what is run.
            stages: its graphs, as ``stages_of`` chose them.
            runner: executes one graph.
            precision: what the runner computes in.
            max_batch: largest batch of the runner; larger ones are run in parts. 0 means any.
        """
        self.precision = precision
        self._stages = stages
        self._runner = runner
        self._pad_id = bundle.spec.prompt.pad_id
        self._max_batch = max_batch

    @property
    def continues(self) -> bool:
        """Return whether the steps from noise to rows are taken here, where rows can be held on their way."""
        return self._stages.policy is None and self._stages.plan.denoise_steps > 0

    def run(self, inputs: Tensors) -> FloatArray:
        """Return normalised action rows float32[batch, rows, dof] (PolicyError FV-ENG-004 when a graph fails).

        Where the engine ``continues``, inputs may hold the rows to continue and their weights
        (``processing.continuation``); rows of weight 0 are not held, and with weights of 0 alone nothing else is done
        than without these inputs.
        """
        batch = len(next(iter(inputs.values())))
        size = self._max_batch or batch
        parts = [
            self._answer({name: value[first : first + size] for name, value in inputs.items()})
            for first in range(0, batch, size)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _answer(self, inputs: Tensors) -> FloatArray:
        """Return the rows of a batch the runner can hold."""
        stages, runner = self._stages, self._runner
        arrays = dict(inputs)
        held = _held(arrays.pop(PREVIOUS, None), arrays.pop(PREVIOUS_WEIGHT, None))
        if stages.cut:
            arrays["tokens"] = cut_tokens(arrays["tokens"], stages.plan, self._pad_id)
        tensors = {name: runner.upload(np.ascontiguousarray(value)) for name, value in arrays.items()}
        if stages.policy is not None:
            return runner.download(runner.run(stages.policy, tensors))
        tensors["image_embeds"] = runner.run(VISION, tensors)
        tensors["hidden"] = runner.run(stages.prefixes[arrays["tokens"].shape[1]], tensors)
        if stages.plan.denoise_steps == 0:
            return runner.download(runner.run(HEAD, tensors))
        path = None if held is None else HeldPath(np.asarray(arrays["noise"], np.float32), *held)
        return runner.download(self._denoise(tensors, len(arrays["tokens"]), path))

    def _denoise(self, tensors: Mapping[str, T], batch: int, path: HeldPath | None) -> T:
        """Integrate the head's velocity from the noise to the rows; the prefix is not run again.

        Rows of a chunk before are continued without gradients: after every step they are pulled to where the straight
        path from their noise to the previous actions is at that time, as far as their weight says. That is inpainting
        with the soft mask of real-time chunking, not its guidance (algorithm 1 of Black, Galliker and Levine 2025):
        guidance follows a vector-Jacobian product through the head, which a graph does not give, so that the held rows
        also correct the others. Here they reach the others through the head's attention alone, and a soft row is
        pulled once per step, so that it is held more firmly than its weight.
        """
        steps, runner = self._stages.plan.denoise_steps, self._runner
        x = tensors["noise"]
        weight = None if path is None else runner.upload(path.weight)
        for step in range(steps):
            # The head reads int(1000 t), computed as StarVLA does, for t = 0, 1/steps, …
            time = np.full(batch, int(step / float(steps) * TIME_BUCKETS), np.int64)
            velocity = runner.run(HEAD, {**tensors, "x": x, "time": runner.upload(time)})
            x = runner.advance(x, velocity, 1.0 / steps)
            if path is not None and weight is not None:
                x = runner.blend(x, runner.upload(path.at((step + 1) / steps)), weight)
        return x


def _held(
    previous: npt.NDArray[np.generic] | None, weight: npt.NDArray[np.generic] | None
) -> tuple[FloatArray, FloatArray] | None:
    """Return rows and weights float32[batch, rows, 1]; None when no row of the batch is held."""
    if previous is None or weight is None or not weight.any():
        return None
    return np.asarray(previous, np.float32), np.asarray(weight, np.float32)[:, :, None]


def cut_tokens(tokens: npt.NDArray[np.generic], plan: GraphPlan, pad_id: int) -> npt.NDArray[np.generic]:
    """Return tokens int64[batch, bucket]: right padding that no prompt of the batch needs is left out.

    Every stage is causal or masks padding, so the answer does not depend on the bucket.
    """
    used = np.flatnonzero((tokens != pad_id).any(axis=0))
    length = int(used[-1]) + 1 if used.size else 1
    return tokens[:, : plan.bucket(length)]
