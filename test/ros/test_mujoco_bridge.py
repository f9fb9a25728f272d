"""The bridge over real DDS: what a commander meets."""

from __future__ import annotations

import signal
from time import monotonic, time_ns

import numpy as np
import pytest
from commander import PERIOD, Commander, raw

from vdd_ros.nodes import messages

CHUNKS = 7


def test_a_command_advances_the_simulation_by_exactly_one_policy_period(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    start = commander.reset()
    del commander.states[:-1]
    for _ in range(10):
        commander.step(commander.position)
    stamps = [messages.from_time(state.header.stamp) for state in commander.states]
    assert stamps == [start.stamp + PERIOD * chunk // CHUNKS for chunk in range(10 * CHUNKS + 1)]
    graph.until(lambda: max(commander.clocks) >= commander.stamp)  # the clock comes on a topic of its own
    assert max(commander.clocks) == commander.stamp


def test_equal_commands_give_equal_joint_states_to_the_last_bit(graph):
    offsets = np.cumsum(np.random.default_rng(0).normal(scale=1e-3, size=(40, 7)), axis=0)
    runs = []
    for number in range(2):
        bridge = graph.start('mujoco_bridge', step_timeout=5.0)
        commander = Commander(graph, f'commander{number}')
        commander.reset()
        seen = len(commander.states) - 1
        start = commander.position
        for offset in offsets:
            commander.step(start + offset)
        runs.append([raw(state) for state in commander.states[seen:]])
        assert bridge.stop() == 0
    assert len(runs[0]) == 40 * CHUNKS + 1
    assert runs[0] == runs[1]


def test_commands_are_taken_in_the_order_of_the_joint_names(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    commander.reset()
    start = commander.position
    target = start + np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.2])
    for _ in range(20):
        commander.step(target)
    moved = np.abs(commander.position - start)
    assert list(commander.states[-1].name)[np.argmax(moved)] == 'joint7'
    assert moved[6] > 0.1


def test_commands_that_are_none_are_refused_and_counted_and_move_nothing(graph):
    bridge = graph.start('mujoco_bridge', step_timeout=30.0)
    commander = Commander(graph)
    start = commander.reset()
    for command in (np.zeros(6), np.zeros(8), np.full(7, np.nan), np.full(7, np.inf)):
        commander.send(command)
    graph.until(lambda: commander.diagnostics.get('refused') == '4')
    assert commander.stamp == start.stamp
    assert bridge.text.count('command refused: expected') == 1  # once in a second
    commander.step(commander.position)
    assert commander.stamp == start.stamp + PERIOD


def test_a_reset_brings_the_arm_back_ends_the_episode_and_never_turns_back_time(graph):
    graph.start('mujoco_bridge', step_timeout=5.0)
    commander = Commander(graph)
    first = commander.reset()
    home = commander.position
    for _ in range(10):
        commander.step(home + 0.05)
    last = commander.stamp
    assert np.abs(commander.position - home).max() > 0.01
    second = commander.reset()
    np.testing.assert_array_equal(commander.position, home)
    assert second.stamp > last
    assert [(event.kind, event.index, event.outcome, event.steps) for event in commander.events] == [
        ('start', first.index, '', 0),
        ('end', first.index, 'aborted', 10),
        ('start', first.index + 1, '', 0),
    ]
    stamps = [messages.from_time(state.header.stamp) for state in commander.states]
    assert stamps == sorted(stamps)


def test_commands_outside_of_an_episode_move_nothing_in_lockstep_and_are_counted(graph):
    graph.start('mujoco_bridge')
    commander = Commander(graph)
    stamp = commander.stamp
    commander.send(commander.position)
    graph.until(lambda: commander.diagnostics.get('ignored') == '1')
    assert commander.stamp == stamp


def test_a_commander_without_messages_is_named_and_the_last_state_sent_again(graph):
    bridge = graph.start('mujoco_bridge', step_timeout=0.2)
    commander = Commander(graph, 'sleepy_commander')
    start = commander.reset()
    seen = len(commander.states)
    graph.until(lambda: len(commander.states) >= seen + 2)
    assert {messages.from_time(state.header.stamp) for state in commander.states[seen:]} == {start.stamp}
    graph.until(lambda: 'sleepy_commander on /arm_controller/commands, silent for 0.2 s' in bridge.text)


def test_in_realtime_time_resumes_automatically_and_the_last_command_holds(graph):
    graph.start('mujoco_bridge', mode='realtime', speed=5)  # a whole number will do for a real parameter
    commander = Commander(graph)
    commander.reset()
    target = commander.position + 0.05
    commander.send(target)
    until = commander.stamp + 40 * PERIOD
    graph.until(lambda: commander.stamp >= until)
    assert np.abs(commander.position - target).max() < 0.02
    stamps = np.array([messages.from_time(state.header.stamp) for state in commander.states])
    assert (np.diff(stamps) > 0).all()


def test_by_the_wall_clock_all_stamps_are_those_of_the_computer_and_there_is_no_other_clock(graph):
    graph.start('mujoco_bridge', use_sim_time=False, mode='realtime', clock='wall')
    commander = Commander(graph)
    before = time_ns()
    start = commander.reset()
    assert before - 100_000_000 < start.stamp < time_ns()
    seen = len(commander.states)
    graph.until(lambda: len(commander.states) > seen + 20)
    stamps = np.array([messages.from_time(state.header.stamp) for state in commander.states[seen:]])
    assert (np.diff(stamps) > 0).all() and start.stamp < stamps[0] and stamps[-1] < time_ns()
    assert graph.node('listener').count_publishers('/clock') == 0


@pytest.mark.realtime
def test_by_the_wall_clock_states_that_are_caught_up_carry_the_times_at_which_they_were_due(graph):
    bridge = graph.start('mujoco_bridge', use_sim_time=False, mode='realtime', clock='wall')
    commander = Commander(graph)
    commander.reset()
    seen = len(commander.states)
    graph.until(lambda: len(commander.states) > seen + 20)
    bridge.send(signal.SIGSTOP)
    stopped = monotonic()
    graph.until(lambda: monotonic() - stopped > 0.2)
    bridge.send(signal.SIGCONT)
    graph.until(lambda: len(commander.states) > seen + 100)
    stamps = np.array([messages.from_time(state.header.stamp) for state in commander.states[seen:]])
    assert np.diff(stamps).min() > 0.5 * PERIOD / CHUNKS


@pytest.mark.parametrize(('mode', 'number'), [('lockstep', signal.SIGINT), ('realtime', signal.SIGTERM)])
def test_the_bridge_ends_cleanly_on_a_signal(graph, mode, number):
    bridge = graph.start('mujoco_bridge', mode=mode)
    Commander(graph)
    assert bridge.stop(number) == 0
    assert 'Traceback' not in bridge.text


@pytest.mark.parametrize(
    ('parameters', 'complaint'),
    [
        (
            {'mode': 'slow'},
            "expected one of lockstep, realtime, fast for parameter mode of mujoco_bridge; found 'slow'",
        ),
        ({'speed': 0.0}, 'expected a number from 0.01 to 100 for parameter speed of mujoco_bridge; found'),
        ({'spede': 1.0}, 'expected known parameters of mujoco_bridge; found spede; use some of task, scene, mode,'),
        ({'clock': 'wall'}, 'expected mode realtime at speed 1 with clock wall; found mode lockstep at speed 1'),
        ({'controller': 3}, 'expected a string, a valid ROS name for parameter controller of mujoco_bridge; found'),
    ],
)
def test_a_wrong_parameter_is_refused_in_one_line(graph, parameters, complaint):
    bridge = graph.start('mujoco_bridge', **parameters)
    assert bridge.wait() == 2
    assert len(bridge.text.strip().splitlines()) == 1
    assert complaint in bridge.text
