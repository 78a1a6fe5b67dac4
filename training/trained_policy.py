"""A policy on a vision-language backbone out of the checkpoint that training wrote: network, contract, words."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.contracts.policy import PolicySpec
from finevla_runtime.contracts.policy_json import spec_from_json
from training.checkpoint import Checkpoint, load_checkpoint, load_weights
from training.checkpoint_store import FOLDER
from training.importer.imported_checkpoint import BACKBONE
from training.importer.plan_json import plan_from_json
from training.policies.vla import PolicyPlan, VLAPolicy, build_policy


@dataclass(frozen=True, eq=False)
class TrainedPolicy:
    """What export and evaluation need.

    Attributes:
        policy: the network with its averaged weights where an average was kept, in evaluation mode.
        plan: its shape; the backbone is the folder of small files that the run kept.
        spec: its contract, with the measured FG share.
        tokenizer_json: text of ``tokenizer.json``.
        checkpoint: progress and all texts.
    """

    policy: VLAPolicy
    plan: PolicyPlan
    spec: PolicySpec
    tokenizer_json: str
    checkpoint: Checkpoint


def load_trained(path: Path) -> TrainedPolicy:
    """Build the policy of a run folder (its newest checkpoint) or of one checkpoint folder.

    Raises:
        SetupError: FV-TRN-009 when there is no readable checkpoint of such a policy, FV-TRN-010 when its weights do
            not fit its plan, FV-POL-* for its backbone.
    """
    checkpoint = load_checkpoint(path)
    if "plan" not in checkpoint.meta:
        raise SetupError("FV-TRN-009", f"{path} holds no policy on a vision-language backbone.")
    for name in ("spec", "tokenizer"):
        if name not in checkpoint.meta:
            raise SetupError("FV-TRN-009", f"{path} is no readable checkpoint: meta/{name}.txt is missing.")
    plan = plan_from_json(checkpoint.meta["plan"], str(path))
    backbone = _run_folder(path) / BACKBONE
    if (backbone / "config.json").is_file():
        plan = replace(plan, backbone=str(backbone))
    # Every number comes from the checkpoint, so the backbone's own weights are not read.
    policy = build_policy(replace(plan, random_weights=True, checkpointing=False))
    load_weights(checkpoint, checkpoint.weights, policy)
    spec = spec_from_json(checkpoint.meta["spec"])
    return TrainedPolicy(policy.eval(), plan, spec, checkpoint.meta["tokenizer"], checkpoint)


def _run_folder(path: Path) -> Path:
    """Return the run folder of a run, of its row of checkpoints, or of one of them."""
    whole = path.resolve()
    for folder in (whole, *whole.parents[:2]):
        if (folder / FOLDER).is_dir():
            return folder
    return whole
