"""What a student says of a window: its experts as plain arrays, and what follows from them without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Experts:
    """All experts of some windows, in the units of the contract."""

    log_gating: np.ndarray
    """Shape (batch, expert)."""
    mean: np.ndarray
    """Shape (batch, expert, prediction_horizon, action)."""
    spread: np.ndarray
    """Shape (batch, expert, parameter): what `covariance_of` makes covariances of."""


def covariance_of(spread: np.ndarray, settings: Mapping[str, Any], scale: np.ndarray) -> np.ndarray:
    """Make covariances of what the heads of a student give.

    Parameters
    ----------
    spread
        Shape (..., parameter): of every dimension the logarithm-like measure of its scale, then the rest of the factor.
    settings
        `StudentSettings` as plain values: ``covariance``, ``scale_floor`` and ``rank``.
    scale
        Shape (chunk,): what normalised actions are multiplied with.

    Returns
    -------
    Shape (..., chunk, chunk), in the units of the contract squared.

    """
    root = _root(spread, settings, len(scale), len(scale))
    return (root @ np.swapaxes(root, -1, -2)) * scale[:, None] * scale


def deviate(
    spread: np.ndarray, settings: Mapping[str, Any], scale: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """Draw deviations, shape (..., chunk), of the covariances that `covariance_of` makes of the same arguments."""
    root = _root(spread, settings, len(scale), len(scale))
    return scale * (root @ generator.standard_normal((*root.shape[:-2], root.shape[-1], 1)))[..., 0]


def log_likelihood(
    experts: Experts, settings: Mapping[str, Any], scale: np.ndarray, action: np.ndarray
) -> np.ndarray:
    """Evaluate ``log q(a|s)`` of the first actions of chunks, exactly and in normalised units.

    Parameters
    ----------
    experts, settings
        As for `covariance_of`.
    scale
        Shape (action,): what the normalised action of one step is multiplied with.
    action
        Shape (batch, action): what was done in the first step, in the units of the contract.

    Returns
    -------
    Shape (batch,) [nat].

    """
    size, (horizon, width) = len(scale), experts.mean.shape[-2:]
    root = _root(experts.spread, settings, horizon * width, size)
    if root.shape[-1] != size:
        root = np.linalg.cholesky(root @ np.swapaxes(root, -1, -2))
    deviation = (action[:, None] - experts.mean[:, :, 0]) / scale
    whitened = np.linalg.solve(root, deviation[..., None])[..., 0]
    log_determinant = np.log(np.diagonal(root, axis1=-2, axis2=-1)).sum(axis=-1)
    constant = 0.5 * size * math.log(2 * math.pi)
    joint = experts.log_gating - 0.5 * (whitened**2).sum(axis=-1) - log_determinant - constant
    highest = joint.max(axis=-1)
    return highest + np.log(np.exp(joint - highest[:, None]).sum(axis=-1))


def entropy(log_gating: np.ndarray) -> np.ndarray:
    """Return the entropy of gatings of shape (..., expert) [nat]; an expert without probability adds nothing."""
    probability = np.exp(log_gating)
    return -(probability * np.where(probability > 0, log_gating, 0.0)).sum(axis=-1)


def choose(log_gating: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw experts, shape (batch,), from log-probabilities of shape (batch, expert) by uniform numbers in [0, 1)."""
    below = np.add.accumulate(np.exp(log_gating[:, :-1]), axis=-1)
    if len(below) == 1:  # the robot's case, in a third of the time
        return below[0].searchsorted(uniform, side='right')
    return (below <= uniform[:, None]).sum(axis=-1)


def _root(spread: np.ndarray, settings: Mapping[str, Any], size: int, leading: int) -> np.ndarray:
    """Return R, shape (..., leading, column), such that ``R R^T`` is the covariance of the first dimensions of `size`.

    Square roots of that of all dimensions begin with those of the first, since they are lower triangular.
    """
    deviation = np.logaddexp(0, spread[..., :leading].astype(np.float64)) + settings['scale_floor']
    diagonal = np.eye(leading) * deviation[..., None]
    if settings['covariance'] == 'full':
        diagonal[(..., *np.tril_indices(leading, -1))] = spread[..., size : size + leading * (leading - 1) // 2]
    elif settings['covariance'] == 'low_rank':
        factor = spread[..., size:].reshape(*spread.shape[:-1], size, settings['rank'])
        return np.concatenate([diagonal, factor[..., :leading, :]], axis=-1)
    return diagonal
