"""The watch over what a policy has not seen."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.ood import Monitor, OodRules, Threshold, thresholds
from vdd_ros.policy.artifact import Calibration

RULES = OodRules({'density': Threshold(-1.0, -2.0, -4.0)}, plans=1e-3, hysteresis=0.1, least_speed=0.2)
"""So short a memory that each plan counts alone."""


def _levels(ood_rules: OodRules, values: list[float], name: str = 'density') -> list[str]:
    monitor = Monitor(ood_rules)
    return [monitor.update({name: value}) for value in values]


def test_levels_follow_the_thresholds():
    assert _levels(RULES, [0.0, -1.5, -2.5, -4.5]) == ['fine', 'warn', 'slow', 'stop']


def test_a_level_is_left_only_when_the_signal_is_clearly_better():
    # Hysteresis is a tenth of the way from stop (-4) to warn (-1): 0.3.
    assert _levels(RULES, [-2.1, -1.8, -1.6, -0.8, -0.6]) == ['slow', 'slow', 'warn', 'warn', 'fine']


def test_speed_falls_from_slow_to_stop():
    monitor = Monitor(RULES)
    speeds = []
    for value in (0.0, -1.9, -2.0 - 1e-9, -3.0, -4.0):
        monitor.update({'density': value})
        speeds.append(monitor.speed)
    np.testing.assert_allclose(speeds, [1, 1, 1, 0.6, 0.2], atol=1e-6)


def test_signals_are_averaged_over_plans():
    monitor = Monitor(OodRules(RULES.thresholds, plans=5.0))
    monitor.update({'density': 0.0})
    for _ in range(5):
        monitor.update({'density': -7.0})
    np.testing.assert_allclose(monitor.values['density'], -7 * (1 - np.exp(-1)))


@pytest.mark.parametrize('bad', [np.nan, np.inf, -np.inf])
def test_a_signal_that_is_not_finite_stops_and_leaves_no_such_value_behind(bad):
    monitor = Monitor(RULES)
    assert monitor.update({'density': bad}) == 'stop'
    assert np.isfinite(monitor.values['density'])
    assert monitor.update({'density': 0.0}) == 'fine'


def test_one_spike_however_deep_weighs_no_more_than_the_worst_that_counts():
    monitor = Monitor(OodRules(RULES.thresholds, plans=20.0))
    monitor.update({'density': 0.0})
    assert monitor.update({'density': -1e9}) == 'fine'


def test_what_has_no_threshold_is_not_watched_and_the_worst_signal_decides():
    rules = OodRules({'one': Threshold(-1, -2, -3), 'two': Threshold(-1, -2, -3)}, plans=1e-3)
    monitor = Monitor(rules)
    assert monitor.update({'one': 0.0, 'two': -2.5, 'three': -99.0}) == 'slow'
    assert 'two' in monitor.complaint() and 'one' not in monitor.complaint()


def test_levels_can_be_reported_without_acting_on_them():
    monitor = Monitor(OodRules(RULES.thresholds, plans=1e-3, acts=False))
    assert monitor.update({'density': -9.0}) == 'stop'
    assert monitor.speed == 1.0 and not monitor.stops
    assert monitor.update({'density': 0.0}) == 'fine'


def test_thresholds_come_from_the_demonstrations():
    levels = (0.0, 0.01, 0.5, 1.0)
    quantiles = {'likelihood': {'train': (-3.0, -2.0, 1.0, 2.0), 'held_out': (-4.0, -2.5, 0.0, 2.0)}}
    calibration = Calibration(levels=levels, quantiles=quantiles, windows={'train': 9, 'held_out': 9})
    found = thresholds(calibration, warn=0.01, reach=0.5)
    assert found == {'likelihood': Threshold(-2.5, -4.0, -6.0)}


def test_a_signal_that_does_not_distinguish_what_is_unlike_the_demonstrations_is_not_watched():
    levels, values = (0.0, 0.5, 1.0), {'train': (-3.0, 0.0, 2.0)}
    calibration = Calibration(
        levels=levels,
        quantiles={'density': values, 'gating_confidence': values, 'likelihood': values},
        windows={'train': 9},
        separation={'density': 0.97, 'gating_confidence': 0.6},
    )
    assert set(thresholds(calibration)) == {'density', 'likelihood'}


@pytest.mark.parametrize('unfit', [(-2, -1, -3), (-1, -2, -np.inf), (np.nan, -1, -2)])
def test_thresholds_out_of_order_or_without_end_are_refused(unfit):
    with pytest.raises(ConfigurationError, match='fall from warn'):
        OodRules({'one': Threshold(*unfit)})
