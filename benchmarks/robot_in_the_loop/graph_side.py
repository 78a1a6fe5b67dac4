"""Runs the trials of a manifest through the ROS 2 graph, with the simulated pair in physics, into a run folder.

Started by the benchmark with `scripts/ros_run.sh`. A run goes on where it was cut off, as a headless one does.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rclpy.action import ActionClient
from std_srvs.srv import Trigger

from finevla_cobot.bring_up import BringUp
from finevla_cobot.operator_desk import OperatorDesk
from finevla_cobot.stack import find_config, load_stack
from finevla_interfaces.action import ExecuteInstruction
from finevla_interfaces.msg import ControllerStatus
from finevla_interfaces.srv import JudgeScene, ResetScene
from finevla_runtime.cli.options import parse
from finevla_runtime.contracts.clock import elapsed_s
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.contracts.errors import BodyError
from finevla_runtime.contracts.rubric_file import load_rubric
from finevla_runtime.contracts.trial import Trial, TrialRecord
from finevla_runtime.paths import HW_CONFIGS, RUBRICS
from finevla_runtime.session.journal import JOURNAL_FILE, Journal, missing_trials
from finevla_runtime.session.manifest import MANIFEST_FILE, Manifest, load_manifest
from finevla_runtime.session.record_codec import record_from_json, trial_to_json
from finevla_runtime.session.strict_json import parse_json
from sim_eval.rollout import time_limit_steps

ANSWER_S = 20.0
# An episode ends when the arms stood still for this long; the headless runner waits as long.
STILL_S = 4.0
WAITING, REFUSED = "waiting", "refused"
# Rad, or open fraction.
HOME_TOLERANCE = 0.02


@dataclass(frozen=True)
class GraphOptions:
    """Run what is missing of a manifest through the robot's nodes."""

    run: Path
    """Run folder with a manifest."""
    address: str
    """Policy server."""
    strategy: str = "asynchronous"
    """How chunks are executed."""


class Graph:
    """The stack of simulated arms, and one who gives it instructions."""

    def __init__(self, desk: OperatorDesk) -> None:
        """Sit at the desk of a stack that is up."""
        self._desk = desk
        self._client = ActionClient(desk.node, ExecuteInstruction, "finevla/execute_instruction")
        embodiment = load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")
        self._home = np.array([joint.home for joint in embodiment.joints])
        self._status = desk.heard(ControllerStatus, "finevla/status", most=1)

    def run(self, trial: Trial, timeout_s: float) -> TrialRecord:
        """Run one trial and judge it.

        Raises:
            BodyError: when a node does not do its part.
        """
        self._reset_scene(f"{trial.family}/{trial.scene_seed}")
        begin_ns = self._desk.clock.now_ns()
        result = self._carry_out(trial, timeout_s)
        while result.outcome == REFUSED and elapsed_s(self._desk.clock, begin_ns) < ANSWER_S:
            # Nodes that came up a moment ago have not all heard one another.
            self._hear(lambda _: True)
            result = self._carry_out(trial, timeout_s)
        if result.outcome not in ("finished", "timeout"):
            raise BodyError(result.code or "FV-BEN-001", f"{trial.trial_id}: {result.outcome}: {result.reason}")
        return self._judged(trial, elapsed_s(self._desk.clock, begin_ns))

    def _reset_scene(self, scene: str) -> None:
        """Put scene and arms to their start; the commander must not follow arms that are put elsewhere by hand."""
        self._desk.call(Trigger, "finevla/stop", ANSWER_S)
        answer = self._desk.call(ResetScene, "finevla/sim/reset_scene", ANSWER_S, scene=scene)
        if not answer.ok:
            raise BodyError(answer.code, answer.reason)
        # Feedback from before the reset may still be on its way; a commander that began there would drive back.
        if not self._desk.wait(self._is_home, ANSWER_S) or not self._desk.wait(self._is_started, ANSWER_S):
            raise BodyError("FV-BEN-004", f"{scene}: the commander does not begin from home.")
        # The session hears the same status; two of them later it has heard that the stop is over.
        for _ in range(2):
            self._hear(lambda status: status.state == WAITING)

    def _is_home(self) -> bool:
        self._hear(lambda _: True)
        return bool(np.abs(np.array(self._status[-1].measured) - self._home).max() < HOME_TOLERANCE)

    def _is_started(self) -> bool:
        return bool(self._desk.call(Trigger, "finevla/reset", ANSWER_S).success)

    def _hear(self, wanted: Callable[[ControllerStatus], bool]) -> None:
        """Wait for a new status that is as wanted."""
        self._status.clear()
        self._desk.wait(lambda: self._status and wanted(self._status[-1]), ANSWER_S)

    def _carry_out(self, trial: Trial, timeout_s: float) -> ExecuteInstruction.Result:
        self._desk.wait(self._client.server_is_ready, ANSWER_S)
        goal = ExecuteInstruction.Goal(
            instruction=trial.instruction.text,
            kind=trial.instruction.kind.value,
            variant_id=trial.variant,
            seed=trial.scene_seed,
            timeout_s=timeout_s,
        )
        sent = self._client.send_goal_async(goal)
        self._desk.wait(sent.done, ANSWER_S)
        result = sent.result().get_result_async()
        if not self._desk.wait(result.done, timeout_s + ANSWER_S):
            raise BodyError("FV-BEN-002", f"{trial.trial_id}: the session gave no result.")
        return result.result().result

    def _judged(self, trial: Trial, wall_s: float) -> TrialRecord:
        kind = trial.instruction.kind.value
        found = self._desk.call(JudgeScene, "finevla/sim/judge_scene", ANSWER_S, variant_id=trial.variant, kind=kind)
        if not found.ok:
            raise BodyError(found.code, found.reason)
        judged = json.loads(found.record_json)
        record = {
            "trial": trial_to_json(trial),
            "timings": {"wall": wall_s},
            "artifacts": {},
            **{key: judged[key] for key in ("sheet", "outcome", "status", "void_reason", "steps", "state_hash")},
        }
        return record_from_json(parse_json(json.dumps(record), trial.trial_id, "FV-BEN-003"))


def main(argv: Sequence[str]) -> int:
    """Run what is missing; return the exit code."""
    options = parse(GraphOptions, argv, prog="graph_side")
    manifest = load_manifest(options.run / MANIFEST_FILE)
    stack = load_stack(
        find_config("tabletop"),
        [
            f"policy_client.server={options.address}",
            f"policy_client.strategy={options.strategy}",
            f"arm_commander.strategy={options.strategy}",
            f"arm_commander.execution_rows={manifest.settings.execution_rows}",
            f"policy_client.execution_rows={manifest.settings.execution_rows}",
            f"session.still_s={STILL_S}",
            "session.scene=''",
            f"recorder.folder={options.run / 'bags'}",
        ],
    )
    with OperatorDesk() as desk, Journal(options.run / JOURNAL_FILE, manifest.hash) as journal:
        bring_up = BringUp(stack, desk, options.run / "logs")
        try:
            bring_up.up(_say)
            _run_all(Graph(desk), manifest, journal)
        finally:
            bring_up.down(_say)
    return 0


def _run_all(graph: Graph, manifest: Manifest, journal: Journal) -> None:
    rubric = load_rubric(RUBRICS / "tabletop.yaml")
    missing = missing_trials(manifest, journal.records)
    for number, trial in enumerate(missing, 1):
        limit = time_limit_steps(trial, rubric.family(trial.family), manifest.settings)
        record = graph.run(trial, limit / manifest.settings.control_hz)
        journal.append(record)
        outcome = record.outcome
        _say(f"{number}/{len(missing)}", f"{trial.trial_id}: {outcome.compliance.value}, score {outcome.score:g}")


def _say(name: str, text: str) -> None:
    sys.stdout.write(f"{name:>14}  {text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
