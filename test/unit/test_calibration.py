"""What is usual for a student, and that one odd demonstration does not change it."""

from __future__ import annotations

import numpy as np
import pytest
from oracles import seeded

from vdd_ros.contract.contract import load_contract
from vdd_ros.control.ood import Monitor, OodRules, thresholds
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations, windows_of
from vdd_ros.learning.calibration import calibrate, separation
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.policy.artifact import DataRecord
from vdd_ros.policy.normalization import Normalizer, Normalizers

CONTRACT = load_contract('avoiding_cartesian')
SHAPE = PolicyShape(
    CONTRACT.observation_horizon, CONTRACT.observation_size, CONTRACT.prediction_horizon * CONTRACT.action_size
)


def demonstration(number: int, aside: float = 0.0) -> Episode:
    """Slide along a line, somewhere near the others, or aside."""
    generator = np.random.default_rng(number)
    along = np.linspace(0, 1, 60)[:, None] * np.ones(CONTRACT.observation_size)
    observation = along + 0.05 * generator.normal() + 0.01 * generator.normal(size=along.shape)
    observation[:, 0] += aside
    return Episode(observation, 0.01 * np.ones((60, CONTRACT.action_size)), bag='table', index=number)


def calibrated(train, held_out):
    """Calibrate an untrained student on some demonstrations."""
    parts = windows_of(train, CONTRACT), windows_of(held_out, CONTRACT)
    data = Demonstrations(CONTRACT, *parts, DataRecord(bags={}, episodes=50, windows=len(parts[0])))
    unit = [
        Normalizer(np.zeros(size), np.full(size, 0.3)) for size in (CONTRACT.observation_size, CONTRACT.action_size)
    ]
    settings = StudentSettings(experts=2, covariance='diagonal', trunk=TrunkSettings(width=8, depth=1))
    return calibrate(Student(settings, SHAPE, seeded()), data, Normalizers(*unit), 0)


USUAL = [demonstration(number) for number in range(40)]
HELD_OUT = [demonstration(number) for number in range(40, 48)]


@pytest.fixture(scope='module')
def usual():
    """Of demonstrations that are all alike."""
    return calibrated(USUAL, HELD_OUT)[0]


def test_demonstrations_that_are_all_alike_have_no_outliers(usual):
    assert usual.outliers == ()
    assert usual.windows == {'train': 2400, 'held_out': 480}


@pytest.mark.parametrize('where', ['train', 'held_out'])
@pytest.mark.parametrize('aside', [3.0, 100.0])
def test_one_odd_demonstration_disables_no_threshold_and_is_named(usual, where, aside):
    odd = demonstration(99, aside)
    parts = ([*USUAL, odd], HELD_OUT) if where == 'train' else (USUAL, [*HELD_OUT, odd])
    calibration, density = calibrated(*parts)
    # Among those that it is learned from it may be known, for better or worse; among the others it is not.
    assert calibration.outliers in ((), ('episode 99 of table',))
    assert calibration.outliers or where == 'train'
    found = thresholds(calibration)['density']
    expected = thresholds(usual)['density']
    reach = expected.warn - expected.stop
    assert found.slow == pytest.approx(expected.slow, abs=0.5 * reach)
    # An arm that is half as far aside, where nobody ever was, slows down and stops.
    monitor = Monitor(OodRules({'density': found}))
    window = windows_of([demonstration(77, 1.5)], CONTRACT).observation / 0.3
    levels = [monitor.update({'density': value}) for value in density.log_density(window)]
    assert levels[-1] == 'stop'
    usually = windows_of([demonstration(78)], CONTRACT).observation / 0.3
    monitor.reset()
    assert {monitor.update({'density': value}) for value in density.log_density(usually)} <= {'fine', 'warn'}


def test_a_signal_that_does_not_depend_on_the_window_separates_nothing(usual):
    assert usual.separation['density'] > 0.95
    assert usual.separation['gating_confidence'] < 0.9


def test_separation_is_the_share_of_pairs_that_are_in_order():
    assert separation(np.array([1.0, 2.0]), np.array([0.0, 1.0, 3.0])) == pytest.approx((1 + 0.5 + 1 + 1) / 6)
    assert separation(np.ones(5), np.ones(7)) == 0.5


def test_a_part_of_which_all_is_odd_is_kept():
    far = [demonstration(number, 30.0) for number in (98, 99)]
    calibration, _ = calibrated(USUAL, far)
    assert calibration.outliers == ()
    assert calibration.windows['held_out'] == 120
