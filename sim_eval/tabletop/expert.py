"""Runs the scripted experts: clean targets as labels, executed with or without noise."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from finevla_runtime.contracts.clock import process_cpu_s
from sim_eval.tabletop.catalog import FAMILIES, find_family, sample_scene
from sim_eval.tabletop.kinematics import LOWER, UPPER
from sim_eval.tabletop.motion import Plan
from sim_eval.tabletop.scene import Scene
from sim_eval.tabletop.trace import Trace
from sim_eval.tabletop.world import TabletopWorld

Floats = NDArray[np.float64]
NOISE_MEMORY = 0.8
"""Correlation of the joint noise from one control step to the next."""


@dataclass(frozen=True, slots=True)
class Demonstration:
    """One executed expert episode.

    Attributes:
        family, variant, seed: which episode.
        clean: float32 [T, 14], the expert's targets: the labels.
        executed: float32 [T, 14], the targets that were sent: clean plus noise.
        joint_position: float32 [T, 14], measured before each step.
        images: uint8 [T, height, width, 3] by camera, seen before each step; empty without rendering.
        trace: what a judge sees.
        success: whether the goal of the variant was reached.
    """

    family: str
    variant: str
    seed: int
    clean: NDArray[np.float32]
    executed: NDArray[np.float32]
    joint_position: NDArray[np.float32]
    images: dict[str, NDArray[np.uint8]]
    trace: Trace
    success: bool


def plan(scene: Scene, variant: str) -> Plan:
    """The expert's plan for a scene and a variant."""
    return find_family(scene.family).plan(scene, variant)


def noise_level(seed: int) -> float:
    """Noise of a demonstration in rad: none for a quarter of the seeds, .01 to .03 for the others."""
    rng = np.random.default_rng([11, seed])
    return 0.0 if rng.random() < 0.25 else float(rng.uniform(0.01, 0.03))


def joint_noise(scale: Floats, level: float, seed: int) -> Floats:
    """AR(1) joint noise [T, 14] in rad of stationary deviation level * scale; grippers get none."""
    rng = np.random.default_rng([23, seed])
    draws = rng.standard_normal((len(scale), 2, 6))
    state, out = np.zeros((2, 6)), np.zeros((len(scale), 14))
    for index, row in enumerate(draws):
        state = NOISE_MEMORY * state + np.sqrt(1.0 - NOISE_MEMORY**2) * row
        shaped = state * level * scale[index][:, None]
        out[index, :6], out[index, 7:13] = shaped
    return out


def run_expert(
    world: TabletopWorld, scene: Scene, variant: str, noise: float, seed: int, observe: bool
) -> Demonstration:
    """Resets the world to a scene and executes the expert.

    Args:
        world: the world to act in; images need one that renders.
        scene: where the episode starts.
        variant: what the expert does.
        noise: deviation of the joint noise in rad, 0 for none; the labels stay clean.
        seed: of the noise.
        observe: whether to take images before every step.
    """
    script = plan(scene, variant)
    wanted = script.targets + (joint_noise(script.noise_scale, noise, seed) if noise > 0.0 else 0.0)
    low, high = np.tile(np.append(LOWER, 0.0), 2), np.tile(np.append(UPPER, 1.0), 2)
    executed = np.clip(wanted, low, high).astype(np.float32)
    world.reset(scene)
    frames: dict[str, list[NDArray[np.uint8]]] = {}
    joints = []
    for target in executed:
        if observe:
            seen = world.observe()
            joints.append(seen.joint_position)
            for name, image in seen.images.items():
                frames.setdefault(name, []).append(image)
        else:
            joints.append(world.joint_position())
        world.step(target)
    trace = world.trace()
    return Demonstration(
        scene.family,
        variant,
        scene.seed,
        script.targets.astype(np.float32),
        executed,
        np.stack(joints),
        {name: np.stack(images) for name, images in frames.items()},
        trace,
        find_family(scene.family).reached(trace, variant),
    )


@dataclass(frozen=True, slots=True)
class ExpertRow:
    """Successes of one expert: trials, successes, seeds that failed, mean steps, CPU-seconds per episode."""

    family: str
    variant: str
    trials: int
    successes: int
    failed: tuple[int, ...]
    mean_steps: float
    cpu_seconds: float


def expert_table(
    seeds_per_variant: int, first_seed: int = 0, noise: float | None = 0.0, families: tuple[str, ...] = ()
) -> list[ExpertRow]:
    """Runs every expert on consecutive seeds without rendering.

    Args:
        seeds_per_variant: trials of each variant.
        first_seed: first scene seed.
        noise: joint noise in rad, or None for the mixture that demonstrations use.
        families: families to run, all when empty.
    """
    world = TabletopWorld(render=False)
    rows = []
    for item in (find_family(name) for name in families or tuple(FAMILIES)):
        for variant in dict.fromkeys((*item.demo_variants, *item.variants)):
            begin, steps, failed = process_cpu_s(), 0, []
            for seed in range(first_seed, first_seed + seeds_per_variant):
                level = noise_level(seed) if noise is None else noise
                demo = run_expert(world, sample_scene(item.id, seed), variant, level, seed, observe=False)
                steps += len(demo.clean)
                if not demo.success:
                    failed.append(seed)
            cost = (process_cpu_s() - begin) / seeds_per_variant
            done = seeds_per_variant - len(failed)
            rows.append(
                ExpertRow(item.id, variant, seeds_per_variant, done, tuple(failed), steps / seeds_per_variant, cost)
            )
    return rows
