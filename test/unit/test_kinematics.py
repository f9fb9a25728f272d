"""Kinematics: forward against the published chain, inverse against forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdd_ros.contract import load_contract
from vdd_ros.errors import ModelError
from vdd_ros.kinematics import ORIENTATION_TOLERANCE, POSITION_TOLERANCE, Kinematics
from vdd_ros.share import model_path

# Franka's own table: a, d, alpha of joints 1 to 7 and of the flange (modified Denavit-Hartenberg).
_A = (0, 0, 0, 0.0825, -0.0825, 0, 0.088, 0)
_D = (0.333, 0, 0.316, 0, 0.384, 0, 0, 0.107)
_ALPHA = (0, -np.pi / 2, np.pi / 2, np.pi / 2, -np.pi / 2, np.pi / 2, np.pi / 2, 0)
# The hand is turned by -45 degrees on the flange, and its tool point lies 0.1034 m in front of it.
_HAND_TURN, _HAND_LENGTH = -np.pi / 4, 0.1034
_HOME = np.array([0, -0.785398, 0, -2.356194, 0, 1.570796, 0.785398])
_DOWN = np.array([0.0, 1.0, 0.0, 0.0])

_TWO_LINKS = """
<robot name="two_links">
  <material name="grey"/>
  <link name="base"><visual><geometry><mesh filename="package://absent/base.dae"/></geometry></visual></link>
  <link name="upper"/>
  <link name="lower"><collision><geometry><mesh filename="package://absent/lower.stl"/></geometry></collision></link>
  <link name="tip"/>
  <joint name="shoulder" type="revolute">
    <parent link="base"/><child link="upper"/><axis xyz="0 0 1"/>
    <limit lower="-1" upper="2" effort="5" velocity="1.5"/>
  </joint>
  <joint name="elbow" type="continuous">
    <parent link="upper"/><child link="lower"/><origin xyz="0.4 0 0"/><axis xyz="0 0 1"/>
  </joint>
  <joint name="mount" type="fixed"><parent link="lower"/><child link="tip"/><origin xyz="0.3 0 0"/></joint>
  <transmission name="ignored"/>
</robot>
"""

_WITH_FINGER = """
<mujoco>
  <compiler angle="radian"/>
  <worldbody>
    <body><joint name="first" axis="0 0 1" range="-3 3" limited="true"/><geom size="0.1"/>
      <body pos="0.5 0 0"><joint name="second" axis="0 1 0"/><geom size="0.1"/>
        <body pos="0.5 0 0"><joint name="finger" type="slide" axis="1 0 0" ref="0.02"/><geom size="0.1"/>
          <site name="tip" pos="0.1 0 0"/>
        </body>
      </body>
    </body>
    <body><freejoint name="loose"/><geom size="0.1"/></body>
  </worldbody>
</mujoco>
"""


@pytest.fixture(scope='module')
def panda() -> Kinematics:
    """Return the arm of the shipped contracts."""
    return Kinematics.from_contract(load_contract('avoiding_cartesian'))


def _frame(a: float, d: float, alpha: float, theta: float) -> np.ndarray:
    c, s, ca, sa = np.cos(theta), np.sin(theta), np.cos(alpha), np.sin(alpha)
    return np.array([[c, -s, 0, a], [s * ca, c * ca, -sa, -d * sa], [s * sa, c * sa, ca, d * ca], [0, 0, 0, 1]])


def _chain(joints: np.ndarray) -> np.ndarray:
    pose = np.eye(4)
    for a, d, alpha, theta in zip(_A, _D, _ALPHA, [*joints, _HAND_TURN]):
        pose = pose @ _frame(a, d, alpha, theta)
    return pose @ _frame(0, _HAND_LENGTH, 0, 0)


def _rotation(quaternion: np.ndarray) -> np.ndarray:
    w, *v = quaternion
    x, y, z = v
    skew = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + 2 * w * skew + 2 * skew @ skew


def test_tool_pose_is_that_of_the_published_chain(panda: Kinematics):
    joints = np.random.default_rng(0).uniform(panda.lower, panda.upper, (50, 7))
    positions = panda.tool_position(joints)
    for row, position in zip(joints, positions):
        pose = _chain(row)
        # MuJoCo normalises in float64; the angle of the hand is written with eleven digits.
        np.testing.assert_allclose(position, pose[:3, 3], atol=1e-9)
        np.testing.assert_allclose(_rotation(panda.tool_orientation(row)), pose[:3, :3], atol=1e-9)


def test_tool_position_keeps_leading_dimensions(panda: Kinematics):
    joints = np.random.default_rng(1).uniform(panda.lower, panda.upper, (2, 3, 7))
    positions = panda.tool_position(joints)
    assert positions.shape == (2, 3, 3)
    np.testing.assert_array_equal(positions[1, 2], panda.tool_position(joints[1, 2]))
    assert panda.tool_position(np.empty((0, 7))).shape == (0, 3)


def test_limits_are_the_franka_s(panda: Kinematics):
    np.testing.assert_array_equal(panda.upper, [2.8973, 1.7628, 2.8973, -0.0698, 2.8973, 3.7525, 2.8973])
    np.testing.assert_array_equal(panda.lower, [-2.8973, -1.7628, -2.8973, -3.0718, -2.8973, -0.0175, -2.8973])
    np.testing.assert_array_equal(panda.velocity_limits, [2.175] * 4 + [2.61] * 3)
    np.testing.assert_array_equal(panda.acceleration_limits, [15, 7.5, 10, 12.5, 15, 20, 20])


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6))
def test_solve_reaches_a_pose_within_its_tolerances(panda: Kinematics, seed: int):
    generator = np.random.default_rng(seed)
    joints = _HOME + generator.uniform(-0.4, 0.4, 7)
    near = joints + generator.uniform(-0.1, 0.1, 7)
    position, orientation = panda.tool_position(joints), panda.tool_orientation(joints)
    found = panda.solve(position, orientation, near)
    assert np.linalg.norm(panda.tool_position(found) - position) < POSITION_TOLERANCE
    difference = _rotation(panda.tool_orientation(found)).T @ _rotation(orientation)
    # The angle by its sine, for near zero a cosine knows nothing of it: the skew part has norm sqrt(2) sin(angle).
    assert np.linalg.norm(difference - difference.T) / np.sqrt(8) < ORIENTATION_TOLERANCE


def test_steps_of_a_moving_arm_add_up(panda: Kinematics):
    """Each step of a policy sets out from where the last one ended: what every one lacked would be a lag in the end."""
    joints, orientation = _HOME, panda.tool_orientation(_HOME)
    for _ in range(25):
        joints = panda.solve(panda.tool_position(joints) + [0.0, 0.01, 0.0], orientation, joints)
    moved = panda.tool_position(joints) - panda.tool_position(_HOME)
    assert np.linalg.norm(moved - [0.0, 0.25, 0.0]) < POSITION_TOLERANCE


def test_solve_stays_where_it_is_when_it_is_there(panda: Kinematics):
    np.testing.assert_array_equal(panda.solve(panda.tool_position(_HOME), panda.tool_orientation(_HOME), _HOME), _HOME)


def test_solve_takes_the_shortest_way(panda: Kinematics):
    """To first order the change lies in the row space of the Jacobian: nothing moves that does not move the tool."""
    start, step = _HOME, 1e-4
    found = panda.solve(panda.tool_position(start) + [0, step, 0], _DOWN, start)
    jacobian = np.empty((6, 7))
    for joint in range(7):
        moved = start + 1e-6 * np.eye(7)[joint]
        jacobian[:3, joint] = (panda.tool_position(moved) - panda.tool_position(start)) / 1e-6
        turned = _rotation(panda.tool_orientation(moved)) @ _rotation(panda.tool_orientation(start)).T
        jacobian[3:, joint] = np.array([turned[2, 1], turned[0, 2], turned[1, 0]]) / 1e-6
    idle = np.linalg.svd(jacobian)[2][-1]
    # Second order in the step, with a constant below ten for an arm of a metre.
    assert abs(idle @ (found - start)) < 10 * step**2 + 1e-3 * np.linalg.norm(found - start)
    assert np.linalg.norm(found - start) > step


def test_solve_knows_nothing_of_former_calls(panda: Kinematics):
    near, far = np.array([0.4, 0.1, 0.4]), np.array([0.5, -0.3, 0.2])
    first = panda.solve(near, _DOWN, _HOME)
    panda.solve(far, _DOWN, first)
    panda.tool_position(np.zeros(7))
    np.testing.assert_array_equal(panda.solve(near, _DOWN, _HOME), first)


@pytest.mark.parametrize('far', [0.01, 0.3, 3.0], ids=['one_step', 'some_way', 'anywhere'])
def test_solution_depends_neither_on_former_calls_nor_on_the_order_of_joints(panda: Kinematics, far: float):
    generator = np.random.default_rng(5)
    for _ in range(15):
        order = generator.permutation(7)
        other = Kinematics(model_path('panda'), 'tool_point', [panda.joints[place] for place in order])
        goal = np.clip(_HOME + generator.uniform(-1, 1, 7), panda.lower, panda.upper)
        start = np.clip(goal + generator.uniform(-far, far, 7), panda.lower - 0.1, panda.upper + 0.1)
        pose = panda.tool_position(goal), panda.tool_orientation(goal)
        found = panda.solve(*pose, start)
        assert np.all((found >= panda.lower) & (found <= panda.upper))
        np.testing.assert_array_equal(other.solve(*pose, start[order]), found[order])


def test_position_of_what_was_solved_is_that_of_an_instance_that_solved_nothing(panda: Kinematics):
    fresh = Kinematics(model_path('panda'), 'tool_point', panda.joints)
    for far in (0.0, 0.01, 2.0):  # where it is, near, and out of reach
        found = panda.solve(panda.tool_position(_HOME) + [0, far, 0], _DOWN, _HOME)
        known = panda.tool_position(found)
        np.testing.assert_array_equal(known, fresh.tool_position(found))
        known += 1.0  # the caller's own
        np.testing.assert_array_equal(panda.tool_position(found), fresh.tool_position(found))
        np.testing.assert_array_equal(panda.tool_orientation(found), fresh.tool_orientation(found))


def test_position_that_was_asked_for_is_the_caller_s_own(panda: Kinematics):
    joints = _HOME + 0.123
    first = panda.tool_position(joints)
    kept = first.copy()
    first += 1.0
    second = panda.tool_position(joints)
    np.testing.assert_array_equal(second, kept)
    second += 1.0
    np.testing.assert_array_equal(panda.tool_position(joints[None])[0], kept)
    np.testing.assert_array_equal(panda.tool_position(joints), kept)


def test_solve_comes_as_near_as_it_can_to_what_is_out_of_reach(panda: Kinematics):
    target = np.array([2.0, 0.0, 0.3])
    found = panda.solve(target, _DOWN, _HOME)
    assert np.all((found >= panda.lower) & (found <= panda.upper))
    distance = np.linalg.norm(panda.tool_position([_HOME, found]) - target, axis=1)
    assert distance[1] < distance[0] - 0.3


def test_solve_leads_back_from_outside_the_limits(panda: Kinematics):
    outside = _HOME + np.array([0, 0, 0, 0, 0, 0, 3.0])
    # There the tool is in place already, and still it is no answer.
    found = panda.solve(panda.tool_position(outside), panda.tool_orientation(outside), outside)
    assert outside[6] > panda.upper[6] and np.all((found >= panda.lower) & (found <= panda.upper))


@pytest.mark.parametrize('joint', [3, 5])
def test_solve_goes_along_a_limit_that_the_free_step_would_cross(panda: Kinematics, joint: int):
    generator, crossed = np.random.default_rng(joint), 0
    for _ in range(20):
        joints = _HOME + generator.uniform(-0.3, 0.3, 7)
        joints[joint] = panda.upper[joint]
        near = np.clip(joints + generator.uniform(-0.1, 0.1, 7), panda.lower, panda.upper)
        position, orientation = panda.tool_position(joints), panda.tool_orientation(joints)
        found = panda.solve(position, orientation, near)
        assert np.all((found >= panda.lower) & (found <= panda.upper))
        assert np.linalg.norm(panda.tool_position(found) - position) < POSITION_TOLERANCE
        crossed += found[joint] > panda.upper[joint] - 1e-9
    # Of the many answers of a redundant arm, some lie at the limit itself: there the free step did not do.
    assert crossed


def test_joint_order_is_the_caller_s(panda: Kinematics):
    names = tuple(reversed(panda.joints))
    reverse = Kinematics(model_path('panda'), 'tool_point', names)
    np.testing.assert_array_equal(reverse.tool_position(_HOME[::-1]), panda.tool_position(_HOME))
    np.testing.assert_array_equal(reverse.velocity_limits, panda.velocity_limits[::-1])
    target = np.array([0.4, 0.1, 0.4])
    np.testing.assert_array_equal(reverse.solve(target, _DOWN, _HOME[::-1])[::-1], panda.solve(target, _DOWN, _HOME))


def test_urdf_needs_no_meshes_and_keeps_its_fixed_tool(tmp_path: Path):
    file = tmp_path / 'two_links.urdf'
    file.write_text(_TWO_LINKS, encoding='utf-8')
    arm = Kinematics(file, 'tip', ('shoulder', 'elbow'))
    q1, q2 = 0.3, 0.7
    closed_form = [0.4 * np.cos(q1) + 0.3 * np.cos(q1 + q2), 0.4 * np.sin(q1) + 0.3 * np.sin(q1 + q2), 0]
    np.testing.assert_allclose(arm.tool_position(np.array([q1, q2])), closed_form, atol=1e-12)
    np.testing.assert_array_equal(arm.velocity_limits, [1.5, np.inf])
    np.testing.assert_array_equal(arm.lower, [-1, -np.inf])
    orientation = arm.tool_orientation(np.array([q1, q2]))
    np.testing.assert_allclose(arm.solve(np.array(closed_form), orientation, np.array([0.2, 0.6])), [q1, q2], atol=1e-4)


def test_joints_that_are_not_named_stay_where_the_model_has_them(tmp_path: Path):
    file = tmp_path / 'with_finger.xml'
    file.write_text(_WITH_FINGER, encoding='utf-8')
    arm = Kinematics(file, 'tip', ('first', 'second'))
    joints = np.array([0.2, 0.3])
    position, orientation = arm.tool_position(joints), arm.tool_orientation(joints)
    np.testing.assert_allclose(arm.solve(position, orientation, np.array([0.1, 0.1])), joints, atol=1e-4)
    # Only the finger could reach this; it is not ours to move.
    stretched = arm.solve(np.array([1.2, 0, 0]), np.array([1.0, 0, 0, 0]), np.zeros(2))
    np.testing.assert_allclose(arm.tool_position(stretched), [1.1, 0, 0], atol=1e-6)


@pytest.mark.parametrize(
    ('text', 'tool', 'joints', 'named'),
    [
        (None, 'tip', ('first',), 'robot.xml'),
        ('<mujoco><worldbody>', 'tip', ('first',), 'robot.xml'),
        ('<mujoco><worldbody><nonsense/></worldbody></mujoco>', 'tip', ('first',), 'nonsense'),
        (_WITH_FINGER, 'tool0', ('first',), 'tool0'),
        (_WITH_FINGER, 'tip', ('first', 'third'), 'third'),
        (_WITH_FINGER, 'tip', ('loose',), 'hinge or slide joint loose'),
    ],
    ids=['absent', 'cut_short', 'not_mjcf', 'no_tool', 'no_joint', 'free_joint'],
)
def test_unfit_model_is_named_in_the_error(tmp_path: Path, text: str | None, tool: str, joints: tuple, named: str):
    file = tmp_path / 'robot.xml'
    if text is not None:
        file.write_text(text, encoding='utf-8')
    with pytest.raises(ModelError, match=named):
        Kinematics(file, tool, joints)
