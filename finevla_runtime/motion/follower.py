"""A motion that follows a goal as fast as the limits allow, and can stop inside the ranges at any instant.

Ruckig plans the time-optimal jerk-limited profile of each joint. What it does not promise is that a joint stays inside
its range on the way and afterwards; that is kept here by one rule: a step is taken only if the joint could still stop
inside its range after it. Otherwise the joint approaches the goal to rest there, or stops. From a state that can stop,
stopping is possible, so the rule can always be kept.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from finevla_runtime.contracts.action import DOF
from finevla_runtime.motion.limits import BoolArray, MotionLimits
from finevla_runtime.motion.setpoint import JointArray, Setpoint

if TYPE_CHECKING:
    import ruckig

# A goal that moves on at the top speed can never be caught; it is followed as if it were this share of it slow.
_CATCHING_UP = 0.95


class Follower:
    """Steps along jerk-limited motions within given limits; it keeps no state between calls."""

    def __init__(self, limits: MotionLimits) -> None:
        """Prepare the planner."""
        import ruckig

        self.limits = limits
        self._ruckig = ruckig
        # The control cycle decides nothing here: plans are asked for any time along them.
        self._planner = ruckig.Ruckig(DOF, 0.001)
        self._towards = self._input(ruckig.ControlInterface.Position)
        self._to_rest = self._input(ruckig.ControlInterface.Velocity)

    def step(self, state: Setpoint, goal: Setpoint, dt_s: float) -> Setpoint:
        """Return where a motion from ``state`` towards ``goal`` is after ``dt_s``.

        Args:
            state: present setpoint; it must be one from which every joint can stop inside its range.
            goal: where to be after ``dt_s`` and how fast; positions outside the ranges mean their nearest end.
            dt_s: time to go, seconds.
        """
        place = self.limits.clip(goal.position)
        top = _CATCHING_UP * self.limits.velocity
        speed = np.where(place == goal.position, np.clip(goal.velocity, -top, top), 0.0)
        found = self._plan(state, place, speed, dt_s)
        kept = self.can_stop(found)
        for speeds in (np.zeros(DOF), None):
            if kept.all():
                return found
            other = self.brake(state, dt_s) if speeds is None else self._plan(state, place, speeds, dt_s)
            found = found.where(kept, other)
            kept = kept | self.can_stop(other)
        return found

    def brake(self, state: Setpoint, dt_s: float) -> Setpoint:
        """Return where the motion from ``state`` to rest is after ``dt_s``, all joints stopping as fast as they may."""
        return self._inside(self._point(self._stop(state), dt_s))

    def stop_s(self, state: Setpoint) -> float:
        """Return the seconds until the last joint rests."""
        return float(self._stop(state).duration)

    def stop_path(self, state: Setpoint, points: int) -> JointArray:
        """Return float64[points, 14], positions evenly spaced in time from ``state`` to rest, the last at rest."""
        plan = self._stop(state)
        times = np.linspace(0.0, plan.duration, points)
        return np.array([plan.at_time(float(time))[0] for time in times])

    def can_stop(self, state: Setpoint) -> BoolArray:
        """Return bool[14], which joints keep to their rates and could stop inside their range."""
        extremes = self._stop(state).position_extrema
        lowest = np.array([bound.min for bound in extremes])
        highest = np.array([bound.max for bound in extremes])
        inside = self.limits.position_kept(lowest) & self.limits.position_kept(highest)
        return np.asarray(inside & self.limits.rates_kept(state))

    def _plan(self, state: Setpoint, place: JointArray, speed: JointArray, dt_s: float) -> Setpoint:
        """Return where a motion is after ``dt_s`` that meets a goal moving on at ``speed`` as soon as it can.

        Planned in the frame of the goal: a plan that met a goal standing at ``place`` with ``speed`` would first go
        backwards to take a run-up.
        """
        limits, begin = self.limits, place - speed * dt_s
        self._towards.max_velocity = (limits.velocity - speed).tolist()
        self._towards.min_velocity = (-limits.velocity - speed).tolist()
        seen = Setpoint(state.position - begin, state.velocity - speed, state.acceleration)
        found = self._point(self._calculate(self._towards, seen), dt_s)
        return self._inside(Setpoint(found.position + place, found.velocity + speed, found.acceleration))

    def _stop(self, state: Setpoint) -> ruckig.Trajectory:
        return self._calculate(self._to_rest, state)

    def _calculate(self, question: ruckig.InputParameter, state: Setpoint) -> ruckig.Trajectory:
        question.current_position = state.position.tolist()
        question.current_velocity = state.velocity.tolist()
        question.current_acceleration = state.acceleration.tolist()
        plan = self._ruckig.Trajectory(DOF)
        self._planner.calculate(question, plan)
        return plan

    def _point(self, plan: ruckig.Trajectory, dt_s: float) -> Setpoint:
        position, velocity, acceleration = (np.array(values, dtype=np.float64) for values in plan.at_time(dt_s))
        return Setpoint(position, velocity, acceleration)

    def _inside(self, found: Setpoint) -> Setpoint:
        """Return a point of a plan without the rounding that would put it a hair outside of the limits."""
        limits = self.limits
        return Setpoint(
            found.position,
            np.clip(found.velocity, -limits.velocity, limits.velocity),
            np.clip(found.acceleration, -limits.acceleration, limits.acceleration),
        )

    def _input(self, interface: ruckig.ControlInterface) -> ruckig.InputParameter:
        question = self._ruckig.InputParameter(DOF)
        question.control_interface = interface
        # Joints are independent: synchronising them would slow all down to the one that is furthest behind.
        question.synchronization = self._ruckig.Synchronization.No
        question.max_velocity = self.limits.velocity.tolist()
        question.max_acceleration = self.limits.acceleration.tolist()
        question.max_jerk = self.limits.jerk.tolist()
        question.target_position = [0.0] * DOF
        question.target_velocity = [0.0] * DOF
        return question
