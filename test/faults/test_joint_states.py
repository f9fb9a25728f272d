"""Faults of the arm's own reports, over real DDS: what the arm receives while they last, and after."""

from __future__ import annotations

import signal
from time import monotonic

import numpy as np
import pytest
from arms import HOME, JOINTS, Arm, assert_smooth
from lifecycle_msgs.msg import Transition
from movers import start_mover
from ros_fixtures import open_graph

pytestmark = pytest.mark.realtime

RATE = 250
HOUR = 3600 * 10**9
LAG = 0.02


@pytest.fixture(scope='module')
def graph(tmp_path_factory, mover):
    """One graph for all faults of a mover."""
    with open_graph(tmp_path_factory.mktemp('faults')) as graph:
        yield graph


@pytest.fixture(scope='module')
def node(graph, tmp_path_factory, mover):
    """One node for all faults; it leads the tool straight on."""
    return start_mover(
        graph, mover, tmp_path_factory.mktemp('moved'), speed=0.09, control_rate=RATE, max_age=0.3, max_lag=LAG
    )


@pytest.fixture(scope='module')
def body(graph, node, mover):
    """One arm for all faults."""
    return Arm(graph, mover)


@pytest.fixture
def arm(body):
    """The arm in motion; afterwards it is at rest."""
    body.commands.clear()
    body.activate()
    body.moves(0.003)
    yield body
    body.live()
    assert body.change(Transition.TRANSITION_DEACTIVATE)
    assert_smooth(body.commands, RATE)


def recovers(arm: Arm) -> None:
    """See that the arm goes on as soon as it is well again."""
    arm.keeps_resting()
    arm.moves(0.003)


def test_silence_brakes_the_arm_and_keeps_it_where_it_came_to_rest(graph, node, arm):
    graph.until(arm.rests)
    graph.until(lambda: 'holding: no joint state for' in node.text)
    recovers(arm)


def test_a_stutter_does_not_reach_the_arm(arm, graph):
    begin = monotonic()
    graph.until(lambda: (int(monotonic() * 20) % 2 or arm.live()) and monotonic() > begin + 0.5)
    arm.moves(0.003)


def test_stamps_of_an_hour_ago_count_as_silence(graph, arm):
    graph.until(lambda: arm.live(delay=HOUR) and arm.rests())
    recovers(arm)


def test_stamps_of_the_next_hour_count_as_silence(graph, arm):
    graph.until(lambda: arm.live(delay=-HOUR) and arm.rests())
    recovers(arm)


def test_a_joint_that_is_missing_counts_as_silence_and_is_named(graph, node, arm):
    graph.until(lambda: arm.live(position=HOME[:6], joints=JOINTS[:6]) and arm.rests())
    graph.until(lambda: 'found no joint7 among joint1' in node.text)
    recovers(arm)


@pytest.mark.parametrize('bad', [np.nan, np.inf])
def test_what_is_not_finite_counts_as_silence(graph, arm, bad):
    def broken() -> bool:
        position = arm.commands[-1].copy()
        position[3] = bad
        return arm.live(position=position)

    graph.until(lambda: broken() and arm.rests())
    recovers(arm)


def test_joints_that_are_added_or_reordered_change_nothing(graph, arm):
    begin = len(arm.commands)
    names = ['gripper', *reversed(JOINTS), 'another_arm_joint1']

    def muddled() -> bool:
        return arm.live(position=np.array([9.0, *arm.commands[-1][::-1], -9.0]), joints=names)

    target = len(arm.commands) + RATE // 2
    graph.until(lambda: muddled() and len(arm.commands) >= target)
    moved = np.diff(np.array(arm.commands[begin:]), axis=0)
    assert np.abs(moved).max() < 0.01
    assert not arm.rests()


def test_an_arm_that_is_blocked_is_not_pushed_and_does_not_leap_when_it_is_released(graph, node, arm):
    stuck, begin = arm.commands[-1].copy(), len(arm.commands)
    graph.until(lambda: arm.live(position=stuck) and 'does not follow: it was commanded' in node.text)
    graph.until(lambda: arm.live(position=stuck) and arm.rests() and np.abs(arm.commands[-1] - stuck).max() < 2e-3)
    assert np.abs(np.array(arm.commands[begin:]) - stuck).max() < 1.1 * LAG
    arm.keeps_resting()
    arm.resume()
    arm.moves(0.003)


def test_a_process_that_was_suspended_moves_on_from_rest(graph, node, arm):
    for seconds in (0.03, 0.1, 0.6):
        arm.moves(0.01)
        node.send(signal.SIGSTOP)
        graph.until(lambda: arm.live() and arm.silence() > seconds)
        last = len(arm.commands) - 1
        node.send(signal.SIGCONT)
        graph.until(lambda: arm.live() and len(arm.commands) > last + RATE // 4)
        assert arm.commands[last + 1].sent - arm.commands[last].sent > seconds * 1e9
    assert_smooth(arm.commands, RATE)  # it begins from rest after each gap


def test_joint_states_of_another_clock_are_found_before_anything_moves(graph, body):
    graph.until(lambda: body.say(1, clock=False) or 'a clock of their own: look at use_sim_time' in body.preflight())
    body.commands.clear()
    assert not body.change(Transition.TRANSITION_ACTIVATE)
    assert not body.commands


def test_the_node_ends_in_order_after_all_that(node):
    assert node.stop() == 0
    assert 'Traceback' not in node.text
