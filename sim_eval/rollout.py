"""One trial: reset the world to its scene, let the policy act in chunks, judge what happened."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Protocol

import numpy as np

from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.arrays import ByteArray, FloatArray
from finevla_runtime.contracts.clock import Clock, elapsed_s, process_cpu_s
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.instruction import InstructionKind
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.policy import OWN_FAULTS, Policy
from finevla_runtime.contracts.rubric import FamilyRubric
from finevla_runtime.contracts.trial import Trial, TrialRecord
from finevla_runtime.session.manifest import RolloutSettings
from finevla_runtime.session.scoring import score, void_reason
from sim_eval.tabletop.catalog import find_family, sample_scene
from sim_eval.tabletop.judge import judge
from sim_eval.tabletop.kinematics import LOWER, UPPER
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.trace import Trace
from sim_eval.tabletop.world import WorldObservation

STILL_RAD = 0.005
"""A control step in which no joint moves by more than this (rad, or open fraction) counts as still."""
STILL_AFTER_SUCCESS = 10
"""Still control steps after which a successful trial ends; the rubric's own settling times lie within."""
STILL_WITHOUT_SUCCESS = 40
"""Still control steps after which any other trial ends: a policy that stands still sees the same and stays."""
FILM_CAMERA = "cam_high"


class World(Protocol):
    """What a rollout needs from a simulated world."""

    def reset(self, scene: Scene) -> None:
        """Put everything to the start of a scene."""
        ...

    def step(self, target: FloatArray) -> None:
        """Run one control step of 0.1 s towards joint targets [14]."""
        ...

    def observe(self) -> WorldObservation:
        """Render the cameras and read the joints."""
        ...

    def joint_position(self) -> FloatArray:
        """Return the measured joints, float32[14]."""
        ...

    def trace(self) -> Trace:
        """Return what happened since the reset."""
        ...

    def state_hash(self) -> str:
        """Return the sha256 of the present state."""
        ...


@dataclass(frozen=True, eq=False, slots=True)
class Rollout:
    """A finished trial: its record (still without artifacts) and the head view at every query."""

    record: TrialRecord
    frames: tuple[ByteArray, ...]


@dataclass(slots=True)
class _Tally:
    """What a running trial adds up."""

    steps: int = 0
    still: int = 0
    queries: int = 0
    policy_s: float = 0.0
    fault: str = ""
    frames: list[ByteArray] = field(default_factory=list)


Beat = Callable[[int], None]
"""Called with the control step before every query, so that a watchdog sees progress."""


def run_trial(
    world: World,
    policy: Policy,
    trial: Trial,
    rubric: FamilyRubric,
    settings: RolloutSettings,
    clock: Clock,
    beat: Beat = lambda _step: None,
) -> Rollout:
    """Run and judge one trial.

    The trial ends at the family's time limit, or when everything stands still: soon after a success, later otherwise.
    A success is judged on the whole trace, so that one that does not hold is none.

    Args:
        world: where it happens; its ``reset`` must leave nothing of earlier trials.
        policy: reset with the scene seed before the first query.
        trial: scene and instruction.
        rubric: of the trial's family.
        settings: execution rows and control rate.
        clock: stamps observations and measures time.
        beat: told about progress.

    Raises:
        PolicyError: the server or the network failed; the trial says nothing about the policy.
        SetupError: unknown family or variant, or a rubric that does not fit the scene.
    """
    begin_ns, begin_cpu_s = clock.now_ns(), process_cpu_s()
    limit = time_limit_steps(trial, rubric, settings)
    world.reset(sample_scene(trial.family, trial.scene_seed))
    policy.reset(trial.scene_seed)
    tally = _Tally()
    while tally.steps < limit and not tally.fault and not _finished(world, trial, rubric, tally):
        beat(tally.steps)
        chunk, seen = _query(world, policy, trial, tally, clock)
        if chunk is not None:
            _execute(world, chunk, seen, min(settings.execution_rows, limit - tally.steps), tally)
    timings = {
        "wall": elapsed_s(clock, begin_ns),
        "cpu": process_cpu_s() - begin_cpu_s,
        "policy": tally.policy_s,
        "queries": float(tally.queries),
    }
    return Rollout(_judged(world, trial, rubric, tally, timings), tuple(tally.frames))


def _judged(world: World, trial: Trial, rubric: FamilyRubric, tally: _Tally, timings: dict[str, float]) -> TrialRecord:
    """Judge the whole trace of a finished trial."""
    sheet = judge(world.trace(), rubric, trial.variant)
    if tally.fault:
        sheet = replace(sheet, note="; ".join(part for part in (sheet.note, tally.fault) if part))
    void = void_reason(rubric, sheet)
    return TrialRecord(
        trial=trial,
        sheet=sheet,
        outcome=score(rubric, trial.variant, sheet),
        status="void" if void else "scored",
        void_reason=void,
        steps=tally.steps,
        state_hash=world.state_hash(),
        timings=timings,
    )


def time_limit_steps(trial: Trial, rubric: FamilyRubric, settings: RolloutSettings) -> int:
    """Return the control steps a trial may take: the tighter one of the family's and the rubric's limit."""
    return min(find_family(trial.family).time_limit_steps, round(rubric.time_limit_s * settings.control_hz))


def _query(
    world: World, policy: Policy, trial: Trial, tally: _Tally, clock: Clock
) -> tuple[ActionChunk | None, WorldObservation]:
    """Observe and ask the policy; no chunk when the policy itself failed."""
    seen = world.observe()
    if FILM_CAMERA in seen.images:
        tally.frames.append(seen.images[FILM_CAMERA])
    observation = Observation(seen.images, seen.joint_position, trial.instruction, clock.now_ns(), tally.steps)
    asked_ns = clock.now_ns()
    try:
        chunk = policy.infer(observation)
    except PolicyError as error:
        if error.code not in OWN_FAULTS:
            raise
        tally.fault = f"policy fault {error.code} at step {tally.steps}"
        return None, seen
    tally.policy_s += elapsed_s(clock, asked_ns)
    tally.queries += 1
    return chunk, seen


def _execute(world: World, chunk: ActionChunk, seen: WorldObservation, rows: int, tally: _Tally) -> None:
    """Execute the first rows of a chunk within the joint limits and count still steps."""
    low, high = joint_limits()
    before = seen.joint_position
    targets = np.clip(chunk.positions[: max(1, rows)], low, high)
    for target in targets:
        world.step(target)
        tally.steps += 1
        trace_joints = world.joint_position()
        tally.still = tally.still + 1 if float(np.abs(trace_joints - before).max()) < STILL_RAD else 0
        before = trace_joints


def _finished(world: World, trial: Trial, rubric: FamilyRubric, tally: _Tally) -> bool:
    if tally.still >= STILL_WITHOUT_SUCCESS:
        return True
    if tally.still < STILL_AFTER_SUCCESS:
        return False
    outcome = score(rubric, trial.variant, judge(world.trace(), rubric, trial.variant))
    if trial.instruction.kind is InstructionKind.RAW:
        # A raw instruction asks for no level of the factor, so the goal is all there is to wait for.
        return outcome.task_done
    return outcome.success and outcome.score >= 100.0


def joint_limits() -> tuple[FloatArray, FloatArray]:
    """Return the lower and upper limits of the simulated body, float32[14], gripper 0..1."""
    low = np.tile(np.append(LOWER, 0.0), 2).astype(np.float32)
    high = np.tile(np.append(UPPER, 1.0), 2).astype(np.float32)
    return low, high
