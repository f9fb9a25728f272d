"""An episode in lockstep is complete when all messages that its end mark counts have arrived."""

from __future__ import annotations

from vdd_ros.nodes.messages import EpisodeEvent
from vdd_ros.nodes.recorder.episode_gate import EpisodeGate

STATES, COMMANDS = '/joint_states', '/commands'


def end(index: int, states: int, commands: int) -> EpisodeEvent:
    """Make an end mark with counts."""
    return EpisodeEvent(0, 'end', index, counts={STATES: states, COMMANDS: commands, '/gripper': 9})


def test_an_episode_waits_for_late_messages_of_every_counted_topic():
    gate = EpisodeGate([STATES, COMMANDS])
    gate.add(5, COMMANDS)  # the answer to the state that ended the episode before
    gate.on_mark(10, EpisodeEvent(0, 'start', 0))
    gate.on_mark(20, end(0, states=2, commands=2))
    assert gate.take_complete() is None
    for published, topic in ((11, STATES), (13, STATES), (12, COMMANDS), (21, COMMANDS)):
        gate.add(published, topic)
        assert gate.take_complete() is None
    assert gate.missing == {COMMANDS: (2, 1)}
    gate.add(14, COMMANDS)
    assert gate.take_complete() == 20
    assert not gate.missing
    assert gate.take_complete() is None


def test_episodes_are_complete_in_order():
    gate = EpisodeGate([STATES, COMMANDS])
    for index in range(2):
        gate.on_mark(10 + 10 * index, EpisodeEvent(0, 'start', index))
        gate.on_mark(19 + 10 * index, end(index, states=1, commands=1))
        gate.add(11 + 10 * index, STATES)
    gate.add(22, COMMANDS)
    assert gate.take_complete() is None
    assert gate.first == 0
    gate.add(12, COMMANDS)
    assert gate.take_complete() == 29
    assert gate.first == -1
