"""Kinematics: forward against the published chain, inverse against forward."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vdd_ros.common.errors import ModelError, ReachError
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import ToolWeights, load_contract
from vdd_ros.robot.kinematics import MAX_ITERATIONS, ORIENTATION_TOLERANCE, POSITION_TOLERANCE, USUAL_SPEED, Kinematics

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


def test_solve_takes_the_nearest_solution(panda: Kinematics):
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


def test_solve_does_not_depend_on_former_calls(panda: Kinematics):
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
        found = panda.nearest(*pose, start).joints
        assert np.all((found >= panda.lower) & (found <= panda.upper))
        np.testing.assert_array_equal(other.nearest(*pose, start[order]).joints, found[order])


def test_position_of_what_was_solved_is_that_of_an_instance_that_solved_nothing(panda: Kinematics):
    fresh = Kinematics(model_path('panda'), 'tool_point', panda.joints)
    for far in (0.0, 0.01, 2.0):  # where it is, near, and out of reach
        found = panda.nearest(panda.tool_position(_HOME) + [0, far, 0], _DOWN, _HOME).joints
        known = panda.tool_position(found)
        np.testing.assert_array_equal(known, fresh.tool_position(found))
        known += 1.0  # the caller's own
        np.testing.assert_array_equal(panda.tool_position(found), fresh.tool_position(found))
        np.testing.assert_array_equal(panda.tool_orientation(found), fresh.tool_orientation(found))


def test_position_that_was_requested_is_the_caller_s_own(panda: Kinematics):
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
    solution = panda.nearest(target, _DOWN, _HOME)
    found = solution.joints
    assert np.all((found >= panda.lower) & (found <= panda.upper))
    distance = np.linalg.norm(panda.tool_position([_HOME, found]) - target, axis=1)
    assert distance[1] < distance[0] - 0.3
    assert (
        not solution.reached
        and solution.distance == pytest.approx(distance[1])
        and 'away from its pose' in solution.reason
    )
    with pytest.raises(ReachError, match='mm'):
        panda.solve(target, _DOWN, _HOME)


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
    stretched = arm.nearest(np.array([1.2, 0, 0]), np.array([1.0, 0, 0, 0]), np.zeros(2))
    np.testing.assert_allclose(arm.tool_position(stretched.joints), [1.1, 0, 0], atol=1e-6)
    assert stretched.reason.endswith('out of reach') and stretched.distance == pytest.approx(0.1)


_INERTIAL = '<inertial><mass value="1"/><inertia ixx=".01" iyy=".01" izz=".01" ixy="0" ixz="0" iyz="0"/></inertial>'


def _serial_arm(folder: Path, axes: list[str], mimic: str = '', finger: float | None = None) -> Path:
    """Write an arm of links of 0.2 m whose joints turn by at most 1.5 rad; the tool is 0.1 m before the last one."""
    text = '<robot name="arm"><link name="l0"/>'
    for number, axis in enumerate(axes, 1):
        text += f"""<link name="l{number}">{_INERTIAL}</link><joint name="j{number}" type="revolute">
        <parent link="l{number - 1}"/><child link="l{number}"/><origin xyz="0 0 .2"/><axis xyz="{axis}"/>
        <limit lower="-1.5" upper="1.5" effort="50" velocity="2"/>{mimic if number == len(axes) else ''}</joint>"""
    text += f"""<link name="tool"/><joint name="mount" type="fixed"><parent link="l{len(axes)}"/><child link="tool"/>
    <origin xyz="0 0 .1"/></joint>"""
    if finger is not None:
        text += f"""<link name="finger">{_INERTIAL}</link><joint name="finger" type="prismatic"><parent link="tool"/>
        <child link="finger"/><axis xyz="0 1 0"/><limit lower="{finger}" upper="0.06" effort="5" velocity="1"/>
        </joint>"""
    file = folder / 'arm.urdf'
    file.write_text(text + '</robot>', encoding='utf-8')
    return file


_SIX = ['0 0 1', '0 1 0', '0 1 0', '1 0 0', '0 1 0', '1 0 0']


def test_a_finger_outside_its_range_changes_no_answer_of_the_arm(tmp_path: Path):
    names = [f'j{number}' for number in range(1, 7)]
    arms = [Kinematics(_serial_arm(tmp_path, _SIX, finger=least), 'l6', names) for least in (0.0, 0.02)]
    generator = np.random.default_rng(0)
    for _ in range(100):
        start = generator.uniform(-1.5, 1.5, 6)
        goal = np.clip(start + generator.normal(size=6) * 0.15, -1.5, 1.5)
        pose = arms[0].tool_position(goal), arms[0].tool_orientation(goal)
        found = [arm.solve(*pose, start) for arm in arms]
        np.testing.assert_array_equal(found[0], found[1])
        assert np.linalg.norm(arms[0].tool_position(found[0]) - pose[0]) < POSITION_TOLERANCE


def test_a_joint_that_mimics_another_moves_the_tool_with_it(tmp_path: Path):
    mimic = '<mimic joint="j2" multiplier="-1" offset="0.1"/>'
    arm = Kinematics(_serial_arm(tmp_path, ['0 0 1', '0 1 0', '0 1 0'], mimic), 'tool', ['j1', 'j2'])
    turn, tip = 0.5, 0.1
    closed_form = [0.2 * np.sin(turn) + tip * np.sin(0.1), 0, 0.4 + 0.2 * np.cos(turn) + tip * np.cos(0.1)]
    np.testing.assert_allclose(arm.tool_position(np.array([0.0, turn])), closed_form, atol=1e-12)
    # The tool keeps its pitch: two joints reach every place of their surface.
    goal = np.array([0.3, -0.4])
    found = arm.solve(arm.tool_position(goal), arm.tool_orientation(goal), np.array([0.1, 0.2]))
    np.testing.assert_allclose(found, goal, atol=1e-4)
    # Whichever of the two is commanded, the other follows.
    other = Kinematics(tmp_path / 'arm.urdf', 'tool', ['j1', 'j3'])
    np.testing.assert_allclose(other.tool_position(np.array([0.0, 0.1 - turn])), closed_form, atol=1e-12)


def test_an_equality_of_mjcf_moves_the_tool_along_its_polynomial(tmp_path: Path):
    file = tmp_path / 'curve.xml'
    file.write_text(
        """<mujoco><worldbody><body><joint name="lead" type="slide" axis="1 0 0" ref="0.1"/><geom size="0.1"/>
        <body><joint name="follow" type="slide" axis="0 0 1"/><geom size="0.1"/><site name="tip"/></body></body>
        </worldbody><equality><joint joint1="follow" joint2="lead" polycoef="0.2 0.5 2 0 0"/></equality></mujoco>"""
    )
    arm = Kinematics(file, 'tip', ['lead'], ToolWeights(position=(1, 0, 1), rotation=(0, 0, 0)))
    np.testing.assert_allclose(arm.tool_position(np.array([0.4])), [0.3, 0, 0.2 + 0.15 + 0.18], atol=1e-12)
    found = arm.solve(arm.tool_position(np.array([0.4])), np.array([1.0, 0, 0, 0]), np.array([0.0]))
    np.testing.assert_allclose(found, [0.4], atol=1e-4)


def test_joints_that_mimic_each_other_in_a_circle_are_named(tmp_path: Path):
    text = _serial_arm(tmp_path, ['0 0 1', '0 1 0', '0 1 0'], '<mimic joint="j2"/>').read_text()
    first, second, third = text.partition('<joint name="j2" type="revolute">')
    (tmp_path / 'circle.urdf').write_text(first + second + '<mimic joint="j3"/>' + third)
    with pytest.raises(ModelError, match='a cycle of j2, j3'):
        Kinematics(tmp_path / 'circle.urdf', 'tool', ['j1'])
    (tmp_path / 'odd.urdf').write_text(text.replace('<mimic joint="j2"/>', '<mimic joint="j2" multiplier="half"/>'))
    with pytest.raises(ModelError, match='odd.urdf'):
        Kinematics(tmp_path / 'odd.urdf', 'tool', ['j1', 'j2'])


def test_no_solution_takes_more_iterations_than_its_bound_wherever_it_leads(panda: Kinematics):
    generator = np.random.default_rng(3)
    for number in range(150):
        start = generator.uniform(panda.lower - 0.2, panda.upper + 0.2)
        orientation = generator.normal(size=4)
        position = generator.normal(size=3) * (0.4 if number % 2 else 3.0)
        solution = panda.nearest(position, orientation / np.linalg.norm(orientation), start)
        assert solution.iterations <= MAX_ITERATIONS
        assert np.isfinite(solution.joints).all()
        assert solution.reached == (not solution.reason)


def test_near_a_singularity_no_joint_turns_farther_than_it_may_in_the_time(panda: Kinematics):
    most, seconds = 0.0, 0.035
    allowed = panda.step_limits(seconds)
    np.testing.assert_allclose(allowed, panda.velocity_limits * seconds)
    generator = np.random.default_rng(4)
    for _ in range(60):
        start = _HOME + generator.normal(scale=0.02, size=7)
        start[[3, 5]] = [-0.08, 0.02]  # stretched, and the wrist straight
        start = np.clip(start, panda.lower, panda.upper)
        direction = generator.normal(size=3)
        position = panda.tool_position(start) + 0.003 * direction / np.linalg.norm(direction)
        pose = position, panda.tool_orientation(start)
        most = max(most, np.abs(panda.nearest(*pose, start).joints - start).max())
        solution = panda.nearest(*pose, start, allowed)
        assert np.all(np.abs(solution.joints - start) <= allowed + 1e-12)
        # As near as that permits: never farther than by standing still.
        assert solution.distance + solution.angle <= 0.003 + 1e-9
        if solution.slowed:
            assert 'exceed the joint speed' in solution.reason and not solution.reached
    assert most > 0.5  # without the bound, 3 mm ask for this


def test_where_the_model_names_no_speed_a_usual_one_bounds_the_step(tmp_path: Path):
    file = tmp_path / 'two_links.urdf'
    file.write_text(_TWO_LINKS, encoding='utf-8')
    np.testing.assert_allclose(
        Kinematics(file, 'tip', ('shoulder', 'elbow')).step_limits(0.1), [0.15, 0.1 * USUAL_SPEED]
    )


def test_an_arm_of_four_joints_reaches_every_place_when_the_turns_are_free(tmp_path: Path):
    file, names = _serial_arm(tmp_path, ['0 0 1', '0 1 0', '0 1 0', '0 1 0']), ['j1', 'j2', 'j3', 'j4']
    rigid, free = Kinematics(file, 'tool', names), Kinematics(file, 'tool', names, ToolWeights(rotation=(0, 0, 0)))
    start = np.array([0.2, 0.4, 0.5, 0.4])
    target = free.tool_position(start) + [0.02, 0.05, -0.03]
    orientation = free.tool_orientation(start)
    assert not rigid.nearest(target, orientation, start).reached
    found = free.solve(target, orientation, start)
    assert np.linalg.norm(free.tool_position(found) - target) < POSITION_TOLERANCE


def test_an_axis_that_is_only_sought_costs_those_that_must_be_reached_nothing(tmp_path: Path):
    file, names = _serial_arm(tmp_path, ['0 0 1', '0 1 0', '0 1 0', '0 1 0']), ['j1', 'j2', 'j3', 'j4']
    start = np.array([0.2, 0.4, 0.5, 0.4])
    turned = {}
    for weight in (0.0, 0.5):
        arm = Kinematics(file, 'tool', names, ToolWeights(rotation=(weight,) * 3))
        target, orientation = arm.tool_position(start) + [0.02, 0.05, -0.03], arm.tool_orientation(start)
        found = arm.solve(target, orientation, start)
        assert np.linalg.norm(arm.tool_position(found) - target) < POSITION_TOLERANCE
        relative = _rotation(arm.tool_orientation(found)).T @ _rotation(orientation)
        turned[weight] = np.arccos(np.clip((np.trace(relative) - 1) / 2, -1, 1))
    # Position leaves one joint of the four free: it keeps the pitch, and only the yaw of the base is left.
    yaw = abs(found[0] - start[0])
    assert turned[0.5] < turned[0.0] - 0.01
    assert turned[0.5] == pytest.approx(yaw, abs=0.02)


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


def test_a_prismatic_joint_has_positions_in_metres(tmp_path):
    (tmp_path / 'arm.xml').write_text(_WITH_FINGER)
    arm = Kinematics(tmp_path / 'arm.xml', 'tip', ['first', 'finger'])
    assert arm.units_of(['finger', 'first', 'absent']) == ('m', 'rad', 'rad or m')
