"""`vdd contract init` drafts what `vdd contract check` accepts, and that one says what does not fit."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from ros_messages import MILLISECOND, SECOND, command, header, make, mark, state, vector, write_bag

from vdd_ros.cli import main
from vdd_ros.contract import Contract, load_contract
from vdd_ros.data.check import Verdict, check
from vdd_ros.data.draft import draft
from vdd_ros.data.survey import survey
from vdd_ros.errors import BagError

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
    text = draft(path, survey(path))
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
    assert (verdict.complaints, verdict.episodes, verdict.ticks, verdict.unused) == ((), 1, 40, ())


def test_where_no_commands_were_recorded_the_next_state_counts_and_pauses_tell_episodes_apart(tmp_path):
    later = [(topic, stamp + 10 * SECOND, message) for topic, stamp, message in arm(commands=False)]
    for _, stamp, message in later:
        message.header.stamp.sec += 10
    contract, _, verdict = drafted(tmp_path, [*arm(commands=False), *later])
    assert contract.commanded.source == 'measured' and contract.episodes.by == 'gaps'
    assert [feature.name for feature in contract.observation] == ['measured']
    assert verdict.episodes == 2 and not verdict.complaints


def test_degrees_are_recognised_and_buttons_and_flags_are_proposed(tmp_path):
    flags = [('/running', at * SECOND, make('std_msgs/msg/Bool', at == 2)) for at in (1, 2, 3)]
    contract, text, _ = drafted(tmp_path, [*arm(scale=57.3), *flags])
    assert contract.measured.unit == contract.commanded.unit == 'degree' and 'says up to' in text
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
    assert contract.episodes.language.topic == 'task'


def test_a_pose_of_the_tool_and_its_weights_are_there_to_be_taken(tmp_path):
    _, text, _ = drafted(tmp_path, arm())
    taken = text.replace('# action: {', 'action: {').replace('action: {name: step, source: commanded, space: joint}', '')
    contract = Contract.model_validate(yaml.safe_load(taken.replace('# tool_weights', 'tool_weights')))
    assert contract.action_size == 9 and contract.robot.tool_weights.rotation == (1.0, 1.0, 0.0)
    assert check(tmp_path / 'bag', contract).ticks


def test_a_bag_without_joint_states_is_answered_with_what_is_in_it(tmp_path):
    path = write_bag(tmp_path / 'bag', [('/load', 1, make('std_msgs/msg/Float64', 1.0))])
    with pytest.raises(BagError, match='JointState in .*found /load'):
        draft(path, survey(path))


def test_everything_that_does_not_fit_is_told_at_once(tmp_path):
    contract, _, _ = drafted(tmp_path, arm())
    observation = [
        *contract.model_dump(mode='json')['observation'],
        {'name': 'force', 'topic': 'wrench', 'type': 'WrenchStamped'},
        {'name': 'load', 'topic': 'arm/commands', 'type': 'Float64'},
    ]
    changed = {'observation': observation, 'measured': {'rate': 500.0, 'align': {'max_age': 0.001}}}
    changed['robot'] = {**contract.model_dump(mode='json')['robot'], 'joints': ['elbow', 'wrist', 'thumb']}
    verdict = check(tmp_path / 'bag', Contract.model_validate({**contract.model_dump(mode='json'), **changed}))
    told = '\n'.join(verdict.complaints)
    assert "measured: 400 messages dropped: no joint 'thumb'" in told
    assert 'force: no topic of that name' in told
    assert 'load: it is of type std_msgs/msg/Float64MultiArray' in told
    assert not verdict.episodes


def test_rates_and_delays_are_compared_with_what_the_contract_expects(tmp_path):
    contract, _, _ = drafted(tmp_path, arm())
    values = {**contract.model_dump(mode='json'), 'policy_rate': 1000.0, 'measured': {'rate': 500.0}}
    (measured, commanded) = check(tmp_path / 'bag', Contract.model_validate(values)).fits
    assert '100 messages a second, not 500' in measured.complaints[0]
    assert 'set `latency: 0.002`' in measured.remarks[0]
    assert (measured.read, measured.dropped, commanded.read) == (400, 0, 80)


def test_the_commands_draft_write_once_and_tell_by_their_exit_code(tmp_path, capsys):
    path = write_bag(tmp_path / 'bag', arm())
    assert main(['contract', 'init', str(path)]) == 0
    assert 'schema_version: 2' in capsys.readouterr().out
    output = tmp_path / 'made' / 'arm.yaml'
    assert main(['contract', 'init', str(path), '--output', str(output)]) == 0
    assert main(['contract', 'init', str(path), '--output', str(output)]) == 2
    assert main(['contract', 'check', str(path), str(output)]) == 0
    assert 'the bag fits the contract' in capsys.readouterr().out
    output.write_text(output.read_text().replace('arm/commands', 'nobody'))
    assert main(['contract', 'check', str(path), str(output)]) == 1
    assert 'no topic of that name' in ' '.join(capsys.readouterr().out.split())
