"""Traces made by hand: objects and hands are put where a test wants them, no simulator runs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sim_eval.tabletop.judge.expression import NAME, NUMBER, TRUTH, Value, compile_expression
from sim_eval.tabletop.judge.sheet import WORD_MODULES
from sim_eval.tabletop.judge.view import ARMS, View
from sim_eval.tabletop.trace import SAMPLE_RATE_HZ, ObjectInfo, Trace

assert WORD_MODULES  # Importing the judge registers its words.
TABLE = 0.74
CUBE = (0.02, 0.02, 0.02)
DOWN = (np.sqrt(0.5), 0.0, np.sqrt(0.5), 0.0)
"""Quaternion of a gripper that points down: its x axis along world -z."""
AHEAD = (np.sqrt(0.5), 0.0, 0.0, np.sqrt(0.5))
"""Quaternion of a gripper that points away from the robot: its x axis along world +y."""
Between = tuple[float, float]


def cube(name: str) -> ObjectInfo:
    return ObjectInfo(name, "cube", CUBE)


def block(name: str) -> ObjectInfo:
    return ObjectInfo(name, "block", (0.02, 0.02, 0.05))


def mat(name: str = "mat") -> ObjectInfo:
    return ObjectInfo(name, "mat", (0.06, 0.06, 0.001), (0.0, 0.0, 0.001), movable=False)


def box(name: str = "box") -> ObjectInfo:
    return ObjectInfo(name, "box", (0.08, 0.08, 0.025), (0, 0, 0.025), (0.075, 0.075, 0.025), movable=False)


class Story:
    """A trace under construction: ``seconds`` long, objects at rest, hands far away, nothing touching."""

    def __init__(self, seconds: float, *objects: tuple[ObjectInfo, tuple[float, float]]) -> None:
        self.info = tuple(info for info, _ in objects)
        count = round(seconds * SAMPLE_RATE_HZ) + 1
        self.time = np.arange(count) / SAMPLE_RATE_HZ
        number = len(objects)
        self.pose = np.zeros((count, number, 7))
        self.pose[:, :, 3] = 1.0
        for index, (info, (x, y)) in enumerate(objects):
            # Origin of a graspable object is its centre, of a container the middle of its underside.
            self.pose[:, index, :3] = (x, y, TABLE + info.half_size[2] - info.center[2])
        self.tcp = np.zeros((count, 2, 7))
        self.tcp[:, :, :3] = [[-0.5, -0.5, 1.2], [0.5, -0.5, 1.2]]
        self.tcp[:, :, 3:] = DOWN
        self.touch = np.zeros((count, 2, number), dtype=bool)
        self.fingers = np.zeros((count, 2, 2, number), dtype=bool)
        self.support = np.zeros((count, number, number + 1), dtype=bool)
        self.support[:, :, -1] = True
        self.arm_table = np.zeros((count, 2), dtype=bool)
        self.arm_arm = np.zeros(count, dtype=bool)

    def index(self, name: str) -> int:
        return [info.name for info in self.info].index(name)

    def during(self, when: Between) -> np.ndarray:
        return (self.time >= when[0] - 1e-9) & (self.time <= when[1] + 1e-9)

    def put(self, name: str, when: Between, position: tuple[float, float, float]) -> Story:
        """The object is somewhere else during a time."""
        self.pose[self.during(when), self.index(name), :3] = position
        return self

    def turn(self, name: str, angle: Callable[[np.ndarray], np.ndarray], axis: int = 2) -> Story:
        """The object is turned about a world axis by an angle in degrees as a function of time."""
        half = np.radians(angle(self.time)) / 2.0
        self.pose[:, self.index(name), 3:] = 0.0
        self.pose[:, self.index(name), 3] = np.cos(half)
        self.pose[:, self.index(name), 4 + axis] = np.sin(half)
        return self

    def hand(
        self, arm: str, when: Between, position: tuple[float, float, float], pointing: tuple[float, ...] = DOWN
    ) -> Story:
        """A hand is somewhere during a time."""
        self.tcp[self.during(when), ARMS[arm], :3] = position
        self.tcp[self.during(when), ARMS[arm], 3:] = pointing
        return self

    def sweep(
        self,
        arm: str,
        when: Between,
        start: tuple[float, float, float],
        end: tuple[float, float, float],
        pointing: tuple[float, ...] = DOWN,
    ) -> Story:
        """A hand moves along a straight line during a time and stays there."""
        share = np.clip((self.time - when[0]) / (when[1] - when[0]), 0.0, 1.0)[:, None]
        self.tcp[:, ARMS[arm], :3] = np.asarray(start) + share * (np.asarray(end) - np.asarray(start))
        self.tcp[:, ARMS[arm], 3:] = pointing
        return self

    def push(self, arm: str, name: str, when: Between, fingers: tuple[int, ...] = ()) -> Story:
        """An arm touches an object, with some of its fingers, wherever its hand is."""
        rows = self.during(when)
        self.touch[rows, ARMS[arm], self.index(name)] = True
        for finger in fingers:
            self.fingers[rows, ARMS[arm], finger, self.index(name)] = True
        return self

    def grip(self, arm: str, name: str, when: Between) -> Story:
        """An arm holds an object between its fingers; its hand is at the object's centre."""
        rows = self.during(when)
        self.tcp[rows, ARMS[arm], :3] = self.pose[rows, self.index(name), :3]
        return self.push(arm, name, when, (0, 1))

    def rest(self, name: str, base: str, when: Between) -> Story:
        """An object rests on another and no longer on the table."""
        rows = self.during(when)
        self.support[rows, self.index(name), -1] = False
        self.support[rows, self.index(name), self.index(base)] = True
        return self

    def trace(self) -> Trace:
        count = len(self.time)
        return Trace(
            family="hand_made",
            seed=0,
            table_height=TABLE,
            info=self.info,
            time=self.time,
            object_pose=self.pose,
            tcp_pose=self.tcp,
            gripper=np.ones((count, 2)),
            joint_position=np.zeros((count, 14)),
            target=np.zeros((count, 14)),
            touch=self.touch,
            finger_touch=self.fingers,
            contact=self.support.copy(),
            support=self.support,
            arm_table=self.arm_table,
            arm_arm=self.arm_arm,
        )

    def _ask(self, text: str, kind: str) -> Value:
        names = [info.name for info in self.info]
        return compile_expression(text, kind, names).value(View(self.trace(), hold_s=0.3, settle_s=0.5))

    def says(self, text: str) -> str:
        """Answer of an expression that gives a name."""
        return str(self._ask(text, NAME))

    def holds(self, text: str) -> bool:
        """Answer of an expression that gives a truth."""
        return bool(self._ask(text, TRUTH))

    def measures(self, text: str) -> float:
        """Answer of an expression that gives a number."""
        value = self._ask(text, NUMBER)
        assert isinstance(value, float)
        return value
