"""Compare a policy with demonstrations: per action value and per expert."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.contract.naming import action_names
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import observed, windows_of
from vdd_ros.policy.experts import Experts, choose

_BATCH = 512


class Student(Protocol):
    """The required part of a policy; implemented by `vdd_ros.policy.policy.DistilledPolicy`."""

    def experts(self, observation: np.ndarray) -> Experts:
        """Map windows of shape (batch, observation_horizon, observation) to experts."""
        ...


@dataclass(frozen=True)
class Differences:
    """Actions of a policy minus recorded actions."""

    names: tuple[str, ...]
    """Names of the action values."""
    error: np.ndarray
    """Errors, shape (tick, value), in the units of the contract."""
    typical: np.ndarray
    """Standard deviation of the recorded values, shape (value,)."""
    expert: np.ndarray
    """The acting expert, shape (tick,) int; -1 for a policy without experts."""

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.error)

    @property
    def relative(self) -> np.ndarray:
        """Root mean square over the values, each divided by its standard deviation, shape (tick,)."""
        return np.sqrt(np.square(self.error / np.maximum(self.typical, 1e-12)).mean(axis=1))

    def by_number(self) -> Iterator[tuple[str, float, float, float, float]]:
        """Yield for each value its name, bias, median and 95th percentile of the error, and standard deviation."""
        size = np.abs(self.error)
        for place, name in enumerate(self.names):
            column = size[:, place]
            yield (
                name,
                float(self.error[:, place].mean()),
                float(np.median(column)),
                float(np.quantile(column, 0.95)),
                float(self.typical[place]),
            )

    def by_expert(self) -> Iterator[tuple[int, float, float, np.ndarray]]:
        """Yield for each expert its number, share of ticks, median relative error, and median error by value."""
        relative = self.relative
        for expert in np.unique(self.expert):
            mine = self.expert == expert
            errors = np.median(np.abs(self.error[mine]), axis=0)
            yield int(expert), float(mine.mean()), float(np.median(relative[mine])), errors


@dataclass(frozen=True)
class Shadowed:
    """The errors of a policy on demonstrations, without a robot."""

    drawn: Differences
    """Differences with the expert drawn from the gating, as in deployment."""
    nearest: Differences
    """Differences with the expert closest to the recorded action. A large error means that no expert covers the
    action."""
    ticks: np.ndarray
    """Number of ticks of each episode, shape (episode,)."""

    def by_episode(self) -> np.ndarray:
        """Return the median relative error of each episode with the closest expert, shape (episode,)."""
        parts = np.split(self.nearest.relative, self.ticks.cumsum()[:-1])
        return np.array([float(np.median(part)) for part in parts])


def shadow(
    policy: Student,
    contract: Contract,
    episodes: Sequence[Episode],
    generator: np.random.Generator,
    progress: Callable[[float], None] | None = None,
) -> Shadowed:
    """Evaluate a policy on recorded observations, and compare its actions with the recorded ones.

    Parameters
    ----------
    policy, contract
        The policy, and the contract of its observations and actions.
    episodes
        The demonstrations.
    generator
        Random numbers for the choice of experts.
    progress
        Called after each batch of ticks with the completed share, in [0, 1].

    """
    arrays = windows_of(episodes, contract)
    horizon = contract.action_horizon
    done = arrays.action[:, :horizon]
    typical = arrays.action[:, 0].std(axis=0)
    drawn, nearest, experts, best = [], [], [], []
    for begin in range(0, len(done), _BATCH):
        rows = slice(begin, begin + _BATCH)
        output = policy.experts(observed(arrays, rows, contract))
        error = output.mean[:, :, :horizon].astype(np.float64) - done[rows, None]
        distance = np.square(error / np.maximum(typical, 1e-12)).mean(axis=(2, 3))
        count = np.arange(len(error))
        for found, kept, chosen in (
            (drawn, experts, choose(output.log_gating, generator.random(len(error)))),
            (nearest, best, distance.argmin(axis=1)),
        ):
            found.append(_typical(error[count, chosen]))
            kept.append(chosen)
        if progress is not None:
            progress(min((begin + _BATCH) / len(done), 1.0))
    names = tuple(action_names(contract))
    return Shadowed(
        Differences(names, np.concatenate(drawn), typical, np.concatenate(experts)),
        Differences(names, np.concatenate(nearest), typical, np.concatenate(best)),
        np.array([len(episode) for episode in episodes]),
    )


def _typical(error: np.ndarray) -> np.ndarray:
    """Return the root mean square over chunk steps, with the sign of the mean: (tick, step, n) to (tick, n)."""
    return np.sqrt(np.square(error).mean(axis=1)) * np.where(error.mean(axis=1) < 0, -1.0, 1.0)
