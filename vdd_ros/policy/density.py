"""Density of observation windows, fitted to the demonstrations: the OOD score of a student."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

_CENTRES = 256
_WINDOWS_PER_CENTRE = 40  # with fewer windows, the fitted ones score higher than new ones of the same distribution
_ROUNDS = 15
_LEAST_VARIANCE = 1e-4
_CONSTANT = 0.25
_COUNTED = 0.98


@dataclass(frozen=True)
class ObservationDensity:
    """A mixture of Gaussians with one common covariance over flattened windows, in normalised units.

    A network is as confident far from the data as near the data. On the Avoiding task, neither the student's density
    nor its gating separates windows displaced by 10 cm from demonstrated windows. This density separates 97 of 100
    pairs.
    """

    centre: np.ndarray
    """Whitened centres of the Gaussians, shape (centre, window)."""
    whitening: np.ndarray
    """Shape (window, window): the inverse of the covariance's Cholesky factor."""
    log_weight: np.ndarray
    """Logarithms of the weights of the Gaussians, shape (centre,)."""

    def log_density(self, window: np.ndarray) -> np.ndarray:
        """Return the log-density of windows up to a constant, shape (batch,).

        ``window`` has shape (batch, horizon, observation), in normalised units.
        """
        flat = window.reshape(len(window), -1) @ self.whitening.T
        logits = self.log_weight - 0.5 * _squared_distance(flat, self.centre)
        highest = logits.max(axis=1)
        return highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1))

    def of_unscaled(self, offset: np.ndarray, scale: np.ndarray) -> ObservationDensity:
        """Return the density as a function of windows before the map ``(window - offset) / scale``.

        ``offset`` and ``scale`` have shape (window,).
        """
        return ObservationDensity(
            self.centre + (offset / scale) @ self.whitening.T, self.whitening / scale, self.log_weight
        )

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The density as arrays by name, for the artifact."""
        return {'centre': self.centre, 'whitening': self.whitening, 'log_weight': self.log_weight}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], size: int) -> ObservationDensity:
        """Read the density from `arrays`, for flattened windows of ``size`` values.

        Raises
        ------
        KeyError, ValueError
            An array is absent, has another shape, or is not finite.

        """
        centre, whitening, log_weight = (
            arrays[name].astype(np.float64) for name in ('centre', 'whitening', 'log_weight')
        )
        shapes = centre.shape, whitening.shape, log_weight.shape
        count = len(log_weight)
        if not count or shapes != ((count, size), (size, size), (count,)):
            raise ValueError(f'centre, whitening and log_weight have shapes {shapes}, for windows of {size} numbers')
        if not all(np.isfinite(array).all() for array in (centre, whitening, log_weight)):
            raise ValueError('centre, whitening or log_weight have numbers that are not finite')
        return cls(centre, whitening, log_weight)


def fit_density(window: np.ndarray, generator: np.random.Generator) -> ObservationDensity:
    """Fit the density to demonstrated windows by k-means, with distances in units of the common covariance.

    Parameters
    ----------
    window
        Shape (window, horizon, observation), in normalised units.
    generator
        Random numbers for the choice of the initial centres.

    """
    flat = window.reshape(len(window), -1)
    centres = min(_CENTRES, -(-len(flat) // _WINDOWS_PER_CENTRE))
    centre = flat[generator.choice(len(flat), centres, replace=False)]
    # A constant dimension carries no information, but sensor noise in it must not be out of distribution. Its scale is
    # the unit of the normaliser, the smallest that it divides by.
    variance = flat.var(axis=0)
    floor = np.where(variance < _CONSTANT, 1.0, _LEAST_VARIANCE)
    covariance = np.diag(variance + floor)
    for _ in range(_ROUNDS):
        whitening = np.linalg.inv(np.linalg.cholesky(covariance))
        nearest = _squared_distance(flat @ whitening.T, centre @ whitening.T).argmin(axis=1)
        count = np.bincount(nearest, minlength=len(centre))
        total = np.zeros_like(centre)
        np.add.at(total, nearest, flat)
        kept = count > 0
        centre = total[kept] / count[kept, None]
        residual = flat - centre[(np.cumsum(kept) - 1)[nearest]]
        # One odd demonstration must not widen the density: the farthest windows are excluded.
        distance = ((residual @ whitening.T) ** 2).sum(axis=1)
        residual = residual[distance <= np.quantile(distance, _COUNTED)]
        covariance = residual.T @ residual / len(residual) + np.diag(floor)
    whitening = np.linalg.inv(np.linalg.cholesky(covariance))
    return ObservationDensity(centre @ whitening.T, whitening, np.log(count[kept] / len(flat)))


def _squared_distance(rows: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return shape (row, other)."""
    return (rows**2).sum(axis=1)[:, None] - 2 * rows @ others.T + (others**2).sum(axis=1)
