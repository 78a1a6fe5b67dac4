"""The world is deterministic, works without a renderer, and shows what it should."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest

from finevla_runtime.contracts.errors import SetupError
from sim_eval.tabletop.cameras import CAMERAS
from sim_eval.tabletop.catalog import FAMILIES, sample_scene
from sim_eval.tabletop.expert import run_expert
from sim_eval.tabletop.world import TabletopWorld, home_target


def _final_hash(key: tuple[str, str, bool]) -> str:
    """State hash after a noisy expert episode on seed 7 in a fresh world."""
    family, variant, render = key
    world = TabletopWorld(render=render)
    run_expert(world, sample_scene(family, 7), variant, 0.02, 7, observe=render)
    return world.state_hash()


_KEYS = [("rotate", "clockwise"), ("clean_table", "default"), ("pose", "lying"), ("left_to_right", "left_to_left_bowl")]


def test_the_state_hash_does_not_depend_on_earlier_episodes() -> None:
    world = TabletopWorld(render=False)
    seen = []
    for order in (_KEYS, _KEYS[::-1]):
        hashes = {}
        for family, variant in order:
            run_expert(world, sample_scene(family, 7), variant, 0.02, 7, observe=False)
            hashes[family] = world.state_hash()
        seen.append(hashes)
    assert seen[0] == seen[1]


@pytest.mark.parametrize(("family", "variant"), _KEYS[:2])
def test_the_state_hash_is_the_same_with_and_without_rendering(family: str, variant: str) -> None:
    assert _final_hash((family, variant, False)) == _final_hash((family, variant, True))


def test_the_state_hash_is_the_same_in_parallel_processes() -> None:
    keys = [(family, variant, False) for family, variant in _KEYS[:2]]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        assert list(pool.map(_final_hash, keys)) == [_final_hash(key) for key in keys]


def test_a_different_action_changes_the_state_hash() -> None:
    world, scene, hashes = TabletopWorld(render=False), sample_scene("colour", 0), []
    for shift in (0.0, 1e-3):
        world.reset(scene)
        world.step(home_target() + shift)
        hashes.append(world.state_hash())
    assert hashes[0] != hashes[1]


def test_physics_runs_where_no_vulkan_driver_exists() -> None:
    program = (
        "import sys, numpy as np\n"
        "from sim_eval.tabletop.world import TabletopWorld, home_target\n"
        "from sim_eval.tabletop.catalog import sample_scene\n"
        "world = TabletopWorld(render=False); world.reset(sample_scene('pose', 1)); world.step(home_target())\n"
        "assert world.observe().images == {}\n"
        "sys.stdout.write(world.state_hash())\n"
    )
    blind = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent.json", "VK_DRIVER_FILES": "/nonexistent.json"}
    answer = subprocess.run([sys.executable, "-c", program], env=blind, capture_output=True, text=True, check=True)
    world = TabletopWorld(render=False)
    world.reset(sample_scene("pose", 1))
    world.step(home_target())
    assert answer.stdout == world.state_hash()


def test_asking_for_images_where_no_vulkan_driver_exists_names_the_remedy() -> None:
    program = "from sim_eval.tabletop.world import TabletopWorld\nTabletopWorld(render=True)\n"
    blind = {**os.environ, "VK_ICD_FILENAMES": "/nonexistent.json", "VK_DRIVER_FILES": "/nonexistent.json"}
    answer = subprocess.run([sys.executable, "-c", program], env=blind, capture_output=True, text=True, check=False)
    assert answer.returncode != 0
    assert "FV-SIM-005" in answer.stderr
    assert "mesa-vulkan-drivers" in answer.stderr


def test_a_world_without_a_scene_says_so() -> None:
    world = TabletopWorld(render=False)
    for call in (world.observe, world.trace, world.state_hash):
        with pytest.raises(SetupError, match="FV-SIM-006"):
            call()


@pytest.mark.parametrize(
    "target", [np.zeros(13), np.full(14, np.nan), np.append(np.zeros(13), np.inf), np.zeros((1, 14))]
)
def test_a_target_of_wrong_shape_or_not_finite_is_refused(target: np.ndarray) -> None:
    world = TabletopWorld(render=False)
    world.reset(sample_scene("colour", 0))
    before = world.state_hash()
    with pytest.raises(SetupError, match="FV-SIM-007"):
        world.step(target)
    assert world.state_hash() == before


def test_images_have_the_promised_names_sizes_and_contents() -> None:
    world = TabletopWorld(render=True)
    for family in FAMILIES:
        world.reset(sample_scene(family, 3))
        seen = world.observe()
        assert list(seen.images) == [camera.name for camera in CAMERAS]
        for camera in CAMERAS:
            image = seen.images[camera.name]
            assert image.shape == (camera.height, camera.width, 3)
            assert image.dtype == np.uint8
        assert len(np.unique(seen.images["cam_high"].reshape(-1, 3), axis=0)) >= 4


def test_red_and_blue_swap_sides_in_the_head_image() -> None:
    world = TabletopWorld(render=True)
    for seed in range(6):
        scene = sample_scene("colour", seed)
        world.reset(scene)
        image = world.observe().images["cam_high"].astype(int)
        red = np.argwhere((image[..., 0] > 120) & (image[..., 1] < 60))[:, 1].mean()
        blue = np.argwhere((image[..., 2] > 120) & (image[..., 0] < 60))[:, 1].mean()
        assert (red < blue) == (scene.placement("red_cube").pose[0] < 0)


def test_a_second_look_is_the_same_image() -> None:
    world = TabletopWorld(render=True)
    world.reset(sample_scene("rotate", 2))
    one, two = world.observe(), world.observe()
    for name, image in one.images.items():
        assert np.array_equal(image, two.images[name])
