"""Metrics of rollouts: success, modes, use of the experts."""

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
    """The metrics of some rollouts. Unknown values are NaN."""

    episodes: int
    """Number of rollouts."""
    success: float
    """Success rate."""
    success_interval: tuple[float, float]
    """95 % confidence interval of the success rate (Wilson)."""
    entropy: float
    """Normalised entropy of the modes of successful rollouts: 0 for one mode, 1 for equally frequent modes."""
    modes: int
    """Number of modes among successful rollouts."""
    mode_counts: tuple[int, ...]
    """Successful rollouts by mode."""
    mean_seconds: float
    """Mean duration of a successful rollout [s]."""
    mean_path: float
    """Mean path length of the tool point in a successful rollout [m]."""
    jerk: float
    """Median of the root mean square jerk of the tool point, over all rollouts [m/s^3]."""
    clamped: float
    """Share of the policy periods in which a limit changed the command, over all rollouts."""
    nearest_miss: float
    """Minimum distance to an obstacle over all successful rollouts [m]."""
    near_miss: float
    """Minimum distance to an obstacle kept by 95 % of the successful rollouts [m]."""
    expert_usage: tuple[float, ...]
    """Share of all steps by expert; empty for policies without experts."""


def summarise(rollouts: Rollouts, experts: int = 0) -> Summary:
    """Compute the metrics of rollouts of a policy with the given number of experts; 0 for other policies."""
    usage = tuple(expert_usage(rollouts.experts, experts).tolist()) if experts else ()
    return summarise_outcomes(rollouts.outcomes, len(rollouts.mode_names), usage)


def summarise_outcomes(outcomes: Outcomes, modes: int, expert_usage: tuple[float, ...] = ()) -> Summary:
    """Compute the metrics of episodes in a task with the given number of modes; used for reports and by the gate."""
    success, done = outcomes.success, int(outcomes.success.sum())
    counts = mode_counts(outcomes.mode, success, modes)
    clearance = outcomes.clearance[success & np.isfinite(outcomes.clearance)]
    return Summary(
        episodes=len(outcomes),
        success=done / len(outcomes),
        success_interval=wilson_interval(done, len(outcomes)),
        entropy=normalised_entropy(counts),
        modes=int((counts > 0).sum()),
        mode_counts=tuple(counts.tolist()),
        mean_seconds=_of(np.mean, outcomes.seconds[success]),
        mean_path=_of(np.mean, outcomes.path[success]),
        jerk=_of(np.median, outcomes.jerk),
        clamped=_of(np.mean, outcomes.clamped),
        nearest_miss=_of(np.min, clearance),
        near_miss=_of(lambda values: np.quantile(values, 0.05), clearance),
        expert_usage=expert_usage,
    )


def wilson_interval(successes: int, trials: int, quantile: float = _NORMAL_QUANTILE_95) -> tuple[float, float]:
    """Return Wilson's score interval of a probability, given successes and trials.

    ``quantile`` is the quantile of the standard normal distribution for the confidence level, by default 95 %,
    two-sided.
    """
    share, weight = successes / trials, quantile**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = quantile / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    # At the ends the interval is exactly 0 or 1, despite rounding.
    low = 0.0 if successes == 0 else centre - half
    high = 1.0 if successes == trials else centre + half
    return low, high


def mode_counts(mode: np.ndarray, success: np.ndarray, modes: int) -> np.ndarray:
    """Count successful rollouts by mode, shape (mode,), from modes and success of shape (episode,).

    Rollouts without a mode (-1) are not counted.
    """
    return np.bincount(mode[success & (mode >= 0)], minlength=modes)


def normalised_entropy(counts: np.ndarray) -> float:
    """Return the entropy of a distribution given by counts, divided by its maximum.

    0 if all counts are zero, or if there is only one category.
    """
    total = counts.sum()
    if total == 0 or len(counts) < 2:
        return 0.0
    share = counts[counts > 0] / total
    return abs(float(share @ np.log(share))) / math.log(len(counts))


def expert_usage(experts: Sequence[np.ndarray], number: int) -> np.ndarray:
    """Return the share of all steps of all episodes by expert, shape (number,); zeros without steps."""
    steps = np.concatenate([np.asarray(each, dtype=np.int64) for each in experts]) if experts else np.zeros(0, np.int64)
    counts = np.bincount(steps[steps >= 0], minlength=number)
    return counts / max(len(steps), 1)


def _of(statistic: Callable[[np.ndarray], float], values: np.ndarray) -> float:
    """Evaluate a statistic of the finite values; NaN if there are none."""
    finite = values[np.isfinite(values)]
    return float(statistic(finite)) if len(finite) else math.nan
