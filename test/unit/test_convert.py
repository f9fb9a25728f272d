"""From a bag to episodes: whatever tells them apart, in one pass, with an account of what is left out."""

from __future__ import annotations

import numpy as np
import pytest
from ros_messages import MILLISECOND, SECOND, command, header, make, mark, state, vector, write_bag

from vdd_ros.common.errors import BagError, TrainingError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag.bag_recording import read_recording
from vdd_ros.data.convert import convert
from vdd_ros.data.dataset import episodes_of
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.demonstrations import converted, load_demonstrations
from vdd_ros.data.episode import Episode

TICK = 50 * MILLISECOND


def contract(**change: object) -> Contract:
    """Joints a and b at 20 Hz."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    return Contract.model_validate({**values, 'schema_version': 2, 'policy_rate': 20.0, **change})


def stretch(start: int, seconds: float, speed: float = 1.0) -> list:
    """States every 10 ms that move at a speed, and a command every 50 ms."""
    rows = []
    for number in range(round(seconds * 100)):
        stamp = start + number * 10 * MILLISECOND
        place = speed * number / 100
        rows.append(('/joint_states', stamp, state(stamp, ['a', 'b'], [place, -place])))
        if number % 5 == 0:
            rows.append(('/arm_controller/commands', stamp, command([place + 0.05, -place - 0.05])))
    return rows


def made(
    tmp_path, rows: list, report: ConversionReport | None = None, name: str = 'bag', **change: object
) -> list[Episode]:
    """Write a bag and convert it."""
    path = write_bag(tmp_path / name, sorted(rows, key=lambda row: row[1]))
    return list(convert(path, contract(**change), None, ConversionReport() if report is None else report))


def flag(stamp: int, kind: str, value: object) -> tuple:
    """Make a message of std_msgs."""
    return ('/flag', stamp, make(f'std_msgs/msg/{kind}', value))


def lengths(episodes: list[Episode]) -> list[int]:
    """Return how many ticks each has."""
    return [len(episode) for episode in episodes]


@pytest.mark.parametrize('values', [('Bool', True, False), ('String', 'run', 'idle'), ('Int32', 7, 0)])
def test_a_topic_separates_episodes(tmp_path, values):
    kind, on, off = values
    rows = [*stretch(0, 6), flag(SECOND, kind, on), flag(2 * SECOND, kind, off), flag(4 * SECOND, kind, on)]
    signal = {'topic': 'flag', 'type': kind}
    report = ConversionReport()
    found = made(tmp_path, rows, report, episodes={'by': 'topic', 'signal': signal})
    assert lengths(found) == [20]
    assert found[0].stamps[0] == SECOND and found[0].stamps[1] == SECOND + TICK
    assert report.dropped('episode') == 1 and 'without an end' in str(report.entries[-1])


def test_another_number_on_the_topic_is_another_episode(tmp_path):
    rows = [*stretch(0, 5), *(flag(at * SECOND, 'Int32', value) for at, value in ((1, 1), (2, 2), (3, 0), (4, 5)))]
    found = made(tmp_path, rows, episodes={'by': 'topic', 'signal': {'topic': 'flag', 'type': 'Int32'}})
    assert [(len(item), item.labels['signal']) for item in found] == [(20, '1'), (20, '2')]


def joy(stamp: int, *buttons: int) -> tuple:
    """Make a message of a joystick."""
    axes = np.zeros(0, np.float32)
    return ('/joy', stamp, make('sensor_msgs/msg/Joy', header(stamp), axes, np.array(buttons, np.int32)))


def test_a_button_starts_and_ends_and_another_one_throws_away(tmp_path):
    presses = [joy(at * SECOND // 2, int(at in (2, 4, 6, 8)), int(at == 5)) for at in range(12)]
    button = {'topic': 'joy', 'type': 'Joy', 'field': 'buttons[0]'}
    report = ConversionReport()
    rules = {'by': 'button', 'signal': button, 'discard': {**button, 'field': 'buttons[1]'}}
    found = made(tmp_path, [*stretch(0, 6), *presses], report, episodes=rules)
    assert [(item.stamps[0], len(item)) for item in found] == [(3 * SECOND, 20)]
    assert 'discarded by the operator' in str(report.entries[-1])


def test_a_joystick_that_repeats_its_state_is_read_fast_and_kept_short(tmp_path):
    presses = [joy(number * SECOND // 100, int(number in (100, 101, 400))) for number in range(600)]
    path = write_bag(tmp_path / 'bag', sorted([*stretch(0, 6), *presses], key=lambda row: row[1]))
    rules = {'by': 'button', 'signal': {'topic': 'joy', 'type': 'Joy', 'field': 'buttons[0]'}}
    report = ConversionReport()
    recording = read_recording(path, contract(episodes=rules), report=report)
    assert len(recording.signals['signal']) <= 9 and report.read['/joy'] == 600
    assert lengths(list(convert(path, contract(episodes=rules), None, ConversionReport()))) == [60]


def test_pauses_and_rests_separate_episodes_where_nothing_else_does(tmp_path):
    rows = [*stretch(0, 2), *stretch(4 * SECOND, 3)]
    assert lengths(made(tmp_path, rows, episodes={'by': 'gaps'})) == [40, 60]
    rows = [*stretch(0, 2, speed=0), *stretch(2 * SECOND, 2), *stretch(4 * SECOND, 2, speed=0)]
    (found,) = made(tmp_path, rows, name='other', episodes={'by': 'motion', 'rest': 0.5})
    assert abs(found.stamps[0] - 2 * SECOND) <= TICK and abs(found.stamps[-1] - 4 * SECOND) <= TICK
    (found,) = made(tmp_path, rows, name='third', episodes={'by': 'bag'})
    assert len(found) == 120


def test_outcomes_and_instructions_come_along_and_short_episodes_do_not(tmp_path):
    rows = [
        *stretch(0, 9),
        *(flag(at * SECOND, 'Bool', at % 2 == 1) for at in range(8)),
        ('/task', SECOND // 2, make('std_msgs/msg/String', 'pick')),
        ('/task', 3 * SECOND, make('std_msgs/msg/String', 'place')),
        ('/outcome', 2 * SECOND + 1, make('std_msgs/msg/String', 'SUCCESS')),
        ('/outcome', 4 * SECOND + 1, make('std_msgs/msg/String', 'dropped it')),
        ('/joint_states', 9 * SECOND, state(9 * SECOND, ['a', 'b'], [0, 0])),
    ]
    word = {'type': 'String'}
    rules = {
        'by': 'topic',
        'signal': {'topic': 'flag', 'type': 'Bool'},
        'outcome': {'topic': 'outcome', **word},
        'language': {'topic': 'task', **word},
    }
    found = made(tmp_path, rows, episodes=rules)
    assert [(item.success, item.labels['language']) for item in found] == [
        (True, 'pick'),
        (False, 'place'),
        (None, 'place'),
    ]
    report = ConversionReport()
    assert not made(tmp_path, rows, report, name='short', episodes={**rules, 'shortest': 1.5})
    assert report.dropped('episode') == 1 + 3 and 'shorter than 1.5 s' in str(report.entries[-1])


def test_marks_may_amend_and_discard(tmp_path):
    marks = [
        (1, 'start', {'index': '0'}),
        (2, 'end', {'index': '0'}),
        (2.1, 'label', {'index': '0', 'outcome': 'failure', 'language': 'pick'}),
        (3, 'start', {'index': '1'}),
        (3.5, 'discard', {'index': '1', 'reason': 'bumped'}),
        (4, 'end', {'index': '1'}),
        (4.5, 'end', {'index': '7'}),
        (4.6, 'label', {'index': '9'}),
        (4.7, 'what', {}),
        (5, 'start', {'index': '2'}),
        (5.5, 'start', {'index': '3'}),
        (6, 'end', {'index': '3'}),
        (6.5, 'start', {'index': '4'}),
    ]
    rows = [('/episode', int(at * SECOND), mark(int(at * SECOND), event, **labels)) for at, event, labels in marks]
    report = ConversionReport()
    found = made(tmp_path, [*stretch(0, 8), *rows], report)
    assert [(item.index, len(item), item.success) for item in found] == [(0, 20, False), (2, 10, None)]
    assert found[0].labels == {'index': '0', 'outcome': 'failure', 'language': 'pick'}
    reported = '\n'.join(str(entry) for entry in report.entries)
    assert 'episode 1: 1 episode dropped: discarded by the operator bumped' in reported
    assert 'marks: 2 episodes dropped: a start without an end (first at 5.000 s)' in reported
    for part in ('an end without a start', 'a label for an unknown episode', "an unknown mark: 'what'"):
        assert part in reported


def marked(rows: list, start: float, end: float) -> list:
    """Add marks around a stretch."""
    times = [(int(start * SECOND), 'start'), (int(end * SECOND), 'end')]
    return [*rows, *(('/episode', at, mark(at, event)) for at, event in times)]


FORCE = {
    'name': 'force',
    'topic': 'wrench',
    'type': 'WrenchStamped',
    'fields': ['wrench.force.z'],
    'align': {'max_age': 0.1},
}


def wrenches(seconds: list[float]) -> list:
    """Forces at some times, each its time."""
    rows = []
    for at in seconds:
        stamp = round(at * SECOND)
        inner = make('geometry_msgs/msg/Wrench', vector('Vector3', 0, 0, at), vector('Vector3', 0, 0, 0))
        rows.append(('/wrench', stamp, make('geometry_msgs/msg/WrenchStamped', header(stamp), inner)))
    return rows


@pytest.mark.parametrize(('stale', 'expected'), [('split', [18, 13]), ('drop', [])])
def test_ticks_without_a_young_message_split_an_episode_or_drop_it(tmp_path, stale, expected):
    observation = [*contract().model_dump(mode='json')['observation'], FORCE]
    # From .1 s on, every 50 ms, but for half a second.
    times = [0.1 + 0.05 * number for number in range(36) if not 16 <= number < 25]
    report = ConversionReport()
    rows = marked([*stretch(0, 2), *wrenches(times)], 0, 2)
    found = made(tmp_path, rows, report, observation=observation, episodes={'stale': stale})
    assert lengths(found) == expected
    assert report.dropped('tick') == 2 + 7 if expected else report.dropped('episode') == 1
    assert 'no recent force' in str(report.entries)
    if expected:
        force = np.concatenate([item.observation[:, -1] for item in found])
        stamps = np.concatenate([item.stamps for item in found]) / SECOND
        assert ((stamps - force >= -1e-9) & (stamps - force <= 0.1 + 1e-9)).all()
        assert [item.labels['part'] for item in found] == ['1 of 2', '2 of 2']


def test_where_no_commands_were_recorded_the_next_state_is_one(tmp_path):
    rows = [row for row in marked(stretch(0, 2), 0, 2) if row[0] != '/arm_controller/commands']
    observation = [{'name': 'measured', 'source': 'measured', 'space': 'joint'}]
    (found,) = made(tmp_path, rows, observation=observation, commanded={'source': 'measured'})
    np.testing.assert_allclose(found.action[:-1], np.diff(found.observation, axis=0))
    (found,) = made(
        tmp_path, rows, name='b', observation=observation, commanded={'source': 'measured'}, action_mode='absolute'
    )
    np.testing.assert_array_equal(found.action[:-1], found.observation[1:])


def test_velocities_are_changes_per_second_or_velocity_commands(tmp_path):
    rows = marked(stretch(0, 2), 0, 2)
    (delta,) = made(tmp_path, rows)
    (velocity,) = made(tmp_path, rows, name='v', action_mode='velocity')
    np.testing.assert_allclose(velocity.action, delta.action / 0.05)
    observation = [{'name': 'measured', 'source': 'measured', 'space': 'joint'}]
    (reported,) = made(
        tmp_path, rows, name='t', observation=observation, action_mode='velocity', commanded={'quantity': 'velocity'}
    )
    (absolute,) = made(tmp_path, rows, name='a', action_mode='absolute')
    np.testing.assert_array_equal(reported.action, absolute.action)


def test_a_gripper_on_a_topic_of_its_own_is_commanded_beside_the_arm(tmp_path):
    grips = [('/grip', at * TICK, make('std_msgs/msg/Float64', at * 25.5)) for at in range(40)]
    gripper = {'name': 'gripper', 'topic': 'grip', 'type': 'Float64', 'scale': 1 / 255, 'mode': 'absolute'}
    values = contract().model_dump(mode='json')
    further = {'further_actions': [gripper], 'observation': values['observation']}
    report = ConversionReport()
    (found,) = made(tmp_path, marked([*stretch(0, 2), *grips], 0, 2), report, **further)
    np.testing.assert_allclose(found.action[:, 2], np.arange(40) / 10)
    assert not report.dropped('tick')


def test_a_bag_that_is_cut_piece_by_piece_gives_the_same_episodes(tmp_path):
    rows = []
    for number in range(12):
        start = number * 8 * SECOND
        rows += [*stretch(start, 8), ('/episode', start + SECOND, mark(start + SECOND, 'start', index=str(number)))]
        rows.append(('/episode', start + 3 * SECOND, mark(start + 3 * SECOND, 'end', index=str(number))))
    path = write_bag(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    whole, pieces = ConversionReport(), ConversionReport()
    expected = episodes_of(read_recording(path, contract(), report=whole), contract(), None, report=whole)
    found = list(convert(path, contract(), None, pieces, held=1 << 14))
    assert len(found) == 12 and lengths(found) == lengths(expected)
    for one, other in zip(found, expected):
        assert one.observation.tobytes() == other.observation.tobytes()
        assert one.action.tobytes() == other.action.tobytes()
        assert (one.labels, one.index, one.bag) == (other.labels, other.index, 'bag')
    assert whole.read == pieces.read and not whole.entries and not pieces.entries


def test_marks_whose_stamps_are_broken_make_no_endless_episode(tmp_path):
    rows = [*stretch(0, 1), ('/episode', 0, mark(0, 'start')), ('/episode', SECOND, mark((2**31 - 1) * SECOND, 'end'))]
    report = ConversionReport()
    assert not made(tmp_path, rows, report)
    assert '100 joint states' in str(report.entries[-1])


def test_a_recording_in_which_nothing_is_an_episode_is_refused(tmp_path):
    with pytest.raises(BagError, match='expected episodes by motion in .*bag; found none'):
        made(tmp_path, stretch(0, 1, speed=0), episodes={'by': 'motion'})


def test_several_processes_give_what_one_gives(tmp_path):
    bags = [write_bag(tmp_path / f'bag{n}', marked(stretch(0, 1 + n), 0, 1 + n)) for n in range(3)]
    alone = list(converted(bags, contract(), None, silent, workers=1))
    together = list(converted(bags, contract(), None, silent, workers=2))
    assert [item.bag for item in together] == ['bag0', 'bag1', 'bag2']
    for one, other in zip(alone, together):
        assert one.report == other.report
        assert [e.observation.tobytes() for e in one.episodes] == [e.observation.tobytes() for e in other.episodes]


def split_bag(path, first: int, count: int):
    """Write demonstrations of 1 s, each with a pause in its joint states; `which` says their number."""
    rows = []
    for number in range(first, first + count):
        start = number * 3 * SECOND
        pause = range(start + SECOND // 2, start + 3 * SECOND // 4)
        rows += [row for row in stretch(start, 1) if row[0] != '/joint_states' or row[1] not in pause]
        rows += [('/which', at * 100 * MILLISECOND + start, make('std_msgs/msg/Float64', number)) for at in range(10)]
    return write_bag(path, sorted(rows, key=lambda row: row[1]))


def test_all_parts_of_a_demonstration_lie_on_one_side_of_the_held_out_split(tmp_path):
    bags = [split_bag(tmp_path / folder / 'bag', 10 * number, 10) for number, folder in enumerate(('a', 'b'))]
    values = contract().model_dump(mode='json')
    which = {'name': 'which', 'topic': 'which', 'type': 'Float64'}
    values |= {'observation': [*values['observation'], which], 'measured': {'align': {'max_age': 0.1}}}
    split = Contract.model_validate({**values, 'episodes': {'by': 'gaps', 'gap': 1.0}})
    for seed in range(3):
        found = load_demonstrations(bags, split, None, silent, held_out=0.2, seed=seed)
        train, held_out = (set(part.observation[:, -1, 4]) for part in (found.train, found.held_out))
        assert not train & held_out and train | held_out == set(range(20)) and len(held_out) == 4
        assert found.record.episodes == 20 and len(found.record.bags) == 2
    # A bag that is named twice does not make twice the demonstrations.
    again = load_demonstrations([*bags, bags[0]], split, None, silent, held_out=0.2)
    train, held_out = (set(part.observation[:, -1, 4]) for part in (again.train, again.held_out))
    assert not train & held_out and again.record.episodes == 20
    with pytest.raises(TrainingError, match='at least 5 successful demonstrations; found 4'):
        load_demonstrations([split_bag(tmp_path / 'few', 0, 4)], split, None, silent)


def test_what_arrives_too_late_for_the_live_policy_is_noted(tmp_path):
    rows = marked(stretch(0, 1), 0, 1)
    rows = [(topic, stamp + 60 * MILLISECOND * (topic == '/joint_states'), row) for topic, stamp, row in rows]
    report = ConversionReport()
    made(tmp_path, rows, report)
    assert [(entry.where, entry.count) for entry in report.entries] == [('measured', 100)]
    patient = ConversionReport()
    made(tmp_path, rows, patient, name='b', measured={'align': {'latency': 0.06}})
    assert [(entry.kind, entry.why, entry.count) for entry in patient.entries] == [('tick', 'no joint state yet', 1)]


def test_a_conversion_report_gives_in_few_lines_what_is_common_to_many_episodes():
    report = ConversionReport()
    report.add('message', '/a', 'it is empty', 2, 'byte 7')
    report.add('note', '/a', 'odd')
    for episode in range(3):
        report.add('tick', f'episode {episode}', 'no force', 5)
    report.add('episode', 'episode 4', 'it failed')
    assert report.lines() == [
        '/a: 2 messages dropped: it is empty (first at byte 7)',
        '15 ticks in 3 episodes dropped: no force',
        '1 episode dropped: it failed',
    ]
