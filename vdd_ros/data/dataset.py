"""From a recording to episodes, and from episodes to the windows that a policy is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Callable

import numpy as np

from vdd_ros.contract import Contract
from vdd_ros.data.bag import Recording
from vdd_ros.data.decode import ToolPoint, action_values, change_factors, observation_values
from vdd_ros.data.episode import Episode
from vdd_ros.data.resample import latest
from vdd_ros.errors import BagError, TrainingError


def episodes_of(
    recording: Recording,
    contract: Contract,
    kinematics: ToolPoint | None,
    progress: Callable[[float], None] | None = None,
) -> list[Episode]:
    """Cut a recording into its episodes, resampled at the policy rate.

    The first tick is the first measurement after an episode's start. At every tick, the observation is made of the
    newest measurement and of the newest command before the tick; the action leads to the newest command before the
    next tick. Before an episode's first command, the arm counts as commanded to be where it is: just so the live
    policy is anchored.

    Raises
    ------
    BagError
        The recording marks no episode.

    """
    spans = [(start, end) for start, end in zip(recording.marks, recording.marks[1:]) if start.event == 'start']
    spans = [(start, end) for start, end in spans if end.event == 'end']
    if not spans:
        raise BagError(
            expected=f'marks of episodes on {contract.topics.episode}',
            found=f'{len(recording.marks)} marks and no whole episode',
            remedy='record with the bridge or the recorder, which mark them',
        )
    episodes = []
    for count, (start, end) in enumerate(spans):
        rows = _rows(recording, contract, start.stamp, end.stamp)
        if rows is not None:
            measured, before, after = rows
            observation = observation_values(contract, measured, before, kinematics)
            action = action_values(contract, before, after, kinematics)
            labels = {**start.labels, **end.labels}
            episodes.append(Episode(observation, action, _success(labels), labels))
        if progress is not None:
            progress((count + 1) / len(spans))
    return episodes


def _rows(
    recording: Recording, contract: Contract, start: int, end: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return joints measured, commanded before and commanded after, each (tick, joint); None if there are no ticks."""
    measured, commanded = recording.measured, recording.commanded
    first = np.searchsorted(measured.stamps, start)
    if first == len(measured.stamps) or measured.stamps[first] >= end:
        return None
    ticks = np.arange(measured.stamps[first], end, contract.period)
    joints = measured.values[latest(measured.stamps, ticks, inclusive=True)]
    begin = np.searchsorted(commanded.stamps, start)
    index = latest(commanded.stamps, np.append(ticks, ticks[-1] + contract.period), inclusive=False)
    commands = commanded.values[np.maximum(index, 0)].copy()
    commands[index < begin] = joints[0]
    return joints, commands[:-1], commands[1:]


def _success(labels: dict[str, str]) -> bool | None:
    return labels['outcome'] == 'success' if 'outcome' in labels else None


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
        There are no episodes.

    """
    if not episodes:
        raise TrainingError(
            expected='at least one episode', found='none', remedy='record demonstrations, or keep those that succeed'
        )
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
