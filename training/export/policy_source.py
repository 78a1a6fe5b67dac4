"""A trained or imported policy on a vision-language backbone, ready to be exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json
from training.checkpoint import Checkpoint, load_weights
from training.checkpoint_folder import load_checkpoint_folder
from training.importer.imported_checkpoint import BACKBONE, is_imported, load_imported
from training.importer.imported_policy import build_imported
from training.importer.plan_json import plan_from_json
from training.policies.vla import VLAPolicy, build_policy


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
        SetupError: FV-TRN-009 and FV-IMP-* for unreadable folders, FV-TRN-010 when the weights are not the plan's,
            FV-EXP-003 for a run folder that lost the small files of its backbone.
    """
    if is_imported(path):
        imported = load_imported(path)
        plan = plan_from_json(imported.plan_json, str(path))
        policy = build_imported(imported)
        told = {**imported.provenance, "checkpoint": "imported"}
        return _source(policy, imported.spec, imported.tokenizer_json, plan.denoise_steps, told)
    read = load_checkpoint_folder(path)
    plan = replace(plan_from_json(read.meta["plan"], str(path)), backbone=str(_backbone(path)), random_weights=True)
    policy = build_policy(plan)
    load_weights(read, read.weights, policy)
    spec = spec_from_json(read.meta["spec"])
    return _source(policy, spec, read.meta["tokenizer"], plan.denoise_steps, _provenance(read))


def _source(
    policy: VLAPolicy, spec: PolicySpec, tokenizer: str, steps: int, provenance: Mapping[str, str]
) -> PolicySource:
    steps = steps if spec.framework == "gr00t" else 0
    return PolicySource(policy.eval().requires_grad_(False), spec, tokenizer, steps, provenance)


def _backbone(path: Path) -> Path:
    """Return the folder with the small files of the backbone: in the run folder, above its checkpoints."""
    for folder in (path, *path.resolve().parents[:2]):
        if (folder / BACKBONE / "config.json").is_file():
            return folder / BACKBONE
    raise SetupError(
        "FV-EXP-003",
        f"neither {path} nor the run folder around it has {BACKBONE}/config.json; copy the whole run folder.",
    )


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
