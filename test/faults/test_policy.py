"""Faults of the policy and of the clock, over real DDS: what the arm receives."""

from __future__ import annotations

import signal
from time import time_ns

import numpy as np
import pytest
from arms import ANSWERED, HOME, JOINTS, Arm, assert_smooth, tool
from lifecycle_msgs.msg import Transition
from movers import start_mover
from students import save_student

from vdd_ros.nodes.arm import preflight

pytestmark = pytest.mark.realtime

RATE = 250
PERIOD = 35_000_000


def test_a_policy_that_overruns_its_period_leaves_the_arm_with_a_smooth_motion_at_full_rate(graph, tmp_path):
    artifact = save_student(
        tmp_path / 'student', [[0.0, 0.001]], change={'prediction_horizon': 32, 'action_horizon': 2}, products=2
    )
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, **ANSWERED, control_rate=RATE)
    arm = Arm(graph)
    arm.activate()
    begin, started = len(arm.commands), time_ns()
    arm.moves(0.005)
    # Planning takes several periods; were the commands to wait for it, most of them would be missing.
    assert len(arm.commands) - begin > 0.5 * RATE * (time_ns() - started) / 1e9
    assert arm.change(Transition.TRANSITION_DEACTIVATE)
    assert_smooth(arm.commands, RATE)
    assert node.stop() == 0


def test_a_policy_that_answers_nan_stops_the_arm_under_control_until_a_person_resumes(graph, tmp_path):
    edge = tool(HOME)[1] + 0.01
    artifact = save_student(
        tmp_path / 'student', [[0.0, 0.001]], change={'prediction_horizon': 4}, nan_above=float(edge)
    )
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, **ANSWERED, control_rate=RATE)
    arm = Arm(graph)
    arm.activate()
    graph.until(lambda: arm.live() and 'the policy output is not finite' in node.text)
    graph.until(lambda: arm.live() and arm.rests())
    assert 0.005 < tool(arm.commands[-1])[1] - tool(HOME)[1] < 0.03
    arm.keeps_resting()
    arm.resume()
    graph.until(lambda: arm.live() and node.text.count('holding: the policy output is not finite') > 1)
    assert_smooth(arm.commands, RATE)
    assert node.stop() == 0


def test_rules_that_leave_no_expert_stop_the_arm_and_give_the_reason(graph, tmp_path):
    artifact = save_student(tmp_path / 'student', [[0.0, 0.001]], change={'prediction_horizon': 4})
    edge = tool(HOME)[1] + 0.005
    rules = tmp_path / 'rules.yaml'
    rules.write_text(f'rules: [{{when: [{{feature: commanded, entry: y, above: {edge}}}], forbid: [0]}}]')
    node = graph.start('policy_node', use_sim_time=False, artifact=artifact, **ANSWERED, control_rate=RATE, rules=rules)
    arm = Arm(graph)
    arm.activate()
    graph.until(lambda: arm.live() and 'the rules leave no expert: rule 1' in node.text)
    graph.until(lambda: arm.live() and arm.rests())
    assert_smooth(arm.commands, RATE)
    assert node.stop(signal.SIGTERM) == 0


def test_without_a_clock_nothing_begins_and_with_one_that_jumps_the_arm_does_not(graph, tmp_path, mover):
    node = start_mover(graph, mover, tmp_path, speed=0.01 / 0.035, simulated=True)
    arm = Arm(graph, mover)
    assert arm.change(Transition.TRANSITION_CONFIGURE)
    arm.tick(0)  # somebody is there, and the clock stands still

    def refused() -> bool:
        arm.say(PERIOD, clock=False)
        arm.change(Transition.TRANSITION_ACTIVATE)
        return 'expected a clock on /clock, since use_sim_time is true; found /arm, and it stands at 0 s' in node.text

    graph.until(refused)
    assert not arm.commands

    def run(begin: int) -> None:
        for stamp in range(begin + PERIOD, begin + 8 * PERIOD, PERIOD):
            seen = len(arm.commands)
            arm.say(stamp)
            graph.until(lambda: len(arm.commands) > seen)

    arm.configured = True
    arm.activate(1000 * PERIOD)
    for begin in (1000 * PERIOD, 900 * PERIOD, 2000 * PERIOD):
        before = len(arm.commands)
        run(begin)
        assert tool(arm.commands[-1])[1] - tool(arm.commands[before])[1] > 0.02
    steps = np.linalg.norm(np.diff(tool(np.array([HOME, *arm.commands])), axis=0), axis=1)
    assert steps.max() < 0.0101
    assert node.stop() == 0


@pytest.mark.parametrize(
    ('control_rate', 'rate', 'level'),
    [(250.0, 240.0, 'fine'), (250.0, 100.0, 'warning'), (250.0, 40.0, 'failure'), (1000 / 35, 28.0, 'fine')],
)
def test_joint_states_of_a_simulation_must_come_as_often_as_its_commands(graph, control_rate, rate, level):
    bounds = np.full(7, np.pi)
    measured = np.full(7, fill_value=True)
    rates = (rate, 1000 / 35, control_rate)
    arm = preflight.Arm(JOINTS, HOME, 0.0, 0.25, *rates, -bounds, bounds, bounds, measured, simulated=True)
    report = preflight.look(graph.node('looker'), [], arm, {})
    (found,) = {finding.level for finding in report.findings if f'{rate:.1f} Hz' in finding.text} or {'fine'}
    assert found == level
