"""Augmentation: windows displaced from the demonstrated path, with actions that lead back to it."""

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
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.image_windows import EncodedImages, ImageWindows
from vdd_ros.learning.observation import AnyWindows, SeenWindows
from vdd_ros.learning.row_windows import NormalizedRowWindows
from vdd_ros.learning.training import Windows
from vdd_ros.policy.normalization import Normalizer, Normalizers


class AugmentationSettings(Settings):
    """The displacements. Lengths are in root-mean-square steps of the demonstrations."""

    displacement: float = Field(1.0, ge=0)
    """Standard deviation of the displacement of the present position; 0 for none."""
    recovery: float = Field(0.5, ge=0, le=1)
    """Share of the displacement that one policy step removes."""
    memory_noise: float = Field(0.8, ge=0)
    """Standard deviation of the noise on information about past motion: older time steps, and the difference between
    measurement and command. Without noise the policy copies its past motion, including errors. With too much noise
    the policy cannot continue a mode that it has begun."""
    least_spread: float = Field(0.1, ge=0, le=1)
    """Minimum displacement in any direction, relative to the maximum: the arm also drifts in unused directions."""


class AugmentedWindows(Windows):
    """Windows in normalised units, displaced randomly at every draw.

    A displacement ``d`` shifts the observed values of the commanded quantities. Older time steps are shifted by a
    random share of ``d``, as for disturbances of different ages. The first actions lead back: each step removes the
    share `recovery` of the remaining displacement. Action values that are not observed (see `shown_actions`) stay as
    demonstrated, because a correction of an unobservable displacement is label noise.
    """

    def __init__(
        self,
        arrays: WindowArrays,
        contract: Contract,
        normalizers: Normalizers,
        settings: AugmentationSettings,
        device: torch.device | None = None,
        images: ImageWindows | EncodedImages | None = None,
    ) -> None:
        """Store the windows of a contract in the memory of a device, by default the CPU.

        `images` are the images of the windows, for contracts of version 3, or their features.
        """
        held = isinstance(arrays.observation, RowWindows)
        super().__init__(
            NormalizedRowWindows(arrays.observation, normalizers.observation, device)
            if held
            else _tensor(normalizers.observation.normalize(arrays.observation), device),
            _tensor(normalizers.action.normalize(arrays.action), device).flatten(start_dim=1),
        )
        self._settings, self._images = settings, images
        step = step_root(arrays, settings.least_spread, shown_actions(contract))
        moved, remembers = _columns(contract)
        self._push = _tensor(step @ moved / normalizers.observation.scale, device)
        self._memory = torch.ones(contract.observation_horizon, contract.observation_size, device=device)
        self._memory[-1] = _tensor(remembers, device)
        self._disturbs_memory = bool(settings.memory_noise and self._memory.any())
        left = (1 - settings.recovery) ** np.arange(contract.prediction_horizon)
        answer = _recovering(contract, settings.recovery) * step / normalizers.action.scale
        self._answer = _tensor(left[:, None, None] * answer, device)

    def draw(self, batch: int, generator: torch.Generator | Draws) -> tuple[AnyWindows, Tensor]:
        """Draw windows with replacement and displace them; return observations and flattened actions."""
        draws = Draws.of(generator)
        index = draws.integers(len(self.action), batch)
        observation, action = self.observation[index], self.action[index]
        settings, (horizon, size) = self._settings, (observation.shape[1], self._push.shape[0])
        if settings.displacement:
            push = settings.displacement * draws.normal(batch, size)
            share = draws.uniform(batch, 1, 1).expand(-1, horizon, -1).clone()
            share[:, -1] = 1
            observation = observation + share * (push @ self._push)[:, None]
            action = action + torch.einsum('bi,tij->btj', push, self._answer).flatten(start_dim=1)
        if self._disturbs_memory:
            noise = settings.memory_noise * draws.normal(batch, horizon, size)
            observation = observation + self._memory * (noise @ self._push)
        return self._seen(observation, index, draws), action

    def at(self, index: Tensor, generator: torch.Generator | Draws | None) -> AnyWindows:
        """Return the windows at some indices without displacement; images are varied if a generator is given."""
        return self._seen(self.observation[index], index, generator)

    def _seen(self, vector: Tensor, index: Tensor, generator: torch.Generator | Draws | None) -> AnyWindows:
        if self._images is None:
            return vector
        shown = self._images.draw(index, generator)
        return torch.cat([vector, shown], dim=-1) if isinstance(shown, Tensor) else SeenWindows(vector, shown)


def fit_normalizers(arrays: WindowArrays, contract: Contract, settings: AugmentationSettings) -> Normalizers:
    """Fit normalizers to the windows, and widen those of the action by the range of the displacements."""
    action = Normalizer.fit(arrays.action[:, 0])
    gain = settings.displacement * _recovering(contract, settings.recovery)
    root = step_root(arrays, settings.least_spread, shown_actions(contract))
    added = (gain * np.linalg.norm(root, axis=0)) ** 2
    widened = Normalizer(action.offset, np.sqrt(action.scale**2 + added))
    return Normalizers(Normalizer.fit(arrays.observation[:, -1]), widened)


def step_root(arrays: WindowArrays, least_spread: float = 0.0, shown: np.ndarray | None = None) -> np.ndarray:
    """Return R, shape (action, action), such that noise ``z @ R`` has the covariance of the demonstrated steps.

    Displacements are thus mostly in the directions of the demonstrated motion. The standard deviation in any direction
    is at least ``least_spread`` times the maximum. Action values that are false in ``shown``, shape (action,) bool, get
    no noise; by default all action values get noise.
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
    """Return which action values are observed, shape (action,) bool.

    A commanded joint or axis is observed if the observation contains its measured or commanded value. Commands on other
    topics do not count as observed, nor does a commanded tool position if only joints are observed.
    """
    return _columns(contract)[0].any(axis=1)


def undisplaced(contract: Contract, settings: AugmentationSettings) -> list[str]:
    """Return the names of the action values that are not displaced although displacements are enabled."""
    if not settings.displacement:
        return []
    return [name for name, shown in zip(action_names(contract), shown_actions(contract)) if not shown]


def _columns(contract: Contract) -> tuple[np.ndarray, np.ndarray]:
    """Return the effect of a displacement on the observation of one time step.

    First 0/1, shape (action, observation): the observed values shifted by a displaced command. Then 0/1, shape
    (observation,): the values of the newest time step that contain information about past motion.
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
    """Return the identity of every value of some features (space and axis or joint), and its source."""
    parts = []
    for feature in features:
        if isinstance(feature, TopicFeature):
            names = [f'{feature.name} {place}' for place in range(contract.width(feature))]
        else:
            names = list(contract.parts_of(feature))
        parts += [((feature.space, name), feature.source) for name in names]
    return parts


def _recovering(contract: Contract, recovery: float) -> np.ndarray:
    """Return the correction of a unit displacement by the first action, shape (action,)."""
    factors = change_factors(contract)
    return np.where(np.isnan(factors), 1 - recovery, -recovery / np.nan_to_num(factors, nan=1.0))


def _tensor(values: np.ndarray, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
