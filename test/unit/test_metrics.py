"""Metrics against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vdd_ros.validation.metrics import expert_usage, mode_counts, normalised_entropy, summarise, wilson_interval
from vdd_ros.validation.rollout import Rollouts


@pytest.mark.parametrize(
    ('counts', 'entropy'),
    [
        ([5, 5, 5, 5], 1.0),
        ([7, 0, 0, 0], 0.0),
        ([3, 3, 0, 0], 0.5),
        ([0, 0, 0, 0], 0.0),
        ([9], 0.0),
        # In bits: 1/2 log 2 + 2 x 1/4 log 4 = 3/2, of log 4 = 2.
        ([2, 1, 1, 0], 0.75),
    ],
)
def test_entropy_is_that_of_the_closed_form(counts: list[int], entropy: float):
    assert normalised_entropy(np.array(counts)) == pytest.approx(entropy, abs=1e-15)


def test_modes_of_failures_do_not_count():
    mode = np.array([0, 1, 1, 2, -1])
    success = np.array([True, True, True, False, True])
    np.testing.assert_array_equal(mode_counts(mode, success, 4), [1, 2, 0, 0])


@pytest.mark.parametrize(('successes', 'trials'), [(1, 3), (470, 480), (20, 40)])
def test_wilson_s_ends_are_as_far_from_the_share_as_chance_allows(successes: int, trials: int):
    """An end p solves (share - p)^2 = z^2 p (1 - p) / n: the score test just rejects it."""
    z = 1.959963984540054
    for end in wilson_interval(successes, trials):
        assert (successes / trials - end) ** 2 == pytest.approx(z**2 * end * (1 - end) / trials, rel=1e-9)


def test_wilson_s_interval_reaches_the_end_when_all_or_none_succeed():
    z, trials = 1.959963984540054, 480
    low, high = wilson_interval(trials, trials)
    assert high == 1.0 and low == pytest.approx(trials / (trials + z**2), rel=1e-12)
    low, high = wilson_interval(0, trials)
    assert low == 0.0 and high == pytest.approx(z**2 / (trials + z**2), rel=1e-12)


def test_expert_usage_is_a_share_of_all_steps():
    experts = (np.array([0, 0, 2]), np.array([2]), np.array([], dtype=np.int64))
    np.testing.assert_array_equal(expert_usage(experts, 4), [0.5, 0, 0.5, 0])
    np.testing.assert_array_equal(expert_usage((), 2), [0, 0])


def _rollouts(success: list[bool], mode: list[int], steps: list[int]) -> Rollouts:
    return Rollouts(
        success=np.array(success),
        mode=np.array(mode),
        steps=np.array(steps),
        clamped=np.array([1] * len(steps)),
        clearance=np.linspace(0.01, 0.04, len(steps)),
        paths=tuple(np.linspace(0, count, count + 1)[:, None] * [0.01, 0, 0] for count in steps),
        states=tuple(np.zeros((count + 1, 7)) for count in steps),
        experts=tuple(np.arange(count) % 2 for count in steps),
        mode_names=('a', 'b', 'c', 'd'),
        period=0.1,
        seconds=1.0,
    )


def test_summary_counts_successful_rollouts():
    summary = summarise(_rollouts([True, True, False, False], [0, 3, 1, -1], [10, 20, 2, 4]), experts=2)
    assert (summary.episodes, summary.success, summary.modes, summary.mode_counts) == (4, 0.5, 2, (1, 0, 0, 1))
    assert summary.entropy == pytest.approx(0.5)
    assert summary.mean_seconds == pytest.approx(1.5) and summary.mean_path == pytest.approx(0.15)
    assert summary.nearest_miss == 0.01 and summary.near_miss == pytest.approx(0.0105)
    assert summary.clamped == pytest.approx((1 / 10 + 1 / 20 + 1 / 2 + 1 / 4) / 4)
    # An even motion has no jerk.
    assert summary.jerk == pytest.approx(0, abs=1e-9)
    assert summary.expert_usage == (0.5, 0.5)
    assert summary.success_interval == wilson_interval(2, 4)


def test_summary_of_nothing_but_failures_is_honest():
    summary = summarise(_rollouts([False], [-1], [3]))
    assert (summary.success, summary.entropy, summary.modes, summary.expert_usage) == (0.0, 0.0, 0, ())
    assert all(
        math.isnan(getattr(summary, name)) for name in ('mean_seconds', 'mean_path', 'nearest_miss', 'near_miss')
    )
