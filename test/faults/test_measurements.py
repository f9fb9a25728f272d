"""Twelve kinds of faulty joint states at 250 Hz, over real DDS: what the arm receives, and what diagnostics say."""

from __future__ import annotations

from time import time_ns

import numpy as np
import pytest
from arms import JOINTS, Arm, assert_smooth
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from movers import start_mover
from ros_fixtures import open_graph

from benchmarks.measurement_faults import FAULTS, braking_distance
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes import qos
from vdd_ros.robot.kinematics import Kinematics

pytestmark = pytest.mark.realtime

RATE = 250
BEYOND = 5e-3


@pytest.fixture(scope='module')
def graph(tmp_path_factory, mover):
    """One graph for all faults of a mover."""
    with open_graph(tmp_path_factory.mktemp('faults')) as graph:
        yield graph


@pytest.fixture(scope='module')
def node(graph, tmp_path_factory, mover):
    """One node for all faults; it leads the tool on at 30 mm/s."""
    return start_mover(graph, mover, tmp_path_factory.mktemp('moved'), control_rate=RATE)


@pytest.fixture(scope='module')
def body(graph, node, mover):
    """One arm for all faults."""
    arm = Arm(graph, mover)
    arm.statuses = []
    on_status = lambda message: arm.statuses.append(message.status[0].message)  # noqa: E731
    graph.node('watcher').create_subscription(DiagnosticArray, '/diagnostics', on_status, qos.DIAGNOSTICS)
    return arm


@pytest.fixture
def arm(body):
    """The arm in motion; afterwards it is at rest."""
    body.commands.clear()
    body.statuses.clear()
    body.activate()
    body.moves(0.001)
    yield body
    body.live()
    assert body.change(Transition.TRANSITION_DEACTIVATE)
    assert_smooth(body.commands, RATE)


def stopping(commands: list[np.ndarray]) -> float:
    """Return how far the quickest stop leads any joint from the speed of the newest commands [rad]."""
    contract = load_contract('avoiding_cartesian')
    limits = Deployment().limits_of(contract, Kinematics.from_contract(contract), lockstep=False)
    return braking_distance(commands[-40:], limits, 1 / RATE)


@pytest.mark.parametrize('name', FAULTS)
def test_a_faulty_measurement_stops_the_arm_within_its_braking_distance_and_with_its_reason(graph, arm, name):
    distance, begin, count = stopping(arm.commands), len(arm.commands), 0

    def faulty() -> bool:
        nonlocal count
        for names, position in FAULTS[name](JOINTS, arm.commands[-1], count):
            arm.say(time_ns(), position, names, clock=False)
        count += 1
        return True

    faulty()
    faulty()
    seen = len(arm.commands)
    graph.until(lambda: faulty() and len(arm.commands) > seen + 30 and arm.rests(30))
    reasons = ('no arm moves so fast', 'is measured at', 'found no joint7', 'several times')
    graph.until(lambda: faulty() and any(reason in text for text in arm.statuses for reason in reasons))
    moved = np.abs(np.array(arm.commands[begin:]) - arm.commands[begin - 1]).max()
    assert moved < distance + BEYOND
    assert any(text.startswith(('stopped: ', 'holding: ')) for text in arm.statuses)


def test_an_arm_that_does_not_follow_is_stopped_and_does_not_leap_when_it_is_released(graph, arm):
    """As after a protective stop on its pendant: it is measured, and stands still."""
    distance, speed = stopping(arm.commands), np.abs(np.diff(arm.commands[-20:], axis=0)).max() * RATE
    stuck, begin = arm.commands[-1].copy(), len(arm.commands)

    def stands() -> bool:
        return arm.live(position=stuck)

    graph.until(lambda: stands() and any('does not follow: it was commanded' in text for text in arm.statuses))
    graph.until(lambda: stands() and arm.rests() and np.abs(arm.commands[-1] - stuck).max() < 2e-3)
    # A command counts once the arm had a fifth of a second to follow it.
    assert np.abs(np.array(arm.commands[begin:]) - stuck).max() < 0.03 + 0.25 * speed + distance + BEYOND
    arm.keeps_resting()
    arm.resume()
    arm.moves(0.003)
