"""Whole runs of fake policies with known behaviour: one follows the instruction, one is deaf to it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.rubric import NONE, FamilyRubric, Rubric, fill
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Sheet, Trial, TrialRecord
from finevla_runtime.evidence.run import Run, make_run
from finevla_runtime.paths import RUBRICS
from finevla_runtime.session.manifest import Manifest, RolloutSettings
from finevla_runtime.session.scoring import score

KINDS = (InstructionKind.FINE_GRAINED, InstructionKind.RAW)
Choose = Callable[[FamilyRubric, Trial], Mapping[str, str]]


@cache
def shipped_rubric() -> Rubric:
    return load_rubric(RUBRICS / "tabletop.yaml")


@dataclass(frozen=True)
class FakePolicy:
    """What a fake does: obeys with probability ``obey`` (else a habit per scene), decides and finishes by skill."""

    obey: float
    skill: float = 1.0
    engage: float = 1.0


STEERABLE = FakePolicy(obey=0.97, skill=0.95)
DEAF = FakePolicy(obey=0.0, skill=0.9)


def make_fake_manifest(
    policies: Sequence[str],
    scenes: int = 10,
    families: Sequence[str] = (),
    kinds: Sequence[InstructionKind] = KINDS,
    name: str = "fake",
) -> Manifest:
    rubric = shipped_rubric()
    trials = []
    for family in rubric.families:
        if families and family.id not in families:
            continue
        for kind in kinds:
            for scene in range(1_000_000, 1_000_000 + scenes):
                for variant in family.variants:
                    for policy in policies:
                        text = family.raw if kind is InstructionKind.RAW else family.fine_grained
                        words = fill(text, {k: v.replace("_", " ") for k, v in family.bindings(variant).items()})
                        trials.append(
                            Trial(
                                f"{family.id}/{variant}/{kind.value}/{scene}/{policy}",
                                family.id,
                                variant,
                                scene,
                                policy,
                                Instruction(words, kind, family.id, variant),
                            )
                        )
    settings = RolloutSettings("cobot_magic_sim", 10.0, 8, rubric.digest, 0, 60.0)
    digests = {policy: f"{index + 1:02x}" * 32 for index, policy in enumerate(policies)}
    return Manifest(name, "tabletop", "2026-11-23T21:00:00.000+00:00", digests, settings, tuple(trials))


def act(policy: FakePolicy, family: FamilyRubric, trial: Trial, seed: int) -> TrialRecord:
    """Return what the fake did; the habit depends on the scene alone, never on the words."""
    habit = np.random.default_rng([trial.scene_seed, len(family.id), seed])
    luck = np.random.default_rng([trial.scene_seed, *trial.trial_id.encode(), seed])
    wanted = family.requested(trial.variant)
    told = trial.instruction.kind is InstructionKind.FINE_GRAINED and luck.random() < policy.obey
    engaged = luck.random() < policy.engage
    observed = {}
    for question in family.observe:
        level = question.levels[int(habit.integers(len(question.levels)))]
        observed[question.id] = NONE if not engaged else wanted[question.id] if told else level
    finished = engaged and luck.random() < policy.skill
    steps = len(family.subgoals) if finished else int(luck.integers(len(family.subgoals))) if engaged else 0
    sheet = Sheet(observed, {item.id: i < steps for i, item in enumerate(family.subgoals)}, goal_any=finished)
    return TrialRecord(
        trial,
        sheet,
        score(family, trial.variant, sheet),
        "scored",
        steps=40 + steps,
        timings={"wall": 2.0 + steps / 10, "policy": 0.4},
    )


def fake_records(manifest: Manifest, policies: Mapping[str, FakePolicy], seed: int = 0) -> list[TrialRecord]:
    rubric = shipped_rubric()
    return [act(policies[t.policy], rubric.family(t.family), t, seed) for t in manifest.trials]


def fake_run(
    policies: Mapping[str, FakePolicy],
    scenes: int = 10,
    families: Sequence[str] = (),
    kinds: Sequence[InstructionKind] = KINDS,
    seed: int = 0,
) -> Run:
    manifest = make_fake_manifest(tuple(policies), scenes, families, kinds)
    return make_run(manifest, fake_records(manifest, policies, seed), shipped_rubric())
