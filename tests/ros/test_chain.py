"""The whole chain on the shipped policy: simulated tabletop, policy client, server and commander as processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from lifecycle_msgs.msg import Transition

from finevla_interfaces.msg import Episode
from tests.ros.robot import HOME, Robot
from tests.ros.served import ServedPolicy

SCENE = "colour/3"
TOLD = "pick up the {} cube and put it on the yellow mat"


@pytest.fixture(scope="module")
def chain(domain: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Robot]:
    folder: Path = tmp_path_factory.mktemp("chain")
    robot = Robot(folder, "tabletop", SCENE)
    server = ServedPolicy(folder / "server", robot.peer)
    robot.think(server.address)
    yield robot
    robot.close()
    server.stop()


@pytest.fixture
def robot(chain: Robot) -> Robot:
    chain.fresh()
    return chain


@pytest.mark.parametrize(("variant", "other"), [("red", "blue"), ("blue", "red")])
def test_both_variants_of_one_scene_are_done_as_told_by_the_same_judge(robot: Robot, variant: str, other: str) -> None:
    robot.begin(TOLD.format(variant), variant_id=variant)
    robot.until_success(variant)
    assert not robot.judge(other).success
    robot.commands.assert_smooth()


def test_an_instruction_that_changes_before_the_grasp_is_followed(robot: Robot) -> None:
    robot.begin(TOLD.format("red"), variant_id="red")
    robot.until_fast()
    robot.begin(TOLD.format("blue"), epoch=1, variant_id="blue")
    robot.until_success("blue")
    assert not robot.judge("red").success
    robot.commands.assert_smooth()


def test_chunks_of_strangers_do_not_disturb_an_episode(robot: Robot) -> None:
    robot.begin(TOLD.format("red"), variant_id="red")
    wild = np.tile(HOME + 0.3, (16, 1))
    before = Episode(episode_id=robot.episode.episode_id, epoch=7)
    robot.repeat(0.05, lambda: robot.offer(wild, Episode(episode_id="another")))
    robot.repeat(0.05, lambda: robot.offer(wild, before))
    refused = robot.status.chunks_refused
    robot.until_success("red")
    assert robot.status.chunks_refused > refused + 20
    robot.commands.assert_smooth()


def test_a_client_that_was_cleaned_up_is_configured_again_and_goes_on(robot: Robot) -> None:
    robot.begin(TOLD.format("red"), variant_id="red")
    robot.until_fast()
    robot.change("policy_client", Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP)
    # Nobody asks: what is left of the chunk is executed, or its age ends it, and the arms stand.
    robot.until_rest()
    assert robot.policy[-1].state == "idle"
    robot.change("policy_client", Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE)
    robot.begin(TOLD.format("red"), variant_id="red")
    robot.until_success("red")
    robot.commands.assert_smooth()
