"""`vdd contract check` accepts a bag if a policy can be learned from it, and says what prevents that otherwise."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from ros_messages import MILLISECOND, SECOND, command, header, make, mark, state, write_bag

from vdd_ros.commands.cli import main
from vdd_ros.contract.contract import Contract
from vdd_ros.data.quality.check import Verdict, check
from vdd_ros.robot.kinematics import Kinematics

JOINTS = ('j1', 'j2', 'j3')
MODEL = """<mujoco><worldbody><body name="a"><joint name="j1" range="-3 3"/><geom size="0.05"/>
<body name="b" pos="0 0 0.3"><joint name="j2" axis="0 1 0" range="-3 3"/><geom size="0.05"/>
<body name="c" pos="0 0 0.3"><joint name="j3" axis="0 1 0" range="-3 3"/><geom size="0.05"/>
<site name="tool0" pos="0 0 0.1"/></body></body></body></worldbody>
<compiler angle="radian" autolimits="true"/></mujoco>"""


def values(**changes) -> dict:
    """Return the values of a contract that fits `rows`."""
    return {
        'schema_version': 2,
        'name': 'arm',
        'robot': {'model': 'arm.xml', 'tool': 'tool0', 'joints': JOINTS},
        'policy_rate': 20,
        'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}],
        'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
        'episodes': {'by': 'gaps'},
        **changes,
    }


def place(seconds: float) -> np.ndarray:
    """Where the arm is [rad]."""
    return 0.5 * np.sin(0.7 * seconds * np.arange(1, 4) + np.arange(1, 4))


def rows(count: int = 6, *, clock: int = 0, state_of=None, command_of=None) -> list:
    """Some demonstrations of two seconds, two seconds apart; headers are behind the bag by a clock [ns]."""
    state_of = state_of or (lambda stamp, position: state(stamp, JOINTS, position))
    command_of = command_of or command
    found = []
    for number in range(count * 400):
        stamp, seconds = 100 * SECOND + number * 10 * MILLISECOND, number / 100
        if number % 400 < 200:
            found.append(('/joint_states', stamp, state_of(stamp - clock, place(seconds))))
            if number % 5 == 0:
                found.append(('/arm_controller/commands', stamp, command_of(place(seconds + 0.1))))
    return found


def judged(tmp_path: Path, messages: list, model: str = MODEL, **changes) -> Verdict:
    """Write a bag and a model, and check the bag with them."""
    kinds = {topic: message.__msgtype__ for topic, _, message in messages if not isinstance(message, bytes)}
    path = write_bag(tmp_path / 'bag', sorted(messages, key=lambda row: row[1]), topics=kinds)
    (tmp_path / 'arm.xml').write_text(model)
    contract = Contract.model_validate(values(**changes))
    robot = contract.robot
    return check(path, contract, partial(Kinematics, tmp_path / robot.model, robot.tool, robot.joints))


def test_a_sound_bag_fits_and_its_demonstrations_are_counted(tmp_path):
    verdict = judged(tmp_path, rows())
    assert (verdict.complaints, verdict.remarks, verdict.unused) == ((), (), ())
    assert (verdict.tally.training, verdict.tally.parts, verdict.tally.ticks) == (6, 6, 6 * 40)


@pytest.mark.parametrize(('robot', 'found'), [
    ({'model': 'robot.urdf', 'tool': 'tool0', 'joints': JOINTS}, 'robot.urdf; found no such file'),
    ({'model': 'arm.xml', 'tool': 'hand', 'joints': JOINTS}, 'expected a site or link hand'),
    ({'model': 'arm.xml', 'tool': 'tool0', 'joints': ('j1', 'j2', 'thumb')}, 'expected a hinge or slide joint thumb'),
])  # fmt: skip
def test_the_model_its_tool_and_its_joints_must_be_there(tmp_path, robot, found):
    complaints = judged(tmp_path, rows(), robot=robot).complaints
    assert any(item.startswith('robot: ') and found in item for item in complaints)


def test_clocks_that_never_meet_do_not_fit_and_the_remedy_fits(tmp_path):
    verdict = judged(tmp_path, rows(clock=95 * SECOND))
    why = 'commanded: its stamps are -95 s behind those of the joint states'
    assert any(why in item for item in verdict.complaints)
    (tmp_path / 'again').mkdir()
    verdict = judged(tmp_path / 'again', rows(clock=95 * SECOND), measured={'stamp': 'receive'})
    assert not verdict.complaints and verdict.tally.training == 6


def test_marks_of_another_clock_than_the_robots_do_not_fit(tmp_path):
    marks = [
        ('/episode', 100 * SECOND + at * SECOND, mark(100 * SECOND + at * SECOND, event, index=str(at // 4)))
        for at in range(0, 24, 2)
        for event in (('start',) if at % 4 == 0 else ('end',))
    ]
    joint = {'commanded': {'source': 'measured'}, 'episodes': {'by': 'marks'}}
    verdict = judged(tmp_path, [*rows(clock=95 * SECOND), *marks], **joint)
    assert any('the episode marks: ' in item and '--sim-time' in item for item in verdict.complaints)
    (tmp_path / 'again').mkdir()
    assert not judged(tmp_path / 'again', [*rows(), *marks], **joint).complaints


def test_headers_without_a_time_do_not_fit(tmp_path):
    still = rows(state_of=lambda stamp, position: state(0, JOINTS, position))
    (complaint, *_) = judged(tmp_path, still).complaints
    assert complaint == 'measured: all 1200 headers have the stamp 0 s, which is not a valid time: set `stamp: receive`'
    times = iter(range(10**6))

    def now_and_then(stamp, position):
        return state(0 if next(times) % 7 == 3 else stamp, JOINTS, position)

    (tmp_path / 'some').mkdir()
    complaints = judged(tmp_path / 'some', rows(state_of=now_and_then)).complaints
    assert any('171 headers have the stamp 0 s' in item for item in complaints)


def test_constant_actions_and_observations_do_not_fit_and_single_ones_are_remarks(tmp_path):
    verdict = judged(tmp_path, rows(command_of=lambda position: command(np.zeros(3))), action_mode='absolute')
    assert any(item.startswith('every action is constant') for item in verdict.complaints)
    (tmp_path / 'one').mkdir()
    still = rows(
        state_of=lambda stamp, position: state(stamp, JOINTS, [*position[:2], 0.3]),
        command_of=lambda position: command([*position[:2], 0.3]),
    )
    verdict = judged(tmp_path / 'one', still)
    assert not verdict.complaints
    assert verdict.remarks == (
        'constant values of the action: j3', 'constant values of the observation: measured j3'
    )  # fmt: skip


def test_a_bag_of_which_hardly_a_tick_can_be_used_does_not_fit(tmp_path):
    reading = {'align': {'max_age': 0.05}}
    force = {'name': 'force', 'topic': 'force', 'type': 'Float64', **reading}
    rare = [('/force', 100 * SECOND + at * SECOND, make('std_msgs/msg/Float64', float(at))) for at in range(24)]
    observation = [*values()['observation'], force]
    complaints = judged(tmp_path, [*rows(), *rare], observation=observation).complaints
    assert any('of 240 ticks are usable' in item and 'no recent force' in item for item in complaints)


def test_measurements_beyond_the_limits_of_the_model_do_not_fit(tmp_path):
    degrees = rows(
        state_of=lambda stamp, position: state(stamp, JOINTS, 57.3 * position), command_of=lambda p: command(57.3 * p)
    )
    complaints = judged(tmp_path, degrees).complaints
    assert any('j2: ' in item and 'exceed the model limits -3 to 3; check unit' in item for item in complaints)


def test_failed_demonstrations_are_none_to_train_on(tmp_path):
    marks = []
    for index in range(6):
        begin = (100 + 4 * index) * SECOND
        marks.append(('/episode', begin, mark(begin, 'start', index=str(index))))
        end = begin + 2 * SECOND
        marks.append(('/episode', end, mark(end, 'end', index=str(index), outcome='failure')))
    verdict = judged(tmp_path, [*rows(), *marks], episodes={'by': 'marks'})
    assert verdict.complaints == ('no usable demonstration: 6 failure',)


def test_the_commands_draft_once_and_accept_the_draft_only_with_a_model(tmp_path, capsys):
    path = write_bag(tmp_path / 'bag', rows())
    (tmp_path / 'arm.xml').write_text(MODEL)
    assert main(['contract', 'init', str(path)]) == 0
    assert 'schema_version: 2' in capsys.readouterr().out
    output = tmp_path / 'made' / 'arm.yaml'
    assert main(['contract', 'init', str(path), '--output', str(output)]) == 0
    assert main(['contract', 'init', str(path), '--output', str(output)]) == 2
    assert main(['contract', 'check', str(path), str(output)]) == 1
    assert 'robot.urdf; found no such file' in ' '.join(capsys.readouterr().out.split())
    whole = tmp_path / 'whole.yaml'
    model = ['--model', str(tmp_path / 'arm.xml'), '--tool', 'tool0']
    assert main(['contract', 'init', str(path), '--output', str(whole), *model]) == 0
    assert main(['contract', 'check', str(path), str(whole)]) == 0
    printed = ' '.join(capsys.readouterr().out.split())
    assert 'the bag fits the contract' in printed and '6 without outcome; 6 for training' in printed
    whole.write_text(whole.read_text().replace('arm_controller/commands', 'nobody'))
    assert main(['contract', 'check', str(path), str(whole)]) == 1
    assert 'expected one topic nobody' in ' '.join(capsys.readouterr().out.split())


def test_a_few_messages_that_are_dropped_are_a_remark_and_many_a_complaint(tmp_path):
    verdict = judged(tmp_path, [*rows(), ('/joint_states', 130 * SECOND, b'')])
    (measured, _) = verdict.fits
    assert not verdict.complaints and (measured.read, measured.dropped) == (1200, 1)
    assert any('1 message dropped' in remark for remark in measured.remarks)
    assert '1 messages too short for a header' in measured.remarks
    (tmp_path / 'many').mkdir()
    bad = [('/joint_states', (130 + at) * SECOND, b'') for at in range(13)]
    assert any('13 messages dropped' in item for item in judged(tmp_path / 'many', [*rows(), *bad]).complaints)


def test_images_that_ticks_need_and_that_are_damaged_are_a_complaint(tmp_path):
    seen = {'name': 'camera', 'topic': 'camera', 'type': 'Image', 'image': {'height': 2, 'width': 2, 'color': 'gray'}}
    messages = rows()
    for number in range(6 * 400 // 2):  # at 50 Hz, where ticks of 20 Hz need two of five
        stamp = 100 * SECOND + number * 20 * MILLISECOND
        data = np.full(16 if number % 5 else 4, number % 200, dtype=np.uint8)
        messages.append(('/camera', stamp, make('sensor_msgs/msg/Image', header(stamp), 4, 4, 'mono8', 0, 4, data)))
    messages.sort(key=lambda row: row[1])
    observation = [{'name': 'measured', 'source': 'measured', 'space': 'joint'}, seen]
    verdict = judged(tmp_path, messages, observation=observation)
    (fit,) = (item for item in verdict.fits if item.stream == 'camera')
    assert fit.dropped and any('4 bytes for 4 rows' in complaint for complaint in fit.complaints)
    assert verdict.tally.training == 6
