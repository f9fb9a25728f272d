"""Predictions of a student for the observations of recorded demonstrations, at every tick."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import Contract, Feature
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import observed, windows_of
from vdd_ros.policy.experts import Experts
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics

_BATCH = 256
_JOINTS = 'measured joints of the arm'


@dataclass(frozen=True)
class PredictedEpisode:
    """One demonstration with the predictions of the student at each tick."""

    bag: str
    index: int
    """Index in the bag, from 0."""
    labels: Mapping[str, str]
    """Recorded labels."""
    stamps: np.ndarray
    """Stamps of the ticks, shape (time,) [ns]."""
    observation: np.ndarray
    """Observations, shape (time, observation)."""
    joints: np.ndarray
    """Measured positions, shape (time, joint) [rad]."""
    tool: np.ndarray
    """Measured tool position, shape (time, 3) [m]."""
    log_gating: np.ndarray
    """Log-probabilities of the experts, shape (time, expert)."""
    responsibility: np.ndarray
    """``q(z|s,a)`` of the recorded chunk, shape (time, expert). The recorded expert of a tick has the largest value."""
    mean: np.ndarray
    """Mean chunks, shape (time, expert, prediction_horizon, action), in the units of the contract."""
    deviation: np.ndarray
    """Standard deviation of the first action of the recorded expert, shape (time, action), in the same units."""

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.observation)


def predicted_episodes(
    policy: DistilledPolicy, bags: Sequence[str | Path], kinematics: Kinematics, progress: Progress
) -> list[PredictedEpisode]:
    """Read the demonstrations of bags with the contract of a student, and evaluate the student at every tick.

    Failed demonstrations are left out, as in training.

    Raises
    ------
    BagError
        A bag cannot be read, or has no demonstration.

    """
    contract = policy.contract
    wide = _with_joints(contract)
    size = contract.observation_size
    found = []
    for number, bag in enumerate(bags):
        for episode in convert(bag, wide, kinematics, ConversionReport()):
            if episode.success is False:
                continue
            rows = np.asarray(episode.observation[:])
            plain = replace(episode, observation=rows[:, :size])
            found.append(_predicted_episode(policy, plain, rows[:, size:], kinematics))
            progress('query', number, len(bags), {'demonstrations': len(found)})
    progress('query', len(bags), len(bags), {'demonstrations': len(found)})
    return found


def _with_joints(contract: Contract) -> Contract:
    """Return a contract that also observes the measured joints; the ticks are the same."""
    joints = Feature(name=_JOINTS, source='measured', space='joint')
    return contract.model_copy(update={'observation': (*contract.observation, joints)})


def _predicted_episode(
    policy: DistilledPolicy, episode: Episode, joints: np.ndarray, kinematics: Kinematics
) -> PredictedEpisode:
    windows = windows_of([episode], policy.contract)
    gating, mean, responsibility, deviation = [], [], [], []
    width = policy.contract.action_size
    for begin in range(0, len(windows.action), _BATCH):
        part = slice(begin, begin + _BATCH)
        experts = policy.experts(observed(windows, part, policy.contract))
        posterior = experts.log_gating + policy.coherence_of_each(experts, windows.action[part])
        posterior = np.exp(posterior - posterior.max(axis=-1, keepdims=True))
        responsibility.append(posterior / posterior.sum(axis=-1, keepdims=True))
        gating.append(experts.log_gating)
        mean.append(experts.mean)
        rows, chosen = np.arange(len(posterior)), responsibility[-1].argmax(axis=-1)
        own = Experts(
            experts.log_gating[:, :1],
            experts.mean[rows, chosen][:, None],
            experts.covariance_parameters[rows, chosen][:, None],
        )
        covariance = policy.covariance(own)[:, 0, :width, :width]
        deviation.append(np.sqrt(np.diagonal(covariance, axis1=-2, axis2=-1)))
    return PredictedEpisode(
        episode.bag,
        episode.index,
        dict(episode.labels),
        episode.stamps,
        np.asarray(episode.observation),
        joints,
        kinematics.tool_position(joints),
        *(np.concatenate(parts) for parts in (gating, responsibility, mean, deviation)),
    )
