"""Experts of a student as plain arrays, and quantities computed from them without a network."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_FEW = 16
"""Number of entries of a covariance root up to which plain numbers are faster than arrays."""


@dataclass(frozen=True)
class Experts:
    """All experts of a student for a batch of windows, in the units of the contract."""

    log_gating: np.ndarray
    """Log-probabilities of the experts, shape (batch, expert)."""
    mean: np.ndarray
    """Mean action chunks, shape (batch, expert, prediction_horizon, action)."""
    covariance_parameters: np.ndarray
    """Shape (batch, expert, parameter): parameters of the covariances, for `covariance_of`."""
    features: np.ndarray | None = None
    """Image features of the encoder, shape (batch, observation_horizon, feature); None without images."""


def covariance_of(parameters: np.ndarray, settings: Mapping[str, Any], scale: np.ndarray) -> np.ndarray:
    """Compute covariances from the outputs of a student's network.

    Parameters
    ----------
    parameters
        Shape (..., parameter): an unconstrained scale for every dimension, then the other entries of the factor.
    settings
        `StudentSettings` as plain values: ``covariance``, ``scale_floor``, ``rank`` and ``widening``.
    scale
        Shape (chunk,): factors from normalised actions to the units of the contract.

    Returns
    -------
    Shape (..., chunk, chunk), in the units of the contract squared.

    """
    root = _root(parameters, settings, len(scale), len(scale))
    return (root @ np.swapaxes(root, -1, -2)) * scale[:, None] * scale


class ActionNoise:
    """Samples action noise with the covariances of `covariance_of`, without their floor.

    The floor (`StudentSettings.scale_floor`) separates experts during training and does not describe the
    demonstrations. It is subtracted from the conditional variance of each dimension. `widening` is also excluded: it
    compensates for overconfidence in the likelihood.
    """

    def __init__(self, settings: Mapping[str, Any], scale: np.ndarray) -> None:
        """Prepare sampling; arguments as for `covariance_of`. Raises KeyError or ValueError for incomplete settings."""
        if settings['covariance'] not in ('diagonal', 'full', 'low_rank'):
            raise ValueError(f'{settings["covariance"]!r} is no form of covariance')
        if not 0 <= settings['scale_floor'] < math.inf:
            raise ValueError(f'scale_floor is {settings["scale_floor"]}')
        self._settings, self._scale, self._size = {**settings, 'widening': 1.0}, scale, len(scale)
        self._place = _place(settings['covariance'], self._size, settings.get('rank', 0), self._size)
        self._twice = 2 * float(settings['scale_floor'])
        place = self._place
        self.parameters = len(place.row)
        """Number of parameters of a covariance."""
        self._few = list(zip(place.row.tolist(), place.column.tolist(), np.take(scale, place.row).tolist()))

    def of_each(self, parameters: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Sample one deviation from the mean for each covariance.

        ``parameters`` has shape (..., parameter). The result has shape (..., chunk), in the units of the contract.
        """
        root = _root(parameters, self._settings, self._size, self._size)
        diagonal = np.arange(self._size)
        above = root[..., diagonal, diagonal] - self._twice / 2
        root[..., diagonal, diagonal] = np.sqrt(above * (above + self._twice))
        return self._scale * (root @ generator.standard_normal((*root.shape[:-2], root.shape[-1], 1)))[..., 0]

    def of_one(self, parameters: list[float], generator: np.random.Generator) -> list[float]:
        """Sample one deviation for one covariance, given as a list of parameters; fast for a single window."""
        noise = generator.standard_normal(self._place.columns)
        return (
            self._of_few(parameters, noise.tolist())
            if len(parameters) <= _FEW
            else self._of_many(parameters, noise).tolist()
        )

    def _of_few(self, parameters: list[float], noise: list[float]) -> list[float]:
        """In plain numbers: for so few, each array operation costs more than all of them."""
        drawn = [0.0] * self._size
        for number, (entry, (row, column, scale)) in enumerate(zip(parameters, self._few)):
            if number < self._size:
                above = max(entry, 0.0) + math.log1p(math.exp(-abs(entry)))
                entry = math.sqrt(above * (above + self._twice))
            drawn[row] += scale * entry * noise[column]
        return drawn

    def _of_many(self, parameters: list[float], noise: np.ndarray) -> np.ndarray:
        entries = np.array(parameters)
        diagonal = entries[: self._size]
        np.logaddexp(0.0, diagonal, out=diagonal)
        np.sqrt(diagonal * (diagonal + self._twice), out=diagonal)
        entries *= noise[self._place.column]
        return self._scale * np.bincount(self._place.row, entries, self._size)


def log_likelihood(experts: Experts, settings: Mapping[str, Any], scale: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Return the exact ``log q(a|s)`` of the first actions of chunks, as a density in normalised units.

    Parameters
    ----------
    experts, settings
        As for `covariance_of`.
    scale
        Shape (action,): factors from the normalised action of one step to the units of the contract.
    action
        Shape (batch, step, action): the executed actions of the first steps, in the units of the contract.

    Returns
    -------
    Shape (batch,) [nat].

    """
    joint = experts.log_gating + expert_log_likelihood(experts, settings, scale, action)
    highest = joint.max(axis=-1)
    return highest + np.log(np.exp(joint - highest[:, None]).sum(axis=-1))


def expert_log_likelihood(
    experts: Experts, settings: Mapping[str, Any], scale: np.ndarray, actions: np.ndarray
) -> np.ndarray:
    """Return the exact ``log q(a|s,z)`` of the first actions of chunks under every expert, shape (batch, expert) [nat].

    The densities are in normalised units. Arguments as for `log_likelihood`.
    """
    (horizon, width), steps = experts.mean.shape[-2:], actions.shape[1]
    size = steps * width
    deviation = ((actions[:, None] - experts.mean[:, :, :steps]) / scale).reshape(*experts.mean.shape[:2], size)
    if settings['covariance'] == 'diagonal':
        deviations = _entries(experts.covariance_parameters, settings, horizon * width)[..., :size]
        whitened, log_determinant = deviation / deviations, np.log(deviations).sum(axis=-1)
    else:
        root = _root(experts.covariance_parameters, settings, horizon * width, size)
        if root.shape[-1] != size:
            root = np.linalg.cholesky(root @ np.swapaxes(root, -1, -2))
        whitened = np.linalg.solve(root, deviation[..., None])[..., 0]
        log_determinant = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    return -0.5 * (whitened**2).sum(axis=-1) - log_determinant - 0.5 * size * math.log(2 * math.pi)


def entropy(log_gating: np.ndarray) -> np.ndarray:
    """Return the entropy of gatings of shape (..., expert) [nat]; an expert without probability adds nothing."""
    probability = np.exp(log_gating)
    return -(probability * np.where(probability > 0, log_gating, 0.0)).sum(axis=-1)


def choose(log_gating: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw experts, shape (batch,), from log-probabilities of shape (batch, expert) with uniform numbers in [0, 1)."""
    return (np.exp(log_gating[:, :-1]).cumsum(axis=-1) <= uniform[:, None]).sum(axis=-1)


def choose_one(log_gating: np.ndarray, uniform: float) -> int:
    """Draw an expert as `choose` does, for a single window: ``log_gating`` has shape (expert,)."""
    reached = 0.0
    for expert, value in enumerate(log_gating.tolist()):
        reached += math.exp(value)
        if reached > uniform:
            return expert
    return len(log_gating) - 1


def _root(parameters: np.ndarray, settings: Mapping[str, Any], size: int, leading: int) -> np.ndarray:
    """Return R, shape (..., leading, column), such that ``R R^T`` is the covariance of the first `size` dimensions.

    The root of the whole covariance begins with that of the leading dimensions, since it is lower triangular.
    """
    place = _place(settings['covariance'], size, settings.get('rank', 0), leading)
    root = np.zeros((*parameters.shape[:-1], leading, place.columns))
    root[..., place.row, place.column] = _entries(parameters, settings, size)[..., place.entry]
    return root


def _entries(parameters: np.ndarray, settings: Mapping[str, Any], size: int) -> np.ndarray:
    """Return the entries of the square root: first its diagonal, then the rest."""
    entries = parameters.astype(np.float64)
    entries[..., :size] = np.logaddexp(0.0, entries[..., :size]) + settings['scale_floor']
    entries *= settings.get('widening', 1.0)  # artifacts from before it was fitted have none
    return entries


@dataclass(frozen=True)
class _Place:
    """Places of the parameters in the square root of a covariance."""

    entry: np.ndarray
    row: np.ndarray
    column: np.ndarray
    columns: int


@functools.lru_cache(maxsize=16)
def _place(covariance: str, size: int, rank: int, leading: int) -> _Place:
    row = column = np.arange(size)
    columns = leading
    if covariance == 'full':
        below = np.tril_indices(size, -1)
        row, column = np.concatenate([row, below[0]]), np.concatenate([column, below[1]])
    elif covariance == 'low_rank':
        row = np.concatenate([row, np.repeat(np.arange(size), rank)])
        column = np.concatenate([column, leading + np.tile(np.arange(rank), size)])
        columns = leading + rank
    entry = np.flatnonzero(row < leading)
    return _Place(entry, row[entry], column[entry], columns)
