"""Deadlines of calls: which are kept after a delay, and how far apart the calls are."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.nodes.pacing import Deadlines

PERIOD = 1.0
SPACING = 0.6


def called(duration: float, spacing: float) -> tuple[np.ndarray, int]:
    """Return the times of 20 calls, of which the fifth takes ``duration``, and the number of late deadlines."""
    deadlines = Deadlines(PERIOD, 0.0, spacing, patience=50.0)
    times = [0.0]
    for number in range(19):
        ends = times[-1] + (duration if number == 4 else 0.0)
        times.append(max(ends, deadlines.after(times[-1], ends)))
    return np.array(times), deadlines.late


@pytest.mark.parametrize('duration', [1.3, 1.7, 1.95])
def test_a_call_that_is_late_by_less_than_a_period_costs_no_deadline(duration):
    times, late = called(duration, SPACING)
    assert times[5] == pytest.approx(4 + duration)
    assert np.diff(times).min() == pytest.approx(max(SPACING, 2 - duration))
    np.testing.assert_allclose(times[9:], np.arange(9, 20))
    assert late == 0


@pytest.mark.parametrize(('duration', 'lost'), [(2.25, 1), (3.05, 2), (3.5, 2), (6.9, 5)])
def test_deadlines_that_are_over_by_a_period_are_left_out(duration, lost):
    times, late = called(duration, SPACING)
    assert np.diff(times).min() >= SPACING - 1e-9
    np.testing.assert_allclose(times[9:], np.arange(9, 20) + lost)
    assert late == 1


def test_without_spacing_all_deadlines_are_made_up_for():
    times, _ = called(6.5, 0.0)
    np.testing.assert_allclose(times[5:10], 10.5)
    np.testing.assert_allclose(times[11:], np.arange(11, 20))


@pytest.mark.parametrize('spacing', [0.0, SPACING])
def test_after_a_suspend_calls_begin_anew(spacing):
    times, _ = called(80.25, spacing)
    np.testing.assert_allclose(np.diff(times[6:]), PERIOD)
