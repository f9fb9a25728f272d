"""The policy node over real DDS: what the arm receives."""

from __future__ import annotations

import inspect
import signal
from time import time_ns

import numpy as np
import pytest
from arms import HOME, JOINTS, Arm, tool
from lifecycle_msgs.msg import Transition
from onnxruntime import get_available_providers
from rclpy.lifecycle import TransitionCallbackReturn
from std_srvs.srv import Trigger
from students import save_student

from vdd_ros.nodes.policy.policy_node import PolicyNode
from vdd_ros.policy.runtime import PROVIDERS

MISSING = next(name for name, (wanted, _) in PROVIDERS.items() if wanted not in get_available_providers())
PERIOD = 35_000_000
STEP = [0.0, 0.01]


def test_each_tick_moves_the_commanded_tool_point_by_the_policys_step(graph, tmp_path):
    node = graph.start('policy_node', artifact=save_student(tmp_path / 'student', [STEP]))
    arm = Arm(graph)
    arm.activate(PERIOD)
    for tick in range(1, 6):
        graph.until(lambda: len(arm.commands) == tick)
        arm.say(PERIOD + tick * PERIOD)
    graph.until(lambda: len(arm.commands) == 6)
    points = tool(np.array([HOME, *arm.commands]))
    np.testing.assert_allclose(np.diff(points, axis=0), np.tile([*STEP, 0.0], (6, 1)), atol=5e-5)
    assert node.stop() == 0


def test_states_between_ticks_send_nothing_and_order_of_joints_does_not_matter(graph, tmp_path):
    graph.start('policy_node', artifact=save_student(tmp_path / 'student', [STEP]))
    arm = Arm(graph)
    arm.activate(PERIOD)
    graph.until(lambda: len(arm.commands) == 1)
    backwards = ['gripper', *reversed(JOINTS)]
    position = np.array([9.0, *HOME[::-1]])
    for chunk in range(1, 8):
        arm.say(PERIOD + chunk * PERIOD // 7, position, backwards)
    graph.until(lambda: len(arm.commands) == 2)
    points = tool(np.array([HOME, *arm.commands]))
    np.testing.assert_allclose(points[2] - points[0], [0.0, 0.02, 0.0], atol=1e-4)


def test_deactivation_leaves_the_arm_holding_and_reactivation_starts_from_where_it_is(graph, tmp_path):
    node = graph.start('policy_node', artifact=save_student(tmp_path / 'student', [STEP]))
    arm = Arm(graph)
    arm.activate(PERIOD)
    graph.until(lambda: len(arm.commands) == 1)
    assert arm.change(Transition.TRANSITION_DEACTIVATE)
    graph.until(lambda: len(arm.commands) == 2)
    np.testing.assert_array_equal(arm.commands[1], arm.commands[0])
    arm.say(3 * PERIOD)
    assert arm.change(Transition.TRANSITION_ACTIVATE)
    graph.until(lambda: len(arm.commands) == 3)
    np.testing.assert_allclose(tool(arm.commands[2]) - tool(HOME), [*STEP, 0.0], atol=5e-5)
    assert arm.change(Transition.TRANSITION_DEACTIVATE)
    assert arm.change(Transition.TRANSITION_CLEANUP)
    assert node.stop(signal.SIGTERM) == 0, node.text
    assert 'Traceback' not in node.text


def test_the_arm_holds_when_joint_states_cease_while_the_clock_continues(graph, tmp_path):
    node = graph.start('policy_node', artifact=save_student(tmp_path / 'student', [STEP]))
    arm = Arm(graph)
    arm.activate(PERIOD)
    graph.until(lambda: len(arm.commands) == 1)

    def silent() -> bool:
        arm.tick(PERIOD + 1_000_000_000)
        return len(arm.commands) > 1

    graph.until(silent)
    np.testing.assert_array_equal(arm.commands[-1], arm.commands[0])
    graph.until(lambda: 'holding: no joint state for' in node.text)


@pytest.mark.realtime
def test_in_wall_time_commands_keep_coming_and_hold_when_joint_states_cease(graph, tmp_path):
    node = graph.start(
        'policy_node',
        use_sim_time=False,
        artifact=save_student(tmp_path / 'student', [STEP]),
        autostart=True,
        control_rate=100,
        max_age=0.1,
        override_name='a test',
        override_reason='there is no arm',
    )
    arm = Arm(graph)

    def speak() -> bool:
        arm.say(time_ns())
        return bool(arm.commands) and tool(arm.commands[-1])[1] - tool(HOME)[1] > 0.009

    graph.until(speak)
    graph.until(lambda: 'holding: no joint state for' in node.text)
    seen = len(arm.commands)
    graph.until(lambda: len(arm.commands) >= seen + 100)
    assert all(np.array_equal(command, arm.commands[-1]) for command in arm.commands[-10:])
    assert node.stop() == 0


def test_a_missing_joint_ends_an_autostart_in_one_line_that_names_it(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    node = graph.start('policy_node', artifact=artifact, autostart=True)
    arm = Arm(graph)

    def ended() -> bool:
        arm.say(PERIOD, HOME[:6], JOINTS[:6])
        return not node.alive

    graph.until(ended)
    assert node.wait() == 2
    assert 'found no joint7 among joint1, joint2, joint3, joint4, joint5, joint6; remap joint_states' in node.text
    assert not arm.commands


def test_an_arm_without_messages_ends_an_autostart_in_one_line(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    node = graph.start('policy_node', artifact=artifact, autostart=True, startup_timeout=0.5)
    assert node.wait() == 2
    assert 'expected joint states on /joint_states; found none; start the arm' in node.text


@pytest.mark.parametrize(
    ('parameters', 'complaint'),
    [
        ({'artifact': '/nowhere'}, 'expected an artifact at /nowhere; found No such file'),
        ({}, 'found no artifact; set -p artifact:=PATH'),
        ({'artifact': None, 'contract': 'avoiding_joint'}, 'expected an artifact of contract avoiding_joint'),
        ({'artifact': None, 'provider': MISSING}, f'for provider={MISSING}; found one with'),
    ],
)
def test_an_artifact_that_will_not_do_ends_an_autostart_in_one_line(graph, tmp_path, parameters, complaint):
    if 'artifact' in parameters and parameters['artifact'] is None:
        parameters = parameters | {'artifact': save_student(tmp_path / 'student', [STEP])}
    node = graph.start('policy_node', autostart=True, **parameters)
    assert node.wait() == 2
    assert complaint in node.text
    assert len(node.text.strip().splitlines()) == 1


def test_a_refused_configuration_is_a_failed_transition_and_the_node_lives_on(graph):
    node = graph.start('policy_node', artifact='/nowhere')
    arm = Arm(graph)
    assert not arm.change(Transition.TRANSITION_CONFIGURE)
    assert not arm.change(Transition.TRANSITION_CONFIGURE)
    assert node.stop() == 0


def test_what_waited_for_a_node_that_was_cleaned_up_does_nothing(graph_with, tmp_path):
    artifact = save_student(tmp_path / 'student', [STEP])
    graph = graph_with('-p', f'policy_node:artifact:={artifact}', '-p', 'policy_node:operating_mode:=shadow')
    graph.add(node := PolicyNode())
    names = {part: {each.handle for each in getattr(node, part)} for part in ('timers', 'subscriptions', 'services')}
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    # As an executor does that has taken them up already.
    timers, received, requested = (
        [each for each in getattr(node, part) if each.handle not in before] for part, before in names.items()
    )
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    assert (len(timers), len(received), len(requested)) == (2, 3, 2)
    for timer in timers:
        timer.callback()
    for subscription in received:
        subscription.callback(subscription.msg_type())
    for service in requested:
        if not inspect.iscoroutinefunction(service.callback):
            assert not service.callback(Trigger.Request(), Trigger.Response()).success
    assert node.acting is None
