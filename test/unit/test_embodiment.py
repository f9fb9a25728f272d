"""The contract on a moving arm: what an action asks for is what decoding calls that action."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.contract import Contract, load_contract
from vdd_ros.control.embodiment import Embodiment
from vdd_ros.data.decode import action_values, change_factors
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
