"""What commands say of limits, smoothness and punctuality, against closed forms; and what is asked of the rows."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.command_measures import limits_used, received, tool_jerk
from benchmarks.deployed import bars_of, is_of
from benchmarks.harness import kept_rows, write
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.control_loop import longest_gap
from vdd_ros.control.limits import Limits
from vdd_ros.robot.kinematics import Kinematics

PERIOD = 4_000_000


def limits(**change: float) -> Limits:
    """Return limits of two joints, of which the second turns without end."""
    bound = {'velocity': 1.0, 'acceleration': 10.0, 'jerk': 100.0, **change}
    arrays = {kind: np.full(2, value) for kind, value in bound.items()}
    return Limits(np.array([-1.0, -np.inf]), np.array([3.0, np.inf]), arrays.pop('velocity'), 1.0, **arrays)


def test_shares_of_limits_are_those_of_the_differences_of_commands():
    seconds = 0.01
    time = seconds * np.arange(200)
    # A cubic: its third difference is its third derivative, everywhere.
    position = np.stack([2.0 + 5.0 * time**3 / 6, -0.5 * time], axis=1)
    used = limits_used(position, limits(velocity=100.0), seconds)
    assert used['jerk'] == pytest.approx(5.0 / 100.0, rel=1e-6)
    assert used['velocity'] == pytest.approx(np.diff(position[:, 0])[-1] / seconds / 100.0)
    assert used['acceleration'] == pytest.approx(np.diff(position[:, 0], 2)[-1] / seconds**2 / 10.0)
    # The first joint goes from 2 to beyond its upper limit of 3, the second has none.
    assert used['position'] == pytest.approx((position[-1, 0] - 1.0) / 2.0)


def test_a_single_command_uses_no_limit_but_that_of_its_place():
    used = limits_used(np.array([[1.0, 50.0]]), limits(), 0.01)
    assert used == {'position': 0.0, 'velocity': 0.0, 'acceleration': 0.0, 'jerk': 0.0}


def test_lateness_is_that_of_the_gaps():
    position = np.repeat(np.arange(6.0)[:, None], 2, axis=1)
    even = received(10**18 + PERIOD * np.arange(6), position, PERIOD)
    np.testing.assert_array_equal(even.segments, [position])
    assert not even.lateness.any() and even.gaps == 0

    # The third command leaves two periods late; the two deadlines that are over by then have none.
    late = 10**18 + PERIOD * np.array([0, 1, 4, 5, 6, 7])
    found = received(late, position, PERIOD)
    np.testing.assert_array_equal(found.segments, [position])
    np.testing.assert_allclose(found.lateness / 4e-3, [0, 2, 0, 0, 0], atol=1e-6)
    assert found.gaps == 1


def test_a_repeated_command_is_motion_that_stops_dead():
    position = np.stack([0.004 * np.arange(50), np.zeros(50)], axis=1)
    position[20:] -= 0.004
    found = received(PERIOD * np.arange(50), position, PERIOD)
    np.testing.assert_array_equal(found.segments, [position])
    assert limits_used(found.segments[0], limits(), 0.004)['acceleration'] == pytest.approx(1.0 / 0.004 / 10.0)


def test_commands_before_and_after_a_gap_as_long_as_a_stall_are_not_compared():
    """Where the gap was decided on is known to a quarter of it only."""
    position = np.stack([0.004 * np.arange(50), np.zeros(50)], axis=1)
    for gap, rest in ((0.7, None), (0.8, 0), (1.2, 0), (1.3, 3)):
        sent = PERIOD * np.arange(50)
        sent[20:] += round(gap * longest_gap(PERIOD)) - PERIOD
        segments = received(sent, position, PERIOD).segments
        assert len(segments) == (1 if rest is None else 2)
        assert rest is None or len(segments[1]) == 30 + rest


def test_after_a_stall_commands_begin_at_rest_where_the_arm_stopped():
    position = np.stack([0.004 * np.arange(50), np.zeros(50)], axis=1)
    sent = PERIOD * np.arange(50)
    sent[20:] += 10 * PERIOD
    found = received(sent, position, PERIOD)
    before, after = found.segments
    np.testing.assert_array_equal(before, position[:20])
    np.testing.assert_array_equal(after, position[[19, 19, 19, *range(20, 50)]])
    # It leaves the rest at full speed at once.
    assert limits_used(after, limits(), 0.004)['acceleration'] == pytest.approx(1.0 / 0.004 / 10.0)


def test_a_lost_command_shows_as_a_greater_step():
    position = np.stack([0.008 * np.arange(50), np.zeros(50)], axis=1)
    lossy = np.delete(position, 20, axis=0)
    sent = np.delete(PERIOD * np.arange(50), 20)
    found = received(sent, lossy, PERIOD)
    assert limits_used(position, limits(velocity=2.0), 0.004)['velocity'] == pytest.approx(1.0)
    assert limits_used(found.segments[0], limits(velocity=2.0), 0.004)['velocity'] == pytest.approx(2.0)


def test_jerk_is_that_of_the_tool_whatever_the_rate_of_commands():
    kinematics = Kinematics.from_contract(load_contract('avoiding_cartesian'))
    rest = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    found = []
    for rate in (200, 1000):
        time = np.arange(0, 2, 1 / rate)
        position = np.tile(rest, (len(time), 1))
        position[:, 0] += 0.2 * np.sin(3 * time)
        found.append(tool_jerk(kinematics, position, 1 / rate))
    # A turn about the upright axis at a radius r: jerk is r times that of the angle, but for what bends the path.
    radius = np.linalg.norm(kinematics.tool_position(rest)[:2])
    assert found[0] == pytest.approx(radius * 0.2 * 27 / np.sqrt(2), rel=0.1)
    assert found[1] == pytest.approx(found[0], rel=0.01)
    assert np.isnan(tool_jerk(kinematics, position[:10], 1e-3))


def row(part: str, who: str, what: str, **change: object) -> dict:
    """Return a row as deployed that is as it should be."""
    used = {f'{kind} used': 1.0 for kind in ('position', 'velocity', 'acceleration', 'jerk')}
    figures = {
        'success': 0.97,
        'entropy': 0.9,
        'stopped': 0,
        'tool jerk': 5.0,
        'tool jerk shown': 6.0,
        'x real time': 31,
    }
    return {'part': part, 'who': who, 'student': 'abc', 'what': what, **figures, **used, **change}


def test_every_figure_of_a_row_is_required():
    lockstep = row('process', 'demo', 'lockstep', success=0.98)
    fine = [
        lockstep,
        row('process', 'demo', '250 Hz, model, full'),
        row('dds', 'demo', '250 Hz, fr3, full', entropy=0.81),
    ]
    assert all(bar.holds for bar in bars_of(fine, complete=False))
    spoilt = {
        'success': 0.94,
        'entropy': 0.79,
        'stopped': 1,
        'position used': 1.01,
        'velocity used': 1.01,
        'acceleration used': 1.01,
        'jerk used': 1.01,
        'tool jerk': 6.1,
    }
    for part, what in (('process', '250 Hz, model, full'), ('dds', '1000 Hz, fr3_data_sheet, full')):
        for figure, value in spoilt.items():
            bars = bars_of([lockstep, row(part, 'demo', what, **{figure: value})], complete=False)
            assert sum(not bar.holds for bar in bars) == 1 + (part == 'process' and figure == 'success'), figure
    slow = bars_of([lockstep, row('process', 'demo', '250 Hz, model, full', **{'x real time': 29})], complete=False)
    assert [bar.name for bar in slow if not bar.holds] == ['validation as deployed at 250 Hz, x real time on a core']


def test_what_was_not_measured_does_not_hold():
    broken = {'part': 'dds', 'what': 'demo abc, 250 Hz, fr3, full', 'error': 'a node failed'}
    assert not any(bar.holds for bar in bars_of([broken], complete=False))
    missing = {bar.name for bar in bars_of([row('dds', 'demo', '250 Hz, fr3, full')], complete=True) if not bar.holds}
    assert missing == {'dds, demo: rows'}
    still = {'part': 'faults', 'what': 'degrees', 'beyond it [mrad]': 5.1, 'reason': ''}
    assert not any(bar.holds for bar in bars_of([still], complete=False))


def test_rows_of_other_parts_are_kept_but_not_those_of_another_student(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert kept_rows('deployed') == []
    fault = {'part': 'faults', 'what': 'degrees', 'beyond it [mrad]': 0.1, 'reason': 'no arm moves so fast'}
    rows = [row('dds', 'demo', '250 Hz, fr3, full'), row('process', 'demo', 'lockstep', student='other'), fault]
    write('deployed', rows, bars_of(rows, complete=False))
    assert kept_rows('deployed') == rows
    (case,) = [SimpleNamespace(hash='abc')]
    assert [is_of(each, [case]) for each in rows] == [True, False, True]
    assert all(is_of(each, []) for each in rows)
