"""Demonstrations are counted once each, and every report counts them in the same way."""

from __future__ import annotations

import numpy as np
import pytest
from ros_messages import MILLISECOND, SECOND, command, header, make, mark, state, vector, write_bag

from vdd_ros.contract.contract import Contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.quality.inspection import inspect

NAMES = ('a', 'b')
CONTRACT = {
    'schema_version': 2,
    'name': 'tally',
    'robot': {'model': 'none.xml', 'tool': 'tool', 'joints': NAMES},
    'policy_rate': 20,
    'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}],
    'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
}
OBJECT = {
    'name': 'object', 'topic': 'object', 'type': 'PoseStamped', 'align': {'latency': 0.025, 'max_age': 0.5}
}  # fmt: skip


def rows(seconds: int, pauses: tuple[tuple[float, float], ...] = ()) -> list:
    """States at 100 Hz but for some pauses [s], commands at 20 Hz."""
    found = []
    for number in range(100 * seconds):
        stamp, place = SECOND + number * 10 * MILLISECOND, np.sin(number / 50 + np.arange(2))
        if not any(begin < number / 100 < end for begin, end in pauses):
            found.append(('/joint_states', stamp, state(stamp, NAMES, place)))
        if number % 5 == 0:
            found.append(('/arm_controller/commands', stamp + MILLISECOND, command(place)))
    return found


def marked(begin: float, last: str, index: int, **labels: str) -> list:
    """An episode of one second, by its start and how it ends."""
    stamps = SECOND + round(begin * SECOND), 2 * SECOND + round(begin * SECOND)
    printed = zip(stamps, ('start', last), ({}, labels))
    return [('/episode', at, mark(at, event, index=str(index), **more)) for at, event, more in printed]


@pytest.fixture(scope='module')
def bag(tmp_path_factory):
    """A success, one that is discarded while it runs, a failure, one that a gap splits, one without states."""
    marks = [
        *marked(0, 'end', 0, outcome='success'),
        *marked(2, 'discard', 1, reason='slipped'),
        *marked(4, 'end', 2, outcome='failure'),
        *marked(6, 'end', 3),
        *marked(8, 'end', 4, outcome='success'),
        *marked(9.5, 'discard', 5, reason='slipped'),
    ]
    path = tmp_path_factory.mktemp('bags') / 'bag'
    every = [*rows(12, ((6.3, 6.7), (7.9, 9.2))), *marks]
    return write_bag(path, sorted(every, key=lambda row: row[1]))


def test_every_demonstration_is_counted_once_whatever_became_of_it(bag):
    values = {**CONTRACT, 'measured': {'align': {'max_age': 0.1}}}
    found = inspect(bag, Contract.model_validate(values))
    tally = found.tally
    assert (tally.success, tally.failure, tally.unlabelled, tally.discarded, tally.unusable) == (1, 1, 1, 2, 1)
    assert str(tally) == '1 success, 1 failure, 1 without outcome, 2 discarded, 1 unusable'
    assert (tally.training, tally.parts) == (2, 4) and tally.ticks == sum(item.ticks for item in found.episodes)
    texts = [str(entry) for entry in found.report.entries]
    assert not any('without an end' in text for text in texts)
    assert any('episode 1: 1 episode dropped: discarded by the operator slipped' in text for text in texts)


def test_an_episode_that_is_discarded_while_it_runs_ends_with_its_discard(bag):
    report = ConversionReport()
    episodes = [*convert(bag, Contract.model_validate(CONTRACT), None, report)]
    assert [episode.index for episode in episodes] == [0, 2, 3]
    assert report.dropped('episode') == 3


@pytest.mark.parametrize('stale', ['split', 'drop'])
def test_ticks_before_the_first_message_of_a_stream_split_and_drop_nothing(tmp_path, stale):
    pose = make('geometry_msgs/msg/Pose', vector('Point', 1, 2, 3), vector('Quaternion', 0, 0, 0, 1))
    poses = [
        ('/object', stamp + 20 * MILLISECOND, make('geometry_msgs/msg/PoseStamped', header(stamp), pose))
        for topic, stamp, _ in rows(5)
        if topic == '/joint_states' and (stamp // (10 * MILLISECOND)) % 3 == 0
    ]
    path = write_bag(tmp_path / 'bag', sorted([*rows(5), *poses], key=lambda row: row[1]))
    observation = [*CONTRACT['observation'], OBJECT]
    values = {**CONTRACT, 'observation': observation, 'episodes': {'by': 'bag', 'stale': stale}}
    report = ConversionReport()
    (episode,) = convert(path, Contract.model_validate(values), None, report)
    assert len(episode) in (99, 98) and 'part' not in episode.labels
    assert {entry.why for entry in report.entries if entry.kind == 'tick'} == {'no object yet'}
