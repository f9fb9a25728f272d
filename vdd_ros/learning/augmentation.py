"""Windows displaced from the demonstrated path: what teaches a policy to return to it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.contract.contract import Contract, Feature
from vdd_ros.contract.features import TopicFeature
from vdd_ros.contract.naming import action_names
from vdd_ros.data.decode.decode import change_factors
from vdd_ros.data.decode.frames import RowWindows
from vdd_ros.data.windows import WindowArrays
from vdd_ros.learning.row_windows import NormalizedRowWindows
from vdd_ros.learning.training import Windows
from vdd_ros.policy.normalization import Normalizer, Normalizers


class AugmentationSettings(Settings):
    """How far windows are displaced. Lengths are in root-mean-square steps of the demonstrations."""

    displacement: float = Field(1.0, ge=0)
    """Standard deviation of the push that the present position got; 0 for none."""
    recovery: float = Field(0.5, ge=0, le=1)
    """Share of the push that one policy step takes back."""
    memory_noise: float = Field(0.8, ge=0)
    """Standard deviation of noise on what tells of past motion, which is older stamps and, beside the command, the
    measurement that lags behind it: a policy that trusts its past motion to the letter copies it, errors included, one
    that cannot see it forgets which way it chose."""
    least_spread: float = Field(0.1, ge=0, le=1)
    """Least displacement in any direction, as a share of the greatest: the arm drifts where no step leads, too."""


class AugmentedWindows(Windows):
    """Windows in normalised units, displaced afresh at every draw.

    A push ``d`` moves the observed values that the action commands; older stamps move by a random share of it, as
    pushes of every age would have. The first actions lead back: a step takes `recovery` of what is left. Numbers of the
    action that the observation does not show (see `shown_actions`) are left as demonstrated: a correction of a push
    that cannot be seen is noise on the label.
    """

    def __init__(
        self,
        arrays: WindowArrays,
        contract: Contract,
        normalizers: Normalizers,
        settings: AugmentationSettings,
        device: torch.device | None = None,
    ) -> None:
        """Hold the windows of a contract in the memory of a device, by default that of the processor."""
        held = isinstance(arrays.observation, RowWindows)
        super().__init__(
            NormalizedRowWindows(arrays.observation, normalizers.observation, device)
            if held
            else _tensor(normalizers.observation.normalize(arrays.observation), device),
            _tensor(normalizers.action.normalize(arrays.action), device).flatten(start_dim=1),
        )
        self._settings = settings
        step = step_root(arrays, settings.least_spread, shown_actions(contract))
        moved, remembers = _columns(contract)
        self._push = _tensor(step @ moved / normalizers.observation.scale, device)
        self._memory = torch.ones(contract.observation_horizon, contract.observation_size, device=device)
        self._memory[-1] = _tensor(remembers, device)
        self._disturbs_memory = bool(settings.memory_noise and self._memory.any())
        left = (1 - settings.recovery) ** np.arange(contract.prediction_horizon)
        answer = _recovering(contract, settings.recovery) * step / normalizers.action.scale
        self._answer = _tensor(left[:, None, None] * answer, device)

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
        if self._disturbs_memory:
            noise = settings.memory_noise * torch.randn(batch, horizon, size, **options)
            observation = observation + self._memory * (noise @ self._push)
        return observation, action


def fit_normalizers(arrays: WindowArrays, contract: Contract, settings: AugmentationSettings) -> Normalizers:
    """Fit to windows as they are, and widen the action's by what the displacements will add to it."""
    action = Normalizer.fit(arrays.action[:, 0])
    gain = settings.displacement * _recovering(contract, settings.recovery)
    root = step_root(arrays, settings.least_spread, shown_actions(contract))
    added = (gain * np.linalg.norm(root, axis=0)) ** 2
    widened = Normalizer(action.offset, np.sqrt(action.scale**2 + added))
    return Normalizers(Normalizer.fit(arrays.observation[:, -1]), widened)


def step_root(arrays: WindowArrays, least_spread: float = 0.0, shown: np.ndarray | None = None) -> np.ndarray:
    """Return R, shape (action, action), such that noise ``z @ R`` is spread as the demonstrated steps are.

    Displacements then lie mostly where the demonstrations move: over the table, and not across the joints at random.
    In no direction is their deviation less than ``least_spread`` times that in the foremost one. Numbers of the action
    outside of ``shown``, shape (action,) bool, get no noise at all; left out, all are shown.
    """
    size = arrays.step.shape[1]
    places = np.arange(size) if shown is None else np.flatnonzero(shown)
    root = np.zeros((size, size))
    if len(places):
        steps = arrays.step[:, places]
        value, vector = np.linalg.eigh(steps.T @ steps / len(steps))
        deviation = np.sqrt(np.maximum(value, 0))
        root[np.ix_(places, places)] = np.maximum(deviation, least_spread * deviation.max())[:, None] * vector.T
    return root


def shown_actions(contract: Contract) -> np.ndarray:
    """Return which numbers of the action the observation shows, shape (action,) bool.

    It shows a commanded joint or axis if it holds the same joint or axis, measured or commanded. It shows neither
    commands on topics of their own nor, in joints alone, where the tool point is commanded to be.
    """
    return _columns(contract)[0].any(axis=1)


def undisplaced(contract: Contract, settings: AugmentationSettings) -> list[str]:
    """Return the names of the numbers of the action that stay as demonstrated though displacements are asked for."""
    if not settings.displacement:
        return []
    return [name for name, shown in zip(action_names(contract), shown_actions(contract)) if not shown]


def _columns(contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """Return what a displacement does to the observation of one stamp.

    First 0/1, shape (action, observation): which entry a displaced command displaces. Then 0/1, shape (observation,):
    which entries of the newest stamp tell of past motion.
    """
    moved = np.zeros((contract.action_size, contract.observation_size))
    remembers = np.zeros(contract.observation_size)
    rows = _parts(contract, contract.actions)
    columns = _parts(contract, contract.observation)
    spaces = {space for (space, _), source in columns if source == 'commanded'}
    for column, (part, source) in enumerate(columns):
        for row, (commanded, _) in enumerate(rows):
            moved[row, column] = part == commanded and part[0] != 'topic'
        remembers[column] = part[0] in spaces and part[0] != 'topic' and source == 'measured'
    return moved, remembers


def _parts(contract: Contract, features: Sequence[Feature | TopicFeature]) -> list[tuple[tuple[str, str], str]]:
    """Return for every number of some features what it is, as space and axis or joint, and its source."""
    parts = []
    for feature in features:
        if isinstance(feature, TopicFeature):
            names = [f'{feature.name} {place}' for place in range(contract.width(feature))]
        else:
            names = list(contract.parts_of(feature))
        parts += [((feature.space, name), feature.source) for name in names]
    return parts


def _recovering(contract: Contract, recovery: float) -> np.ndarray:
    """Return by how much the first action answers a displacement of one, shape (action,)."""
    factors = change_factors(contract)
    return np.where(np.isnan(factors), 1 - recovery, -recovery / np.nan_to_num(factors, nan=1.0))


def _tensor(values: np.ndarray, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
