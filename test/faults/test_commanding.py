"""Faults around the command topic: other commanders, persons who stop, artifacts that change, ends of the process."""

from __future__ import annotations

import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
from arms import HOME, Arm, assert_smooth, limits_of, tool
from lifecycle_msgs.msg import Transition
from movers import start_mover
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from ros_fixtures import open_graph
from std_msgs.msg import Bool, Float64MultiArray
from students import save_student

from vdd_ros.nodes import qos

pytestmark = pytest.mark.realtime

RATE = 250
AWAY = HOME + 0.3
STRICT = {'joint_limits': 'fr3'}
LIMITS = limits_of(**STRICT)


policy = pytest.mark.parametrize('mover', ['policy_node'], indirect=True)
"""Of faults that only a policy can have."""


@pytest.fixture(scope='module')
def folder(tmp_path_factory, mover):
    """Where the artifacts lie."""
    return tmp_path_factory.mktemp('artifacts')


@pytest.fixture(scope='module')
def graph(tmp_path_factory, mover):
    """One graph for all faults of a mover."""
    with open_graph(tmp_path_factory.mktemp('faults')) as graph:
        yield graph


@pytest.fixture(scope='module')
def node(graph, folder, mover):
    """One node for all faults; it leads the tool straight to the left, under strict limits."""
    return start_mover(graph, mover, folder, control_rate=RATE, **STRICT)


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


@pytest.fixture
def rival(graph):
    """Another node that could command the arm."""
    node = graph.node('rival')
    yield node
    graph.drop(node)


def of_the_node(commands: list[np.ndarray]) -> list[np.ndarray]:
    """Return commands without those of a rival: what it sent in another test may still be under way."""
    return [command for command in commands if not np.array_equal(command, AWAY)]


def test_a_second_commander_is_given_way_to_by_a_stop_that_is_a_motion(graph, node, arm, rival):
    others = rival.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
    begin = len(arm.commands)

    def meddle() -> bool:
        arm.say_to(others, AWAY)
        return arm.live(position=HOME)

    graph.until(lambda: meddle() and 'giving way: /rival commands on arm_controller/commands, too' in node.text)
    graph.until(lambda: meddle() and all(np.array_equal(command, AWAY) for command in arm.commands[-300:]))
    own = of_the_node(arm.commands)
    assert_smooth(own, RATE, LIMITS)
    assert len(own) > begin
    assert 'it has given way' in arm.ask('resume').message


def test_with_a_second_commander_about_it_does_not_begin(graph, node, body, rival):
    rival.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
    graph.until(lambda: body.live() and 'nobody else to command on' in body.ask('preflight').message)
    body.commands.clear()
    assert not body.change(Transition.TRANSITION_ACTIVATE)
    assert not of_the_node(body.commands)
    graph.until(lambda: 'end one of them: the arm would jump between the two' in node.text)


@pytest.mark.parametrize(
    ('kind', 'topic', 'profile', 'complaint'),
    [
        (
            'publisher',
            'estop',
            QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT),
            'Best effort',
        ),
        (
            'subscription',
            'arm_controller/commands',
            QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL),
            'transient local',
        ),
    ],
)
def test_peers_that_dds_would_silently_not_connect_are_found(
    graph, mover, body, rival, kind, topic, profile, complaint
):
    if kind == 'publisher':
        rival.create_publisher(Bool, f'{mover}/{topic}', profile)
    else:
        rival.create_subscription(Float64MultiArray, topic, lambda message: None, profile)
    graph.until(lambda: body.live() and complaint in body.ask('preflight').message)
    body.commands.clear()
    assert not body.change(Transition.TRANSITION_ACTIVATE)
    assert not of_the_node(body.commands)


def test_a_peer_of_another_type_is_found(graph, mover, body, rival):
    rival.create_publisher(Float64MultiArray, f'{mover}/estop', 1)
    found = 'found std_msgs/msg/Float64MultiArray of /rival'
    graph.until(lambda: body.live() and found in body.ask('preflight').message)
    assert not body.change(Transition.TRANSITION_ACTIVATE)


def test_a_preflight_that_finds_nothing_lists_its_checks(graph, mover, body):
    graph.until(lambda: body.live() and body.ask('preflight').success)
    text = body.ask('preflight').message
    played = {'policy_node': 'artifact', 'replay': 'episode'}[mover]
    for looked_at in (played, 'contract', 'joint order', 'operating_mode', '/joint_states', '/arm_controller/commands'):
        assert f'fine: {looked_at}: ' in text


def test_a_stop_is_a_motion_that_lasts_until_resume_continues_from_there(graph, node, arm):
    assert arm.ask('stop').success
    graph.until(lambda: arm.live() and arm.rests())
    arm.keeps_resting()
    arm.resume()
    arm.moves(0.003)
    assert_smooth(arm.commands, RATE, LIMITS)


def test_the_emergency_stop_holds_until_it_is_released_and_resumed(graph, mover, arm, rival):
    button = rival.create_publisher(Bool, f'{mover}/estop', qos.ESTOP)
    graph.until(lambda: arm.live() and button.get_subscription_count() == 1)
    button.publish(Bool(data=True))
    graph.until(lambda: arm.live() and arm.rests())
    assert 'the emergency stop is pressed' in arm.ask('resume').message
    arm.keeps_resting()
    button.publish(Bool(data=False))
    arm.resume()
    arm.moves(0.003)
    assert_smooth(arm.commands, RATE, LIMITS)


def set_artifact(graph, arm: Arm, client, path: Path) -> None:
    """Set the parameter, as `ros2 param set` does."""
    value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(path))
    request = SetParameters.Request(parameters=[Parameter(name='artifact', value=value)])
    graph.until(client.service_is_ready)
    future = client.call_async(request)
    graph.until(lambda: arm.live() and future.done())


@policy
def test_an_artifact_that_was_spoilt_is_refused_while_the_arm_moves_on(graph, arm, folder):
    spoilt = folder / 'left' / 'network.onnx'
    whole = spoilt.read_bytes()
    spoilt.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    answer = arm.ask('reload')
    assert not answer.success
    assert 'expected network.onnx as the manifest' in answer.message and 'acts on' in answer.message
    spoilt.write_bytes(whole)
    arm.moves(0.003)
    assert_smooth(arm.commands, RATE, LIMITS)
    assert arm.ask('reload').success


@policy
def test_an_artifact_that_answers_nonsense_or_is_of_another_contract_is_refused_while_the_arm_moves_on(
    graph, arm, folder
):
    shutil.move(folder / 'left', folder / 'kept')
    save_student(folder / 'left', [[0.0, np.nan]], change={'prediction_horizon': 4})
    assert 'found NaN or infinity' in arm.ask('reload').message
    shutil.rmtree(folder / 'left')
    save_student(folder / 'left', [[0.0, 0.001]])
    assert 'expected an artifact of contract avoiding_cartesian' in arm.ask('reload').message
    shutil.rmtree(folder / 'left')
    assert 'expected an artifact at' in arm.ask('reload').message
    shutil.move(folder / 'kept', folder / 'left')
    arm.moves(0.003)
    assert_smooth(arm.commands, RATE, LIMITS)


@policy
def test_another_artifact_takes_over_without_a_jump(graph, node, arm, folder, rival):
    save_student(folder / 'right', [[0.0, -0.001]], change={'prediction_horizon': 4})
    client = rival.create_client(SetParameters, 'policy_node/set_parameters')
    set_artifact(graph, arm, client, folder / 'right')
    graph.until(lambda: arm.live() and f'{folder / "right"}' in node.text and 'takes over from' in node.text)
    arm.moves(0.01)
    ahead = tool(arm.commands[-1])[1]
    arm.moves(0.003)
    assert tool(arm.commands[-1])[1] < ahead
    set_artifact(graph, arm, client, folder / 'left')
    arm.moves(0.01)
    assert_smooth(arm.commands, RATE, LIMITS)


@policy
def test_rules_may_be_set_while_the_arm_moves_and_nonsense_is_refused(graph, node, arm, folder, rival):
    client = rival.create_client(SetParameters, 'policy_node/set_parameters')
    graph.until(client.service_is_ready)
    for text, accepted in (
        ('rules: [{prefer: {0: 2.0}}]', True),
        ('rules: [{forbid: [7]}]', False),
        ('rules: [{forbids: [7]}]', False),
    ):
        (folder / 'rules.yaml').write_text(text)
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=str(folder / 'rules.yaml'))
        future = client.call_async(SetParameters.Request(parameters=[Parameter(name='rules', value=value)]))
        graph.until(lambda: arm.live() and future.done())
        (result,) = future.result().results
        assert result.successful == accepted
        assert accepted or 'forbids' in result.reason or 'a rule on 7' in result.reason
    arm.moves(0.003)


@policy
def test_a_hundred_activations_leak_nothing(node, body):
    def used() -> tuple[int, int, int]:
        """Return threads, files and memory [kB] of the node."""
        status = Path(f'/proc/{node.pid}/status').read_text()
        fields = dict(line.split(':', 1) for line in status.splitlines())
        files = len(list(Path(f'/proc/{node.pid}/fd').iterdir()))
        return int(fields['Threads']), files, int(fields['VmRSS'].split()[0])

    kept = []
    for count in range(100):
        body.live()
        body.activate()
        assert body.change(Transition.TRANSITION_DEACTIVATE)
        if count in (29, 99):
            kept.append(used())
    # Whatever one activation leaves behind, seventy leave seventy times.
    (threads, files, memory), after = kept
    assert after[0] < threads + 5 and after[1] < files + 5
    assert after[2] < memory + 4000


def test_a_killed_node_leaves_the_arm_with_its_last_command_which_is_as_near_as_any(graph, node, body):
    body.commands.clear()
    body.activate()
    body.moves(0.003)
    node.send(signal.SIGKILL)
    node.wait()
    graph.until(lambda: body.live() and body.silence() > 1.0)
    assert_smooth(body.commands, RATE, LIMITS)
