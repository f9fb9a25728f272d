"""Affine maps by dimension between physical units and the normalised units of a network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import TrainingError

_NUMBERS = 1 << 19
"""Number of values processed at a time."""


@dataclass(frozen=True)
class Normalizer:
    """``normalized = (value - offset) / scale``, per dimension, and its inverse."""

    offset: np.ndarray
    """Shape (dimension,), in the units of the values."""
    scale: np.ndarray
    """Shape (dimension,), in the units of the values; positive."""

    @classmethod
    def fit(cls, values: np.ndarray, *, relative_floor: float = 1e-3) -> Normalizer:
        """Map ``values`` to zero mean and unit standard deviation.

        A constant dimension has no standard deviation to divide by. Its scale is ``relative_floor`` times the largest
        scale, so its normalised values stay finite.

        Parameters
        ----------
        values
            Shape (count, dimension): an array, or rows that are converted to arrays slice by slice.
        relative_floor
            The smallest scale, relative to the largest.

        Raises
        ------
        TrainingError
            There are no values, some are not finite, or all dimensions are constant.

        """
        if values.ndim != 2 or not len(values):
            raise TrainingError(
                expected='values of shape (count, dimension)', found=f'shape {values.shape}', remedy='record more data'
            )
        mean, scale = _moments(values)
        if not (np.isfinite(mean).all() and np.isfinite(scale).all()):
            raise TrainingError(
                expected='finite values', found='NaN or infinity in the data', remedy='drop the episodes that hold them'
            )
        largest = scale.max()
        if largest == 0:
            raise TrainingError(
                expected='data that vary', found='only constant dimensions', remedy='check the topics of the contract'
            )
        return cls(mean, np.maximum(scale, relative_floor * largest))

    def normalize(self, values: np.ndarray) -> np.ndarray:
        """Map values of shape (..., dimension) to normalised units."""
        return (values - self.offset) / self.scale

    def denormalize(self, values: np.ndarray) -> np.ndarray:
        """Map normalised values of shape (..., dimension) back to physical units."""
        return values * self.scale + self.offset


@dataclass(frozen=True)
class Normalizers:
    """The two normalisers of a policy."""

    observation: Normalizer
    """Normaliser of the observation of one time step."""
    action: Normalizer
    """Normaliser of the action of one step."""


def _moments(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and standard deviation of each dimension; other rows than arrays are processed in slices."""
    if isinstance(values, np.ndarray):
        values = values.astype(np.float64, copy=False)
        return values.mean(axis=0), values.std(axis=0)
    count = max(1, _NUMBERS // values.shape[1])

    def blocks() -> Iterator[np.ndarray]:
        return (np.asarray(values[begin : begin + count]) for begin in range(0, len(values), count))

    mean = sum(block.sum(axis=0) for block in blocks()) / len(values)
    variance = sum(np.square(block - mean).sum(axis=0) for block in blocks()) / len(values)
    return mean, np.sqrt(variance)
