"""Projection of points into the image of a camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

DISTORTIONS = ('', 'plumb_bob', 'rational_polynomial')
"""Distortion models of CameraInfo that `Pinhole` computes; empty: none."""
_BEYOND = 1.001


@dataclass(frozen=True)
class Pinhole:
    """Pinhole model of a camera: optical frame (x right, y down, z forward) to pixels."""

    focal: tuple[float, float]
    """Horizontal and vertical focal length [pixels]."""
    centre: tuple[float, float]
    """Column and row of the optical axis [pixels]; integers are pixel centres."""
    distortion: tuple[float, ...] = ()
    """Coefficients k1, k2, p1, p2, k3, k4, k5, k6 of the model `plumb_bob` or `rational_polynomial`; missing ones are
    0."""

    def scaled(self, horizontally: float, vertically: float) -> Pinhole:
        """Return the model of the same camera for an image that is scaled horizontally and vertically."""
        factors = horizontally, vertically
        return replace(
            self,
            focal=tuple(value * factor for value, factor in zip(self.focal, factors)),
            centre=tuple((value + 0.5) * factor - 0.5 for value, factor in zip(self.centre, factors)),
        )

    def points(self, depth: np.ndarray, stride: int = 1) -> np.ndarray:
        """Return the points seen by every ``stride``-th pixel of a depth image, shape (row, column, 3), float32 [m].

        Points are in the optical frame; NaN without depth. Distortion is not taken into account.
        """
        rows, columns = (np.arange(0, size, stride) for size in depth.shape)
        z = depth[::stride, ::stride].astype(np.float64)
        z[~np.isfinite(z)] = np.nan
        x = (columns - self.centre[0]) / self.focal[0] * z
        y = (rows - self.centre[1])[:, None] / self.focal[1] * z
        return np.stack([x, y, z], axis=-1).astype(np.float32)

    def pixels(self, points: np.ndarray) -> np.ndarray:
        """Project points in the optical frame, shape (point, 3) [m], to columns and rows, shape (point, 2).

        The result is NaN for points behind the camera, and for points so far off the axis that the distortion is not
        invertible.
        """
        ahead = np.where(points[:, 2:] > 0, points[:, 2:], np.nan)
        flat = points[:, :2] / ahead
        if any(self.distortion):
            flat = self._distorted(flat)
        return flat * self.focal + self.centre

    def _distorted(self, flat: np.ndarray) -> np.ndarray:
        _, _, first, second = (*self.distortion, *[0.0] * 4)[:4]
        square = np.square(flat).sum(axis=-1)
        stretch = self._stretch(square)
        x, y = flat.T
        shift = [
            2 * first * x * y + second * (square + 2 * x * x),
            first * (square + 2 * y * y) + 2 * second * x * y,
        ]
        single = _BEYOND * self._stretch(_BEYOND**2 * square) > stretch
        return np.where(single[:, None], flat * stretch[:, None] + np.stack(shift, axis=-1), np.nan)

    def _stretch(self, square: np.ndarray) -> np.ndarray:
        """Return the radial factor at squared distances from the optical axis."""
        one, two, _, _, three, four, five, six = (*self.distortion, *[0.0] * 8)[:8]
        powers = square, square**2, square**3
        above = 1 + one * powers[0] + two * powers[1] + three * powers[2]
        return above / (1 + four * powers[0] + five * powers[1] + six * powers[2])
