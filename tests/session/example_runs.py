"""Small hand-made manifests and records for the session tests."""

from __future__ import annotations

from finevla_runtime.contracts.instruction import Instruction, InstructionKind
from finevla_runtime.contracts.trial import Compliance, Outcome, Sheet, Trial, TrialRecord
from finevla_runtime.session.manifest import Manifest, RolloutSettings

SETTINGS = RolloutSettings(embodiment="cobot_magic_sim", control_hz=10.0, execution_rows=8, watchdog_s=60.0)


def make_trial(number: int, variant: str = "red") -> Trial:
    text = f"Pick up the {variant} cube and put it on the yellow mat."
    return Trial(
        trial_id=f"colour/{variant}/fine_grained/{1_000_000 + number}/tabletop-oft",
        family="colour",
        variant=variant,
        scene_seed=1_000_000 + number,
        policy="tabletop-oft",
        instruction=Instruction(text, InstructionKind.FINE_GRAINED, "colour", variant),
    )


def make_manifest(trials: int = 4, name: str = "example") -> Manifest:
    planned = tuple(make_trial(i, variant) for i in range(trials // 2) for variant in ("red", "blue"))
    return Manifest(name, "tabletop", "2026-11-23T21:30:00.000+00:00", {"tabletop-oft": "ab" * 32}, SETTINGS, planned)


def make_record(trial: Trial, note: str = "", score: float = 100.0) -> TrialRecord:
    return TrialRecord(
        trial=trial,
        sheet=Sheet({"colour": trial.variant}, {"hold": True, "go": False}, goal_any=True, note=note),
        outcome=Outcome(Compliance.COMPLIED, trial.variant, score, task_done=True, success=score == 100.0),
        status="scored",
        steps=41,
        state_hash="cd" * 32,
        timings={"wall": 1.25, "policy": 0.5},
        artifacts={"strip": "artifacts/x.jpg"},
    )
