"""A trained or imported policy on a vision-language backbone, ready to be exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from finevla_runtime.contracts.policy import PolicySpec
from training.checkpoint import Checkpoint
from training.importer.imported_checkpoint import is_imported, load_imported
from training.importer.imported_policy import build_imported
from training.importer.plan_json import plan_from_json
from training.policies.policy import VLAPolicy
from training.trained_policy import load_trained


@dataclass(frozen=True, eq=False)
class PolicySource:
    """What an export starts from.

    Attributes:
        policy: the network in evaluation mode, no gradients.
        spec: its contract.
        tokenizer_json: text of ``tokenizer.json``.
        denoise_steps: Euler steps of a flow-matching head, 0 for a regression head.
        provenance: where it comes from.
    """

    policy: VLAPolicy
    spec: PolicySpec
    tokenizer_json: str
    denoise_steps: int
    provenance: Mapping[str, str]


def read_policy(path: Path) -> PolicySource:
    """Read a folder of ``finevla import``, a run folder of ``finevla train``, or one checkpoint folder in it.

    Raises:
        SetupError: FV-TRN-* and FV-IMP-* for unreadable folders and weights that are not the plan's.
    """
    if is_imported(path):
        imported = load_imported(path)
        plan = plan_from_json(imported.plan_json, str(path))
        policy = build_imported(imported)
        told: Mapping[str, str] = {**imported.provenance, "checkpoint": "imported"}
        return _source(policy, imported.spec, imported.tokenizer_json, plan.denoise_steps, told)
    trained = load_trained(path)
    told = _provenance(trained.checkpoint)
    return _source(trained.policy, trained.spec, trained.tokenizer_json, trained.plan.denoise_steps, told)


def _source(
    policy: VLAPolicy, spec: PolicySpec, tokenizer: str, steps: int, provenance: Mapping[str, str]
) -> PolicySource:
    steps = steps if spec.framework == "gr00t" else 0
    return PolicySource(policy.eval().requires_grad_(False), spec, tokenizer, steps, provenance)


def _provenance(read: Checkpoint) -> Mapping[str, str]:
    done = read.progress
    return {
        "recipe": read.meta["recipe"],
        "data": read.meta["data"],
        "mixture": read.meta["mixture"],
        "episodes": read.meta["episodes"],
        "training_samples": str(done.samples),
        "training_steps": str(done.step),
        "training_minutes": f"{done.trained_s / 60:.1f}",
        "fg_share": f"{done.fg_share:.4f}",
        "weights": read.weights,
    }
