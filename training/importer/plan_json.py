"""PolicyPlan as strict JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, fields

from finevla_runtime.contracts.policy import CameraSpec
from finevla_runtime.session.strict_json import JsonNode, parse_json
from training.policies.gr00t import GR00TSizes
from training.policies.vla import PolicyPlan

CODE = "FV-IMP-024"


def plan_to_json(plan: PolicyPlan) -> str:
    """Return one JSON object with every field of the plan."""
    return json.dumps(asdict(plan), sort_keys=True)


def plan_from_json(text: str, where: str = "policy plan") -> PolicyPlan:
    """Parse a plan (SetupError FV-IMP-024 for unknown, missing or mistyped fields)."""
    keys = parse_json(text, where, CODE).mapping(field.name for field in fields(PolicyPlan))
    limit = keys["max_tokens"]
    return PolicyPlan(
        framework=keys["framework"].text(),
        backbone=keys["backbone"].text(),
        cameras=tuple(_camera(item) for item in keys["cameras"].elements()),
        chunk_rows=keys["chunk_rows"].integer(),
        dof=keys["dof"].integer(),
        state=keys["state"].flag(),
        max_tokens=None if limit.value is None else limit.integer(),
        dtype=keys["dtype"].text(),
        random_weights=keys["random_weights"].flag(),
        checkpointing=keys["checkpointing"].flag(),
        seed=keys["seed"].integer(),
        sizes=_sizes(keys["sizes"]),
        repeats=keys["repeats"].integer(),
        denoise_steps=keys["denoise_steps"].integer(),
    )


def _camera(node: JsonNode) -> CameraSpec:
    keys = node.mapping(field.name for field in fields(CameraSpec))
    return CameraSpec(keys["name"].text(), keys["height"].integer(), keys["width"].integer(), keys["resize"].text())


def _sizes(node: JsonNode) -> GR00TSizes:
    keys = node.mapping(field.name for field in fields(GR00TSizes))
    dropout = keys.pop("dropout").number()
    return GR00TSizes(**{name: child.integer() for name, child in keys.items()}, dropout=dropout)
