"""What a policy needs and gives: PolicySpec, the Policy protocol and the compatibility check."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from finevla_runtime.contracts.action import ActionChunk, ActionSpace
from finevla_runtime.contracts.embodiment import Embodiment
from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.observation import Observation


@dataclass(frozen=True)
class CameraSpec:
    """One view the policy reads.

    Attributes:
        name: camera name.
        height, width: pixels the model sees.
        resize: kernel used when the frame has another size: ``area``, ``bilinear``, ``bicubic`` or ``refuse``.
    """

    name: str
    height: int
    width: int
    resize: str = "area"


@dataclass(frozen=True)
class Normalisation:
    """How robot units map to model units, per dimension.

    Attributes:
        mode: per dimension ``q99`` (low = 1st, high = 99th percentile to -1..1), ``min_max``, ``mean_std``
            (low = mean, high = standard deviation), ``binary`` (threshold 0.5, inverse rounds to 0 or 1) or
            ``identity``.
        low, high: statistics per dimension in robot units.
        clip: whether model rows are clipped to [-1, 1] before the inverse; StarVLA changed this between
            revisions, so it is explicit.
    """

    mode: tuple[str, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    clip: bool


@dataclass(frozen=True)
class PromptSpec:
    """How the instruction becomes token ids.

    Attributes:
        template: text with ``{instruction}``.
        max_tokens: ids the model accepts; longer prompts are refused, never cut.
        pad_id: id that fills short prompts on the right.
        lowercase: whether the text is lowered first.
    """

    template: str
    max_tokens: int
    pad_id: int
    lowercase: bool


@dataclass(frozen=True)
class PolicySpec:
    """The machine-checkable contract of one policy.

    Attributes:
        name, version: identity of the model.
        embodiment: body it was trained on.
        framework: ``oft`` or ``gr00t``.
        cameras: views in model order.
        action: the action space of the rows it returns, in the project's layout.
        layout: layout of the model's own rows (key of ``contracts.action.LAYOUTS``).
        state: whether the model reads proprioception.
        normalisation: statistics of the action rows in model layout.
        prompt: how text becomes ids.
        chunk_rows: prediction horizon.
        execution_rows: rows to execute before the next query (execution horizon) the card recommends.
        control_hz: rate of the rows.
        trained_kinds: instruction kinds seen in training.
        fg_share: measured share of training samples with fine-grained text.
    """

    name: str
    version: str
    embodiment: str
    framework: str
    cameras: tuple[CameraSpec, ...]
    action: ActionSpace
    layout: str
    state: bool
    normalisation: Normalisation
    prompt: PromptSpec
    chunk_rows: int
    execution_rows: int
    control_hz: float
    trained_kinds: tuple[InstructionKind, ...]
    fg_share: float

    @property
    def spec_hash(self) -> str:
        """Return the sha256 over the whole spec; client and server compare it."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()


# Errors that are the policy's own doing; every other PolicyError is the server's or the network's.
OWN_FAULTS = ("FV-ACT-003", "FV-SRV-007")


class Policy(Protocol):
    """What every policy does: remote client, engine, scripted fake."""

    def reset(self, instruction_seed: int) -> None:
        """Start a new episode; nothing of the previous one may leak."""
        ...

    def infer(self, observation: Observation) -> ActionChunk:
        """Return one chunk for one observation (PolicyError when it cannot)."""
        ...


@dataclass(frozen=True)
class Issue:
    """One finding of the compatibility check; ``error`` findings forbid motion."""

    severity: str
    code: str
    message: str


def check_compatibility(spec: PolicySpec, embodiment: Embodiment) -> tuple[Issue, ...]:
    """Compare a policy with a body and return coded issues, worst first.

    Train/test mismatches of this kind lower success silently, so every one is named before motion.
    """
    issues: list[Issue] = []
    if spec.embodiment != embodiment.name:
        issues.append(
            Issue(
                "error",
                "FV-CMP-001",
                f"policy {spec.name} was trained on {spec.embodiment!r}, this is {embodiment.name!r}.",
            )
        )
    if spec.action.names != embodiment.action_space.names:
        issues.append(Issue("error", "FV-CMP-002", "the policy's joint order is not the body's joint order."))
    if spec.control_hz != embodiment.control_hz:
        issues.append(
            Issue(
                "error",
                "FV-CMP-003",
                f"policy rows are {spec.control_hz} Hz apart, the body runs at {embodiment.control_hz} Hz.",
            )
        )
    mounted = {camera.name: camera for camera in embodiment.cameras}
    for camera in spec.cameras:
        body = mounted.get(camera.name)
        if body is None:
            issues.append(Issue("error", "FV-CMP-004", f"the body has no camera {camera.name!r}."))
        elif (body.height, body.width) != (camera.height, camera.width):
            severity = "error" if camera.resize == "refuse" else "warning"
            issues.append(
                Issue(
                    severity,
                    "FV-CMP-005",
                    f"{camera.name} delivers {body.height}x{body.width}, the model sees "
                    f"{camera.height}x{camera.width} (resize: {camera.resize}).",
                )
            )
    return tuple(sorted(issues, key=lambda issue: issue.severity))


def raise_for_errors(issues: Sequence[Issue]) -> None:
    """Raise SetupError with all error findings in one message; warnings pass."""
    errors = [issue for issue in issues if issue.severity == "error"]
    if errors:
        listed = " ".join(f"[{issue.code}] {issue.message}" for issue in errors)
        raise SetupError(errors[0].code, f"policy and body do not fit: {listed}")
