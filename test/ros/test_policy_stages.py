"""The policy node in its stages, and what a person sees of it, over real DDS."""

from __future__ import annotations

import shutil
from time import time_ns

import numpy as np
from arms import ANSWERED, HOME, JOINTS, Arm, limits_of, tool
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from students import save_student
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from vdd_ros.nodes import messages, qos

PERIOD = 35_000_000
RATE = 100
FULL_SPEED = 0.001 / 0.035


def listen(node, kind: type, topic: str, profile: object = qos.COMMANDS) -> list:
    """Return a list that fills with what is said on a topic."""
    received = []
    node.create_subscription(kind, topic, received.append, profile)
    return received


def test_in_the_shadow_it_publishes_what_it_would_do_follows_the_other_and_has_no_publisher_of_commands(
    graph, tmp_path
):
    artifact = save_student(tmp_path / 'student', [[0.0, 0.01]])
    node = graph.start(
        'policy_node', artifact=artifact, operating_mode='shadow', controller_joints=f'[{", ".join(reversed(JOINTS))}]'
    )
    arm = Arm(graph)
    other = graph.node('other')
    others = other.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
    reported = listen(other, JointState, 'policy_node/shadow')
    status = listen(other, DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
    arm.activate(PERIOD)
    graph.until(lambda: others.get_subscription_count() == 2)
    assert other.count_publishers('/arm_controller/commands') == 1
    for tick in range(1, 6):
        graph.until(lambda: len(reported) == tick)
        # The other goes to the right, where the policy would go to the left.
        aside = HOME.copy()
        aside[0] -= 0.02 * tick
        arm.say_to(others, aside[::-1])
        graph.until(lambda: len(arm.commands) == tick)
        seen = {item.key: item.value for array in status for item in array.status[0].values}
        arm.say(PERIOD + tick * PERIOD, aside)
    graph.until(lambda: len(reported) == 6)
    for tick, message in enumerate(reported[1:], start=1):
        assert list(message.name) == JOINTS and message.header.frame_id == '0'
        assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == PERIOD + tick * PERIOD
        aside = HOME.copy()
        aside[0] -= 0.02 * tick
        np.testing.assert_allclose(tool(np.array(message.position)) - tool(aside), [0.0, 0.01, 0.0], atol=1e-4)

    def differs() -> bool:
        nonlocal seen
        seen = {item.key: item.value for array in status for item in array.status[0].values}
        return 'difference_p50_rad' in seen

    graph.until(differs)
    assert abs(float(seen['difference_p50_rad'].split()[0])) > 0.02
    assert seen['operating_mode'] == 'shadow'
    assert len(arm.commands) == 5
    assert node.stop() == 0


def test_slowly_to_a_trajectory_controller_while_a_person_watches(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [[0.0, 0.001], [0.001, 0.001]], change={'prediction_horizon': 4})
    order = list(reversed(JOINTS))
    node = graph.start(
        'policy_node',
        use_sim_time=False,
        artifact=artifact,
        **ANSWERED,
        operating_mode='slow',
        interface='trajectory',
        controller='arm',
        controller_joints=f'[{", ".join(order)}]',
        control_rate=RATE,
        markers_rate=20.0,
        routing='likeliest',
    )
    arm = Arm(graph)
    person = graph.node('person')
    trajectories = listen(person, JointTrajectory, 'arm/joint_trajectory')
    paths = listen(person, MarkerArray, 'policy_node/expert_paths', qos.DIAGNOSTICS)
    status = listen(person, DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
    arm.activate()

    def follows() -> bool:  # the controller leads the arm along the newest trajectory
        newest = messages.from_trajectory(trajectories[-1], JOINTS, time_ns()) if trajectories else HOME
        return arm.live(position=newest)

    graph.until(lambda: follows() and len(trajectories) > 2.5 * RATE)
    limits = limits_of(operating_mode='slow')
    for message in trajectories:
        assert message.joint_names == order and len(message.points) > 7
        times = [messages.from_time(point.time_from_start) for point in message.points]
        assert times[0] == 0 and (np.diff(times) == 10**9 // RATE).all()
        speeds = np.array([point.velocities for point in message.points])[:, ::-1]
        assert (np.abs(speeds) <= limits.velocity).all() and not speeds[-1].any()
        assert (np.abs(np.diff(speeds, axis=0)) * RATE <= limits.acceleration + 1e-6).all()
    # A point of a time is the same in every trajectory that has begun by then.
    stamps = [messages.from_time(message.header.stamp) for message in trajectories]
    assert (np.diff(stamps) % (10**9 // RATE) == 0).all()
    path = tool(np.array([message.points[0].positions for message in trajectories])[:, ::-1])
    travelled = path[-1] - path[np.searchsorted(stamps, stamps[-1] - 10**9)]  # in a second
    assert 0.2 * FULL_SPEED < travelled[1] < 0.3 * FULL_SPEED
    assert abs(travelled[0]) < 1e-4

    def acting() -> list[Marker] | None:  # the first ones were drawn before any expert acted
        follows()
        return next((array.markers for array in paths if any('acts' in marker.text for marker in array.markers)), None)

    graph.until(acting)
    markers = acting()
    assert len(markers) == 5
    lines = {
        marker.id: marker for marker in markers if marker.type == Marker.LINE_STRIP and marker.ns == 'expert_paths'
    }
    labels = {marker.id: marker.text for marker in markers if marker.type == Marker.TEXT_VIEW_FACING}
    assert labels == {0: '0: 50% acts', 1: '1: 50%'}
    for expert, sideways in ((0, 0.0), (1, 0.04)):
        points = np.array([[point.x, point.y, point.z] for point in lines[expert].points])
        np.testing.assert_allclose(points[-1] - points[0], [sideways, 0.04, 0.0], atol=2e-4)

    graph.until(lambda: follows() and len(status) > 2)
    values = {item.key: item.value for item in status[-1].status[0].values}
    assert status[-1].status[0].message == 'commanding'
    assert values['operating_mode'] == 'slow' and values['speed'] == '0.25' and values['expert'] == '0'
    for name in ('rate', 'late_ticks', 'clamped', 'age_of_joint_states_s', 'missed_plans'):
        assert float(values[name]) >= 0
    for part in ('decide', 'plan', 'lateness'):
        assert float(values[f'{part}_p50_us']) <= float(values[f'{part}_p95_us']) <= float(values[f'{part}_p99_us'])
    assert node.stop() == 0


def test_in_the_shadow_what_a_policy_gets_wrong_ends_without_a_person(graph, tmp_path):
    artifact = tmp_path / 'student'
    save_student(artifact, [[0.0, 0.001]], change={'prediction_horizon': 4}, nan_above=-9.0)
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, operating_mode='shadow', control_rate=100)
    arm = Arm(graph)
    arm.activate()
    reported = []
    watcher = graph.node('watcher')
    watcher.create_subscription(JointState, 'policy_node/shadow', reported.append, qos.COMMANDS)
    graph.until(lambda: arm.live() and 'holding: the policy output is not finite' in node.text)
    shutil.rmtree(artifact)
    save_student(artifact, [[0.0, 0.001]], change={'prediction_horizon': 4})
    assert arm.ask('reload').success
    graph.until(lambda: arm.live() and reported and reported[-1].header.frame_id == '0')
    assert arm.ask('stop').success
    graph.until(lambda: arm.live() and 'holding: stop was asked for' in node.text)
    seen = len(reported)
    graph.until(lambda: arm.live() and len(reported) > seen + 60)
    assert reported[-1].header.frame_id == ''
    assert node.stop() == 0
