"""Joint trajectories over time, interpolated as by joint_trajectory_controller."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class TrajectoryGoal:
    """The goal of a trajectory controller; arrays in the order of `joints`."""

    joints: tuple[str, ...]
    """Names of the joints."""
    stamp: int
    """Time at which time_from_start is zero [ns]; 0: the time of arrival."""
    times: np.ndarray
    """Time from the start, shape (point,) [ns], integers."""
    position: np.ndarray
    """Shape (point, joint) [rad]."""
    velocity: np.ndarray | None = None
    """Shape (point, joint) [rad/s]; NaN rows for points without velocity."""
    acceleration: np.ndarray | None = None
    """Shape (point, joint) [rad/s^2]; NaN rows for points without acceleration."""


@dataclass(frozen=True)
class Waypoint:
    """A point of a trajectory; arrays of shape (joint,)."""

    stamp: int
    """Time [ns]."""
    position: np.ndarray
    """Joint positions [rad]."""
    velocity: np.ndarray | None = None
    """Joint velocities [rad/s]; None if not given."""
    acceleration: np.ndarray | None = None
    """Joint accelerations [rad/s^2]; None if not given."""


class Trajectory:
    """A trajectory through waypoints. It begins at the joint state at acceptance."""

    def __init__(self, start: Waypoint, points: list[Waypoint]) -> None:
        """Go from ``start`` through ``points`` with ascending stamps; points before or at ``start`` are skipped."""
        self._points = [start, *points] if points[0].stamp > start.stamp else points
        self._stamps = np.array([point.stamp for point in self._points])

    def at(self, stamp: int) -> tuple[np.ndarray, np.ndarray]:
        """Return position and velocity, each of shape (joint,), at a time [ns].

        Between two points, the result follows the polynomial of lowest degree through the given values: linear for
        positions, cubic with velocities, quintic with accelerations. After the last point, its position is held.
        """
        piece = int(np.searchsorted(self._stamps, stamp, side='right')) - 1
        if piece >= len(self._points) - 1:
            return self._points[-1].position, np.zeros_like(self._points[-1].position)
        return _between(self._points[max(piece, 0)], self._points[max(piece, 0) + 1], stamp)


def _between(first: Waypoint, second: Waypoint, stamp: int) -> tuple[np.ndarray, np.ndarray]:
    length = (second.stamp - first.stamp) * 1e-9
    s = (stamp - first.stamp) * 1e-9 / length
    distance = second.position - first.position
    if first.velocity is None or second.velocity is None:
        return first.position + s * distance, distance / length
    v0, v1 = first.velocity * length, second.velocity * length
    if first.acceleration is None or second.acceleration is None:
        coefficients = [first.position, v0, 3 * distance - 2 * v0 - v1, v0 + v1 - 2 * distance]
    else:
        a0, a1 = first.acceleration * length**2, second.acceleration * length**2
        coefficients = [
            first.position,
            v0,
            a0 / 2,
            10 * distance - 6 * v0 - 4 * v1 - 1.5 * a0 + 0.5 * a1,
            -15 * distance + 8 * v0 + 7 * v1 + 1.5 * a0 - a1,
            6 * distance - 3 * (v0 + v1) - 0.5 * (a0 - a1),
        ]
    position = sum(c * s**power for power, c in enumerate(coefficients))
    velocity = sum(power * c * s ** (power - 1) for power, c in enumerate(coefficients) if power)
    return position, velocity / length
