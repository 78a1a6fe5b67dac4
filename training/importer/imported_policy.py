"""The network of an imported policy, with its weights in it."""

from __future__ import annotations

from dataclasses import replace

import torch

from training.importer.imported_checkpoint import ImportedCheckpoint
from training.importer.plan_json import plan_from_json
from training.importer.renaming import INPUT_TABLE, OUTPUT_TABLE, check_against
from training.policies.vla import PolicyPlan, VLAPolicy, build_policy


def plan_of(checkpoint: ImportedCheckpoint) -> PolicyPlan:
    """Return the plan of an imported policy, with its backbone at the folder inside the checkpoint."""
    plan = plan_from_json(checkpoint.plan_json, str(checkpoint.path))
    return replace(plan, backbone=str(checkpoint.backbone))


def meta_policy(plan: PolicyPlan) -> VLAPolicy:
    """Return a plan's policy without numbers: names, shapes and prompt layout at no cost at any size."""
    with torch.device("meta"):
        return build_policy(replace(plan, random_weights=True))


def tables_are_tied(policy: VLAPolicy) -> bool:
    """Tell whether the backbone's input and output word tables are one parameter."""
    state = policy.state_dict(keep_vars=True)
    return OUTPUT_TABLE in state and state[OUTPUT_TABLE] is state.get(INPUT_TABLE)


def build_imported(checkpoint: ImportedCheckpoint) -> VLAPolicy:
    """Build an imported policy for inference or as the start of training; every weight comes from the checkpoint.

    Raises:
        SetupError: FV-IMP-020, FV-IMP-021 when the weights are not those of the plan; FV-POL-* for its backbone.
    """
    policy = build_policy(plan_of(checkpoint))
    weights = checkpoint.weights()
    check_against(weights, {name: tensor.shape for name, tensor in policy.state_dict().items()})
    policy.load_state_dict(weights)
    return policy.eval()
