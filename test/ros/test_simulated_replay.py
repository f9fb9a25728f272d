"""`vdd replay --simulate`: the commands of a bag on the robot of its contract, whoever made it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest
import yaml

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.assembly import open_scene
from vdd_ros.sim.robot_scene import robot_scene
from vdd_ros.sim.tasks import task_of
from vdd_ros.validation.simulated_replay import SCENE_FILE, replay_simulated

PERIOD = 20_000_000
UR5E = ['shoulder_pan_joint', 'shoulder_lift_joint', 'elbow_joint', 'wrist_1_joint', 'wrist_2_joint', 'wrist_3_joint']
READY = np.array([0.0, -1.6, 1.8, -1.7, -1.57, 0.0])
_URDF = """
<robot name="two">
  <link name="base"/>
  <link name="upper"><inertial><origin xyz="0.2 0 0"/><mass value="3"/>
    <inertia ixx="0.01" ixy="0" ixz="0" iyy="0.05" iyz="0" izz="0.05"/></inertial></link>
  <link name="lower"><inertial><origin xyz="0.2 0 0"/><mass value="2"/>
    <inertia ixx="0.01" ixy="0" ixz="0" iyy="0.03" iyz="0" izz="0.03"/></inertial></link>
  <joint name="shoulder" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-2" upper="2" effort="200" velocity="3"/></joint>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="lower"/><origin xyz="0.4 0 0"/>
    <axis xyz="0 1 0"/><limit lower="-2" upper="2" effort="100" velocity="3"/></joint>
</robot>
"""


def makers(robot: str) -> Path:
    """Return the model of a robot of robosuite, looked up without importing it."""
    found = importlib.util.find_spec('robosuite')
    assert found is not None, 'make test installs it: pip install --no-deps robosuite==1.5.2'
    return Path(found.origin).parent / 'models' / 'assets' / 'robots' / robot / 'robot.xml'


def contract_of(base: str, **changes: object) -> Contract:
    """Return a contract that ships, with other entries."""
    values = load_contract(base).model_dump(mode='json', exclude_defaults=True)
    return Contract.model_validate({**values, **changes})


def written(folder: Path, contract: Contract) -> str:
    """Write a contract to a file."""
    file = folder / 'contract.yaml'
    file.write_text(yaml.safe_dump(contract.model_dump(mode='json', exclude_defaults=True)))
    return str(file)


def record(path: Path, contract: Contract, positions: np.ndarray) -> None:
    """Write an episode with commands [rad] every 20 ms, in the names and units of a contract."""
    measured, commanded = contract.measured, contract.commanded
    names = list(measured.names or contract.robot.joints)
    topics = {
        f'/{contract.topics.joint_states}': bag_messages.JOINT_STATE,
        f'/{contract.topics.commands}': bag_messages.NUMBERS,
        '/episode': bag_messages.MARK,
    }
    states, commands, _ = topics
    with BagWriter(path, topics) as writer:
        writer.write('/episode', 1, bag_messages.mark(1, 'start', index=0))
        for tick, position in enumerate(positions):
            stamp = 1 + tick * PERIOD
            seen = (position - measured.offset) / measured.factor
            reported = (position - commanded.offset) / commanded.factor
            writer.write(states, stamp, bag_messages.joint_state(stamp, names, seen))
            writer.write(commands, stamp, bag_messages.numbers(reported))
        end = 2 + len(positions) * PERIOD
        writer.write('/episode', end, bag_messages.mark(end, 'end', index=0))


def swing(home: np.ndarray, by: float, ticks: int = 60) -> np.ndarray:
    """Return a smooth motion of all joints there and back."""
    return home + by * (1 - np.cos(np.linspace(0, 2 * np.pi, ticks)))[:, None] / 2


def test_the_robot_of_a_foreign_contract_is_simulated_whatever_its_topics_names_and_units_on_ros(tmp_path):
    model = str(makers('ur5e'))
    contract = contract_of(
        'ur5e_joint',
        name='my_cell',
        schema_version=2,
        robot={'model': model, 'tool': 'right_hand', 'joints': UR5E},
        topics={'joint_states': 'cell/joint_states', 'commands': 'cell/controller/commands'},
        measured={'names': [f'cell_{joint}' for joint in UR5E]},
        commanded={'unit': 'degree', 'sign': [1, -1, 1, 1, 1, 1]},
    )
    record(tmp_path / 'bag', contract, swing(READY, 0.3))
    lines: list[str] = []
    file = written(tmp_path, contract)
    replay_simulated(tmp_path / 'bag', contract=file, logs=tmp_path / 'logs', report=lines.append)
    assert yaml.safe_load((tmp_path / 'logs' / SCENE_FILE).read_text())['model'] == model
    assert lines[0].startswith('the robot of the contract alone') and len(lines) == 2
    played = re.match(r'100% of 1\.2 s played; the arm at most ([\d.]+) rad from its commands', lines[1])
    # A servo that lags 33 ms behind .8 rad/s is 26 mrad behind; one that did not move would be .3 rad away.
    assert played is not None and 0.005 < float(played[1]) < 0.05, lines


def test_a_contract_of_a_task_is_played_and_judged_there_and_any_other_on_its_own_robot():
    assert (
        task_of(load_contract('avoiding_joint')).name == task_of(load_contract('avoiding_cartesian')).name == 'avoiding'
    )
    assert task_of(load_contract('placing_joint')).name == 'placing'
    assert task_of(load_contract('fr3_joint')) is task_of(load_contract('ur5e_joint')) is None
    # Named as a task, but of another robot.
    robot = load_contract('ur5e_joint').robot.model_dump()
    assert task_of(contract_of('ur5e_joint', name='placing_mine')) is None
    assert task_of(contract_of('avoiding_joint', robot=robot)) is None


def test_what_cannot_be_simulated_is_refused_before_anything_starts(tmp_path):
    contract = load_contract('ur5e_joint')
    record(tmp_path / 'bag', contract, swing(READY, 0.1))
    missing = contract_of('ur5e_joint', robot={**contract.robot.model_dump(), 'model': 'elsewhere.urdf'})
    for error, text, given in (
        (ConfigurationError, 'the robot of avoiding, with the joints joint1.*omit --task', {'task': 'avoiding'}),
        (ConfigurationError, 'a task or a scene', {'task': 'avoiding', 'scene': 'panda'}),
        (ModelError, 'elsewhere.urdf; found no such file', {'contract': written(tmp_path, missing)}),
    ):
        with pytest.raises(error, match=text):
            replay_simulated(
                tmp_path / 'bag', **{'contract': 'ur5e_joint', **given}, logs=tmp_path / 'logs', report=print
            )
    assert not list((tmp_path / 'logs').glob('*.log'))


@pytest.mark.parametrize('robot', ['ur5e', 'iiwa', 'kinova3', 'urdf', 'placing'])
def test_a_robot_that_has_no_servos_gets_some_that_hold_it_and_follow(tmp_path, robot):
    if robot == 'urdf':
        model, joints = tmp_path / 'two.urdf', ['shoulder', 'elbow']
        model.write_text(_URDF)
    elif robot == 'placing':
        model, joints = model_path('ur5e'), list(load_contract('placing_joint').robot.joints)
    else:
        model = makers(robot)
        arm = mujoco.MjModel.from_xml_path(str(model))
        joints = [arm.joint(index).name for index in range(arm.njnt)]
    tool = {'urdf': 'lower', 'placing': 'tool_point'}.get(robot, 'right_hand')
    kinematics = Kinematics(model, tool, joints)
    lower, upper = np.maximum(kinematics.lower, -2.0), np.minimum(kinematics.upper, 2.0)
    home = (lower + upper) / 2
    settings = robot_scene(model, joints, dict(zip(joints, home.tolist())))
    simulation = open_scene(settings, tmp_path)
    simulation.step(500_000_000)
    np.testing.assert_allclose(simulation.position, home, atol=0.01)
    path = swing(home, 0.1, ticks=100)
    if robot == 'placing':
        path[:, -1] = home[-1]
    apart = 0.0
    for target in path:
        simulation.set_command(target)
        simulation.step(PERIOD)
        apart = max(apart, np.abs(simulation.position - target).max())
    assert apart < 0.02
    simulation.step(500_000_000)
    np.testing.assert_allclose(simulation.position, path[-1], atol=0.005)
