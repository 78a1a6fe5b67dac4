"""The kinematic body that the tests move, and how far it may be from where it should be."""

from __future__ import annotations

from finevla_runtime.contracts.embodiment import Embodiment, load_embodiment
from finevla_runtime.paths import HW_CONFIGS
from finevla_runtime.robot.kinematic_body import KinematicBody


def embodiment() -> Embodiment:
    return load_embodiment(HW_CONFIGS / "cobot_magic_sim.yaml")


def kinematic_body() -> KinematicBody:
    return KinematicBody(embodiment())
