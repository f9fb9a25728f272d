"""Limits of joints from URDF and joint_limits.yaml."""

from __future__ import annotations

from math import inf
from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.control.limits import Limits
from vdd_ros.robot.joint_limits import JointLimit, load_joint_limits, urdf_joint_limits

_URDF = """
<robot name="arm">
  <joint name="shoulder" type="revolute">
    <limit lower="-2" upper="2" velocity="1.5" acceleration="4" deceleration="3" jerk="50" effort="9"/>
    <safety_controller soft_lower_limit="-1.9" soft_upper_limit="2.5" k_velocity="1"/>
  </joint>
  <joint name="wheel" type="continuous"><limit velocity="3" effort="1"/></joint>
  <joint name="mount" type="fixed"/>
</robot>
"""

_YAML = """
joint_limits:
  shoulder:
    has_position_limits: true
    min_position: -1
    max_position: 1.0
    has_velocity_limits: true
    max_velocity: 2.0
    has_acceleration_limits: true
    max_acceleration: 5.0
    max_deceleration: 2.5
    has_jerk_limits: false
    max_jerk: 10.0
  elbow: {max_jerk: 40.0}
"""


_DEGREES = """
joint_limits:
  shoulder:
    has_position_limits: true
    min_position: !degrees -360.0
    max_position: !degrees  180
    has_velocity_limits: true
    max_velocity: !radians 3.14
    has_acceleration_limits: false
    max_acceleration: 0
    has_effort_limits: true
    max_effort: 150.0
"""

_ATTRIBUTED = """
shoulder:
  limit:
    lower:     -2.7437
    upper:      2.7437
    velocity:   2.62
    acceleration: 10
    deceleration: 8.0
    effort:    87.0
elbow:
  limit: {velocity: 5.26, jerk: 5000.0}
"""


def _write(folder: Path, text: str) -> Path:
    file = folder / 'limits'
    file.write_text(text, encoding='utf-8')
    return file


def test_a_urdf_has_hard_and_soft_limits_of_which_the_stricter_count(tmp_path):
    found = urdf_joint_limits(_write(tmp_path, _URDF))
    assert found['shoulder'] == JointLimit(-1.9, 2.0, 1.5, 3.0, 50.0)
    assert found['wheel'] == JointLimit(velocity=3.0)
    assert found['mount'] == JointLimit()


@pytest.mark.parametrize('bad', ['fast', 'nan'])
def test_a_urdf_with_a_limit_that_is_no_number_is_refused(tmp_path, bad):
    with pytest.raises(ModelError, match=f"velocity of a joint; found '{bad}'"):
        urdf_joint_limits(_write(tmp_path, _URDF.replace('"1.5"', f'"{bad}"')))


@pytest.mark.parametrize(
    'section',
    [
        (
            '<ros2_control name="arm" type="system"><joint name="shoulder"><command_interface name="position"/></joint>'
            '</ros2_control>'
        ),
        (
            '<transmission name="t"><joint name="shoulder"><hardwareInterface>position</hardwareInterface></joint>'
            '</transmission>'
        ),
        '<gazebo><plugin><joint name="shoulder"><limit velocity="9"/></joint></plugin></gazebo>',
    ],
)
@pytest.mark.parametrize('first', [True, False])
def test_sections_of_a_urdf_that_refer_to_joints_leave_their_limits_as_they_are(tmp_path, section, first):
    end = '<robot name="arm">' if first else '</robot>'
    text = _URDF.replace(end, end + section if first else section + end)
    assert urdf_joint_limits(_write(tmp_path, text)) == urdf_joint_limits(_write(tmp_path, _URDF))


def test_joint_limits_are_read_in_the_callers_order_and_tighten_those_of_the_model(tmp_path):
    found = load_joint_limits(_write(tmp_path, _YAML), ('wrist', 'elbow', 'shoulder'))
    np.testing.assert_array_equal(found['lower'], [-inf, -inf, -1])
    np.testing.assert_array_equal(found['velocity'], [inf, inf, 2])
    np.testing.assert_array_equal(found['acceleration'], [inf, inf, 2.5])
    np.testing.assert_array_equal(found['jerk'], [inf, 40, inf])
    limits = Limits(np.full(3, -0.5), np.full(3, 3.0), np.full(3, 1.8), 0.5).tightened(**found)
    np.testing.assert_array_equal(limits.lower, -0.5)
    np.testing.assert_array_equal(limits.upper, [3, 3, 1])
    np.testing.assert_array_equal(limits.velocity, 1.8)
    np.testing.assert_array_equal(limits.jerk, [inf, 40, inf])


def test_limits_in_degrees_are_converted_as_xacro_does(tmp_path):
    found = load_joint_limits(_write(tmp_path, _DEGREES), ('shoulder',))
    values = {name: value[0] for name, value in found.items()}
    assert values == pytest.approx(
        {'lower': -2 * np.pi, 'upper': np.pi, 'velocity': 3.14, 'acceleration': inf, 'jerk': inf}, rel=1e-12
    )


def test_limits_as_attributes_of_a_urdf_by_joint_are_read(tmp_path):
    found = load_joint_limits(_write(tmp_path, _ATTRIBUTED), ('elbow', 'shoulder'))
    np.testing.assert_array_equal(found['lower'], [-inf, -2.7437])
    np.testing.assert_array_equal(found['upper'], [inf, 2.7437])
    np.testing.assert_array_equal(found['velocity'], [5.26, 2.62])
    np.testing.assert_array_equal(found['acceleration'], [inf, 8.0])
    np.testing.assert_array_equal(found['jerk'], [5000.0, inf])


@pytest.mark.parametrize('text', [_YAML, _ATTRIBUTED])
def test_limits_that_name_none_of_the_joints_are_refused(tmp_path, text):
    with pytest.raises(ConfigurationError, match='limits of fr3_shoulder, fr3_elbow in .*; found shoulder, elbow'):
        load_joint_limits(_write(tmp_path, text), ('fr3_shoulder', 'fr3_elbow'))


@pytest.mark.parametrize(
    ('text', 'named'),
    [
        (_YAML.replace('max_velocity', 'max_speed'), 'max_speed'),
        (_YAML.replace('2.0', 'fast'), "'fast'"),
        (_YAML.replace('2.0', '-2.0'), 'above 0 for max_velocity of shoulder'),
        (_YAML.replace('2.0', '.nan'), 'nan'),
        (_DEGREES.replace('-360.0', 'half'), "!degrees before 'half'"),
        (_DEGREES.replace('-360.0', '.nan'), 'nan'),
        (_DEGREES.replace('!degrees', '!turns'), '!turns'),
        (_ATTRIBUTED.replace('velocity', 'speed'), 'speed'),
        (_ATTRIBUTED.replace('2.62', '-2.62'), 'above 0 for velocity of shoulder'),
        (_ATTRIBUTED.replace('2.62', 'fast'), "'fast'"),
        ('limits: {}', 'joint_limits at the top'),
        ('joint_limits: {shoulder: 3}', 'known limits of shoulder'),
        ('joint_limits: [', 'joint limits in YAML'),
    ],
)
def test_unfit_joint_limits_are_refused_by_name(tmp_path, text, named):
    with pytest.raises(ConfigurationError, match=named):
        load_joint_limits(_write(tmp_path, text), ('shoulder',))


def test_an_absent_file_is_named():
    with pytest.raises(ConfigurationError, match='nowhere.yaml'):
        load_joint_limits('nowhere.yaml', ('shoulder',))
