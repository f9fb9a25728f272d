"""What a person says of episodes while recording, as marks."""

from __future__ import annotations

import pytest

from vdd_ros.common.errors import InterfaceError
from vdd_ros.nodes.recorder.causal_order import Stamped
from vdd_ros.nodes.recorder.episode_control import EpisodeControl, Mark, PreRoll

SECOND = 1_000_000_000


def printed(mark: Mark) -> tuple[str, int, dict[str, str]]:
    """Return a mark as plain values."""
    return mark.kind, mark.index, dict(mark.labels)


def test_episodes_are_numbered_and_carry_outcome_and_instruction():
    control = EpisodeControl('pick the cup')
    assert printed(control.start()) == ('start', 0, {'language': 'pick the cup'})
    assert printed(control.stop('success')) == ('end', 0, {'outcome': 'success', 'language': 'pick the cup'})
    assert control.act('label', 'pick the spoon')[0].labels == {'language': 'pick the spoon'}
    assert printed(control.start()) == ('start', 1, {'language': 'pick the spoon'})
    assert printed(control.stop()) == ('end', 1, {'language': 'pick the spoon'})
    assert control.outcomes == {'success': 1, 'unlabelled': 1}


def test_an_outcome_after_the_end_amends_the_last_episode_and_its_count():
    control = EpisodeControl()
    control.start()
    control.stop()
    mark, answer = control.act('failure')
    assert printed(mark) == ('label', 0, {'outcome': 'failure'})
    assert 'episode 0' in answer
    assert +control.outcomes == {'failure': 1}


@pytest.mark.parametrize('running', [True, False])
def test_an_episode_is_discarded_while_it_runs_or_after_it_and_only_once(running):
    control = EpisodeControl()
    control.start()
    if not running:
        control.stop('success')
    assert printed(control.discard()) == ('discard', 0, {'reason': 'discarded by the operator'})
    assert not control.running
    assert +control.outcomes == {'discarded': 1}
    with pytest.raises(InterfaceError, match='episode 0 discarded already'):
        control.discard()
    assert control.start().index == 1


def test_what_makes_no_sense_is_refused_with_the_remedy():
    control = EpisodeControl()
    for action, reported in (('stop', 'start one first'), ('success', 'start one first'), ('discard', 'none yet')):
        with pytest.raises(InterfaceError, match=reported):
            control.act(action)
    control.start()
    with pytest.raises(InterfaceError, match='found episode 0; stop or discard it first'):
        control.start()


def test_one_key_starts_and_stops():
    control = EpisodeControl()
    assert [control.act('toggle')[0].kind for _ in range(3)] == ['start', 'end', 'start']


@pytest.mark.parametrize(
    ('text', 'labels'),
    [
        ('pick = place?', {'pick': 'place?'}),
        ('operator=Ada', {'operator': 'Ada'}),
        ('lift to z=3', {'language': 'lift to z=3'}),
        ('language=lift', {'language': 'lift'}),
    ],
)
def test_a_label_is_a_key_with_a_value_or_an_instruction(text, labels):
    control = EpisodeControl()
    control.start()
    assert control.label(text).labels == labels


def test_an_instruction_before_the_first_episode_holds_for_it():
    control = EpisodeControl()
    assert control.label('pick') is None
    assert control.start().labels == {'language': 'pick'}


def test_marks_that_others_make_are_counted_on():
    control = EpisodeControl()
    control.on_mark('start', 4)
    assert control.running and not control.own
    control.on_mark('end', 4)
    assert control.start().index == 5 and control.own


def stamps(items) -> list[int]:
    """Return stamps in seconds."""
    return [item.stamp / SECOND for item in items]


def test_the_moments_before_a_start_belong_to_the_episode():
    gate = PreRoll(1.0)
    assert not [item for second in range(10) for item in gate.take(Stamped('/state', second * SECOND, b''))]
    written = list(gate.start(Stamped('/episode', 9 * SECOND + 500, b'mark'), early=True))
    assert [item.topic for item in written] == ['/state'] * 3 + ['/episode'] + ['/state']
    assert [round(stamp) for stamp in stamps(written)] == [6, 7, 8, 8, 9]
    assert written[3].stamp == 8 * SECOND + 500
    assert len(list(gate.take(Stamped('/state', 10 * SECOND, b'')))) == 1
    gate.stop()
    assert not list(gate.take(Stamped('/state', 11 * SECOND, b'')))


def test_an_episode_never_begins_before_what_is_kept_nor_within_the_one_before():
    gate = PreRoll(5.0)
    gate.open = True
    assert list(gate.take(Stamped('/state', SECOND, b'')))
    gate.stop()
    assert not list(gate.take(Stamped('/state', 2 * SECOND, b'')))
    assert stamps(gate.start(Stamped('/episode', 3 * SECOND, b''), early=True)) == [2, 2]


def test_the_mark_of_others_stays_in_its_place_and_what_holds_for_ever_always_passes():
    gate = PreRoll(5.0, {'/tf_static'})
    assert list(gate.take(Stamped('/tf_static', 1, b'')))
    assert not list(gate.take(Stamped('/state', 2, b'')))
    assert [item.stamp for item in gate.start(Stamped('/episode', 3, b''), early=False)] == [2, 3]
