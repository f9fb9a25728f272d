"""What rollouts amount to: success, variety of ways, use of the experts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from vdd_ros.validation.rollout import Rollouts

_NORMAL_QUANTILE_95 = 1.959963984540054


@dataclass(frozen=True)
class Summary:
    """The figures of some rollouts."""

    episodes: int
    """How many there were."""
    success: float
    """Share of them that succeeded."""
    success_interval: tuple[float, float]
    """Where the success of endless rollouts lies, with 95 % confidence (Wilson)."""
    entropy: float
    """Variety of the ways of successful rollouts: 0 for always the same, 1 for all equally often."""
    ways: int
    """How many ways successful rollouts took."""
    way_counts: tuple[int, ...]
    """Successful rollouts by way."""
    mean_steps: float
    """Policy periods of a successful rollout; NaN without one."""
    expert_usage: tuple[float, ...]
    """Share of all steps by expert; empty where there are no experts."""


def summarise(rollouts: Rollouts, experts: int = 0) -> Summary:
    """Compute the figures of rollouts of a policy with so many experts; 0 for a policy without."""
    counts = way_counts(rollouts.way, rollouts.success, len(rollouts.way_names))
    successes = int(rollouts.success.sum())
    return Summary(
        episodes=len(rollouts),
        success=successes / len(rollouts),
        success_interval=wilson_interval(successes, len(rollouts)),
        entropy=normalised_entropy(counts),
        ways=int((counts > 0).sum()),
        way_counts=tuple(counts.tolist()),
        mean_steps=float(rollouts.steps[rollouts.success].mean()) if successes else math.nan,
        expert_usage=tuple(expert_usage(rollouts.experts, experts).tolist()) if experts else (),
    )


def wilson_interval(successes: int, trials: int, quantile: float = _NORMAL_QUANTILE_95) -> tuple[float, float]:
    """Return Wilson's score interval of a probability: where it may lie after so many successes in so many trials.

    ``quantile`` is that of the standard normal distribution at the wanted confidence, by default 95 %, two-sided.
    """
    share, weight = successes / trials, quantile**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = quantile / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    # At the ends the interval touches 0 and 1 exactly, which rounding must not spoil.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def way_counts(way: np.ndarray, success: np.ndarray, ways: int) -> np.ndarray:
    """Count successful rollouts by way, shape (way,), from ways of shape (episode,) and success likewise.

    Rollouts that completed no way (-1) count for none.
    """
    return np.bincount(way[success & (way >= 0)], minlength=ways)


def normalised_entropy(counts: np.ndarray) -> float:
    """Return the entropy of a distribution given by counts, as a share of the greatest there can be.

    0 if there is nothing to count, or but one thing to choose from.
    """
    total = counts.sum()
    if total == 0 or len(counts) < 2:
        return 0.0
    share = counts[counts > 0] / total
    return abs(float(share @ np.log(share))) / math.log(len(counts))


def expert_usage(experts: Sequence[np.ndarray], number: int) -> np.ndarray:
    """Return the share of all steps of all episodes that each expert had, shape (number,); zeros without a step."""
    steps = np.concatenate([np.asarray(each, dtype=np.int64) for each in experts]) if experts else np.zeros(0, np.int64)
    counts = np.bincount(steps[steps >= 0], minlength=number)
    return counts / max(len(steps), 1)
