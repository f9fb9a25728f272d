"""Tracking of arbitrary targets by one joint within its limits.

The state is position, velocity and acceleration *of the commands*, in steps (see `braking`). Each command is chosen
such that all limits hold and the quickest stop from there stays within the position limits. Hence the limits hold by
induction: the first step of that stop is always an admissible next command.
"""

from __future__ import annotations

import abc
import copy
from math import sqrt

from vdd_ros.control.braking import braking_acceleration, greatest_acceleration, stopping_extent
from vdd_ros.control.limits import KINDS

POSITION, VELOCITY, ACCELERATION, JERK, LAG = range(len(KINDS))
_FREE = -1

_SETTLED = 8.0
"""Number of steps in which a small deviation is corrected; with fewer steps the command would oscillate."""
_HALVINGS = 8
_ROOM = 0.99
"""Share of the distance to the velocity limit in which rounding errors have no effect."""
_FARTHEST = 1e3
"""Maximum length of a step [rad], also without limits."""


class Joint(abc.ABC):
    """Base class of both kinds of joints: limits and state in steps, and the return into the position limits."""

    position: float
    """The last command [rad]."""
    velocity: float
    """Difference from the previous command [rad/step]."""
    acceleration: float
    """Difference from the previous velocity [rad/step^2]."""
    longest_stop = 0.0
    """Distance of a stop from maximum speed [rad]."""

    def __init__(self, lower: float, upper: float, velocity: float, recovery: float) -> None:
        """Set position limits [rad], maximum speed [rad/step] and the speed of a return into the limits [rad/step]."""
        self.lower, self.upper, self.greatest, self.recovery = lower, upper, velocity, recovery
        self.clamps = [0] * len(KINDS)
        """Number of targets that were limited, by kind of limit."""
        self.reset(0.0)

    def copy(self) -> Joint:
        """Return an independent copy with the same state."""
        twin = copy.copy(self)
        twin.clamps = self.clamps.copy()
        return twin

    @abc.abstractmethod
    def step(self, target: float) -> bool:
        """Move towards a finite target [rad]; return whether no limit was active."""

    @abc.abstractmethod
    def brake(self) -> None:
        """Take one step of the quickest stop."""

    @abc.abstractmethod
    def confine(self, low: float, high: float) -> None:
        """Set the bounds [rad] within which the joint must be able to stop, as far as that is still possible."""

    def reset(self, position: float) -> None:
        """Be at rest at a position [rad], which may lie outside the limits."""
        self.position, self.velocity, self.acceleration = position, 0.0, 0.0
        self.target, self.pace = position, 0.0
        # Limits until the joint is back inside: it returns slowly and never moves farther out.
        self.floor, self.ceiling = min(self.lower, position), max(self.upper, position)
        self.outside = self.floor < self.lower or self.ceiling > self.upper

    def within(self, target: float) -> float:
        """Return the nearest target within the position limits."""
        if self.outside:
            self.floor = min(self.lower, self.floor + self.recovery)
            self.ceiling = max(self.upper, self.ceiling - self.recovery)
            self.outside = self.floor < self.lower or self.ceiling > self.upper
            # Outside its limits, a joint moves only back inside.
            allowed = self.ceiling if self.ceiling > self.upper else self.floor if self.outside else target
        else:
            allowed = target
        allowed = min(max(allowed, self.floor), self.ceiling)
        if allowed != target:
            self.clamps[POSITION] += 1
        return allowed


class DirectJoint(Joint):
    """A joint with limits of position and speed only. Each step moves as near to the target as possible."""

    def confine(self, low: float, high: float) -> None:
        """Do nothing: the joint stops immediately."""

    def step(self, target: float) -> bool:
        """Move as near to the target as one step permits."""
        free = not self.outside and self.lower <= target <= self.upper  # the usual case
        allowed = target if free else self.within(target)
        before = self.position
        self.position = min(max(allowed, before - self.greatest), before + self.greatest)
        if self.position != allowed:
            self.clamps[VELOCITY] += 1
        self.acceleration = self.position - before - self.velocity
        self.velocity = self.position - before
        return self.position == target

    def brake(self) -> None:
        """Keep the position."""
        self.velocity = self.acceleration = 0.0


class SmoothJoint(Joint):
    """A joint with additional limits of acceleration and jerk."""

    def __init__(
        self, lower: float, upper: float, velocity: float, acceleration: float, jerk: float, recovery: float
    ) -> None:
        """Set maximum acceleration [rad/step^2] and jerk [rad/step^3] in addition."""
        # An absent limit is replaced by one that is never active.
        velocity = min(velocity, _FARTHEST)
        self.bend = min(acceleration, 2 * velocity)
        self.jerk = min(jerk, 2 * self.bend)
        super().__init__(lower, upper, velocity, min(recovery, velocity / 2))
        self.longest_stop = stopping_extent(velocity, 0.0, self.bend, self.jerk)[1] + velocity

    def reset(self, position: float) -> None:
        """Be at rest at a position [rad], which may lie outside the limits."""
        super().reset(position)
        self.low_wall, self.high_wall = self.low, self.high = self.floor, self.ceiling

    def confine(self, low: float, high: float) -> None:
        """Set the bounds [rad] of the next step, widened where a stop from the present motion needs more room."""
        back, forth = stopping_extent(self.velocity, self.acceleration, self.bend, self.jerk)
        self.low = max(self.low_wall, min(low, self.position - back))
        self.high = min(self.high_wall, max(high, self.position + forth))

    def step(self, target: float) -> bool:
        """Reach the target in this step if possible, otherwise move towards it; return whether no limit was active."""
        return self.hit(target) or self.approach(target)

    def hit(self, target: float) -> bool:
        """Reach the target if no limit is near; otherwise return False without a change.

        This is the usual case for targets of a plan. `approach` gives the same result bit for bit at several times the
        cost.
        """
        walled = self.outside or self.low_wall != self.lower or self.high_wall != self.upper
        if walled or not self.lower <= target <= self.upper:
            return False
        jerk, greatest, bend, before = self.jerk, self.greatest, self.bend, self.velocity
        velocity, pace = target - self.position, target - self.target
        acceleration, turn = velocity - before, pace - self.pace
        size, drift = abs(acceleration), velocity - pace
        # The last term but one bounds the velocity gained until the acceleration is zero.
        if (
            size > bend
            or abs(acceleration - self.acceleration) > jerk
            or abs(drift) + abs(drift + acceleration - turn) > jerk / 2
            or abs(pace) > greatest
            or abs(turn) > bend
            or size * (1 + size / (2 * jerk)) > _ROOM * (greatest - abs(before))
            or not self._has_room(before + acceleration, size)
        ):
            return False
        self.target, self.pace = target, pace
        self.position, self.velocity, self.acceleration = target, velocity, acceleration
        self.low, self.high = self.low_wall, self.high_wall
        return True

    def approach(self, target: float) -> bool:
        """Compute `step` for the general case, with active limits."""
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
            kind = VELOCITY
        elif abs(acceleration) > bend:
            kind = ACCELERATION
        elif abs(acceleration - self.acceleration) > jerk:
            kind = JERK
        # The step that reaches the target is taken if the steps that follow the target are admissible, too.
        drift = velocity - pace
        exact = kind == _FREE and abs(drift) + abs(drift + acceleration - turn) <= jerk / 2
        if not exact:
            acceleration = self.acceleration + self._homing_jerk(error, self.velocity - pace, self.acceleration - turn)
        felt = self._advance(acceleration)
        self.low, self.high = self.low_wall, self.high_wall
        if exact and felt == _FREE:
            self.velocity, self.position = velocity, allowed
        if felt in (POSITION, LAG) or (exact and felt != _FREE):
            kind = felt  # otherwise the limit results from the approach, not from the target
        if kind != _FREE:
            self.clamps[kind] += 1
        return kind == _FREE and allowed == target

    def brake(self) -> None:
        """Take one step of the quickest stop."""
        self._move(braking_acceleration(self.velocity, self.acceleration, self.bend, self.jerk))
        self.low, self.high = self.low_wall, self.high_wall
        self.target, self.pace = self.position, 0.0

    def _homing_jerk(self, error: float, drift: float, swing: float) -> float:
        """Return the first jerk of a quintic to the target, with the number of steps that the limits require.

        Computed again in every step, it reduces the deviation without oscillation.
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
        """Move by the admissible acceleration nearest to the requested one; return the active kind of limit."""
        jerk, bend, greatest, velocity = self.jerk, self.bend, self.greatest, self.velocity
        least = max(-bend, -greatest_acceleration(greatest + velocity, jerk), self.acceleration - jerk)
        most = min(bend, greatest_acceleration(greatest - velocity, jerk), self.acceleration + jerk)
        allowed = min(max(acceleration, least), most)
        kind = _FREE if allowed == acceleration else VELOCITY
        if not self._is_safe(allowed):
            safe = braking_acceleration(velocity, self.acceleration, bend, jerk)
            reach = 1.0
            share = 0.0
            for _ in range(_HALVINGS):
                reach /= 2
                if self._is_safe(safe + (share + reach) * (allowed - safe)):
                    share += reach
            allowed = safe + share * (allowed - safe)
            kind = POSITION if (self.low, self.high) == (self.low_wall, self.high_wall) else LAG
        self._move(allowed)
        return kind

    def _is_safe(self, acceleration: float) -> bool:
        """Return whether the quickest stop after a step stays within the bounds."""
        velocity = self.velocity + acceleration
        if not velocity and not acceleration:
            return True  # at rest, inside the bounds
        if self._has_room(velocity, abs(acceleration)):
            return True
        position = self.position + velocity
        back, forth = stopping_extent(velocity, acceleration, self.bend, self.jerk)
        return self.low + back <= position <= self.high - forth

    def _has_room(self, velocity: float, size: float) -> bool:
        """Return by a rough bound whether the bounds are far, for a step with an acceleration of ``size``."""
        jerk, bend = self.jerk, self.bend
        peak = abs(velocity) + size / 2 + size * size / (2 * jerk)
        extent = peak * (peak / bend / 2 + (bend / 2 + size) / jerk + 2) + size + jerk / 8
        return self.low + extent <= self.position + velocity <= self.high - extent

    def _move(self, acceleration: float) -> None:
        self.acceleration = acceleration
        self.velocity += acceleration
        self.position += self.velocity
        if self.low_wall < self.lower or self.high_wall > self.upper:
            back, forth = stopping_extent(self.velocity, acceleration, self.bend, self.jerk)
            self.low_wall = min(self.lower, max(self.low_wall, self.position - back))
            self.high_wall = max(self.upper, min(self.high_wall, self.position + forth))
