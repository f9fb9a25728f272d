"""The contract on a moving arm: what an action asks for is what decoding calls that action."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.contract import Contract, load_contract
from vdd_ros.control.embodiment import Embodiment
from vdd_ros.data.decode import action_values, change_factors, observation_values
from vdd_ros.kinematics import POSITION_TOLERANCE, Kinematics

_START = np.array([-0.7183143, -1.40718571, 1.6708744, -1.83448502, -1.57079633, -0.7183143, 0.04])


def _contract(modes: tuple[str, str], arm_in_tool_space: bool) -> Contract:
    values = load_contract('placing_cartesian').model_dump(mode='json')
    tool = {'name': 'arm', 'source': 'commanded', 'space': 'tool', 'axes': ['x', 'y', 'z'], 'mode': modes[0]}
    joints = {'name': 'arm', 'source': 'commanded', 'space': 'joint', 'joints': values['robot']['joints'][:6]}
    gripper = {'name': 'gripper', 'source': 'commanded', 'space': 'joint', 'joints': ['gripper'], 'mode': modes[1]}
    arm = tool if arm_in_tool_space else {**joints, 'mode': modes[0]}
    return Contract.model_validate({**values, 'action': arm, 'further_actions': [gripper]})


@pytest.mark.parametrize('arm_in_tool_space', [True, False])
@pytest.mark.parametrize('modes', [('delta', 'absolute'), ('absolute', 'delta'), ('velocity', 'velocity')])
def test_target_of_an_action_is_the_inverse_of_decoding_it(modes, arm_in_tool_space):
    contract = _contract(modes, arm_in_tool_space)
    kinematics = Kinematics.from_contract(contract)
    embodiment = Embodiment(contract, kinematics)
    embodiment.anchor(_START)
    after = np.append(_START[:6] + [0.02, -0.01, 0.01, 0.0, 0.0, 0.02], 0.031)
    if arm_in_tool_space:
        point = kinematics.tool_position(after)
        after[:6] = kinematics.solve(point, kinematics.tool_orientation(_START), _START)[:6]
    action = action_values(contract, _START, after, kinematics)
    seconds = contract.period / 1e9 if modes[0] == 'velocity' else 1.0
    again = action_values(contract, _START, embodiment.target(action), kinematics)
    np.testing.assert_allclose(again, action, atol=POSITION_TOLERANCE / seconds)
    np.testing.assert_allclose(embodiment.target(action)[6], 0.031, atol=1e-12)


def test_factors_turn_actions_into_changes_of_the_command():
    np.testing.assert_array_equal(change_factors(_contract(('velocity', 'absolute'), True)), [0.05] * 3 + [np.nan])
    np.testing.assert_array_equal(change_factors(_contract(('delta', 'delta'), True)), [1.0] * 4)


def test_window_shows_what_decoding_says_of_the_ticks_that_the_contract_names():
    values = load_contract('placing_cartesian').model_dump(mode='json')
    joints = values['robot']['joints']
    observation = [
        {'name': 'wrist', 'source': 'measured', 'space': 'joint', 'joints': [joints[5], joints[3]]},
        {'name': 'tool', 'source': 'commanded', 'space': 'tool', 'axes': ['z', 'x']},
    ]
    horizon = {'observation_horizon': 3, 'observation_stride': 2}
    contract = Contract.model_validate({**values, 'observation': observation, **horizon})
    kinematics = Kinematics.from_contract(contract)
    embodiment, rows = Embodiment(contract, kinematics), []
    for start in (_START, _START + 0.01):  # anchored anew, it knows nothing of what was before
        embodiment.anchor(start)
        rows.clear()
        for tick in range(7):
            measured, commanded = start + 0.01 * tick, start + 0.01 * tick + 0.002
            embodiment.sent(commanded)
            window = embodiment.observe(measured)
            tool = kinematics.tool_position(commanded)
            rows.append([measured[5], measured[3], tool[2], tool[0]])
            expected = [rows[max(tick - back, 0)] for back in (4, 2, 0)]
            np.testing.assert_array_equal(window, expected)
            np.testing.assert_array_equal(window[-1], observation_values(contract, measured, commanded, kinematics))
            window += 1.0  # the caller's own


def test_waypoints_follow_one_another_and_leave_what_they_start_from():
    contract = _contract(('delta', 'absolute'), True)
    embodiment = Embodiment(contract, Kinematics.from_contract(contract))
    embodiment.anchor(_START)
    start, actions = _START.copy(), np.array([[0.01, 0.0, 0.0, 0.03], [0.0, 0.01, 0.0, 0.02]])
    waypoints = embodiment.waypoints(actions, start)
    np.testing.assert_array_equal(start, _START)
    np.testing.assert_array_equal(waypoints[0], embodiment.target(actions[0]))
    embodiment.sent(waypoints[0])
    np.testing.assert_array_equal(waypoints[1], embodiment.target(actions[1]))
    actions[0, 0] = np.nan
    assert np.isnan(embodiment.waypoints(actions, start)).all()
