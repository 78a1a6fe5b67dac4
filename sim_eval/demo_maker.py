"""Makes one demonstration of the tabletop suite: the scripted expert, seen by the three cameras."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from finevla_runtime.contracts.errors import SetupError
from finevla_runtime.recording.dataset_format import CameraFormat, DatasetFormat
from finevla_runtime.recording.episode import DemonstrationNote, Episode
from sim_eval.demos import Attempt, DemoMaker, Made
from sim_eval.tabletop.cameras import CAMERAS
from sim_eval.tabletop.catalog import EVALUATION_SEED_START, FAMILIES, find_family, instruction, sample_scene
from sim_eval.tabletop.expert import Demonstration, noise_level, run_expert
from sim_eval.tabletop.trace import SAMPLE_RATE_HZ, Trace
from sim_eval.tabletop.world import CONTROL_HZ, TabletopWorld

ARMS = ("left", "right")


@dataclass(frozen=True, slots=True)
class FirstContact:
    """The first touch of a movable object: which arm, where the object stood at the start (m), in which step."""

    arm: str
    target_xy: tuple[float, float]
    control_step: int


def demo_format(frames: str) -> DatasetFormat:
    """The format of the suite's datasets; ``frames`` is ``png`` or ``video``."""
    cameras = tuple(CameraFormat(camera.name, camera.height, camera.width) for camera in CAMERAS)
    return DatasetFormat("cobot_magic_sim", CONTROL_HZ, cameras, frames)


def demo_plan(families: tuple[str, ...], scenes: int, seed: int, scenes_unpaired: int) -> tuple[Attempt, ...]:
    """Plan the attempts: every trained variant of a family on the same scenes, scene by scene.

    Scene-major order keeps every prefix of the dataset balanced over families and variants.

    Args:
        families: ids, all families when empty; the out-of-distribution variant is never demonstrated.
        scenes: scenes per family with paired variants.
        seed: first scene seed.
        scenes_unpaired: scenes per family with a single variant.

    Raises:
        SetupError: FV-SIM-001 for an unknown family, FV-DEM-004 when a scene seed belongs to the evaluation.
    """
    last = seed + max(scenes, scenes_unpaired)
    if seed < 0 or last > EVALUATION_SEED_START:
        raise SetupError(
            "FV-DEM-004",
            f"scene seeds {seed}..{last - 1} leave 0..{EVALUATION_SEED_START - 1}; later seeds are held out for "
            "the evaluation. Choose a smaller --seed or fewer --scenes.",
        )
    chosen = [find_family(name) for name in families or tuple(FAMILIES)]
    rows = []
    for scene_seed in range(seed, last):
        for family in chosen:
            limit = scenes if len(family.demo_variants) > 1 else scenes_unpaired
            if scene_seed < seed + limit:
                rows.append([(family.id, variant, scene_seed) for variant in family.demo_variants])
    return tuple(Attempt(number, *row) for number, row in enumerate(chain.from_iterable(rows)))


def tabletop_maker() -> DemoMaker:
    """Build the world and return the function that runs one attempt in it; no attempt leaves a trace in the next."""
    world = TabletopWorld(render=True)

    def make(attempt: Attempt) -> Made:
        scene = sample_scene(attempt.family, attempt.scene_seed)
        noise = noise_level(attempt.scene_seed)
        demo = run_expert(world, scene, attempt.variant, noise, attempt.scene_seed, observe=True)
        contact = first_contact(demo.trace)
        if not demo.success or contact is None:
            return Made(None, "the expert did not reach the goal" if contact else "the expert touched nothing")
        return Made(_episode(attempt, demo, contact, noise))

    return make


def first_contact(trace: Trace) -> FirstContact | None:
    """Return the first touch of a movable object, None when nothing was touched."""
    movable = np.array([item.movable for item in trace.info])
    touched = trace.touch & movable
    if not touched.any():
        return None
    sample, arm, item = (int(index) for index in np.argwhere(touched)[0])
    x, y = (float(number) for number in trace.object_pose[0, item, :2])
    steps = int(trace.time[sample] * CONTROL_HZ - 0.5 * CONTROL_HZ / SAMPLE_RATE_HZ)
    return FirstContact(ARMS[arm], (x, y), max(0, steps))


def _episode(attempt: Attempt, demo: Demonstration, contact: FirstContact, noise: float) -> Episode:
    phrases = find_family(attempt.family).phrases
    family, variant, seed = attempt.family, attempt.variant, attempt.scene_seed
    note = DemonstrationNote(
        family=family,
        variant=variant,
        scene_seed=seed,
        noise=noise,
        target_xy=contact.target_xy,
        acting_arm=contact.arm,
        success=demo.success,
        habitual=variant == find_family(family).habit(sample_scene(family, seed)),
        decision_steps=contact.control_step,
        raw_texts=phrases.texts(variant, "raw", "train"),
        fine_grained_texts=phrases.texts(variant, "fine_grained", "train"),
    )
    return Episode(
        task=instruction(family, variant, "raw", "train", seed),
        fine_grained=(instruction(family, variant, "fine_grained", "train", seed),),
        state=demo.joint_position,
        action=demo.clean,
        frames=demo.images,
        note=note,
    )
