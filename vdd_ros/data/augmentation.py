"""Windows as if the arm had been pushed off its way: what teaches a policy to come back to it."""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vdd_ros.contract import Contract
from vdd_ros.data.dataset import WindowArrays
from vdd_ros.normalization import Normalizer, Normalizers
from vdd_ros.settings import Settings
from vdd_ros.training import Windows


class AugmentationSettings(Settings):
    """How far windows are displaced. Lengths are in root-mean-square steps of the demonstrations."""

    displacement: float = Field(1.0, ge=0)
    """Standard deviation of the push that the present position got; 0 for none."""
    recovery: float = Field(0.5, ge=0, le=1)
    """Share of the push that one policy step takes back."""
    memory_noise: float = Field(0.8, ge=0)
    """Standard deviation of noise on older stamps alone: a policy that trusts its past motion to the letter copies it,
    errors included, one that cannot see it forgets which way it chose."""


class AugmentedWindows(Windows):
    """Windows in normalised units, displaced afresh at every draw.

    A push ``d`` moves the features that the action commands; older stamps moved by a random share of it, as pushes
    of every age would have. The first actions lead back: a step takes `recovery` of what is left.
    """

    def __init__(
        self, arrays: WindowArrays, contract: Contract, normalizers: Normalizers, settings: AugmentationSettings
    ) -> None:
        """Hold the windows of a contract in memory."""
        super().__init__(
            _tensor(normalizers.observation.normalize(arrays.observation)),
            _tensor(normalizers.action.normalize(arrays.action)).flatten(start_dim=1),
        )
        self._settings = settings
        step = step_root(arrays)
        moved = _moved_by_action(contract)
        self._push = _tensor(step @ moved / normalizers.observation.scale)
        delta = contract.action_mode == 'delta'
        left = (1 - settings.recovery) ** np.arange(contract.prediction_horizon)
        answer = -settings.recovery * left if delta else (1 - settings.recovery) * left
        self._answer = _tensor(answer[:, None, None] * step / normalizers.action.scale)

    def draw(self, batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw windows with replacement and displace them: observations and flattened actions."""
        observation, action = super().draw(batch, generator)
        settings, (horizon, size) = self._settings, (observation.shape[1], self._push.shape[0])
        options = {'generator': generator, 'device': generator.device}
        if settings.displacement:
            push = settings.displacement * torch.randn(batch, size, **options)
            share = torch.rand(batch, 1, 1, **options).expand(-1, horizon, -1).clone()
            share[:, -1] = 1
            observation = observation + share * (push @ self._push)[:, None]
            action = action + torch.einsum('bi,tij->btj', push, self._answer).flatten(start_dim=1)
        if settings.memory_noise and horizon > 1:
            noise = settings.memory_noise * torch.randn(batch, horizon, size, **options)
            noise[:, -1] = 0
            observation = observation + noise @ self._push
        return observation, action


def fit_normalizers(arrays: WindowArrays, contract: Contract, settings: AugmentationSettings) -> Normalizers:
    """Fit to windows as they are, and widen the action's by what the displacements will add to it."""
    action = Normalizer.fit(arrays.action[:, 0])
    gain = settings.recovery if contract.action_mode == 'delta' else 1 - settings.recovery
    added = (gain * settings.displacement * np.linalg.norm(step_root(arrays), axis=0)) ** 2
    widened = Normalizer(action.offset, np.sqrt(action.scale**2 + added))
    return Normalizers(Normalizer.fit(arrays.observation[:, -1]), widened)


def step_root(arrays: WindowArrays) -> np.ndarray:
    """Return R, shape (action, action), such that noise ``z @ R`` is spread as the demonstrated steps are.

    Displacements then lie where the demonstrations move: over the table, and not across the joints at random.
    """
    value, vector = np.linalg.eigh(arrays.step.T @ arrays.step / len(arrays.step))
    return np.sqrt(np.maximum(value, 0))[:, None] * vector.T


def _moved_by_action(contract: Contract) -> np.ndarray:
    """Return 0/1, shape (action, observation): which entry of the observation a displaced command displaces."""
    action = contract.action
    moved = np.zeros((contract.action_size, contract.observation_size))
    column = 0
    for feature in contract.observation:
        for offset in range(contract.width(feature)):
            if feature.space == action.space == 'joint':
                moved[offset, column] = 1
            elif feature.space == action.space and feature.axes[offset] in action.axes:
                moved[action.axes.index(feature.axes[offset]), column] = 1
            column += 1
    return moved


def _tensor(values: np.ndarray) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32)
