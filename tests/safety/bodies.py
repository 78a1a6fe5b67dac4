"""The shipped bodies and random poses of them, for the tests of body and space."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pinocchio
from hypothesis import strategies as st

from finevla_runtime.contracts.action import DOF
from finevla_runtime.contracts.embodiment import load_embodiment
from finevla_runtime.motion.setpoint import JointArray
from finevla_runtime.safety.body import Body, Floats, Shape
from finevla_runtime.safety.space_config import SpaceConfig, load_space_config

HARDWARE = Path(__file__).resolve().parents[2] / "hw_configs"
NAMES = ("cobot_magic_sim", "cobot_magic")
CONFIGS: dict[str, SpaceConfig] = {name: load_space_config(HARDWARE / "spaces" / f"{name}.yaml") for name in NAMES}
BODIES = {name: Body(config.urdf, config.finger_travel) for name, config in CONFIGS.items()}
MODELS = {name: pinocchio.buildModelFromXML(config.urdf.read_text()) for name, config in CONFIGS.items()}
SIM = load_embodiment(HARDWARE / "cobot_magic_sim.yaml")
HOME = np.array([joint.home for joint in SIM.joints])
# Ranges that hold those of both bodies.
LOWER = np.array([joint.lower for joint in SIM.joints])
UPPER = np.array([joint.upper for joint in SIM.joints])


def poses(rows: int = 1) -> st.SearchStrategy[JointArray]:
    """float64[rows, 14] anywhere in the ranges."""
    return st.integers(0, 2**32 - 1).map(lambda seed: np.random.default_rng(seed).uniform(LOWER, UPPER, (rows, DOF)))


def short_ways() -> st.SearchStrategy[JointArray]:
    """float64[2, 14], two poses up to 0.2 rad apart in every joint."""

    def draw(seed: int) -> JointArray:
        rng = np.random.default_rng(seed)
        start = rng.uniform(LOWER, UPPER)
        return np.stack([start, np.clip(start + rng.uniform(-0.2, 0.2, DOF), LOWER, UPPER)])

    return st.integers(0, 2**32 - 1).map(draw)


def joint_vector(name: str, row: JointArray) -> Floats:
    """Spread one row to the joints of the description, written apart from the code that is tested."""
    travel = CONFIGS[name].finger_travel
    left, right = [row[6] * travel] * 2, [row[13] * travel] * 2
    return np.concatenate([row[:6], left, row[7:13], right])


def toward(inward: float, lower: float = 0.0) -> JointArray:
    """Return a pose of the simulated body: home with both hands turned inward (rad) and the upper arms let down."""
    pose = HOME.copy()
    pose[0] -= inward
    pose[7] += inward
    pose[[1, 8]] += lower
    return pose


def surface_points(shape: Shape) -> Floats:
    """Return float64[4, points], points on a shape's surface that span it, in its frame."""
    if shape.half.any():
        points = np.array(np.meshgrid(*([-1.0, 1.0],) * 3)).reshape(3, -1) * shape.half[:, None]
    elif shape.half_length:
        around = np.linspace(0.0, 2.0 * np.pi, 16, endpoint=False)
        rim = shape.radius * np.stack([np.cos(around), np.sin(around)])
        points = np.concatenate([np.vstack([rim, np.full(16, end * shape.half_length)]) for end in (-1.0, 1.0)], axis=1)
    else:
        points = shape.radius * np.concatenate([np.eye(3), -np.eye(3)], axis=1)
    return np.vstack([points, np.ones(points.shape[1])])
