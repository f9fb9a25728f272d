"""Monotone piecewise cubic interpolation without overshoot."""

from __future__ import annotations

import numpy as np


def monotone_spline(knots: np.ndarray, values: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Interpolate by Fritsch and Butland's piecewise cubic Hermite polynomial: monotone where the values are monotone.

    Parameters
    ----------
    knots, values
        Shape (knot,), at least two; knots strictly ascending.
    points
        Points of evaluation, shape (point,), between the first and the last knot.

    Returns
    -------
    Shape (point,).

    """
    width = np.diff(knots)
    secant = np.diff(values) / width
    slope = np.zeros(len(knots))
    if len(knots) == 2:
        slope[:] = secant
    else:
        same_sign = secant[:-1] * secant[1:] > 0
        before, after = 2 * width[1:] + width[:-1], width[1:] + 2 * width[:-1]
        with np.errstate(divide='ignore', invalid='ignore'):
            harmonic = (before + after) / (before / secant[:-1] + after / secant[1:])
        slope[1:-1] = np.where(same_sign, harmonic, 0.0)
        slope[0] = _end_slope(width[0], width[1], secant[0], secant[1])
        slope[-1] = _end_slope(width[-1], width[-2], secant[-1], secant[-2])
    piece = np.clip(np.searchsorted(knots, points, side='right') - 1, 0, len(width) - 1)
    h, t = width[piece], (points - knots[piece]) / width[piece]
    return (
        (1 + 2 * t) * (1 - t) ** 2 * values[piece]
        + t * (1 - t) ** 2 * h * slope[piece]
        + t**2 * (3 - 2 * t) * values[piece + 1]
        + t**2 * (t - 1) * h * slope[piece + 1]
    )


def _end_slope(width: float, next_width: float, secant: float, next_secant: float) -> float:
    """Return the three-point slope at an end, limited so that the first piece stays monotone."""
    slope = ((2 * width + next_width) * secant - width * next_secant) / (width + next_width)
    if slope * secant <= 0:
        return 0.0
    if secant * next_secant <= 0 and abs(slope) > 3 * abs(secant):
        return 3 * secant
    return slope
