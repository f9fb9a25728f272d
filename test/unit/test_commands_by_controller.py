"""One policy, several controllers: what is learned of their commands, and what leaves for each."""

from __future__ import annotations

import numpy as np
import pytest
from loops import MILLISECOND, AnsweringPolicy
from ros_messages import SECOND, command, mark, state, write_bag

from vdd_ros.common.errors import InterfaceError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.control_output import Command, Stop
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import action_values, observation_values
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.policies import Recorded
from vdd_ros.validation.rollout import rollout

TICK = 50 * MILLISECOND
GRIP = {'name': 'grip', 'topic': 'gripper/commands', 'type': 'Float64MultiArray', 'joints': ['finger']}
OPENING = {'name': 'grip', 'topic': 'gripper/command', 'type': 'Float64', 'scale': 1 / 255}


def two_controllers(grip: dict = GRIP, *, mode: str = 'delta', observes: bool = True, **change: object) -> Contract:
    """Joints a and b at 20 Hz, and a gripper on a topic of its own."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    grip = {**grip, 'mode': mode}
    commanded = {'name': 'commanded', 'source': 'commanded', 'space': 'joint'}
    fixed = {'schema_version': 2, 'policy_rate': 20.0, 'observation_horizon': 1, 'prediction_horizon': 3}
    fixed |= {'action_horizon': 1, 'further_actions': [grip], 'observation': [commanded, *([grip] if observes else [])]}
    return Contract.model_validate({**values, **fixed, **change})


def test_the_joints_of_a_contract_are_those_of_the_robot_and_then_those_of_further_controllers():
    contract = two_controllers()
    assert contract.joints == ('a', 'b', 'finger') and contract.measured_joints.all()
    arm, gripper = contract.controllers
    assert (arm.topic, arm.places) == ('arm_controller/commands', slice(0, 2))
    assert (gripper.name, gripper.topic, gripper.places) == ('grip', 'gripper/commands', slice(2, 3))
    # What the policy is commanded itself it need not receive.
    assert contract.topic_features == () and contract.observes(gripper)
    unnamed = two_controllers({**GRIP, 'joints': [], 'fields': ['data[0:2]']})
    assert unnamed.joints == ('a', 'b', 'grip_0', 'grip_1')
    assert unnamed.measured_joints.tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ('grip', 'fault'),
    [
        ({**GRIP, 'joints': ['b']}, 'b is commanded by another controller, too'),
        ({**GRIP, 'topic': 'arm_controller/commands'}, 'another controller is commanded on arm_controller/commands'),
        ({**GRIP, 'joints': ['finger', 'thumb'], 'fields': ['data[0]']}, '1 numbers in `fields` for 2 joints'),
        ({**GRIP, 'joints': ['finger', 'finger']}, 'a joint is named twice'),
    ],
)
def test_each_joint_and_each_topic_has_one_controller(grip, fault):
    with pytest.raises(ValueError, match=fault):
        two_controllers(grip)


@pytest.mark.parametrize(
    ('kind', 'commands'),
    [
        ({'type': 'PoseStamped'}, False),
        ({'type': 'Float64MultiArray', 'fields': ['data[1]']}, False),
        ({'type': 'Float64MultiArray', 'fields': ['data[1]', 'data[0]']}, True),
        ({'type': 'control_msgs/msg/GripperCommand', 'fields': ['position'], 'stamp': 'receive'}, True),
        ({'type': 'JointTrajectory', 'joints': ['finger']}, True),
        ({'type': 'JointState', 'joints': ['finger'], 'fields': ['effort']}, False),
    ],
)
def test_a_controller_takes_positions_each_number_once(kind, commands):
    contract = two_controllers({'name': 'grip', 'topic': 'grip', **kind}, observes=False)
    assert len(contract.controllers) == 1 + commands


def rows() -> list:
    """Two episodes in which the arm moves and the gripper closes from .04 to .01, commanded once in each."""
    found = []
    for start in (0, 4 * SECOND):
        found.append(('/episode', start, mark(start, 'start', index=str(start))))
        for number in range(200):
            stamp = start + number * 10 * MILLISECOND
            place = number / 100
            finger = 0.04 if number < 100 else 0.01
            found.append(('/joint_states', stamp, state(stamp, ['a', 'b'], [place, -place])))
            found.append(('/joint_states', stamp, state(stamp, ['finger'], [finger])))
            if number % 5 == 0:
                found.append(('/arm_controller/commands', stamp, command([place + 0.05, -place - 0.05])))
        found.append(('/gripper/commands', start + SECOND, command([0.01])))
        found.append(('/episode', start + 2 * SECOND, mark(start + 2 * SECOND, 'end', outcome='success')))
    return sorted(found, key=lambda row: row[1])


def test_before_its_first_command_in_an_episode_a_gripper_counts_as_commanded_to_be_where_it_is(tmp_path):
    contract, report = two_controllers(), ConversionReport()
    episodes = list(convert(write_bag(tmp_path / 'bag', rows()), contract, None, report))
    assert [len(each) for each in episodes] == [40, 40]
    for episode in episodes:
        # A command is the answer to the tick of its stamp: it is the action there, and seen from the next tick on.
        np.testing.assert_array_equal(episode.observation[:, 2], [0.04] * 21 + [0.01] * 19)
        np.testing.assert_allclose(episode.action[:, 2], [0.0] * 20 + [-0.03] + [0.0] * 19, atol=1e-15)


def test_what_a_gripper_is_commanded_at_a_tick_is_not_observed_by_then_whatever_it_is_read_as(tmp_path):
    """An observation under another name is read from the topic; it must not hold the answer either."""
    read = {**GRIP, 'name': 'read', 'joints': [], 'fields': ['data[0]'], 'scale': 2.0}
    base = two_controllers(mode='absolute')
    contract = base.model_copy(update={'observation': (*base.observation, type(base.observation[1])(**read))})
    assert [each.name for each in contract.topic_features] == ['read']
    first, second = convert(write_bag(tmp_path / 'bag', rows()), contract, None, ConversionReport())
    assert len(first) == 19  # before, no message had arrived
    np.testing.assert_array_equal(second.observation[:, 3], [0.02] * 40)
    np.testing.assert_array_equal(second.action[:, 2], [0.04] * 20 + [0.01] * 20)


def test_the_live_arm_observes_its_controllers_as_the_bag_shows_them(tmp_path):
    contract, lines = two_controllers(), rows()
    path = write_bag(tmp_path / 'bag', lines)
    live = LiveStreams(contract, lambda topic: (standard(), False), arm=True)
    raw = iter(_serialized(path))
    row = next(raw)
    for episode in convert(path, contract, None, ConversionReport()):
        for number, tick in enumerate(episode.stamps.tolist()):
            while row is not None and row[1] <= tick:
                live.take(*row)
                row = next(raw, None)
            if number == 0:
                live.begin(tick)
            found, stale = live.observation(tick, None)
            assert not stale and found.tobytes() == episode.observation[number].tobytes()


def _serialized(path):
    """Yield topic, time of reception and bytes of what a live arm receives, in order."""
    from vdd_ros.data.bag.bag import Bag

    found = []
    with Bag(path, ConversionReport()) as bag:
        for block in bag.blocks({'/joint_states', '/arm_controller/commands', '/gripper/commands'}):
            for topic, messages in block.items():
                found += [
                    (topic.lstrip('/'), int(messages.received[index]), messages.data(index))
                    for index in range(len(messages))
                ]
    return sorted(found, key=lambda item: item[1])


@pytest.mark.parametrize('mode', ['delta', 'absolute', 'velocity'])
def test_what_an_action_asks_of_a_gripper_is_the_inverse_of_decoding_it(mode):
    contract = two_controllers(mode=mode)
    arm = PolicyInterface(contract, None)
    before, after = np.array([0.1, 0.2, 0.04]), np.array([0.15, 0.1, 0.03])
    arm.anchor(before)
    action = action_values(contract, before, after, None)
    assert action[2] == pytest.approx({'delta': -0.01, 'absolute': 0.03, 'velocity': -0.2}[mode])
    np.testing.assert_allclose(arm.target(action), after, atol=1e-12)
    np.testing.assert_array_equal(arm.observe(before)[-1], observation_values(contract, before, before, None))


WIDE = np.array([3.0, 3.0, 300.0])
RATES = np.array([2.0, 2.0, np.inf])
UNMEASURED = Limits(-WIDE, WIDE, RATES, np.array([0.5, 0.5, np.inf]), RATES * 10, RATES * 1000)


def loop_of(contract: Contract, answer) -> ControlLoop:
    return ControlLoop(
        contract,
        AnsweringPolicy(answer),
        None,
        limits=UNMEASURED,
        freshness=Freshness(100 * MILLISECOND),
        generator=np.random.default_rng(0),
        control_period=MILLISECOND,
    )


def test_a_gripper_that_nobody_measures_begins_where_the_first_plan_wants_it():
    contract = two_controllers(OPENING, mode='absolute', observes=False)
    loop = loop_of(contract, lambda call, seen: [[[0.0, 0.0, 0.7]]])
    begin = loop.placed(0, np.array([0.1, 0.2, np.nan]))
    np.testing.assert_array_equal(begin, [0.1, 0.2, 0.7])
    loop.start(0, begin)
    for tick in range(300):
        loop.observe(tick * MILLISECOND, np.array([0.1, 0.2, np.nan]))
        outcome = loop.advance(tick * MILLISECOND)
    assert isinstance(outcome, Command) and not outcome.reason
    np.testing.assert_allclose(outcome.position, [0.1, 0.2, 0.7], atol=1e-9)
    # Known from another commander, it goes from there; and however far that is, the start is refused for the arm alone.
    loop.start(10**9, np.array([0.1, 0.2, 100.0]))
    outcome = loop.advance(10**9)
    assert not isinstance(outcome, Stop)


@pytest.mark.parametrize(('mode', 'observes'), [('delta', False), ('absolute', True)])
def test_a_policy_that_goes_on_from_where_a_gripper_is_must_know_that(mode, observes):
    loop = loop_of(two_controllers(OPENING, mode=mode, observes=observes), lambda call, seen: [[[0.0, 0.0, 0.7]]])
    with pytest.raises(InterfaceError, match='no command on gripper/command yet'):
        loop.placed(0, np.array([0.1, 0.2, np.nan]))


def test_a_first_plan_that_is_not_finite_starts_nothing():
    contract = two_controllers(OPENING, mode='absolute', observes=False)
    loop = loop_of(contract, lambda call, seen: [[[0.0, np.nan, 0.7]]])
    with pytest.raises(InterfaceError, match='not finite'):
        loop.placed(0, np.array([0.1, 0.2, np.nan]))


def placing_contract() -> Contract:
    """Placing, the arm and the gripper under controllers of their own."""
    values = load_contract('placing_cartesian').model_dump(mode='json')
    *values['robot']['joints'], gripper = values['robot']['joints']
    feature = {'name': 'gripper', 'topic': 'gripper/commands', 'type': 'Float64MultiArray', 'joints': [gripper]}
    values['further_actions'] = [feature]
    values['observation'][1] = feature
    return Contract.model_validate(values)


def test_each_controller_has_its_own_limits(tmp_path):
    contract = placing_contract()
    kinematics = Kinematics.from_contract(contract)
    limits = Deployment().limits_of(contract, kinematics, lockstep=False)
    assert (limits.velocity[-1], limits.acceleration[-1]) == (0.075, 3.0)  # of the model
    file = tmp_path / 'limits.yaml'
    file.write_text('joint_limits: {gripper: {max_velocity: 0.02, max_position: 0.03}}')
    deployment = Deployment(joint_limits=str(file), grippers=('gripper',))
    strict = deployment.limits_of(contract, kinematics, lockstep=False)
    assert (strict.velocity[-1], strict.upper[-1]) == (0.02, 0.03)
    np.testing.assert_array_equal(strict.velocity[:6], limits.velocity[:6])
    # A gripper that holds something stands still: neither is its command kept near to it, nor is that a fault.
    np.testing.assert_array_equal(strict.lag, [0.5] * 6 + [np.inf])
    assert Deployment().fingerprint == Deployment(grippers=()).fingerprint != deployment.fingerprint


def test_placing_with_two_controllers_is_demonstrated_and_done_as_with_one():
    one, two, task = load_contract('placing_cartesian'), placing_contract(), load_task('placing')
    shown = [demonstrate(task, contract, 1, seed=3)[0] for contract in (one, two)]
    np.testing.assert_allclose(shown[0].observation, shown[1].observation, atol=1e-12)
    np.testing.assert_allclose(shown[0].action, shown[1].action, atol=1e-12)
    again = Recorded((shown[1].observation[0],), (shown[1].action,))
    assert rollout(task, two, again, 1, seed=0).success.all()
