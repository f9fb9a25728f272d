"""A plan as a motion: a smooth path near its waypoints, with the maximum speed at each point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from vdd_ros.control.limits import Limits

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
_SAMPLES = 4
"""Points in each piece of a path at which limits are evaluated."""
_BEND_SHARE = 0.6
"""Share of the acceleration limit for the curvature of the path; the rest is for changes of speed."""
_TURN_SHARE = 0.6
"""Share of the jerk limit for the path."""


@dataclass(frozen=True)
class State:
    """Position, velocity and acceleration of all joints at one time of a motion."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""


@lru_cache(maxsize=64)
def smoothing_matrices(steps: int, smoothing: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the linear map from waypoints to the smoothest motion near them.

    The motion minimises ``integral jerk^2 dt + smoothing^-6 sum_i (position(i) - waypoint_i)^2``, in time units of one
    waypoint: a quintic smoothing spline (Reinsch 1967, of order 3) from a given state. It passes angular frequencies
    below ``1 / smoothing`` and damps those above with the sixth power. Motions of constant acceleration pass unchanged.

    Parameters
    ----------
    steps
        Number of waypoints.
    smoothing
        Time constant, in waypoints; 0 interpolates.

    Returns
    -------
    A of shape (steps, 3, 3) and B of shape (steps, 3, steps): the state (position, velocity, acceleration) at waypoint
    i is ``A[i] @ state + B[i] @ waypoints``.

    """
    weight = max(smoothing, 0.05) ** -6
    transition = np.array([[1, 1, 0.5], [0, 1, 1], [0, 0, 1]])
    gramian = np.array([[1 / 20, 1 / 8, 1 / 6], [1 / 8, 1 / 3, 1 / 2], [1 / 6, 1 / 2, 1]])
    cost = np.linalg.inv(gramian)
    size = 3 * steps
    hessian, first, pull = np.zeros((size, size)), np.zeros((size, 3)), np.zeros((size, steps))
    for step in range(steps):
        here = slice(3 * step, 3 * step + 3)
        hessian[here, here] += cost
        hessian[3 * step, 3 * step] += weight
        pull[3 * step, step] = weight
        if step == 0:
            first[here] = cost @ transition
        else:
            before = slice(3 * step - 3, 3 * step)
            hessian[before, before] += transition.T @ cost @ transition
            hessian[here, before] -= cost @ transition
            hessian[before, here] -= transition.T @ cost
    solved = np.linalg.solve(hessian, np.concatenate([first, pull], axis=1)).reshape(steps, 3, 3 + steps)
    return solved[..., :3], solved[..., 3:]


def settling(steps: int, replan: int, smoothing: float) -> float:
    """Return the factor by which a disturbance of the motion changes from one plan to the next; above 1 it grows.

    A plan of ``steps`` steps starts from the state of the motion, and the next plan follows after ``replan`` steps. The
    disturbance of velocity and acceleration is then multiplied by a matrix, whose spectral radius is returned. Plans
    that end where the next plan begins do not constrain the state there, and the motion oscillates.
    """
    by_state, _ = smoothing_matrices(steps, smoothing)
    return float(np.abs(np.linalg.eigvals(by_state[replan - 1][1:, 1:])).max())


class Waypoints:
    """A plan as a motion that begins in a start state, passes near all steps and ends at rest.

    The motion is computed in the planning thread.
    """

    def __init__(
        self,
        start: State,
        steps: np.ndarray,
        *,
        time: float,
        period: float,
        limits: Limits,
        smoothing: float = 0.0,
    ) -> None:
        """Compute the motion for a plan.

        Parameters
        ----------
        start
            Start state of the plan.
        steps
            Target positions after each policy period, shape (step, joint) [rad].
        time
            Time of the policy tick of the plan, by the plan's clock [s]; step i is due at ``time + (i + 1) * period``.
        period
            Policy period [s].
        limits
            Limits of the joints. They determine the maximum speed along the motion, and the braking at the end of the
            plan.
        smoothing
            Time constant of the smoothing spline, in policy periods; 0 passes through every waypoint.

        """
        self.steps, self._time, self._period = steps, time, period
        units = np.array([1.0, period, period**2])[:, None]
        begin = np.stack([start.position, start.velocity, start.acceleration]) * units
        by_state, by_steps = smoothing_matrices(len(steps), smoothing)
        # Relative to the start, so that positions far from zero lose no precision.
        begin[0] = 0
        states = by_state @ begin + by_steps @ (steps - start.position)
        knots = np.concatenate([begin[None], states])
        # The next plan arrives at the end of this one: the motion continues for one more period.
        position, velocity, acceleration = knots[-1]
        on = np.stack(
            [position + velocity + acceleration / 3, velocity + acceleration / 2, np.zeros_like(acceleration)]
        )
        knots = np.concatenate([knots, on[None]])
        pieces = _QUINTIC @ np.concatenate([knots[:-1], knots[1:]], axis=1)
        # The velocity then decreases as a cubic, whose peak is 1.5 times the mean deceleration: half of the limit.
        speed = np.abs(on[1]) / period
        self._braking = max(period, float((3 * speed / limits.acceleration).max()))
        share = self._braking / period
        still = np.stack([on[0] + on[1] * share / 2, on[2], on[2]])
        last = _QUINTIC @ np.concatenate([on * np.array([1.0, share, share**2])[:, None], still])
        self._pieces = np.concatenate([pieces, last[None]])
        self._pieces[:, 0] += start.position
        self.end = time + len(steps) * period
        """Time of the last step by the clock of the plan [s]."""
        self.rest = self.end + period + self._braking
        """Time of rest [s]."""
        self._places, self._speeds, self._rates, self._turns = self._profile(limits)

    def passed(self, time: float) -> int:
        """Return how many steps were due at a time of the plan's clock [s]."""
        return min(len(self.steps), max(0, int((time - self._time) / self._period + 1e-6)))

    def piece(self, time: float) -> tuple[np.ndarray, float, float]:
        """Return the quintic polynomial at a time [s], the relative time within it (0 to 1), and its duration [s]."""
        braking = time - self.end - self._period
        if braking >= 0:
            return self._pieces[-1], min(braking / self._braking, 1.0), self._braking
        passed = max((time - self._time) / self._period, 0.0)
        index = min(int(passed), len(self.steps))
        return self._pieces[index], passed - index, self._period

    def state(self, time: float) -> State:
        """Return position, velocity and acceleration at a time of the plan's clock [s]."""
        return _state(*self.piece(time))

    def pace(self, time: float) -> Pace:
        """Return the maximum speed at a time of the plan's clock [s]."""
        place = (time - self._places[0]) / (self._period / _SAMPLES)
        last = len(self._places) - 1
        if place >= last:
            return Pace(self._speeds[last], self._rates[last], self._turns[last])
        index = max(int(place), 0)
        return Pace(min(self._speeds[index], self._speeds[index + 1]), self._rates[index], self._turns[index])

    def _profile(self, limits: Limits) -> tuple[list[float], list[float], list[float], list[float]]:
        """Return, at uniform times, the maximum speed [s/s], its rate [1/s] and the rate of that [1/s^2].

        Along a path ``q(s(t))`` velocity is ``q' s'``, acceleration ``q'' s'^2 + q' s''`` and jerk ``q''' s'^3 + 3 q''
        s' s'' + q' s'''``.
        """
        velocity, acceleration, jerk = _derivatives(self._pieces, self._period, self._braking)
        with np.errstate(divide='ignore'):
            fast = limits.velocity / velocity
            bend = np.sqrt(_BEND_SHARE * limits.acceleration / acceleration)
            turn = np.cbrt(_TURN_SHARE * limits.jerk / jerk)
            speeds = np.minimum(np.minimum(fast, bend), turn).min(axis=1)
            rates = ((1 - _BEND_SHARE) * limits.acceleration / velocity).min(axis=1)
            turns = ((1 - _TURN_SHARE) * limits.jerk / velocity).min(axis=1)
        spacing = self._period / _SAMPLES
        times = (self._time + spacing * np.arange(len(speeds))).tolist()
        rates_list, profile = rates.tolist(), np.minimum(speeds, 1.0).tolist()
        # Backwards, so that the speed is reduced early enough.
        for index in range(len(profile) - 2, -1, -1):
            reachable = (profile[index + 1] ** 2 + 2 * min(rates_list[index], 1e3) * spacing) ** 0.5
            profile[index] = min(profile[index], reachable)
        return times, profile, rates_list, turns.tolist()


@dataclass(frozen=True)
class Pace:
    """The maximum speed at which a plan may be executed at one point, and how fast this speed may change."""

    speed: float
    """Seconds of the plan per second, at most 1."""
    rate: float
    """Maximum rate of the speed [1/s]."""
    turn: float
    """Maximum rate of that rate [1/s^2]."""


class Trajectory:
    """The executed motion: the plan, and a correction that fades out after the transition from another motion."""

    def __init__(self, state: State, time: float, waypoints: Waypoints, blend: float) -> None:
        """Start the transition from ``state`` at ``time`` to a plan within ``blend``, by the plan's clock [s]."""
        self.waypoints = waypoints
        self._began, self._blend = time, blend
        plan = waypoints.state(time)
        zero = np.zeros_like(plan.position)
        gap = [state.position - plan.position, state.velocity - plan.velocity, state.acceleration - plan.acceleration]
        ends = np.stack([gap[0], gap[1] * blend, gap[2] * blend**2, zero, zero, zero])
        self._correction = _QUINTIC @ ends

    def position(self, time: float) -> np.ndarray:
        """Return the position at a time of the plan's clock [s], shape (joint,) [rad]."""
        piece, u, _ = self.waypoints.piece(time)
        position = _powers(u) @ piece
        left = (time - self._began) / self._blend
        if left < 1:
            position = position + _powers(max(left, 0.0)) @ self._correction
        return position

    def state(self, time: float) -> State:
        """Return position, velocity and acceleration at a time of the plan's clock [s]."""
        state = self.waypoints.state(time)
        left = (time - self._began) / self._blend
        if left >= 1:
            return state
        gap = _state(self._correction, max(left, 0.0), self._blend)
        return State(
            state.position + gap.position, state.velocity + gap.velocity, state.acceleration + gap.acceleration
        )


def _powers(u: float) -> np.ndarray:
    square = u * u
    return np.array([1.0, u, square, square * u, square * square, square * square * u])


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


def _rows(u: np.ndarray) -> np.ndarray:
    """Return the first three derivatives of the powers 0 to 5 at places of shape (place,), shape (3, place, 6)."""
    zero, one = np.zeros_like(u), np.ones_like(u)
    return np.array(
        [
            np.stack([zero, one, 2 * u, 3 * u**2, 4 * u**3, 5 * u**4], axis=1),
            np.stack([zero, zero, 2 * one, 6 * u, 12 * u**2, 20 * u**3], axis=1),
            np.stack([zero, zero, zero, 6 * one, 24 * u, 60 * u**2], axis=1),
        ]
    )


_INNER = _rows(np.arange(_SAMPLES) / _SAMPLES)


def _derivatives(pieces: np.ndarray, period: float, braking: float) -> np.ndarray:
    """Return the magnitudes of velocity, acceleration and jerk at `_SAMPLES` points of each piece.

    The result has shape (3, place, joint), ``pieces`` has shape (piece, 6, joint). The last piece takes ``braking`` [s]
    and counts as one point.
    """
    orders = np.arange(1, 4)[:, None, None]
    moving = (_INNER[:, None] @ pieces[:-1]).reshape(3, -1, pieces.shape[-1]) / period**orders
    last = np.abs(_INNER @ pieces[-1]).max(axis=1, keepdims=True) / braking**orders
    return np.concatenate([np.abs(moving), last], axis=1)
