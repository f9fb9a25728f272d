"""What rollouts amount to: success, variety of ways, use of the experts."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vdd_ros.validation.outcomes import Outcomes

if TYPE_CHECKING:
    from vdd_ros.validation.rollout import Rollouts

_NORMAL_QUANTILE_95 = 1.959963984540054


@dataclass(frozen=True)
class Summary:
    """The figures of some rollouts. Those that nothing is known of are NaN."""

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
    mean_seconds: float
    """Duration of a successful rollout [s]."""
    mean_path: float
    """Way of the tool point in a successful rollout [m]."""
    jerk: float
    """Median of the root mean square jerk of the tool point, over all rollouts [m/s^3]."""
    clamped: float
    """Share of the policy periods of a rollout whose command a limit changed, over all rollouts."""
    nearest_miss: float
    """The least distance to an obstacle in any successful rollout [m]."""
    near_miss: float
    """The least distance to an obstacle that 95 % of the successful rollouts kept [m]."""
    expert_usage: tuple[float, ...]
    """Share of all steps by expert; empty where there are no experts."""


def summarise(rollouts: Rollouts, experts: int = 0) -> Summary:
    """Compute the figures of rollouts of a policy with so many experts; 0 for a policy without."""
    usage = tuple(expert_usage(rollouts.experts, experts).tolist()) if experts else ()
    return summarise_outcomes(rollouts.outcomes, len(rollouts.way_names), usage)


def summarise_outcomes(outcomes: Outcomes, ways: int, expert_usage: tuple[float, ...] = ()) -> Summary:
    """Compute the figures of episodes in a task of so many ways: for a report, and by the gate again."""
    success, done = outcomes.success, int(outcomes.success.sum())
    counts = way_counts(outcomes.way, success, ways)
    clearance = outcomes.clearance[success & np.isfinite(outcomes.clearance)]
    return Summary(
        episodes=len(outcomes),
        success=done / len(outcomes),
        success_interval=wilson_interval(done, len(outcomes)),
        entropy=normalised_entropy(counts),
        ways=int((counts > 0).sum()),
        way_counts=tuple(counts.tolist()),
        mean_seconds=_of(np.mean, outcomes.seconds[success]),
        mean_path=_of(np.mean, outcomes.path[success]),
        jerk=_of(np.median, outcomes.jerk),
        clamped=_of(np.mean, outcomes.clamped),
        nearest_miss=_of(np.min, clearance),
        near_miss=_of(lambda values: np.quantile(values, 0.05), clearance),
        expert_usage=expert_usage,
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


def _of(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """Evaluate a statistic of the finite values, NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if len(finite) else math.nan
