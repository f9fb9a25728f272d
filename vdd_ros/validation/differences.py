"""How far a policy is from demonstrations that it is shown: number by number and expert by expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.contract.naming import action_names
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import windows_of
from vdd_ros.policy.experts import Experts, choose

_BATCH = 512


class Student(Protocol):
    """What is needed of a policy; `vdd_ros.policy.policy.DistilledPolicy` is one."""

    def experts(self, observation: np.ndarray) -> Experts:
        """Map windows of shape (batch, observation_horizon, observation) to experts."""
        ...


@dataclass(frozen=True)
class Differences:
    """What a policy would have done, less what was done."""

    names: tuple[str, ...]
    """What the numbers are called."""
    error: np.ndarray
    """Shape (tick, number), in their units."""
    usual: np.ndarray
    """Shape (number,): how much the demonstrated numbers themselves deviate from their mean."""
    expert: np.ndarray
    """Shape (tick,) int: which expert acted; -1 where there are none."""

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.error)

    @property
    def relative(self) -> np.ndarray:
        """Root mean square over the numbers, each in its usual deviation, shape (tick,)."""
        return np.sqrt(np.square(self.error / np.maximum(self.usual, 1e-12)).mean(axis=1))

    def by_number(self) -> Iterator[tuple[str, float, float, float, float]]:
        """Yield for each number its name, bias, median and 95th percentile of the error, and usual deviation."""
        size = np.abs(self.error)
        for place, name in enumerate(self.names):
            column = size[:, place]
            yield (
                name,
                float(self.error[:, place].mean()),
                float(np.median(column)),
                float(np.quantile(column, 0.95)),
                float(self.usual[place]),
            )

    def by_expert(self) -> Iterator[tuple[int, float, float, np.ndarray]]:
        """Yield for each expert its number, share of the ticks, median relative error, and median error by number."""
        relative = self.relative
        for expert in np.unique(self.expert):
            mine = self.expert == expert
            errors = np.median(np.abs(self.error[mine]), axis=0)
            yield int(expert), float(mine.mean()), float(np.median(relative[mine])), errors


@dataclass(frozen=True)
class Shadowed:
    """A policy beside demonstrations, without a robot."""

    drawn: Differences
    """With the expert that the gating drew, as the policy acts."""
    nearest: Differences
    """With the expert that comes nearest: what remains is none of the ways that the policy knows."""
    ticks: np.ndarray
    """Ticks of each episode, shape (episode,)."""

    def by_episode(self) -> np.ndarray:
        """Return the median relative error of each episode with the nearest expert, shape (episode,)."""
        parts = np.split(self.nearest.relative, self.ticks.cumsum()[:-1])
        return np.array([float(np.median(part)) for part in parts])


def shadow(
    policy: Student,
    contract: Contract,
    episodes: Sequence[Episode],
    generator: np.random.Generator,
    progress: Callable[[float], None] | None = None,
) -> Shadowed:
    """Show a policy the observations of demonstrations, and compare the steps that it would carry out with theirs.

    Parameters
    ----------
    policy, contract
        The policy, and what its observations and actions are.
    episodes
        The demonstrations.
    generator
        Draws the experts.
    progress
        Told the share that is done, in [0, 1].

    """
    arrays = windows_of(episodes, contract)
    horizon = contract.action_horizon
    done = arrays.action[:, :horizon]
    usual = arrays.action[:, 0].std(axis=0)
    drawn, nearest, experts, best = [], [], [], []
    for begin in range(0, len(done), _BATCH):
        rows = slice(begin, begin + _BATCH)
        answer = policy.experts(arrays.observation[rows])
        error = answer.mean[:, :, :horizon].astype(np.float64) - done[rows, None]
        distance = np.square(error / np.maximum(usual, 1e-12)).mean(axis=(2, 3))
        count = np.arange(len(error))
        for found, kept, chosen in (
            (drawn, experts, choose(answer.log_gating, generator.random(len(error)))),
            (nearest, best, distance.argmin(axis=1)),
        ):
            found.append(_typical(error[count, chosen]))
            kept.append(chosen)
        if progress is not None:
            progress(min((begin + _BATCH) / len(done), 1.0))
    names = tuple(action_names(contract))
    return Shadowed(
        Differences(names, np.concatenate(drawn), usual, np.concatenate(experts)),
        Differences(names, np.concatenate(nearest), usual, np.concatenate(best)),
        np.array([len(episode) for episode in episodes]),
    )


def _typical(error: np.ndarray) -> np.ndarray:
    """Return the root mean square over the steps of chunks, with the sign of the mean: (tick, step, n) to (tick, n)."""
    return np.sqrt(np.square(error).mean(axis=1)) * np.where(error.mean(axis=1) < 0, -1.0, 1.0)
