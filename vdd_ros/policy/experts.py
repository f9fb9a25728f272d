"""What a student says of a window: its experts as plain arrays, and what follows from them without a network."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

_FEW = 16
"""Up to so many entries of the root of a covariance, plain numbers are faster than arrays."""


@dataclass(frozen=True)
class Experts:
    """All experts of some windows, in the units of the contract."""

    log_gating: np.ndarray
    """Shape (batch, expert)."""
    mean: np.ndarray
    """Shape (batch, expert, prediction_horizon, action)."""
    covariance_parameters: np.ndarray
    """Shape (batch, expert, parameter): what `covariance_of` makes covariances of."""


def covariance_of(spread: np.ndarray, settings: Mapping[str, Any], scale: np.ndarray) -> np.ndarray:
    """Make covariances of what the heads of a student give.

    Parameters
    ----------
    spread
        Shape (..., parameter): of every dimension the logarithm-like measure of its scale, then the rest of the factor.
    settings
        `StudentSettings` as plain values: ``covariance``, ``scale_floor``, ``rank`` and ``widening``.
    scale
        Shape (chunk,): what normalised actions are multiplied with.

    Returns
    -------
    Shape (..., chunk, chunk), in the units of the contract squared.

    """
    root = _root(spread, settings, len(scale), len(scale))
    return (root @ np.swapaxes(root, -1, -2)) * scale[:, None] * scale


class ActionNoise:
    """Draws deviations to act with: as spread as the covariances that `covariance_of` makes, less their floor.

    The floor (`StudentSettings.scale_floor`) keeps experts apart while learning and says nothing of how anyone acted:
    it is taken off the variance of each dimension, given those before it where the covariance is full. Nor is there any
    `widening`: that makes up for what a student is surprised by, which is no reason to do it.
    """

    def __init__(self, settings: Mapping[str, Any], scale: np.ndarray) -> None:
        """Prepare; arguments as those of `covariance_of`. Settings that lack something raise KeyError or ValueError."""
        if settings['covariance'] not in ('diagonal', 'full', 'low_rank'):
            raise ValueError(f'{settings["covariance"]!r} is no form of covariance')
        if not 0 <= settings['scale_floor'] < math.inf:
            raise ValueError(f'scale_floor is {settings["scale_floor"]}')
        self._settings, self._scale, self._size = {**settings, 'widening': 1.0}, scale, len(scale)
        self._place = _place(settings['covariance'], self._size, settings.get('rank', 0), self._size)
        self._twice = 2 * float(settings['scale_floor'])
        place = self._place
        self.parameters = len(place.row)
        """How many numbers a spread has."""
        self._few = list(zip(place.row.tolist(), place.column.tolist(), np.take(scale, place.row).tolist()))

    def of_each(self, spread: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Draw one deviation of each covariance, of spreads of shape (..., parameter); returns shape (..., chunk)."""
        root = _root(spread, self._settings, self._size, self._size)
        diagonal = np.arange(self._size)
        above = root[..., diagonal, diagonal] - self._twice / 2
        root[..., diagonal, diagonal] = np.sqrt(above * (above + self._twice))
        return self._scale * (root @ generator.standard_normal((*root.shape[:-2], root.shape[-1], 1)))[..., 0]

    def of_one(self, spread: list[float], generator: np.random.Generator) -> list[float]:
        """Draw one deviation of one covariance, of a spread of so many parameters: the robot's case, and its time."""
        noise = generator.standard_normal(self._place.columns)
        return self._of_few(spread, noise.tolist()) if len(spread) <= _FEW else self._of_many(spread, noise).tolist()

    def _of_few(self, spread: list[float], noise: list[float]) -> list[float]:
        """In plain numbers: of so few, each operation on arrays costs more than all of them."""
        drawn = [0.0] * self._size
        for number, (entry, (row, column, scale)) in enumerate(zip(spread, self._few)):
            if number < self._size:
                above = max(entry, 0.0) + math.log1p(math.exp(-abs(entry)))
                entry = math.sqrt(above * (above + self._twice))
            drawn[row] += scale * entry * noise[column]
        return drawn

    def _of_many(self, spread: list[float], noise: np.ndarray) -> np.ndarray:
        entries = np.array(spread)
        diagonal = entries[: self._size]
        np.logaddexp(0.0, diagonal, out=diagonal)
        np.sqrt(diagonal * (diagonal + self._twice), out=diagonal)
        entries *= noise[self._place.column]
        return self._scale * np.bincount(self._place.row, entries, self._size)


def log_likelihood(experts: Experts, settings: Mapping[str, Any], scale: np.ndarray, action: np.ndarray) -> np.ndarray:
    """Evaluate ``log q(a|s)`` of the first actions of chunks, exactly and in normalised units.

    Parameters
    ----------
    experts, settings
        As for `covariance_of`.
    scale
        Shape (action,): what the normalised action of one step is multiplied with.
    action
        Shape (batch, step, action): what was done in the first steps, in the units of the contract.

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
    """Evaluate ``log q(a|s,z)`` of the first actions of chunks under every expert, exactly and in normalised units.

    Arguments as for `log_likelihood`, but ``actions`` has shape (batch, step, action): the first steps of chunks.
    Returns shape (batch, expert) [nat].
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
    """Draw experts, shape (batch,), from log-probabilities of shape (batch, expert) by uniform numbers in [0, 1)."""
    return (np.exp(log_gating[:, :-1]).cumsum(axis=-1) <= uniform[:, None]).sum(axis=-1)


def choose_one(log_gating: np.ndarray, uniform: float) -> int:
    """Draw an expert as `choose` would, from log-probabilities of shape (expert,): the robot's case, and its time."""
    reached = 0.0
    for expert, value in enumerate(log_gating.tolist()):
        reached += math.exp(value)
        if reached > uniform:
            return expert
    return len(log_gating) - 1


def _root(spread: np.ndarray, settings: Mapping[str, Any], size: int, leading: int) -> np.ndarray:
    """Return R, shape (..., leading, column), such that ``R R^T`` is the covariance of the first dimensions of `size`.

    Square roots of that of all dimensions begin with those of the first, since they are lower triangular.
    """
    place = _place(settings['covariance'], size, settings.get('rank', 0), leading)
    root = np.zeros((*spread.shape[:-1], leading, place.columns))
    root[..., place.row, place.column] = _entries(spread, settings, size)[..., place.entry]
    return root


def _entries(spread: np.ndarray, settings: Mapping[str, Any], size: int) -> np.ndarray:
    """Return what stands in the square root: first its diagonal, then the rest."""
    entries = spread.astype(np.float64)
    entries[..., :size] = np.logaddexp(0.0, entries[..., :size]) + settings['scale_floor']
    entries *= settings.get('widening', 1.0)  # artifacts of before it was fitted have none
    return entries


@dataclass(frozen=True)
class _Place:
    """Where the entries of a spread stand in the square root of a covariance."""

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
