"""What the control loop does with steps of the tool that the arm cannot make: it holds, with the reason."""

from __future__ import annotations

import numpy as np
import pytest
from loops import MILLISECOND, AnsweringPolicy, assert_limits_hold

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.control_loop import Command, ControlLoop, Hold
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.policy.routing import Routing
from vdd_ros.robot.kinematics import Kinematics

_HOME = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])


def _run(answer, milliseconds: int, seconds: float, start: np.ndarray = _HOME) -> tuple[list, Limits, Kinematics]:
    values = load_contract('avoiding_cartesian').model_dump(mode='json')
    contract = Contract.model_validate({**values, 'prediction_horizon': 8, 'action_horizon': 4})
    kinematics = Kinematics.from_contract(contract)
    rates = kinematics.velocity_limits, 0.5, kinematics.acceleration_limits, np.full(7, 5000.0)
    limits = Limits(kinematics.lower, kinematics.upper, *rates)
    loop = ControlLoop(
        contract,
        AnsweringPolicy(lambda call, seen: np.repeat(answer(call, seen), 8, axis=0)),
        kinematics,
        limits=limits,
        freshness=Freshness(100 * MILLISECOND),
        routing=Routing(),
        generator=np.random.default_rng(0),
        control_period=milliseconds * MILLISECOND,
        execution=Execution(action_noise_scale=0.0),
    )
    loop.start(0, start)
    outcomes = []
    for now in range(0, int(1000 * seconds), milliseconds):
        loop.observe(now * MILLISECOND, loop.commanded)
        outcomes.append(loop.advance(now * MILLISECOND))
    return outcomes, limits, kinematics


@pytest.mark.parametrize('milliseconds', [5, 35])
def test_an_arm_that_is_led_out_of_reach_comes_to_rest_and_reports_the_distance(milliseconds):
    outcomes, limits, kinematics = _run(lambda call, seen: [[0.003, 0.0]], milliseconds, 9)
    end = outcomes[-1]
    assert isinstance(end, Hold) and not end.moving
    assert 'plan refused' in end.reason and 'mm' in end.reason
    commands = np.array([_HOME, *(outcome.position for outcome in outcomes)])
    tool = kinematics.tool_position(commands)
    assert tool[-1, 0] > tool[0, 0] + 0.1  # as far as it goes
    if milliseconds < 35:
        assert np.abs(tool[:, 1:] - tool[0, 1:]).max() < 1e-3  # and nowhere else
        assert_limits_hold(commands, limits, milliseconds / 1000)


def test_it_resumes_automatically_when_a_later_plan_is_within_reach():
    outcomes, _, _ = _run(lambda call, seen: [[2.0, 0.0] if 20 <= call < 60 else [0.0, 1e-3]], 5, 6)
    kinds = [type(outcome) for outcome in outcomes]
    first = kinds.index(Hold, 20)
    assert kinds[-1] is Command and Command in kinds[first:]


def test_a_joint_that_would_have_to_be_too_fast_is_named_while_the_arm_continues():
    outcomes, _, _ = _run(lambda call, seen: [[0.0, 0.08 if call == 5 else 0.0]], 35, 1)
    reported = [outcome.reason for outcome in outcomes if 'exceed the joint speed' in outcome.reason]
    assert reported and all('joint1' in reason for reason in reported)
    assert all(isinstance(outcome, Command) for outcome in outcomes)
