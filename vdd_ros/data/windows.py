"""From episodes to the windows that a policy is trained on: arrays alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from vdd_ros.common.errors import TrainingError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import change_factors
from vdd_ros.data.decode.frames import Rows
from vdd_ros.data.episode import Episode
from vdd_ros.policy.artifact import DataRecord


@dataclass(frozen=True)
class WindowArrays:
    """Every window of some episodes, in the units of the contract."""

    observation: np.ndarray
    """Shape (window, observation_horizon, observation), oldest stamp first."""
    action: np.ndarray
    """Shape (window, prediction_horizon, action)."""
    step: np.ndarray
    """Shape (window, action): by how much the commanded value changed."""


def windows_of(episodes: Sequence[Episode], contract: Contract) -> WindowArrays:
    """Cut episodes into windows, one for each tick.

    Where an episode has no older observation, its first stands in, as on the live arm. Where a chunk reaches past the
    end, the last action is repeated; in `absolute` mode that is standing still, in `delta` mode going on.

    Raises
    ------
    TrainingError
        There are no episodes, or the arrays of one are not as wide as the contract says or hold NaN or infinity.

    """
    if not episodes:
        raise TrainingError(
            expected='at least one episode', found='none', remedy='record demonstrations, or keep those that succeed'
        )
    for number, episode in enumerate(episodes):
        _refuse_foreign(episode, number, contract)
    observations, actions, steps = [], [], []
    factors = change_factors(contract)
    back = np.arange(contract.observation_horizon - 1, -1, -1) * contract.observation_stride
    ahead = np.arange(contract.prediction_horizon)
    for episode in episodes:
        ticks = np.arange(len(episode))[:, None]
        observations.append(episode.observation[np.maximum(ticks - back, 0)])
        actions.append(episode.action[np.minimum(ticks + ahead, len(episode) - 1)])
        following = np.diff(episode.action, axis=0, prepend=episode.action[:1])
        steps.append(np.where(np.isnan(factors), following, episode.action * factors))
    return WindowArrays(np.concatenate(observations), np.concatenate(actions), np.concatenate(steps))


def _refuse_foreign(episode: Episode, number: int, contract: Contract) -> None:
    """Refuse an episode whose arrays do not follow the contract."""
    where = f'episode {episode.index} of {episode.bag}' if episode.bag else f'episode {number}'
    for name, values, size in (
        ('observation', episode.observation, contract.observation_size),
        ('action', episode.action, contract.action_size),
    ):
        if values.shape[1] != size:
            raise TrainingError(
                expected=f'{size} numbers in each {name}, as in the contract {contract.name}',
                found=f'{values.shape[1]} in {where}',
                remedy='make the episodes with this contract',
            )
        if (strange := Rows([values]).strange() if isinstance(values, np.ndarray) else values.strange()) is not None:
            row, column = strange
            raise TrainingError(
                expected=f'finite numbers in each {name}',
                found=f'{values[row, column]} in row {row}, column {column} of {where}',
                remedy='drop the episodes that hold such numbers',
            )


@dataclass(frozen=True)
class Demonstrations:
    """What is learned from."""

    contract: Contract
    train: WindowArrays
    held_out: WindowArrays
    """Windows of whole demonstrations that no update sees: all parts of one that gaps have split lie on one side."""
    record: DataRecord
    report: ConversionReport = field(default_factory=ConversionReport)
    """What was dropped on the way, and why."""

    def __post_init__(self) -> None:
        """Refuse windows that do not follow the contract."""
        contract = self.contract
        observation = (contract.observation_horizon, contract.observation_size)
        action = (contract.prediction_horizon, contract.action_size)
        for part, arrays in (('train', self.train), ('held_out', self.held_out)):
            shapes = arrays.observation.shape[1:], arrays.action.shape[1:], arrays.step.shape[1:]
            if shapes != (observation, action, action[1:]):
                raise TrainingError(
                    expected=f'windows of the shapes {observation}, {action} and {action[1:]} of {contract.name}',
                    found=f'{", ".join(map(str, shapes))} in {part}',
                    remedy='cut the episodes into windows with this contract (windows_of)',
                )
