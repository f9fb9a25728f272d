"""The plan as a motion: waypoints joined so that position, velocity and acceleration are continuous everywhere.

Quintic pieces between waypoints at policy ticks; a first piece that leads over from whatever was under way (the seam);
a last one that comes to rest if no further plan arrives in time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# Quintic of unit duration from (position, velocity, acceleration) at both ends: rows are powers 0 to 5.
_QUINTIC = np.array(
    [
        [1, 0, 0, 0, 0, 0],
        [0, 1, 0, 0, 0, 0],
        [0, 0, 0.5, 0, 0, 0],
        [-10, -6, -1.5, 10, -4, 0.5],
        [15, 8, 1.5, -15, 7, -1],
        [-6, -3, -0.5, 6, -3, 0.5],
    ]
)


@dataclass(frozen=True)
class State:
    """A point of a motion."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""


class Waypoints:
    """A plan as a motion of its own, from where it was made through all its steps to rest; made where there is time."""

    def __init__(
        self,
        start: State,
        steps: np.ndarray,
        *,
        before: np.ndarray,
        time: float,
        period: float,
        acceleration: np.ndarray | float,
    ) -> None:
        """Lay a motion through a plan.

        Parameters
        ----------
        start
            What the plan goes out from.
        steps
            Where to be after each policy period, shape (step, joint) [rad].
        before
            Where the motion was one policy period before the start, shape (joint,) [rad].
        time
            Of the tick that the plan answers, by the plan's clock [s]; step i is due at ``time + (i + 1) * period``.
        period
            Policy period [s].
        acceleration
            Greatest acceleration, shape (joint,) or () [rad/s^2]: how hard to brake where the plan ends.

        """
        self.steps, self._time, self._period = steps, time, period
        path = np.concatenate([before[None], start.position[None], steps])
        velocity = (path[2:] - path[:-2]) / (2 * period)
        bend = np.diff(path, 2, axis=0) / period**2
        # Where no further step is known, the motion goes on as it bent before: a mean velocity would lag behind.
        states = [start, *(State(*rows) for rows in zip(steps, velocity[1:], bend[1:]))]
        states.append(State(steps[-1], velocity[-1] + bend[-1] * period, bend[-1]))
        # The next plan is on its way while this one ends: for one more period the motion just goes on.
        last = states[-1]
        on = State(
            last.position + last.velocity * period + last.acceleration * period**2 / 3,
            last.velocity + last.acceleration * period / 2,
            np.zeros_like(last.velocity),
        )
        states.append(on)
        self._pieces = [_quintic(one, other, period) for one, other in zip(states, states[1:])]
        # Then velocity falls as a cubic, which peaks at 1.5 times the mean deceleration: gently, at half of the limit.
        self._braking = max(period, float((3 * np.abs(on.velocity) / acceleration).max()))
        still = State(on.position + on.velocity * self._braking / 2, on.acceleration, on.acceleration)
        self._pieces.append(_quintic(on, still, self._braking))
        self.end = time + len(steps) * period
        """When the last step is reached, by the plan's clock [s]."""
        self.rest = self.end + period + self._braking
        """When it has come to rest [s]."""

    def passed(self, time: float) -> int:
        """Return how many steps were due by a time of the plan's clock [s]."""
        return min(len(self.steps), max(0, int((time - self._time) / self._period + 1e-6)))

    def piece(self, time: float) -> tuple[np.ndarray, float, float]:
        """Return the quintic of a time, how far it has gone (0 to 1), and how long it takes [s]."""
        braking = time - self.end - self._period
        if braking >= 0:
            return self._pieces[-1], min(braking / self._braking, 1.0), self._braking
        passed = max((time - self._time) / self._period, 0.0)
        index = min(int(passed), len(self.steps))
        return self._pieces[index], passed - index, self._period

    def state(self, time: float) -> State:
        """Return where the plan is at a time of its clock [s]."""
        return _state(*self.piece(time))


class Trajectory:
    """The motion that is carried out: a seam that leads over from whatever was under way, then the plan."""

    def __init__(self, state: State, time: float, waypoints: Waypoints, blend: float) -> None:
        """Lead over from ``state`` at ``time`` to a plan within ``blend``, by the plan's clock [s]."""
        self.waypoints = waypoints
        self._began, self._blend = time, blend
        self._joined = time + blend
        self._seam = _quintic(state, waypoints.state(self._joined), blend)

    def _piece(self, time: float) -> tuple[np.ndarray, float, float]:
        if time >= self._joined:
            return self.waypoints.piece(time)
        return self._seam, max(time - self._began, 0.0) / self._blend, self._blend

    def position(self, time: float) -> np.ndarray:
        """Return the position at a time of the plan's clock [s], shape (joint,) [rad]."""
        piece, u, _ = self._piece(time)
        square = u * u
        return np.array([1.0, u, square, square * u, square * square, square * square * u]) @ piece

    def state(self, time: float) -> State:
        """Return position, velocity and acceleration at a time of the plan's clock [s]."""
        return _state(*self._piece(time))


def _state(piece: np.ndarray, u: float, length: float) -> State:
    square = u * u
    cube = square * u
    powers = [
        [1.0, u, square, cube, square * square, square * cube],
        [0.0, 1.0, 2 * u, 3 * square, 4 * cube, 5 * square * square],
        [0.0, 0.0, 2.0, 6 * u, 12 * square, 20 * cube],
    ]
    position, velocity, acceleration = np.array(powers) @ piece
    return State(position, velocity / length, acceleration / length**2)


def _quintic(one: State, other: State, length: float) -> np.ndarray:
    """Return coefficients of shape (6, joint) over a unit interval that stands for ``length`` [s]."""
    ends = np.stack(
        [
            one.position,
            one.velocity * length,
            one.acceleration * length**2,
            other.position,
            other.velocity * length,
            other.acceleration * length**2,
        ]
    )
    return _QUINTIC @ ends
