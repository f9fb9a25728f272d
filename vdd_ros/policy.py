"""Trained policies at work: numpy in, action chunks out, by onnxruntime; neither torch nor ROS is imported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vdd_ros.artifact import Artifact, load_artifact
from vdd_ros.contract import Contract
from vdd_ros.control.chunk import Plan
from vdd_ros.errors import ArtifactError
from vdd_ros.runtime import Network


@dataclass(frozen=True)
class Experts:
    """What the student says of some windows: all its experts, in the units of the contract."""

    log_gating: np.ndarray
    """Shape (batch, expert)."""
    mean: np.ndarray
    """Shape (batch, expert, prediction_horizon, action)."""
    spread: np.ndarray
    """Shape (batch, expert, parameter): what `covariance_of` makes covariances of."""


class DistilledPolicy:
    """A student at work: one network call from a window to its experts."""

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        """Prepare inference; one thread has the best tail at the size of these networks.

        Raises
        ------
        ArtifactError
            The artifact is no student, or its network cannot be run here.

        """
        _check_kind(artifact, 'student')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, name=str(artifact.path))

    @classmethod
    def load(cls, path: str | Path, *, contract: Contract | None = None, threads: int = 1) -> DistilledPolicy:
        """Read, check and prepare an artifact; errors as those of `load_artifact`."""
        return cls(load_artifact(path, kind='student', contract=contract), threads=threads)

    def experts(self, observation: np.ndarray) -> Experts:
        """Call the network.

        Parameters
        ----------
        observation
            Shape (batch, observation_horizon, observation), in the units of the contract, oldest stamp first.

        """
        return Experts(*self._network({'observation': observation}))

    def covariance(self, experts: Experts) -> np.ndarray:
        """Return the covariances of the flattened chunks, shape (batch, expert, chunk, chunk)."""
        scale = np.tile(self.artifact.manifest.normalizers.action.scale, self.contract.prediction_horizon)
        return covariance_of(experts.spread, self.artifact.manifest.network, scale)

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Draw an expert from the gating and act with its mean, as the paper does.

        ``observation`` has shape (batch, observation_horizon, observation).
        """
        experts = self.experts(observation)
        chosen = choose(experts.log_gating, generator.random(len(experts.log_gating)))
        mean = experts.mean
        action = mean[:, chosen[0]] if len(chosen) == 1 else mean[np.arange(len(chosen)), chosen]
        return Plan(action.astype(np.float64), chosen)


class TeacherPolicy:
    """A teacher at work: as many network calls for an action as its grid has noise levels."""

    def __init__(self, artifact: Artifact, *, threads: int = 1) -> None:
        """Prepare inference; errors as those of `DistilledPolicy`."""
        _check_kind(artifact, 'teacher')
        self.artifact = artifact
        self.contract: Contract = artifact.manifest.contract
        self._network = Network(artifact.network, threads=threads, name=str(artifact.path))
        training = artifact.manifest.training
        self._sigmas = np.array(training['sigmas'], dtype=np.float32)
        self._sigma_data = np.float32(training['sigma_data'])
        self._bound = np.float32(artifact.manifest.network['action_bound'])
        self._sampler = {'euler': self._euler, 'heun': self._heun, 'ancestral': self._ancestral}[
            artifact.manifest.network['sampler']
        ]
        self._normalizer = artifact.manifest.normalizers.action

    @classmethod
    def load(cls, path: str | Path, *, contract: Contract | None = None, threads: int = 1) -> TeacherPolicy:
        """Read, check and prepare an artifact; errors as those of `load_artifact`."""
        return cls(load_artifact(path, kind='teacher', contract=contract), threads=threads)

    @property
    def calls(self) -> int:
        """Network calls for one action."""
        levels = len(self._sigmas) - 1
        return 2 * levels - 1 if self._sampler == self._heun else levels

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Draw chunks from noise, down the noise levels of the teacher's sampler.

        ``observation`` has shape (batch, observation_horizon, observation).
        """
        window = np.ascontiguousarray(observation, dtype=np.float32)
        contract = self.contract
        shape = (len(window), contract.prediction_horizon * contract.action_size)
        state = generator.standard_normal(shape, dtype=np.float32) * np.hypot(self._sigmas[0], self._sigma_data)
        for sigma, lower in zip(self._sigmas[:-1], self._sigmas[1:]):
            state = self._sampler(state, sigma, lower, window, generator)
        chunk = state.reshape(len(window), contract.prediction_horizon, contract.action_size)
        return Plan(self._normalizer.denormalize(chunk.astype(np.float64)), np.full(len(window), -1))

    def _denoise(self, noisy: np.ndarray, sigma: np.float32, window: np.ndarray) -> np.ndarray:
        clean = self._network({'noisy': noisy, 'sigma': sigma, 'observation': window})[0]
        return np.clip(clean, -self._bound, self._bound)

    def _euler(
        self, state: np.ndarray, sigma: np.float32, lower: np.float32, window: np.ndarray, _: object
    ) -> np.ndarray:
        clean = self._denoise(state, sigma, window)
        return clean + lower / sigma * (state - clean)

    def _heun(
        self, state: np.ndarray, sigma: np.float32, lower: np.float32, window: np.ndarray, _: object
    ) -> np.ndarray:
        slope = (state - self._denoise(state, sigma, window)) / sigma
        ahead = state + (lower - sigma) * slope
        if not lower:
            return ahead
        corrected = (ahead - self._denoise(ahead, lower, window)) / lower
        return state + (lower - sigma) * (slope + corrected) / 2

    def _ancestral(
        self,
        state: np.ndarray,
        sigma: np.float32,
        lower: np.float32,
        window: np.ndarray,
        generator: np.random.Generator,
    ) -> np.ndarray:
        clean, share = self._denoise(state, sigma, window), (lower / sigma) ** 2
        noise = generator.standard_normal(state.shape, dtype=np.float32)
        return clean + share * (state - clean) + lower * np.sqrt(1 - share) * noise


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
    size = len(scale)
    deviation = np.logaddexp(0, spread[..., :size].astype(np.float64)) + settings['scale_floor']
    diagonal = np.eye(size) * deviation[..., None]
    rest = spread[..., size:]
    if settings['covariance'] == 'full':
        diagonal[(..., *np.tril_indices(size, -1))] = rest
        covariance = diagonal @ np.swapaxes(diagonal, -1, -2)
    else:
        covariance = diagonal**2
        if settings['covariance'] == 'low_rank':
            factor = rest.reshape(*rest.shape[:-1], size, settings['rank'])
            covariance = covariance + factor @ np.swapaxes(factor, -1, -2)
    return covariance * scale[:, None] * scale


def choose(log_gating: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """Draw experts, shape (batch,), from log-probabilities of shape (batch, expert) by uniform numbers in [0, 1)."""
    below = np.add.accumulate(np.exp(log_gating[:, :-1]), axis=-1)
    if len(below) == 1:  # the robot's case, in a third of the time
        return below[0].searchsorted(uniform, side='right')
    return (below <= uniform[:, None]).sum(axis=-1)


def _check_kind(artifact: Artifact, kind: str) -> None:
    if artifact.manifest.kind != kind:
        raise ArtifactError(
            expected=f'a {kind} at {artifact.path}', found=f'a {artifact.manifest.kind}', remedy=f'give the {kind}'
        )
