"""`vdd contract init` drafts what `vdd contract check` accepts, and that one says what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from ros_messages import MILLISECOND, SECOND, command, header, make, mark, state, vector, write_bag

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.quality.check import Verdict, check
from vdd_ros.data.quality.draft import Model, draft
from vdd_ros.data.quality.survey import survey

NAMES = ['wrist', 'elbow', 'shoulder']


def arm(seconds: int = 4, commands: bool = True, scale: float = 1.0) -> list:
    """States at 100 Hz, and commands at 20 Hz in the order of a controller that differs from theirs."""
    rows = []
    for number in range(100 * seconds):
        stamp = SECOND + number * 10 * MILLISECOND
        place = scale * np.array([np.sin(number / 50), 2 + np.cos(number / 70), -1 + number / 400])
        rows.append(('/joint_states', stamp + 2 * MILLISECOND, state(stamp, NAMES, place)))
        if commands and number % 5 == 0:
            rows.append(('/arm/commands', stamp + MILLISECOND, command(place[::-1] + 0.02)))
    return rows


def drafted(tmp_path, rows: list, name: str = 'bag') -> tuple[Contract, str, Verdict]:
    """Draft a contract from messages, load it, and check the bag against it."""
    path = write_bag(tmp_path / name, sorted(rows, key=lambda row: row[1]))
    text = draft(survey(path, values=True))
    file = tmp_path / f'{name}.yaml'
    file.write_text(text)
    contract = load_contract(file)
    return contract, text, check(path, contract)


def test_joints_are_put_into_the_order_of_the_controller_by_what_they_do(tmp_path):
    rows = [*arm(), *(('/episode', at * SECOND, mark(at * SECOND, event)) for at, event in ((2, 'start'), (4, 'end')))]
    contract, text, verdict = drafted(tmp_path, rows)
    assert contract.robot.joints == ('shoulder', 'elbow', 'wrist') and 'most closely\n' in text
    assert (contract.policy_rate, contract.measured.rate, contract.episodes.by) == (20.0, 100.0, 'marks')
    assert contract.measured.align.latency == pytest.approx(0.002)
    assert (verdict.complaints, verdict.tally.training, verdict.tally.ticks, verdict.unused) == ((), 1, 40, ())


def test_where_no_commands_were_recorded_the_next_state_counts_and_pauses_separate_episodes(tmp_path):
    later = [(topic, stamp + 10 * SECOND, message) for topic, stamp, message in arm(commands=False)]
    for _, _, message in later:
        message.header.stamp.sec += 10
    contract, _, verdict = drafted(tmp_path, [*arm(commands=False), *later])
    assert contract.commanded.source == 'measured' and contract.episodes.by == 'gaps'
    assert [feature.name for feature in contract.observation] == ['measured']
    assert verdict.tally.training == 2 and not verdict.complaints


def test_degrees_are_recognised_and_buttons_and_flags_are_proposed(tmp_path):
    flags = [('/running', at * SECOND, make('std_msgs/msg/Bool', at == 2)) for at in (1, 2, 3)]
    contract, text, _ = drafted(tmp_path, [*arm(scale=57.3), *flags])
    assert contract.measured.unit == contract.commanded.unit == 'degree' and 'degrees' in text
    assert (contract.episodes.by, contract.episodes.signal.topic) == ('topic', 'running')
    axes, buttons = np.zeros(0, np.float32), np.zeros(4, np.int32)
    joy = [('/joy', SECOND + at, make('sensor_msgs/msg/Joy', header(SECOND + at), axes, buttons)) for at in range(3)]
    assert drafted(tmp_path, [*arm(), *joy], 'joy')[0].episodes.by == 'button'
    assert drafted(tmp_path, arm(), 'plain')[0].episodes.by == 'motion'


def test_a_trajectory_names_the_joints_itself(tmp_path):
    empty, duration = np.zeros(0), make('builtin_interfaces/msg/Duration', 1, 0)
    rows = arm(commands=False)
    for number in range(40):
        stamp = SECOND + number * 100 * MILLISECOND
        point = make('trajectory_msgs/msg/JointTrajectoryPoint', np.zeros(2), empty, empty, empty, duration)
        message = make('trajectory_msgs/msg/JointTrajectory', header(stamp), ['elbow', 'wrist'], [point])
        rows.append(('/arm/joint_trajectory', stamp, message))
    contract, _, _ = drafted(tmp_path, rows)
    assert contract.robot.joints == ('elbow', 'wrist')
    assert contract.commanded.type == 'trajectory_msgs/msg/JointTrajectory'


def test_what_else_was_recorded_is_there_as_a_comment_that_can_be_taken(tmp_path):
    pixels = np.zeros(48, np.uint8)
    place = make('geometry_msgs/msg/Transform', vector('Vector3', 1, 2, 3), vector('Quaternion', 0, 0, 0, 1))
    links = [make('geometry_msgs/msg/TransformStamped', header(SECOND, 'base'), 'tool', place)]
    twist = make('geometry_msgs/msg/Twist', vector('Vector3', 1, 2, 3), vector('Vector3', 1, 2, 3))
    more = [
        ('/camera/image', make('sensor_msgs/msg/Image', header(SECOND), 4, 4, 'rgb8', 0, 12, pixels)),
        ('/tf', make('tf2_msgs/msg/TFMessage', links)),
        ('/twist', make('geometry_msgs/msg/TwistStamped', header(SECOND), twist)),
        ('/sizes', command([1, 2])),
        ('/task', make('std_msgs/msg/String', 'pick')),
    ]
    _, text, _ = drafted(tmp_path, [*arm(), *((topic, SECOND, message) for topic, message in more)])
    taken = yaml.safe_load(text.replace('  # - {', '  - {').replace('  # language', '  language'))
    contract = Contract.model_validate(taken)
    names = {feature.name for feature in contract.topic_features}
    assert names == {'camera_image', 'tf', 'twist', 'sizes'}
    assert [feature.name for feature in contract.images] == ['camera_image']
    assert contract.episodes.language.topic == 'task'


def test_a_pose_of_the_tool_and_its_weights_are_there_to_be_taken(tmp_path):
    _, text, _ = drafted(tmp_path, arm())
    taken = text.replace('# action: {', 'action: {').replace(
        'action: {name: step, source: commanded, space: joint}', ''
    )
    contract = Contract.model_validate(yaml.safe_load(taken.replace('# tool_weights', 'tool_weights')))
    assert contract.action_size == 9 and contract.robot.tool_weights.rotation == (1.0, 1.0, 0.0)
    assert check(tmp_path / 'bag', contract).tally.ticks


def test_a_bag_without_joint_states_is_answered_with_what_is_in_it(tmp_path):
    path = write_bag(tmp_path / 'bag', [('/load', 1, make('std_msgs/msg/Float64', 1.0))])
    with pytest.raises(BagError, match='JointState with positions in .*found /load'):
        draft(survey(path, values=True))
    rows = [('/joint_states', at, b'{"name": ["j1"]}') for at in (1, 2)]
    kinds = {'/joint_states': 'sensor_msgs/msg/JointState'}
    path = write_bag(tmp_path / 'json', rows, topics=kinds)
    with pytest.raises(BagError, match='no message can be decoded: no CDR encapsulation'):
        draft(survey(path, values=True))


def test_everything_that_does_not_fit_is_reported_at_once(tmp_path):
    contract, _, _ = drafted(tmp_path, arm())
    observation = [
        *contract.model_dump(mode='json')['observation'],
        {'name': 'force', 'topic': 'wrench', 'type': 'WrenchStamped'},
        {'name': 'load', 'topic': 'arm/commands', 'type': 'Float64'},
    ]
    changed = {'observation': observation, 'measured': {'rate': 500.0, 'align': {'max_age': 0.001}}}
    changed['robot'] = {**contract.model_dump(mode='json')['robot'], 'joints': ['elbow', 'wrist', 'thumb']}
    verdict = check(tmp_path / 'bag', Contract.model_validate({**contract.model_dump(mode='json'), **changed}))
    reported = '\n'.join(verdict.complaints)
    assert "measured: 400 messages dropped: no joint 'thumb'" in reported
    assert 'force: expected one topic wrench in' in reported
    assert 'load: expected std_msgs/msg/Float64 on arm/commands' in reported
    assert 'found std_msgs/msg/Float64MultiArray' in reported
    assert not verdict.tally.training


def test_rates_and_delays_are_compared_with_what_the_contract_expects(tmp_path):
    contract, _, _ = drafted(tmp_path, arm())
    values = {**contract.model_dump(mode='json'), 'policy_rate': 1000.0, 'measured': {'rate': 500.0}}
    (measured, commanded) = check(tmp_path / 'bag', Contract.model_validate(values)).fits
    assert '100 messages per second, not 500' in measured.complaints[0]
    assert 'set `latency: 0.002`' in measured.remarks[0]
    assert (measured.read, measured.dropped, commanded.read) == (400, 0, 80)


# Cases of public bug reports: each bag varies one trait of an arm whose draft is known.

JOINTS = ('j1', 'j2', 'j3')


def place(seconds: float, joints: int = 3) -> np.ndarray:
    """Where the arm is [rad]."""
    number = np.arange(1, joints + 1)
    return 0.5 * np.sin(0.7 * seconds * number + number)


def moved(state_of=None, command_of=None, topic: str = '/arm_controller/commands', clock: int = 0) -> list:
    """Six seconds at 100 Hz with a pause, commands at 20 Hz that are 0.1 s ahead; what is sent is up to the caller."""
    state_of = state_of or (lambda stamp, values: [state(stamp, JOINTS, values)])
    command_of = command_of or (lambda stamp, values: command(values))
    rows = []
    for number in range(600):
        if 250 < number < 400:
            continue
        stamp, seconds = 1_700_000_000 * SECOND + number * 10 * MILLISECOND, number / 100
        rows += [('/joint_states', stamp, message) for message in state_of(stamp - clock, place(seconds))]
        if number % 5 == 0:
            rows.append((topic, stamp, command_of(stamp, place(seconds + 0.1))))
    return rows


def trajectory(stamp: int, names, values):
    """A trajectory of one point."""
    empty, duration = np.zeros(0), make('builtin_interfaces/msg/Duration', 0, 50_000_000)
    point = make('trajectory_msgs/msg/JointTrajectoryPoint', np.array(values, float), empty, empty, empty, duration)
    return make('trajectory_msgs/msg/JointTrajectory', header(stamp), list(names), [point])


def assert_learnable(contract: Contract, verdict: Verdict) -> None:
    """Hold a draft of `moved` against what it must be."""
    assert contract.robot.joints == JOINTS and contract.measured.rate == pytest.approx(100)
    assert not verdict.complaints and verdict.tally.training == 2 and verdict.tally.ticks == 91


FINGERS = ('left_finger', 'right_finger')


@pytest.mark.parametrize('also', [
    lambda stamp: state(stamp, FINGERS, (0.02, 0.02)),
    lambda stamp: state(stamp, (), ()),
    lambda stamp: state(stamp, ('wheel_l', 'wheel_r'), (), (1.0, 1.0)),
], ids=['gripper', 'empty', 'wheels'])  # fmt: skip
def test_joints_are_those_of_all_messages_for_any_order_of_publishers(tmp_path, also):
    rows = moved(lambda stamp, values: [also(stamp), state(stamp, JOINTS, values)])
    contract, text, verdict = drafted(tmp_path, rows)
    assert_learnable(contract, verdict)
    assert ('joints: [left_finger, right_finger]' in text) == (also(0).name == list(FINGERS))


def test_a_joint_that_is_never_known_and_a_new_order_of_joints_change_nothing(tmp_path):
    def states(stamp, values):
        turned = stamp > 1_700_000_003 * SECOND
        named = dict(zip((*JOINTS, 'mimic'), (*values, np.nan)))
        names = ('j3', 'mimic', 'j1', 'j2') if turned else (*JOINTS, 'mimic')
        return [state(stamp, names, [named[name] for name in names])]

    contract, _, verdict = drafted(tmp_path, moved(states))
    assert_learnable(contract, verdict)


def test_streams_whose_headers_hold_no_time_count_by_their_reception(tmp_path):
    def now(stamp, values):
        return trajectory(0, JOINTS, values)

    contract, _, verdict = drafted(tmp_path, moved(command_of=now, topic='/arm/joint_trajectory'), 'commands')
    assert (contract.measured.stamp, contract.commanded.stamp) == (None, 'receive')
    assert_learnable(contract, verdict)
    contract, _, verdict = drafted(tmp_path, moved(lambda stamp, values: [state(0, JOINTS, values)]), 'states')
    assert contract.measured.stamp == 'receive'
    assert_learnable(contract, verdict)


def test_headers_of_another_clock_count_by_their_reception_unless_all_have_that_clock(tmp_path):
    clock = 1_699_999_995 * SECOND
    contract, text, verdict = drafted(tmp_path, moved(clock=clock), 'mixed')
    assert contract.measured.stamp == 'receive' and 'use another clock' in text
    assert_learnable(contract, verdict)

    def simulated(stamp, values):
        return trajectory(stamp - clock, JOINTS, values)

    rows = moved(command_of=simulated, topic='/arm/joint_trajectory', clock=clock)
    contract, _, verdict = drafted(tmp_path, rows, 'simulated')
    assert contract.measured.stamp is contract.commanded.stamp is None
    assert_learnable(contract, verdict)


@pytest.mark.parametrize(('topics', 'prefixes'), [
    (('/follower/joint_states', '/leader/joint_states'), ('', '')),
    (('/left/joint_states', '/right/joint_states'), ('', '')),
    (('/slave/joint_states', '/master/joint_states'), ('slave_', 'master_')),
])  # fmt: skip
def test_of_two_arms_the_one_that_leads_is_the_action(tmp_path, topics, prefixes):
    rows = []
    for number in range(400):
        stamp = SECOND + number * 10 * MILLISECOND
        for topic, prefix, ahead in zip(topics, prefixes, (0.0, 0.1)):
            names = [prefix + name for name in JOINTS]
            rows.append((topic, stamp, state(stamp, names, place(number / 100 + ahead))))
    contract, _, verdict = drafted(tmp_path, rows)
    assert (f'/{contract.topics.joint_states}', f'/{contract.topics.commands}') == topics
    assert contract.robot.joints == tuple(prefixes[0] + name for name in JOINTS)
    assert contract.commanded.names == (() if not prefixes[1] else tuple(prefixes[1] + name for name in JOINTS))
    assert contract.commanded.type == 'sensor_msgs/msg/JointState' and not verdict.complaints


def test_every_joint_counts_in_the_unit_that_its_numbers_show(tmp_path):
    def grip(stamp):
        return 100.0 * (stamp // SECOND % 2)

    names = (*JOINTS, 'gripper')
    rows = moved(
        lambda stamp, values: [state(stamp, names, [*values, grip(stamp)])],
        lambda stamp, values: command([*values, grip(stamp)]),
    )
    contract, text, _ = drafted(tmp_path, rows, 'percent')
    assert contract.robot.joints == names and 'gripper is 0 to 100: percent' in text
    assert contract.measured.factor == contract.commanded.factor == (1.0, 1.0, 1.0, 0.01)
    degrees = 180 / np.pi
    rows = moved(
        lambda stamp, values: [state(stamp, names, [*values * degrees, grip(stamp)])],
        lambda stamp, values: command([*values, grip(stamp) / 100]),
    )
    contract, _, _ = drafted(tmp_path, rows, 'mixed')
    np.testing.assert_allclose(contract.measured.factor, [1 / degrees] * 3 + [0.01], rtol=1e-6)
    assert contract.commanded.factor == (1.0,)
    rows = moved(
        lambda stamp, values: [state(stamp, (*JOINTS, 'finger'), [*values, 0.02 + 0.02 * values[0]])],
        lambda stamp, values: command([*values, 0.02 + 0.02 * values[0]]),
    )
    contract, text, _ = drafted(tmp_path, rows, 'metres')
    assert 'finger in metres' in text and contract.measured.factor == (1.0,)


def test_a_model_shows_which_joints_are_the_arms_and_in_which_unit(tmp_path):
    path = write_bag(tmp_path / 'bag', moved(lambda stamp, values: [state(stamp, ('x', *JOINTS), [7, *values * 6])]))
    found = survey(path, values=True)
    model = Model('arm.urdf', 'flange', dict.fromkeys(JOINTS, (-0.06, 0.06)))
    file = tmp_path / 'arm.yaml'
    file.write_text(draft(found, model))
    contract = load_contract(file)
    assert contract.robot.joints == JOINTS and contract.measured.unit == 'degree'
    assert (contract.robot.model, contract.robot.tool) == ('arm.urdf', 'flange')


@pytest.mark.parametrize('kind', ['number', 'array', 'trajectory'])
def test_the_command_of_a_gripper_is_an_action_and_its_state_an_observation(tmp_path, kind):
    rows = moved(lambda stamp, values: [state(stamp, JOINTS, values), state(stamp, FINGERS, (values[0] / 50, 0.02))])
    messages = {
        'number': lambda stamp, value: make('std_msgs/msg/Float64', value),
        'array': lambda stamp, value: command([value]),
        'trajectory': lambda stamp, value: trajectory(0, ['left_finger'], [value]),
    }
    for number in range(0, 600, 10):
        stamp = 1_700_000_000 * SECOND + number * 10 * MILLISECOND
        rows.append(('/gripper_controller/commands', stamp, messages[kind](stamp, 0.02 * (number // 100 % 2))))
    contract, _, verdict = drafted(tmp_path, rows)
    (gripper,) = contract.further_actions
    assert (gripper.topic, gripper.mode, contract.action_size) == ('gripper_controller/commands', 'absolute', 4)
    assert [feature.name for feature in contract.topic_features] == ['gripper_state']
    assert contract.topic_features[0].joints == FINGERS and contract.robot.joints == JOINTS
    assert not verdict.complaints and verdict.tally.training == 2


def test_rates_are_counted_and_latencies_drafted_for_all_stamped_streams(tmp_path):
    rows, stamp = [], SECOND
    for number in range(800):
        rows.append(('/joint_states', stamp + MILLISECOND // 2, state(stamp, JOINTS, place(number / 200))))
        stamp += (4, 6)[number % 2] * MILLISECOND
        if number % 10 == 0:
            wanted = trajectory(stamp, JOINTS, place(number / 200 + 0.1))
            rows.append(('/arm/joint_trajectory', stamp + 3 * MILLISECOND, wanted))
            pose = make('geometry_msgs/msg/Pose', vector('Point', 1, 2, 3), vector('Quaternion', 0, 0, 0, 1))
            seen = make('geometry_msgs/msg/PoseStamped', header(stamp), pose)
            rows.append(('/object', stamp + 20 * MILLISECOND, seen))
    contract, text, verdict = drafted(tmp_path, rows)
    assert contract.measured.rate == pytest.approx(200, rel=1e-2)
    assert contract.commanded.align.latency == pytest.approx(0.003)
    assert 'name: object, topic: object' in text and 'latency: 0.02}' in text
    assert not verdict.complaints and '--settings learning_chunked' in text
