"""The last thing before the motor: follows any target whatever, and never breaks a limit.

For each joint a state of position, velocity and acceleration *of the commands*. A step chooses the next command so that
all limits hold now and the quickest stop from there stays within the position limits (see `braking`). That is enough
for ever: whatever the next target is, the first step of that very stop is always allowed, and so is the rest of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite, sqrt

import numpy as np

from vdd_ros.control.braking import braking_acceleration, greatest_acceleration, stopping_extent
from vdd_ros.control.limits import KINDS, Limits
from vdd_ros.control.trajectory import State

_POSITION, _VELOCITY, _ACCELERATION, _JERK, _LAG = range(len(KINDS))
_FREE = -1

_SETTLED = 8.0
"""Steps in which what is left of a small deviation is taken back; fewer would swing."""
_HALVINGS = 8
_FARTHEST = 1e3
"""A step longer than this [rad] is never taken, even without any limit."""


class Tracker:
    """Turns targets into commands for an arm: one call for each command."""

    def __init__(self, limits: Limits, seconds: float) -> None:
        """Keep limits at a fixed time between commands [s]."""
        self.limits = limits
        self.seconds = seconds
        rows = zip(limits.lower, limits.upper, limits.velocity, limits.acceleration, limits.jerk)
        self._joints = [
            _Direct(float(low), float(high), float(speed) * seconds, limits.recovery * seconds)
            if np.isinf(bend) and np.isinf(jerk)
            else _Smooth(
                float(low),
                float(high),
                float(speed) * seconds,
                float(bend) * seconds**2,
                float(jerk) * seconds**3,
                limits.recovery * seconds,
            )
            for low, high, speed, bend, jerk in rows
        ]
        self.position = np.zeros(len(limits))
        """The newest command, shape (joint,) [rad]; a new array for each."""
        self.clamped = False
        """Whether a limit changed it."""

    @property
    def velocity(self) -> np.ndarray:
        """By which the newest command came from the one before, shape (joint,) [rad/s]."""
        return np.array([joint.velocity for joint in self._joints]) / self.seconds

    @property
    def acceleration(self) -> np.ndarray:
        """By which that velocity came from the one before, shape (joint,) [rad/s^2]."""
        return np.array([joint.acceleration for joint in self._joints]) / self.seconds**2

    @property
    def state(self) -> State:
        """Of the motion that the commands sample."""
        acceleration = self.acceleration
        return State(self.position, self.velocity + acceleration * self.seconds / 2, acceleration)

    @property
    def moving(self) -> bool:
        """Whether the arm is not at rest yet."""
        return any(joint.velocity or joint.acceleration for joint in self._joints)

    @property
    def clamps(self) -> dict[str, tuple[int, ...]]:
        """Commands changed so far, by kind of limit and joint."""
        return {kind: tuple(joint.clamps[index] for joint in self._joints) for index, kind in enumerate(KINDS)}

    def reset(self, position: np.ndarray) -> None:
        """Be at rest at a position, shape (joint,) [rad], finite; it may lie outside the limits."""
        self.position = np.array(position, dtype=np.float64)
        for joint, value in zip(self._joints, self.position.tolist()):
            joint.reset(value)

    def follow(self, position: np.ndarray) -> None:
        """Take a position, shape (joint,) [rad], that another one commanded for the newest command."""
        for joint, value in zip(self._joints, position.tolist()):
            velocity = value - joint.position
            joint.position, joint.velocity, joint.acceleration = value, velocity, velocity - joint.velocity
        self.position = np.array(position, dtype=np.float64)
        self.clamped = True

    def step(self, target: np.ndarray, measured: np.ndarray | None = None) -> np.ndarray:
        """Return the next command, shape (joint,) [rad].

        Parameters
        ----------
        target
            Where the arm should be by now, shape (joint,) [rad]; a number that is not finite asks to stay.
        measured
            Where it is; the command is not led farther from there than the limits' ``lag``.

        """
        lag, free = self.limits.lag, True
        near: Sequence[float] = target if measured is None else measured.tolist()
        command = []
        for joint, goal, place in zip(self._joints, target.tolist(), near):
            if not isfinite(goal):
                goal = joint.position
                joint.clamps[_POSITION] += 1
                free = False
            elif measured is not None and not -lag <= goal - place <= lag:
                goal = min(max(goal, place - lag), place + lag)
                joint.clamps[_LAG] += 1
                free = False
            free &= joint.step(goal)
            command.append(joint.position)
        self.clamped = not free
        self.position = np.array(command)
        return self.position

    def brake(self) -> np.ndarray:
        """Return the next command of the quickest stop, shape (joint,) [rad]."""
        for joint in self._joints:
            joint.brake()
        self.clamped = False
        self.position = np.array([joint.position for joint in self._joints])
        return self.position


class _Joint:
    """What the two kinds of joints share: limits and state in steps, and the way back inside the position limits."""

    def __init__(self, lower: float, upper: float, velocity: float, recovery: float) -> None:
        self.lower, self.upper, self.greatest, self.recovery = lower, upper, velocity, recovery
        self.clamps = [0] * len(KINDS)
        self.reset(0.0)

    def reset(self, position: float) -> None:
        self.position, self.velocity, self.acceleration = position, 0.0, 0.0
        self.target, self.pace = position, 0.0
        # The limits that hold until the joint is back inside: it is let in slowly, and never farther out.
        self.floor, self.ceiling = min(self.lower, position), max(self.upper, position)
        self.outside = self.floor < self.lower or self.ceiling > self.upper

    def within(self, target: float) -> float:
        """Return the target nearest to a wanted one that the position limits allow."""
        if self.outside:
            self.floor = min(self.lower, self.floor + self.recovery)
            self.ceiling = max(self.upper, self.ceiling - self.recovery)
            self.outside = self.floor < self.lower or self.ceiling > self.upper
        allowed = min(max(target, self.floor), self.ceiling)
        if allowed != target:
            self.clamps[_POSITION] += 1
        return allowed


class _Direct(_Joint):
    """A joint that only its position and speed are limited of: it goes as near to the target as one step leads."""

    def step(self, target: float) -> bool:
        allowed = self.within(target)
        before = self.position
        self.position = min(max(allowed, before - self.greatest), before + self.greatest)
        if self.position != allowed:
            self.clamps[_VELOCITY] += 1
        self.acceleration = self.position - before - self.velocity
        self.velocity = self.position - before
        return self.position == target

    def brake(self) -> None:
        self.velocity = self.acceleration = 0.0


class _Smooth(_Joint):
    """A joint that is also limited in acceleration and jerk."""

    def __init__(
        self, lower: float, upper: float, velocity: float, acceleration: float, jerk: float, recovery: float
    ) -> None:
        # Where a limit is absent, one that can never be felt stands in for it.
        velocity = min(velocity, _FARTHEST)
        self.bend = min(acceleration, 2 * velocity)
        self.jerk = min(jerk, 2 * self.bend)
        super().__init__(lower, upper, velocity, min(recovery, velocity / 2))

    def reset(self, position: float) -> None:
        super().reset(position)
        self.low_wall, self.high_wall = self.floor, self.ceiling

    def step(self, target: float) -> bool:
        jerk, greatest, bend = self.jerk, self.greatest, self.bend
        allowed = self.within(target)
        pace = min(max(allowed - self.target, -greatest), greatest)
        turn = min(max(pace - self.pace, -bend), bend)
        error = self.target - self.position
        self.target, self.pace = allowed, pace

        velocity = allowed - self.position
        acceleration = velocity - self.velocity
        kind = _FREE
        if abs(velocity) > greatest:
            kind = _VELOCITY
        elif abs(acceleration) > bend:
            kind = _ACCELERATION
        elif abs(acceleration - self.acceleration) > jerk:
            kind = _JERK
        # The step that hits the target is taken if the next ones, that keep on it, will be allowed as well.
        drift = velocity - pace
        exact = kind == _FREE and abs(drift) + abs(drift + acceleration - turn) <= jerk / 2
        if not exact:
            acceleration = self.acceleration + self._homing_jerk(error, self.velocity - pace, self.acceleration - turn)
        felt = self._advance(acceleration)
        if exact and felt == _FREE:
            self.velocity, self.position = velocity, allowed
        if felt == _POSITION or (exact and felt != _FREE):
            kind = felt  # else what is felt is the way home, and not the target's doing
        if kind != _FREE:
            self.clamps[kind] += 1
        return kind == _FREE and allowed == target

    def brake(self) -> None:
        self._move(braking_acceleration(self.velocity, self.acceleration, self.bend, self.jerk))
        self.target, self.pace = self.position, 0.0

    def _homing_jerk(self, error: float, drift: float, swing: float) -> float:
        """Return the first jerk of a quintic that would end on the target, in so many steps as the limits let it take.

        Asked for anew in every step, it makes the deviation fade without swinging, all the faster the smaller it is.
        """
        size, speed = abs(error), abs(drift)
        steps = max(
            _SETTLED,
            (60 * size / self.jerk) ** (1 / 3),
            sqrt(5.8 * size / self.bend),
            1.9 * size / self.greatest,
            6 * sqrt(speed / self.jerk),
            3 * speed / self.bend,
            9 * abs(swing) / self.jerk,
        )
        return ((60 * error / steps - 36 * drift) / steps - 9 * swing) / steps

    def _advance(self, acceleration: float) -> int:
        """Move by the allowed acceleration nearest to the wanted one; return the kind of limit that was felt."""
        jerk, bend, greatest, velocity = self.jerk, self.bend, self.greatest, self.velocity
        least = max(-bend, -greatest_acceleration(greatest + velocity, jerk), self.acceleration - jerk)
        most = min(bend, greatest_acceleration(greatest - velocity, jerk), self.acceleration + jerk)
        allowed = min(max(acceleration, least), most)
        kind = _FREE if allowed == acceleration else _VELOCITY
        if not self._is_safe(allowed):
            safe = braking_acceleration(velocity, self.acceleration, bend, jerk)
            reach = 1.0
            share = 0.0
            for _ in range(_HALVINGS):
                reach /= 2
                if self._is_safe(safe + (share + reach) * (allowed - safe)):
                    share += reach
            allowed = safe + share * (allowed - safe)
            kind = _POSITION
        self._move(allowed)
        return kind

    def _is_safe(self, acceleration: float) -> bool:
        """Tell whether the quickest stop after a step stays within the walls."""
        velocity = self.velocity + acceleration
        position = self.position + velocity
        jerk, bend = self.jerk, self.bend
        # A rough bound first: nearly always there is room enough.
        size = abs(acceleration)
        peak = abs(velocity) + size / 2 + size * size / (2 * jerk)
        extent = peak * (peak / bend / 2 + (bend / 2 + size) / jerk + 2) + size + jerk / 8
        if self.low_wall + extent <= position <= self.high_wall - extent:
            return True
        back, forth = stopping_extent(velocity, acceleration, bend, jerk)
        return self.low_wall + back <= position <= self.high_wall - forth

    def _move(self, acceleration: float) -> None:
        self.acceleration = acceleration
        self.velocity += acceleration
        self.position += self.velocity
        if self.low_wall < self.lower or self.high_wall > self.upper:
            back, forth = stopping_extent(self.velocity, acceleration, self.bend, self.jerk)
            self.low_wall = min(self.lower, max(self.low_wall, self.position - back))
            self.high_wall = max(self.upper, min(self.high_wall, self.position + forth))
