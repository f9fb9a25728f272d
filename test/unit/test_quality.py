"""What the stamps and values of a recording tell of it: each fault is put in, and found."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import Frames, Rows
from vdd_ros.data.episode import Episode
from vdd_ros.data.quality.episode_quality import measure_episodes
from vdd_ros.data.quality.findings import findings_of
from vdd_ros.data.quality.quality import JointQuality, StreamQuality, measure_joint, measure_stream

MS = 1_000_000
TICKS = 10 * MS * np.arange(1000)


def stream(stamps, received=None, **arguments) -> StreamQuality:
    """Measure a topic of headers, received as they were stamped unless told otherwise."""
    return measure_stream('/t', 'a/msg/B', stamps if received is None else received, stamps, **arguments)


def reported(streams=(), joints=(), episodes=(), report=None, spans=None) -> list[str]:
    """Return what is found, as sentences."""
    found = findings_of(streams, joints, episodes, report or ConversionReport(), spans or {})
    return [f'{item.level} {item.about}: {item.text}' for item in found]


def test_a_steady_stream_has_its_rate_and_no_finding():
    found = stream(TICKS)
    assert (found.count, found.rate, found.gaps) == (1000, 100.0, ())
    assert found.jitter == pytest.approx(0, abs=1e-12)
    assert found.seconds == pytest.approx(9.99)
    assert not reported([found])


def test_a_rate_is_counted_whatever_the_pattern_of_the_intervals():
    alternating = np.cumsum(np.tile([4 * MS, 6 * MS], 500))
    assert stream(alternating).rate == pytest.approx(200, rel=1e-3) and not stream(alternating).gaps
    assert stream(alternating[1:]).rate == pytest.approx(200, rel=1e-3)
    batches = np.cumsum(np.tile([100_000, 100_000, 100_000, 29_700_000], 200))  # as a USB adapter hands them over
    assert stream(batches, sensor=True).rate == pytest.approx(4 / 0.030, rel=1e-2)
    episodes = np.cumsum(np.tile([10 * MS] * 99 + [500 * MS], 10))
    assert stream(episodes).rate == pytest.approx(100) and len(stream(episodes).gaps) == 10


def test_jitter_is_the_spread_of_the_intervals():
    noise = np.random.default_rng(0).normal(0, 1 * MS, 1000).astype(np.int64)
    found = stream(TICKS + noise)
    # An interval is the difference of two stamps: its deviation is sqrt(2) times theirs.
    assert found.jitter == pytest.approx(np.sqrt(2) * 1e-3, rel=0.1)


def test_a_gap_is_found_where_it_is_and_counts_only_within_demonstrations():
    kept = np.delete(TICKS, np.arange(500, 540))
    found = stream(kept)
    assert [(gap.start, round(gap.seconds, 6)) for gap in found.gaps] == [(499 * 10 * MS, 0.41)]
    assert reported([found]) == ['warning /t: 1 gap, the longest of 0.41 s']
    assert reported([found], spans={3: (4_000 * MS, 6_000 * MS)}) == [
        'warning /t: 1 gap in episodes, the longest of 0.41 s in episode 3'
    ]
    assert not reported([found], spans={0: (0, 4_995 * MS), 1: (5_400 * MS, 9_000 * MS)})
    # Seen by a clock that is behind by 50 ms, it is the same gap between the same demonstrations.
    assert reported([stream(kept - 50 * MS, kept)], spans={0: (0, 4_995 * MS), 1: (5_400 * MS, 9_000 * MS)}) == []


def test_repeated_and_unsorted_stamps_are_counted():
    stamps = TICKS.copy()
    stamps[[10, 20]] = stamps[[9, 19]]
    stamps[[30, 31]] = stamps[[31, 30]]
    found = stream(stamps)
    assert (found.duplicates, found.unsorted) == (2, 1)


def test_a_clock_that_is_ahead_or_behind_or_drifts_is_found_under_transport_jitter():
    travel = np.random.default_rng(0).exponential(2e6, 1000).astype(np.int64)
    wide = TICKS * 10  # over 100 s
    ahead, behind = stream(wide, wide + travel - 30 * MS), stream(wide, wide + travel + 80 * MS)
    assert ahead.clock_offset == pytest.approx(-0.030, abs=1e-4)
    assert behind.clock_offset == pytest.approx(0.080, abs=1e-4)
    assert behind.delay == pytest.approx(2e-3 * np.log(2), rel=0.15)
    drifting = stream(wide, wide + travel + wide // 10_000)
    assert drifting.drift == pytest.approx(1e-4, abs=5e-6)
    assert abs(behind.drift) < 5e-6
    sentences = reported([ahead, behind, drifting])
    assert any('up to 30.0 ms ahead of their reception' in text for text in sentences)
    assert any('at least 80 ms older' in text for text in sentences)
    assert any('drifts by +' in text and 'us per second' in text for text in sentences)
    assert any('110 ms behind /t' in text for text in sentences)


def test_a_topic_without_a_rhythm_gets_no_rate_unless_it_should_have_one():
    events = np.cumsum(np.random.default_rng(0).exponential(1e9, 50)).astype(np.int64)
    assert measure_stream('/e', 'a/msg/B', events).rate is None
    assert stream(events, sensor=True).rate is not None
    assert stream(events, expected_rate=1.0).rate is not None
    assert measure_stream('/e', 'a/msg/B', TICKS, TICKS, events=True).rate is None
    assert any(
        '100.0 Hz where the contract expects 200 Hz' in text for text in reported([stream(TICKS, expected_rate=200)])
    )


def joint(position, command=None, **arguments) -> JointQuality:
    """Measure a joint at 100 Hz, commanded at the same stamps."""
    stamps = TICKS[: len(position)]
    none = np.zeros(0)
    commands = (none.astype(np.int64), none) if command is None else (stamps, command)
    return measure_joint('j', stamps, position, *commands, **arguments)


SWING = np.sin(TICKS / 1e9)


def test_a_joint_is_held_against_limits_of_position_and_speed():
    found = joint(2 * SWING, limits=(-1.9, 3.0), speed_limit=1.5)
    assert found.beyond == (2 * SWING < -1.9 - 1e-3 * 4.9).sum() > 0
    assert found.top_speed == pytest.approx(2.0, rel=1e-2)
    sentences = reported(joints=[found])
    assert any('measurements outside its limits -1.900 to 3.000' in text for text in sentences)
    assert any('reaches 2.00 rad/s, limit 1.50' in text for text in sentences)
    assert not reported(joints=[joint(2 * SWING, limits=(-2.0, 3.0), speed_limit=2.0)])


def test_an_arm_that_is_set_back_between_episodes_is_not_fast():
    part = np.repeat([0, -1, 1], [400, 200, 400])
    position = np.where(part == 1, 5.0, 0.0)
    assert joint(position, part=part).top_speed == 0
    assert joint(position).top_speed > 0


def test_a_stuck_a_saturated_and_a_constant_joint_are_distinguished():
    stuck = SWING.copy()
    stuck[200:320] = stuck[200]
    assert joint(stuck, SWING).longest_stuck == pytest.approx(1.19)
    saturated = joint(np.clip(SWING, -0.9, 0.9))
    assert saturated.at_extreme == pytest.approx((np.abs(SWING) >= 0.9).mean())
    assert joint(SWING).at_extreme == 0
    still = joint(np.full(1000, 0.3), SWING)
    assert still.constant and still.longest_stuck == pytest.approx(9.99)
    assert any('for up to 1.2 s while commanded to move' in item for item in reported(joints=[joint(stuck, SWING)]))
    texts = reported(joints=[joint(stuck, SWING), saturated, still])
    for text in (
        'for up to 10.0 s while commanded to move, longest: j',
        'stays at exactly its lowest or highest recorded position (-0.9, 0.9 rad) for ',
        'never moves (position 0.3',
    ):
        assert any(text in item for item in texts)


def test_a_joint_is_not_stuck_across_episodes():
    # A lift rests up to the end of an episode, and from the start of the next one, where the arm is reset meanwhile.
    part = np.repeat([0, -1, 1], [450, 100, 450])
    rests = np.where(np.abs(TICKS / 1e9 - 5) < 3, 1.0, SWING)
    command = np.where(part == -1, 0.2, rests)
    assert joint(rests, command).longest_stuck == pytest.approx(5.98)
    assert joint(rests, command, part=part).longest_stuck == 0
    # The last command of an episode does not belong to the next one.
    position, target = np.full(1000, 0.5), np.where(part == 0, 0.1, 0.5)
    sent = np.flatnonzero((part == 0) | (np.arange(1000) > 560))
    found = measure_joint('j', TICKS, position, TICKS[sent], target[sent], part=part)
    assert found.longest_stuck == 0
    # Within an episode it counts, also where the command is a single step.
    moved = measure_joint('j', TICKS, position, TICKS[[560, 600]], np.array([0.5, 0.9]), part=part)
    assert moved.longest_stuck == pytest.approx(4.49)


def test_a_prismatic_joint_is_reported_in_metres():
    lift = replace(joint(2 * SWING, limits=(-1.9, 3.0), speed_limit=1.5), unit='m')
    sentences = reported(joints=[lift])
    assert any('limits -1.900 to 3.000 m' in text for text in sentences)
    assert any('reaches 2.00 m/s, limit 1.50' in text for text in sentences)


def test_the_lag_behind_the_command_is_found():
    delayed = np.sin(TICKS / 1e9 - 0.12)
    found = joint(delayed, SWING)
    assert found.lag == pytest.approx(0.12, abs=0.006)
    assert found.error == pytest.approx(np.median(np.abs(delayed - SWING)))
    assert joint(SWING).lag is None


def episodes(count: int = 12, length: int = 60) -> list[Episode]:
    """Return straight demonstrations from near the origin, one unit long, none like another."""
    generator = np.random.default_rng(0)
    found = []
    for index in range(count):
        travel = np.linspace(0, 1, length)[:, None] * [1.0, 0.5] + 0.01 * generator.standard_normal(2)
        found.append(Episode(travel, np.diff(travel, axis=0, append=travel[-1:]), True, {}, index=index))
    return found


def compare(items: list[Episode]):
    """Compare demonstrations at 10 Hz whose actions are changes."""
    return measure_episodes(items, ['x', 'y'], np.array([True, True]), 100 * MS)


def test_demonstrations_that_are_alike_have_no_findings():
    found, coverage = compare(episodes())
    assert not reported(episodes=found)
    assert {item.seconds for item in found} == {6.0}
    assert coverage.share == pytest.approx(1) and coverage.dimensions == pytest.approx(1, abs=0.1)
    assert len(coverage.points) == len(coverage.episode) == 12 * 60


def test_rests_twins_and_outliers_are_found_by_number():
    items = episodes()
    resting = np.concatenate([np.repeat(items[3].observation[:1], 25, axis=0), items[3].observation])
    items[3] = Episode(resting, np.diff(resting, axis=0, append=resting[-1:]), True, {}, index=3)
    items[5] = Episode(items[2].observation, items[2].action, True, {}, index=5)
    far = items[7].observation + [0.0, 3.0]
    items[7] = Episode(far, items[7].action, False, {}, index=7)
    jump = items[9].action.copy()
    jump[30] += 0.5
    items[9] = Episode(items[9].observation, jump, True, {}, index=9)
    found, _ = compare(items)
    assert found[3].idle_before == pytest.approx(2.4, abs=0.11) and found[3].idle == pytest.approx(25 / 85, abs=0.02)
    assert [item.index for item in found if item.twin is not None] == [5] and found[5].twin == 2
    sentences = reported(episodes=found)
    for text in (
        'warning episodes: 1 duplicates: 5 equals 2',
        'the arm rests at the start, up to 2.',
        'longer or shorter than most: episode 3',
        'with an unusual start: episode 7',
        'with a jump in the command: episode 9',
        'far from all others: episode 7',
    ):
        assert any(text in item for item in sentences), text
    assert sum('rests at the end' in item for item in sentences) == 0


def test_what_was_dropped_is_a_finding_by_its_weight():
    report = ConversionReport()
    report.add('message', '/joint_states', 'too short', 3, 'byte 7')
    report.add('tick', 'episode 0', 'no recent image', 2)
    report.add('note', 'bag', 'no metadata.yaml: it was not closed')
    assert reported(report=report) == [
        'fault /joint_states: 3 messages dropped: too short (first at byte 7)',
        'warning episode 0: 2 ticks dropped: no recent image',
        'note bag: no metadata.yaml: it was not closed',
    ]


def test_what_befalls_many_episodes_is_one_finding_and_what_costs_most_comes_first():
    report = ConversionReport()
    for index in range(30):
        report.add('tick', f'episode {index}', 'no object yet', 1, f'{index}.000 s')
        report.add('tick', f'episode {index}', 'no recent image', 20, f'{index}.500 s')
    report.add('episode', 'episode 30', 'discarded by the operator', 1)
    report.add('message', '/a', 'too short', 1)
    report.add('message', '/b', 'too short', 70)
    report.add('part', 'bag_0.mcap', 'its checksum is wrong', 1)
    assert reported(report=report, spans=dict.fromkeys(range(31), (0, 1))) == [
        'fault bag_0.mcap: 1 part dropped: its checksum is wrong',
        'fault /b: 70 messages dropped: too short',
        'fault /a: 1 message dropped: too short',
        'warning 30 of 31 episodes: 600 ticks dropped: no recent image (first in episode 0, at 0.500 s)',
        'note episode 30: 1 episode dropped: discarded by the operator',
        'note 30 of 31 episodes: 30 ticks dropped: no object yet (first in episode 0, at 0.000 s)',
    ]


def test_clocks_are_compared_with_the_policy_period():
    late = stream(TICKS, TICKS + 15 * MS)
    assert not reported([late])
    found = findings_of([late], (), (), ConversionReport(), {}, period=10 * MS)
    assert [item.text for item in found] == ['its stamps are at least 15 ms older than their reception']
    assert not findings_of([late], (), (), ConversionReport(), {}, period=50 * MS)


def test_demonstrations_with_images_are_compared_by_their_numbers_and_by_brightness():
    chance = np.random.default_rng(0)
    walks = [np.cumsum(chance.normal(size=(50, 2)), axis=0) for _ in range(4)]
    pictures = [[chance.integers(0, 255, 3000).astype(np.uint8) for _ in range(25)] for _ in range(4)]
    pictures[2] = [np.full(3000, 255, dtype=np.uint8)] * 25  # somebody switched a lamp on
    episodes = []
    for index in (0, 1, 2, 3, 1):
        shown = Frames([pictures[index][tick // 2] for tick in range(50)], 3000)
        action = np.diff(walks[index], axis=0, prepend=0)
        episodes.append(Episode(Rows([walks[index], shown]), action, index=len(episodes)))
    names = ['x', 'y', *(f'camera {number}' for number in range(3000))]
    found, coverage = measure_episodes(episodes, names, np.array([True, True]), 100 * MS)
    assert [item.twin for item in found] == [None, None, None, None, 1]
    assert found[2].start_distance > max(found[place].start_distance for place in (0, 1, 3))
    assert coverage.dimensions <= 3 and coverage.points.shape == (250, 2)
    assert 'brightness' in ' '.join(coverage.axes) or coverage.share < 1
    plain = [Episode(walk, np.diff(walk, axis=0, prepend=0), index=place) for place, walk in enumerate(walks)]
    by_numbers, _ = measure_episodes(plain, ['x', 'y'], np.array([True, True]), 100 * MS)
    assert [item.path for item in by_numbers] == pytest.approx([item.path for item in found[:4]], rel=0.2)
