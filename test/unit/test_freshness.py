"""How old a measurement may be."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.freshness import Freshness, Measurements

RULES = Freshness(max_age=100, warn_age=50, coast=30, streams={'camera': 200}, max_skew=150)


def _judge(now: int, joints: int | None = None, camera: int | None = None) -> tuple[str, str]:
    stamps = {'joint_states': joints, 'camera': camera}
    return RULES.judge({name: stamp for name, stamp in stamps.items() if stamp is not None}, now)


@pytest.mark.parametrize(
    ('age', 'level'), [(0, 'fresh'), (50, 'fresh'), (51, 'warn'), (101, 'coast'), (130, 'coast'), (131, 'stop')]
)
def test_age_leads_from_fresh_over_warning_and_coasting_to_a_stop(age, level):
    assert _judge(1000, 1000 - age, 1000 - age)[0] == level


def test_the_worst_stream_decides_and_is_named():
    level, reason = _judge(1000, 1000 - 60, 1000 - 210)
    assert level == 'coast' and reason.startswith('no camera for')
    level, reason = _judge(1000, 1000 - 110, 1000 - 231)
    assert level == 'stop' and reason.startswith('no camera for')


def test_a_stream_without_a_message_stops_the_arm():
    assert _judge(1000, 1000) == ('stop', 'no camera yet')
    assert _judge(1000, camera=1000) == ('stop', 'no joint state yet')


def test_a_stamp_of_another_clock_stops_the_arm():
    level, reason = _judge(1000, 1000 + 101, 1000)
    assert level == 'stop' and 'ahead of the clock' in reason


def test_streams_too_far_apart_coast_then_stop():
    assert _judge(1000, 1000, 1000 - 150)[0] != 'stop'
    assert _judge(1000, 1000, 1000 - 151) == ('coast', 'streams 0.000 s apart')
    assert _judge(1000, 1000, 1000 - 181)[0] == 'stop'


def test_a_straggler_is_dropped_and_time_set_back_voids_earlier_messages():
    measurements = Measurements(RULES)
    measurements.anchor(1000, np.zeros(2))
    measurements.on_message('camera', 1000)
    assert measurements.observe(950, np.ones(2)) and measurements.out_of_order == 1
    np.testing.assert_array_equal(measurements.position, 0)
    assert measurements.observe(1000, np.full(2, np.nan)) and measurements.not_finite == 1
    assert not measurements.observe(500, np.ones(2))
    np.testing.assert_array_equal(measurements.position, 1)
    assert measurements.judge(500)[1] == 'no camera yet'


@pytest.mark.parametrize(
    'change', [{'max_age': 0}, {'coast': -1}, {'streams': {'camera': 0}}, {'max_skew': 0}, {'warn_age': 0}]
)
def test_ages_that_nothing_can_meet_are_refused(change):
    with pytest.raises(ConfigurationError):
        Freshness(**{'max_age': 100, **change})
