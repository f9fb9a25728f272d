"""The last stage before the commands are sent: follows any target without exceeding a limit."""

from __future__ import annotations

import copy
from math import isfinite
from typing import Any

import numpy as np

from vdd_ros.control.joint_tracker import LAG, POSITION, DirectJoint, Joint, SmoothJoint
from vdd_ros.control.limits import KINDS, Limits
from vdd_ros.control.trajectory import State


class Tracker:
    """Applies the joint limits: computes the next command from a target, one call for each command."""

    def __init__(self, limits: Limits, seconds: float) -> None:
        """Set the limits for a fixed time between commands [s]."""
        self.limits = limits
        self.seconds = seconds
        rows = zip(limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk)
        self._joints: list[Joint] = [
            DirectJoint(float(low), float(high), float(speed) * seconds, limits.recovery * seconds)
            if np.isinf(bend) and np.isinf(jerk)
            else SmoothJoint(
                float(low),
                float(high),
                float(speed) * seconds,
                float(bend) * seconds**2,
                float(jerk) * seconds**3,
                limits.recovery * seconds,
            )
            for low, high, speed, bend, jerk in rows
        ]
        self._lags = limits.lag.tolist()
        self.position = np.zeros(len(limits))
        """The last command, shape (joint,) [rad]; every command is a new array."""
        self.velocity = self.acceleration = self._rest = np.zeros(len(limits))
        """Velocity [rad/s] and acceleration [rad/s^2] of the last command, shape (joint,) each."""
        self.clamped = False
        """Whether a limit changed the last command."""
        self._followed: np.ndarray | None = None

    @property
    def state(self) -> State:
        """Position, velocity and acceleration of the motion that the commands sample."""
        acceleration = self.acceleration
        return State(self.position, self.velocity + acceleration * self.seconds / 2, acceleration)

    @property
    def moving(self) -> bool:
        """Whether the arm still moves."""
        return any(joint.velocity or joint.acceleration for joint in self._joints)

    @property
    def clamps(self) -> dict[str, tuple[int, ...]]:
        """Number of limited commands, by kind of limit and joint."""
        return {kind: tuple(joint.clamps[index] for joint in self._joints) for index, kind in enumerate(KINDS)}

    def copy(self) -> Tracker:
        """Return an independent copy with the same state."""
        twin = copy.copy(self)
        twin._joints = [joint.copy() for joint in self._joints]
        return twin

    def reset(self, position: np.ndarray) -> None:
        """Set the arm to rest at a finite position, shape (joint,) [rad], which may lie outside the limits."""
        self.position = np.array(position, dtype=np.float64)
        self.velocity = self.acceleration = self._rest
        self._followed = None
        for joint, value in zip(self._joints, self.position.tolist()):
            joint.reset(value)

    def follow(self, position: np.ndarray, places: slice = slice(None)) -> None:
        """Use a command of another node as the last command.

        ``position`` contains the joints with indices ``places``, by default all joints; shape (joint,) [rad].
        """
        before = np.full(len(self._joints), np.nan) if self._followed is None else self._followed
        self.position, followed, self.velocity = self.position.copy(), before.copy(), self.velocity.copy()
        self.position[places] = followed[places] = position
        self._followed = followed
        paces = followed[places] - before[places]
        paces[np.isnan(paces)] = 0.0
        for joint, value, pace in zip(self._joints[places], self.position[places].tolist(), paces.tolist()):
            joint.reset(value)
            # The other program may exceed the limits.
            joint.velocity = min(max(pace, -joint.greatest), joint.greatest)
        self.velocity[places], self.acceleration = paces / self.seconds, self._rest

    def step(self, target: np.ndarray, measured: np.ndarray | None = None) -> np.ndarray:
        """Return the next command, shape (joint,) [rad].

        Parameters
        ----------
        target
            Target position, shape (joint,) [rad]. A joint whose target is not finite keeps its position.
        measured
            Measured position, shape (joint,) [rad]; the distance of the command from it stays within the ``lag`` of
            the limits. None: the lag is not limited.

        """
        free = True
        near: Any = target if measured is None else measured.tolist()
        command = []
        for joint, goal, place, lag in zip(self._joints, target.tolist(), near, self._lags):
            if not isfinite(goal):
                goal = joint.position
                joint.clamps[POSITION] += 1
                free = False
            elif measured is not None:
                low, high = place - lag, place + lag
                if goal < low or goal > high:
                    goal = min(max(goal, low), high)
                    joint.clamps[LAG] += 1
                    free = False
                if abs(joint.position - place) > lag - joint.longest_stop:
                    joint.confine(low, high)
            free &= joint.step(goal)
            command.append(joint.position)
        self.clamped = not free
        return self._note(np.array(command))

    def brake(self) -> np.ndarray:
        """Return the next command of the quickest stop, shape (joint,) [rad]."""
        for joint in self._joints:
            joint.brake()
        self.clamped = False
        return self._note(np.array([joint.position for joint in self._joints]))

    def _note(self, position: np.ndarray) -> np.ndarray:
        velocity = (position - self.position) / self.seconds
        self.acceleration = (velocity - self.velocity) / self.seconds
        self.velocity, self.position = velocity, position
        return position
