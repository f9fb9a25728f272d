"""Robots by YAML alone: what is built, and what is refused with the line that it stands in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, ModelError, VddError
from vdd_ros.sim.assembly import open_scene
from vdd_ros.sim.scene import SceneSettings, load_scene
from vdd_ros.sim.simulation import Simulation

_ARM = """
<mujoco>
  <worldbody>
    <body name="upper" pos="0 0 1"><joint name="shoulder" axis="0 1 0" range="-170 170"/>
      <geom name="upper" type="capsule" fromto="0 0 0 0.4 0 0" size="0.03" mass="2"/>
      <body name="lower" pos="0.4 0 0"><joint name="elbow" axis="0 1 0"/>
        <geom name="lower" type="capsule" fromto="0 0 0 0.3 0 0" size="0.03" mass="1"/>
        <site name="flange" pos="0.3 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator><motor name="torque" joint="shoulder"/></actuator>
  <keyframe><key name="bent" qpos="0.1 0.2"/></keyframe>
</mujoco>
"""

_GRIPPER = """
<mujoco>
  <worldbody>
    <body name="finger"><joint name="finger" type="slide" axis="0 1 0" range="0 0.04"/>
      <geom name="finger" size="0.01" mass="0.1"/>
    </body>
  </worldbody>
  <actuator><position name="finger" joint="finger" kp="100" kv="10"/></actuator>
</mujoco>
"""

_URDF = """
<robot name="gripper">
  <material name="grey"><color rgba="0.5 0.5 0.5 1"/></material>
  <link name="base">INERTIAL</link>
  <link name="left">INERTIAL
    <visual><geometry><mesh filename="package://absent/left.dae"/></geometry></visual>
    <collision><geometry>SHAPE</geometry></collision>
  </link>
  <link name="right">INERTIAL</link>
  <joint name="left" type="prismatic"><parent link="base"/><child link="left"/><axis xyz="0 1 0"/>
    <limit lower="0" upper="1" effort="10" velocity="1"/></joint>
  <joint name="right" type="prismatic"><parent link="base"/><child link="right"/><axis xyz="0 -1 0"/>
    <limit lower="0" upper="1" effort="10" velocity="1"/><mimic joint="left" multiplier="0.5"/></joint>
  <transmission name="ignored"/>
  <ros2_control name="ignored" type="system"/>
</robot>
""".replace(
    'INERTIAL', '<inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial>'
)

_TETRAHEDRON = """
v 0 0 0
v 0.1 0 0
v 0 0.1 0
v 0 0 0.1
f 1 3 2
f 1 2 4
f 2 3 4
f 1 4 3
"""

_YAML = """
model: arm.xml
timestep: 0.001
attachments:
  - {model: gripper.xml, to: flange, prefix: hand_}
servos:
  - joints: [shoulder, elbow]
    stiffness: 500
    damping: 40
    force: 50
compensate_gravity: ['*']
keyframe: bent
start: {elbow: 0.5}
joint_states: [hand_finger]
controllers:
  arm_controller: {type: position, joints: [elbow, shoulder]}
  gripper_controller: {type: gripper, actuators: {hand_finger: [0, 0.04]}, stroke: 0.08}
"""


def scene(folder: Path, text: str = _YAML, **changes: str) -> Path:
    """Write the models and a scene file, some of whose text is replaced; return the file."""
    (folder / 'arm.xml').write_text(_ARM, encoding='utf-8')
    (folder / 'gripper.xml').write_text(_GRIPPER, encoding='utf-8')
    for old, new in changes.items():
        text = text.replace(old, new)
    (folder / 'scene.yaml').write_text(text, encoding='utf-8')
    return folder / 'scene.yaml'


def opened(file: Path) -> Simulation:
    """Return the scene of a file."""
    return open_scene(*load_scene(file))


def test_an_arm_with_motors_gets_servos_a_gripper_a_start_and_no_weight(tmp_path: Path):
    simulation = opened(scene(tmp_path))
    assert simulation.joints == ('elbow', 'shoulder', 'hand_finger')
    assert simulation.commanded == ('elbow', 'shoulder') and simulation.timestep == 1_000_000
    np.testing.assert_array_equal(simulation.position, [0.5, 0.1, 0.0])
    # The motor is gone, the gripper's own servo is not.
    assert {simulation.model.actuator(index).name for index in range(3)} == {'hand_finger', 'shoulder', 'elbow'}
    simulation.step(500_000_000)
    np.testing.assert_allclose(simulation.position[:2], [0.5, 0.1], atol=1e-9)
    np.testing.assert_array_equal(simulation.model.actuator('elbow').forcerange, [-50, 50])
    simulation.set_command(np.array([0.7, -0.2]))
    simulation.step(2_000_000_000)
    np.testing.assert_allclose(simulation.position[:2], [0.7, -0.2], atol=1e-3)
    simulation.reset()
    np.testing.assert_array_equal(simulation.position, [0.5, 0.1, 0.0])


def test_a_urdf_moves_with_its_mimic_joints_and_collision_meshes_from_packages(tmp_path: Path):
    package = tmp_path / 'grippers'
    (package / 'urdf').mkdir(parents=True)
    (package / 'left.obj').write_text(_TETRAHEDRON, encoding='utf-8')
    urdf = _URDF.replace('SHAPE', '<mesh filename="package://grippers/left.obj"/>')
    (package / 'urdf' / 'gripper.urdf').write_text(urdf, encoding='utf-8')
    file = tmp_path / 'scene.yaml'
    file.write_text(
        'model: grippers/urdf/gripper.urdf\n'
        'servos: [{joints: [left], stiffness: 1000, damping: 100}]\n'
        "compensate_gravity: ['*']\n"
        'joint_states: [right]\n'
        'controllers: {hand: {type: position, joints: [left]}}\n',
        encoding='utf-8',
    )
    simulation = opened(file)
    assert simulation.model.nmesh == 1
    simulation.set_command(np.array([0.4]))
    simulation.step(3_000_000_000)
    np.testing.assert_allclose(simulation.position, [0.4, 0.2], atol=5e-3)

    broken = urdf.replace('left.obj', 'right.obj')
    (package / 'urdf' / 'gripper.urdf').write_text(broken, encoding='utf-8')
    with pytest.raises(ModelError, match='collision mesh of link left of .*found package://grippers/right.obj'):
        opened(file)


@pytest.mark.parametrize(
    ('old', 'new', 'named'),
    [
        ('timestep: 0.001', 'timestep: fast', r'scene.yaml, line 3; found timestep'),
        (
            'stiffness: 500',
            'stifness: 500',
            r'line 8; found servos.0.stifness.*mean stiffness\? known settings of servos.0: joints, ',
        ),
        ('force: 50', 'force: -1', r'scene.yaml, line 10; found servos.0.force'),
        ('joints: [elbow, shoulder]', 'joints: []', r'line 16; found controllers.arm_controller.position.joints'),
        ('type: position', 'type: spline', r'scene.yaml, line 16'),
        (
            '[elbow, shoulder]}',
            '[elbow], activ: 1}',
            r'line 16; .*mean active\? known settings .*: type, joints, active$',
        ),
        ('timestep: 0.001', 'model: arm.xml', 'model twice'),
        ('model: arm.xml', '', 'found none, with timestep, attachments, servos'),
        ('model: arm.xml', 'model: leg.xml', 'leg.xml; found no such file'),
        ('servos:', 'servos: [', 'a scene file in .*scene.yaml, line'),
        ('to: flange', 'to: wrist', 'site or body wrist to attach .*found flange, '),
        ('[shoulder, elbow]', '[shoulder, knee]', 'joint knee in .*arm.xml for a servo; found shoulder, elbow'),
        ("['*']", "['leg*']", r'body leg\* in .*arm.xml'),
        ('[elbow, shoulder]', '[elbow, knee]', 'joint knee in the scene; found shoulder, elbow'),
        ('keyframe: bent', 'keyframe: straight', 'key straight in the scene; found bent'),
        ('start: {elbow', 'start: {ankle', 'joint ankle in the scene'),
        ('elbow: 0.5', 'shoulder: 3.1', r'position of shoulder within its limits, -2.967 to 2.967 rad; found 3.1 rad'),
        ('elbow: 0.5', 'hand_finger: 0.05', 'position of hand_finger within its limits, 0 to 0.04 m; found 0.05 m'),
    ],
)
def test_what_cannot_be_built_is_reported_with_file_and_line_or_element(tmp_path: Path, old: str, new: str, named: str):
    with pytest.raises(VddError, match=named):
        opened(scene(tmp_path, **{old: new}))


def test_a_recorded_start_may_be_outside_the_limits_by_measurement_noise(tmp_path: Path):
    simulation = opened(scene(tmp_path, **{'elbow: 0.5': 'shoulder: 2.98, hand_finger: 0.041'}))
    assert simulation.data.joint('shoulder').qpos == pytest.approx(2.98)


def test_a_malformed_model_is_reported_with_its_line(tmp_path: Path):
    file = scene(tmp_path)
    (tmp_path / 'arm.xml').write_text(_ARM.replace('<keyframe>', '<keyframes>\n<keyframe>'), encoding='utf-8')
    with pytest.raises(ModelError, match='arm.xml; found mismatched tag: line'):
        opened(file)
    (tmp_path / 'arm.xml').write_text(_ARM.replace('range="-170 170"', 'rang="-170 170"'), encoding='utf-8')
    with pytest.raises(ModelError, match="unrecognized attribute: 'rang'.*line 4"):
        opened(file)


def test_an_absent_scene_file_is_answered_with_those_that_ship(tmp_path: Path):
    assert load_scene('')[0] == SceneSettings()
    with pytest.raises(ConfigurationError, match='nowhere.yaml; found .*give its path, or one of .*panda'):
        load_scene('nowhere')
