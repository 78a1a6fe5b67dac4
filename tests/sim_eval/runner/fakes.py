"""Worlds and policies that fail in chosen ways; worker processes import this module by its name."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path

from finevla_runtime.contracts.action import ActionChunk
from finevla_runtime.contracts.errors import PolicyError
from finevla_runtime.contracts.observation import Observation
from finevla_runtime.contracts.rubric import Rubric
from finevla_runtime.session.manifest import Manifest
from sim_eval.expert_policy import ExpertPolicy
from sim_eval.plan import Selection, find_suite, freeze, select, tabletop_rubric
from sim_eval.policy_source import open_expert, physics_world
from sim_eval.rollout import World
from sim_eval.runner import RunSetup
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.world import TabletopWorld
from sim_eval.trial_worker import ClosablePolicy, PolicyFactory, WorldFactory

SWITCH = "FINEVLA_TEST_SWITCH"
BAD_SEED = 1_000_001


def switched_on(once: bool) -> bool:
    """Whether the switch file exists; with ``once`` it is removed, so that the next try is fine."""
    path = Path(os.environ[SWITCH])
    if not path.exists():
        return False
    if once:
        path.unlink()
    return True


class HangingWorld(TabletopWorld):
    """Hangs at the start of one scene, once."""

    def reset(self, scene: Scene) -> None:
        if scene.seed == BAD_SEED and switched_on(once=True):
            time.sleep(600)
        super().reset(scene)


class DyingWorld(TabletopWorld):
    """Ends its process at the start of one scene, every time."""

    def reset(self, scene: Scene) -> None:
        if scene.seed == BAD_SEED and scene.family == "arm" and switched_on(once=False):
            os._exit(11)
        super().reset(scene)


class LostServer(ExpertPolicy):
    """The connection breaks in one scene."""

    def reset(self, instruction_seed: int) -> None:
        if instruction_seed == BAD_SEED and switched_on(once=False):
            raise PolicyError("FV-NET-001", "the policy server at 127.0.0.1:1 is unavailable.")
        super().reset(instruction_seed)


class Refusing(ExpertPolicy):
    """Refuses every observation."""

    def infer(self, observation: Observation) -> ActionChunk:
        raise PolicyError("FV-REQ-002", "no camera cam_top.")


def hanging_world() -> World:
    return HangingWorld(render=False)


def dying_world() -> World:
    return DyingWorld(render=False)


def lost_server(address: str) -> ClosablePolicy:
    return LostServer()


def refusing(address: str) -> ClosablePolicy:
    return Refusing()


def small_plan(rubric: Rubric, watchdog_s: float = 60.0) -> Manifest:
    """Two scenes of colour and arm under fine-grained instructions: eight trials."""
    suite = select(find_suite("tabletop", rubric), Selection(("fine_grained",), ("colour", "arm"), 2))
    manifest = freeze(suite, rubric, {"expert": "scripted-expert"}, "2026-01-01T00:00:00")
    return replace(manifest, settings=replace(manifest.settings, watchdog_s=watchdog_s))


def small_setup(
    run_dir: Path,
    workers: int = 1,
    world: WorldFactory = physics_world,
    policy: PolicyFactory = open_expert,
    watchdog_s: float = 60.0,
) -> RunSetup:
    rubric = tabletop_rubric()
    return RunSetup(run_dir, small_plan(rubric, watchdog_s), rubric, workers, world, policy)
