"""A polyline path of a demonstrator, parametrised by arc length."""

from __future__ import annotations

import numpy as np


class Path:
    """A polyline, parametrised by arc length."""

    def __init__(self, points: np.ndarray) -> None:
        """Take points of shape (point, axis) [m]: at least two, consecutive ones distinct."""
        self.points = points
        """Shape (point, axis) [m]."""
        self._length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(points, axis=0), axis=1))])

    @property
    def length(self) -> float:
        """Total length [m]."""
        return float(self._length[-1])

    def at(self, length: float) -> np.ndarray:
        """Return the point at an arc length from the beginning [m], shape (axis,)."""
        return np.array([np.interp(length, self._length, column) for column in self.points.T])

    def nearest(self, point: np.ndarray, around: float, reach: float) -> float:
        """Return the arc length at which the path is nearest to a point of shape (axis,) [m].

        Only arc lengths within ``reach`` [m] of ``around`` [m] are considered, since a path may pass a point twice.
        """
        candidates = np.flatnonzero(np.abs(self._length - around) <= reach)
        index = candidates[np.argmin(((self.points[candidates] - point) ** 2).sum(axis=1))]
        low, high = max(index - 1, 0), min(index + 1, len(self.points) - 1)
        tangent = self.points[high] - self.points[low]
        along = (point - self.points[index]) @ tangent / np.linalg.norm(tangent)
        return float(np.clip(self._length[index] + along, 0.0, self.length))
