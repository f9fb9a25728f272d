"""Observations: a vector of values and named images, for one time step, a window or a batch."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, overload

import numpy as np

from vdd_ros.contract.contract import Contract


class Pixels(Protocol):
    """An image that is decoded on first use, for example `vdd_ros.data.decode.frames.Picture`."""

    def array(self) -> np.ndarray | None:
        """Return the pixels as a flat array, decoded at most once; None if they cannot be decoded."""
        ...


@dataclass(frozen=True, eq=False)
class Observation:
    """An observation vector and images of full size. All arrays have the same leading axes.

    For contracts without `Contract.arrays`, an observation is only the array of the vector.
    """

    vector: np.ndarray
    """Shape (..., observation), in the units of the contract."""
    images: Mapping[str, np.ndarray]
    """Images by name, shape (..., height, width, channel): uint8 for colour, int16 [mm] for depth."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the vector."""
        return self.vector.shape

    @property
    def ndim(self) -> int:
        """Number of axes of the vector."""
        return self.vector.ndim

    def __len__(self) -> int:
        """Return the length of the first axis."""
        return len(self.vector)

    def __getitem__(self, key: Any) -> Observation:
        """Index the leading axes."""
        return Observation(self.vector[key], {name: image[key] for name, image in self.images.items()})


AnyObservation = np.ndarray | Observation


def vector_of(observation: AnyObservation) -> np.ndarray:
    """Return the vector of an observation, without its images."""
    return observation.vector if isinstance(observation, Observation) else observation


def images_of(observation: AnyObservation) -> Mapping[str, np.ndarray]:
    """Return the images of an observation by name."""
    return observation.images if isinstance(observation, Observation) else {}


def with_gray_images(contract: Contract, vector: np.ndarray) -> AnyObservation:
    """Return an observation with a uniform grey image for each image of a contract, for warm-up and timing.

    ``vector`` has shape (..., observation). For contracts without images the result is ``vector``.
    """
    if not contract.arrays:
        return vector
    lead = vector.shape[:-1]
    return Observation(
        vector,
        {
            item.name: np.full((*lead, *item.shape), 127, np.int16 if item.is_distance else np.uint8)
            for item in contract.arrays
        },
    )


@overload
def joined(parts: Sequence[np.ndarray], how: Callable[..., np.ndarray] = np.concatenate) -> np.ndarray: ...


@overload
def joined(parts: Sequence[AnyObservation], how: Callable[..., np.ndarray] = np.concatenate) -> AnyObservation: ...


def joined(parts: Sequence[AnyObservation], how: Callable[..., np.ndarray] = np.concatenate) -> AnyObservation:
    """Join observations along their first axis, or along a new one with ``how=numpy.stack``."""
    vector = how([vector_of(part) for part in parts])
    names = images_of(parts[0])
    if not names:
        return vector
    return Observation(vector, {name: how([images_of(part)[name] for part in parts]) for name in names})
