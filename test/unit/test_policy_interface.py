"""The contract on a moving arm: what an action asks for is what decoding calls that action."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.dataset import episodes_of
from vdd_ros.data.decode.decode import action_values, change_factors, observation_values
from vdd_ros.data.decode.rotation import from_six_dimensional, six_dimensional
from vdd_ros.data.recording import EpisodeMark, Recording, Stream
from vdd_ros.robot.kinematics import POSITION_TOLERANCE, Kinematics

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
    policy_interface = PolicyInterface(contract, kinematics)
    policy_interface.anchor(_START)
    after = np.append(_START[:6] + [0.02, -0.01, 0.01, 0.0, 0.0, 0.02], 0.031)
    if arm_in_tool_space:
        point = kinematics.tool_position(after)
        after[:6] = kinematics.solve(point, kinematics.tool_orientation(_START), _START)[:6]
    action = action_values(contract, _START, after, kinematics)
    seconds = contract.period / 1e9 if modes[0] == 'velocity' else 1.0
    again = action_values(contract, _START, policy_interface.target(action), kinematics)
    np.testing.assert_allclose(again, action, atol=POSITION_TOLERANCE / seconds)
    np.testing.assert_allclose(policy_interface.target(action)[6], 0.031, atol=1e-12)


def test_factors_turn_actions_into_changes_of_the_command():
    np.testing.assert_array_equal(change_factors(_contract(('velocity', 'absolute'), True)), [0.05] * 3 + [np.nan])
    np.testing.assert_array_equal(change_factors(_contract(('delta', 'delta'), True)), [1.0] * 4)


def test_window_shows_the_decoded_values_of_the_ticks_that_the_contract_names():
    values = load_contract('placing_cartesian').model_dump(mode='json')
    joints = values['robot']['joints']
    observation = [
        {'name': 'wrist', 'source': 'measured', 'space': 'joint', 'joints': [joints[5], joints[3]]},
        {'name': 'tool', 'source': 'commanded', 'space': 'tool', 'axes': ['z', 'x']},
    ]
    horizon = {'observation_horizon': 3, 'observation_stride': 2}
    contract = Contract.model_validate({**values, 'observation': observation, **horizon})
    kinematics = Kinematics.from_contract(contract)
    policy_interface, rows = PolicyInterface(contract, kinematics), []
    for start in (_START, _START + 0.01):  # anchored anew, it knows nothing of what was before
        policy_interface.anchor(start)
        rows.clear()
        for tick in range(7):
            measured, commanded = start + 0.01 * tick, start + 0.01 * tick + 0.002
            policy_interface.sent(commanded)
            window = policy_interface.observe(measured)
            tool = kinematics.tool_position(commanded)
            rows.append([measured[5], measured[3], tool[2], tool[0]])
            expected = [rows[max(tick - back, 0)] for back in (4, 2, 0)]
            np.testing.assert_array_equal(window, expected)
            np.testing.assert_array_equal(window[-1], observation_values(contract, measured, commanded, kinematics))
            window += 1.0  # the caller's own


def test_waypoints_follow_one_another_and_leave_what_they_start_from():
    contract = _contract(('delta', 'absolute'), True)
    policy_interface = PolicyInterface(contract, Kinematics.from_contract(contract))
    policy_interface.anchor(_START)
    start, actions = _START.copy(), np.array([[0.01, 0.0, 0.0, 0.03], [0.0, 0.01, 0.0, 0.02]])
    waypoints = policy_interface.waypoints(actions, start).joints
    np.testing.assert_array_equal(start, _START)
    np.testing.assert_array_equal(waypoints[0], policy_interface.target(actions[0]))
    policy_interface.sent(waypoints[0])
    np.testing.assert_array_equal(waypoints[1], policy_interface.target(actions[1]))
    actions[0, 0] = np.nan
    assert np.isnan(policy_interface.waypoints(actions, start).joints).all()


def _pose_contract(mode: str, **robot) -> Contract:
    """Placing with the tool's whole pose as observation and action, and the gripper beside it."""
    values = load_contract('placing_cartesian').model_dump(mode='json')
    pose = {'space': 'tool', 'axes': ['x', 'y', 'z'], 'rotation': '6d', 'source': 'commanded'}
    changes = {
        'robot': {**values['robot'], **robot},
        'observation': [{'name': 'hand', **pose}],
        'action': {'name': 'hand', **pose, 'mode': mode},
    }
    return Contract.model_validate({**values, **changes})


@pytest.mark.parametrize('mode', ['delta', 'absolute', 'velocity'])
def test_a_bag_with_a_turning_tool_becomes_actions_that_turn_the_arm_alike(mode):
    """Recording to episode to action to inverse kinematics: the commands of the recording come out again."""
    contract = _pose_contract(mode)
    kinematics = Kinematics.from_contract(contract)
    stamps = np.arange(30, dtype=np.int64) * contract.period
    phase = np.linspace(0, 1, 30)[:, None]
    joints = _START + phase**2 * [0.2, -0.1, 0.15, 0.2, -0.3, 0.4, 0.0]
    marks = (EpisodeMark(0, 'start', {}), EpisodeMark(int(stamps[-1]), 'end', {'outcome': 'success'}))
    recording = Recording(Stream(stamps, joints), Stream(stamps + 1, joints), marks)
    (episode,) = episodes_of(recording, contract, kinematics)
    assert episode.action.shape[1] == 10
    policy_interface = PolicyInterface(contract, kinematics)
    policy_interface.anchor(joints[0])
    for tick, action in enumerate(episode.action):
        np.testing.assert_allclose(
            policy_interface.observe(policy_interface.commanded)[-1], episode.observation[tick], atol=1e-3
        )
        policy_interface.sent(policy_interface.target(action))
        pose = (
            kinematics.tool_position(policy_interface.commanded),
            kinematics.tool_orientation(policy_interface.commanded),
        )
        np.testing.assert_allclose(pose[0], kinematics.tool_position(joints[tick]), atol=3e-4)
        np.testing.assert_allclose(abs(pose[1] @ kinematics.tool_orientation(joints[tick])), 1, atol=1e-6)


def test_columns_that_make_no_rotation_are_no_step():
    contract = _pose_contract('absolute')
    policy_interface = PolicyInterface(contract, Kinematics.from_contract(contract))
    policy_interface.anchor(_START)
    point = policy_interface.observe(_START)[-1][:3]
    for columns in ([0.0] * 6, [1, 0, 0, 2, 0, 0], [np.nan] * 6):
        assert np.isnan(policy_interface.target(np.array([*point, *columns, 0.03]))).all()


def test_a_rotation_is_restored_from_columns_that_were_pushed_off_it():
    generator = np.random.default_rng(0)
    quaternion = generator.normal(size=(200, 4))
    quaternion /= np.linalg.norm(quaternion, axis=1, keepdims=True) * np.sign(quaternion[:, 3:])
    quaternion = np.concatenate([quaternion, np.eye(4)])  # half a turn about each axis, and none
    for each, columns in zip(quaternion, six_dimensional(quaternion)):
        np.testing.assert_allclose(np.abs(from_six_dimensional(columns) @ each), 1, atol=1e-12)
        scaled = columns * np.repeat([0.3, 2.0], 3) + np.concatenate([np.zeros(3), 0.7 * columns[:3]])
        np.testing.assert_allclose(np.abs(from_six_dimensional(scaled) @ each), 1, atol=1e-12)


def test_steps_end_before_the_first_that_is_out_of_reach_and_give_the_reason():
    contract = _contract(('delta', 'absolute'), True)
    policy_interface = PolicyInterface(contract, Kinematics.from_contract(contract))
    policy_interface.anchor(_START)
    actions = np.tile([0.0, 0.0, 0.02, 0.03], (100, 1))
    steps = policy_interface.waypoints(actions, _START)
    tool = Kinematics.from_contract(contract).tool_position(np.array([_START, *steps.joints]))
    assert 10 < len(steps.joints) < 100 and np.all(np.diff(tool[:, 2]) > 0)
    np.testing.assert_allclose(tool[:, :2], np.tile(tool[0, :2], (len(tool), 1)), atol=1e-3)  # straight, to the end
    assert 'mm' in steps.fault
    policy_interface.sent(steps.joints[-1])
    assert np.isnan(policy_interface.target(actions[0])).all()
    assert not policy_interface.waypoints(-actions[:3], steps.joints[-1]).fault


def test_a_step_that_needs_too_fast_a_joint_is_shortened_and_reports_it():
    contract = _contract(('delta', 'absolute'), True)
    kinematics = Kinematics.from_contract(contract)
    policy_interface = PolicyInterface(contract, kinematics)
    policy_interface.anchor(_START)
    steps = policy_interface.waypoints(np.array([[0.0, 0.3, 0.0, 0.03]]), _START)
    allowed = kinematics.step_limits(contract.period / 1e9)
    assert np.all(np.abs(steps.joints[0] - _START)[:6] <= allowed[:6] + 1e-12)
    assert 'exceed the joint speed' in steps.slowed and not steps.fault
    moved = kinematics.tool_position(steps.joints[0]) - kinematics.tool_position(_START)
    assert moved[1] > 0.05 and np.abs(moved[[0, 2]]).max() < moved[1]


def test_an_absolute_pose_far_from_where_the_arm_began_is_shown_to_the_start_gate():
    contract = _contract(('absolute', 'absolute'), True)
    kinematics = Kinematics.from_contract(contract)
    policy_interface = PolicyInterface(contract, kinematics)
    policy_interface.anchor(_START)
    action = np.array([*kinematics.tool_position(_START) + [0.0, 0.3, 0.0], 0.03])
    first = policy_interface.target(action)
    np.testing.assert_allclose(kinematics.tool_position(first), action[:3], atol=1e-4)
    policy_interface.sent(_START + 1e-3)  # once it moves, it moves in steps
    assert np.abs(policy_interface.target(action) - _START).max() < np.abs(first - _START).max() / 2
