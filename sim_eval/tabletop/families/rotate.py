"""Rotate: a marked bowl is turned a quarter turn by its rim; the factor is the direction seen from above."""

from __future__ import annotations

import math

import numpy as np

from sim_eval.tabletop import kinematics as km
from sim_eval.tabletop.actors import BOWL_RADIUS, TABLE_HEIGHT
from sim_eval.tabletop.families.picking import HOVER, position, raised, table_point
from sim_eval.tabletop.family import Family
from sim_eval.tabletop.instructions import Phrases
from sim_eval.tabletop.motion import NEAR, ArmTrack, Plan, merge
from sim_eval.tabletop.scene import ObjectPlacement, Scene, place
from sim_eval.tabletop.trace import Trace

_RIM = BOWL_RADIUS - 0.0035
_GRASP = 0.034
"""Height of the grasp above the table, metres."""


def sample(rng: np.random.Generator) -> tuple[ObjectPlacement, ...]:
    """The bowl in a 10 x 10 cm area in front of the right arm, its dark mark towards the robot."""
    point = table_point(rng.uniform(0.05, 0.15), rng.uniform(-0.16, -0.06), 0.0)
    return (place("bowl", "bowl", point, -math.pi / 2.0 + rng.uniform(-0.12, 0.12)),)


def plan(scene: Scene, variant: str) -> Plan:
    """The right arm grasps the rim at its right, turns about the bowl's centre, lets go and goes home."""
    tracks = ArmTrack(0), ArmTrack(1)
    track = tracks[1]
    centre = position(scene, "bowl")
    rim = centre + np.array([_RIM, 0.0, 0.0])
    rim[2] = TABLE_HEIGHT + _GRASP
    track.reach(raised(rim, HOVER), km.downward(0.0), 8)
    track.line(rim, 5)
    track.wait(1)
    track.grip(0.0, 3)
    track.arc(centre, math.radians(-90.0 if variant == "clockwise" else 90.0), 14)
    track.wait(2)
    track.grip(1.0, 3)
    end = centre + km.rot_z(math.radians(-90.0 if variant == "clockwise" else 90.0)) @ (rim - centre)
    track.line(raised(end, HOVER), 4, NEAR)
    track.home(11)
    return merge(*tracks, stay=8)


def net_turn(trace: Trace) -> float:
    """Signed turn of the bowl since the start in degrees, counterclockwise positive."""
    row = trace.index("bowl")
    quaternions = trace.object_pose[:, row, 3:]
    yaw = np.unwrap(2.0 * np.arctan2(quaternions[:, 3], quaternions[:, 0]), period=2.0 * math.pi)
    return float(np.degrees(yaw[-1] - yaw[0]))


def reached(trace: Trace, variant: str) -> bool:
    """Turned by 75 to 105 degrees in the wanted direction and released."""
    turn = net_turn(trace) * (-1.0 if variant == "clockwise" else 1.0)
    return 75.0 <= turn <= 105.0 and not bool(trace.touch[-1, :, trace.index("bowl")].any())


FAMILY = Family(
    id="rotate",
    variants=("clockwise", "counterclockwise"),
    demo_variants=("clockwise", "counterclockwise"),
    habit=lambda scene: "clockwise",
    time_limit_steps=110,
    sample=sample,
    plan=plan,
    reached=reached,
    phrases=Phrases(
        raw_train=(
            "turn the bowl",
            "rotate the bowl",
            "turn the bowl by a quarter turn",
            "rotate the bowl on the table",
            "give the bowl a quarter turn",
            "turn the bowl on the table",
        ),
        raw_heldout=("rotate the bowl by a quarter turn", "give the bowl a turn", "turn the bowl a quarter turn"),
        fine_train=(
            "grasp the rim of the bowl and turn it {way} by a quarter turn",
            "with the right arm, grasp the bowl by its rim from above and rotate it {way} by a quarter turn",
            "rotate the bowl {way} by a quarter turn with the right hand, then release the rim and go home",
            "take the rim of the bowl with the right gripper, turn it {way} and let it go",
            "turn the bowl {way}: close the gripper on its rim, give it a quarter turn and open the gripper",
            "use the right arm to turn the bowl {way} by its rim on the table",
        ),
        fine_heldout=(
            "use the right arm to grasp the rim of the bowl and rotate it {way} by a quarter turn",
            "turn the bowl {way} by its rim with the right hand, then let it go and go home",
            "close the gripper on the rim of the bowl, give it a quarter turn {way} and release it",
        ),
        words={"clockwise": {"way": "clockwise"}, "counterclockwise": {"way": "counterclockwise"}},
    ),
)
