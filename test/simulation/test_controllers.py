"""The rules of ros2_control's controllers: which commands they take, which they refuse, where they lead the servos."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, InterfaceError, ModelError
from vdd_ros.sim.controllers import GripperController, PositionController, TrajectoryController, claimant
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.trajectory import Trajectory, TrajectoryGoal, Waypoint

_S = 1_000_000_000

_SCENE = """
<mujoco>
  <worldbody>
    <body><joint name="a" type="slide"/><geom size="0.1" mass="1"/></body>
    <body pos="1 0 0"><joint name="b" type="slide"/><geom size="0.1" mass="1"/></body>
    <body pos="2 0 0"><joint name="c" type="slide"/><geom size="0.1" mass="1"/></body>
  </worldbody>
  <actuator>
    <position name="b" joint="b" kp="100" kv="20"/>
    <position name="a" joint="a" kp="100" kv="20"/>
    <motor name="c" joint="c"/>
  </actuator>
</mujoco>
"""


@pytest.fixture
def simulation() -> Simulation:
    """Return two joints on servos, declared in another order than their servos, and one on a motor."""
    return Simulation(mujoco.MjModel.from_xml_string(_SCENE), ('a', 'b'))


def follower(simulation: Simulation, **settings: bool) -> TrajectoryController:
    """Return a started trajectory controller of joints b and a."""
    controller = TrajectoryController('arm', simulation, ('b', 'a'), **settings)
    controller.start()
    return controller


def goal(positions: list, times: list, joints: tuple = ('b', 'a'), stamp: float = 0, **more: object) -> TrajectoryGoal:
    """Return a goal with times and stamp in seconds."""
    arrays = {name: np.array(rows, dtype=float) for name, rows in more.items()}
    nanoseconds = (np.array(times) * _S).astype(np.int64)
    return TrajectoryGoal(joints, round(stamp * _S), nanoseconds, np.array(positions, dtype=float), **arrays)


def commanded(simulation: Simulation, controller: TrajectoryController, seconds: float) -> list[float]:
    """Return what joints b and a are commanded to at a time."""
    controller.update(round(seconds * _S))
    return [float(simulation.data.actuator(joint).ctrl[0]) for joint in ('b', 'a')]


def test_positions_go_to_the_joints_in_the_controller_s_order_whatever_that_of_model_and_servos(simulation):
    controller = PositionController('arm', simulation, ('b', 'a'))
    controller.start()
    controller.accept(controller.check(np.array([0.2, 0.1])), 0)
    controller.update(0)
    assert (simulation.data.actuator('a').ctrl[0], simulation.data.actuator('b').ctrl[0]) == (0.1, 0.2)


def test_a_controller_that_starts_holds_the_joints_where_they_are(simulation):
    simulation.reset(np.array([0.3, 0.4]))
    simulation.data.ctrl[:] = 0
    for kind in (PositionController, TrajectoryController):
        controller = kind('arm', simulation, ('a', 'b'))
        controller.start()
        controller.update(0)
        np.testing.assert_array_equal(simulation.command, [0.3, 0.4])


@pytest.mark.parametrize('values', [[0.1], [0.1, 0.2, 0.3], [np.nan, 0.1], [0.1, np.inf]])
def test_positions_of_the_wrong_number_or_not_finite_are_refused(simulation, values):
    with pytest.raises(InterfaceError, match=r'2 numbers \(b, a\)|finite numbers'):
        PositionController('arm', simulation, ('b', 'a')).check(np.array(values))


def test_a_gripper_opens_by_its_share_of_the_stroke_and_no_further(simulation):
    controller = GripperController('hand', simulation, {'a': (0.0, 0.04), 'c': (255.0, 0.0)}, 0.08)
    controller.start()
    controls = []
    for opening in (0.0, 0.04, 0.08, 1.0, -1.0):
        controller.accept(controller.check(np.array([opening])), 0)
        controller.update(0)
        controls.append((simulation.data.actuator('a').ctrl[0], simulation.data.actuator('c').ctrl[0]))
    np.testing.assert_allclose(controls, [(0, 255), (0.02, 127.5), (0.04, 0), (0.04, 0), (0, 255)])
    for wrong in ([], [0.1, 0.2], [np.nan]):
        with pytest.raises(InterfaceError):
            controller.check(np.array(wrong))


def test_positions_alone_are_joined_by_straight_lines_from_where_the_arm_is_measured(simulation):
    simulation.reset(np.array([0.0, 0.5]))
    controller = follower(simulation)
    # Accepted at 10 s with stamp zero: now.
    controller.accept(goal([[1.5, 1.0], [1.5, 3.0]], [1.0, 2.0]), 10 * _S)
    assert commanded(simulation, controller, 10.0) == [0.5, 0.0]
    assert commanded(simulation, controller, 10.5) == [1.0, 0.5]
    assert commanded(simulation, controller, 11.5) == [1.5, 2.0]
    assert commanded(simulation, controller, 12.0) == [1.5, 3.0]
    assert commanded(simulation, controller, 99.0) == [1.5, 3.0]


def test_joints_of_a_goal_may_come_in_any_order(simulation):
    controller = follower(simulation)
    controller.accept(goal([[1.0, 2.0]], [1.0], joints=('a', 'b')), 0)
    assert commanded(simulation, controller, 1.0) == [2.0, 1.0]


def test_a_stamped_goal_runs_in_its_own_time_and_is_joined_where_it_is_by_now(simulation):
    controller = follower(simulation)
    late = goal([[1.0, 0.0], [2.0, 0.0], [3.0, 0.0]], [1.0, 2.0, 3.0], stamp=10.0)
    controller.accept(late, round(11.5 * _S))
    # Two points are still to come: from the measured 0 at 11.5 s to 2 at 12 s is not asked for, the way is on the line.
    assert commanded(simulation, controller, 11.5) == [1.5, 0.0]
    assert commanded(simulation, controller, 12.5) == [2.5, 0.0]

    controller.accept(goal([[4.0, 0.0]], [1.0], stamp=20.0), 19 * _S)
    # The way to the first point begins when the goal is accepted.
    assert commanded(simulation, controller, 20.0) == [2.0, 0.0]


def test_a_new_goal_replaces_the_one_under_way_from_the_measured_or_the_desired_state(simulation):
    for settings, start in (({}, 0.0), ({'from_desired': True}, 1.0)):
        controller = follower(simulation, **settings)
        controller.accept(goal([[2.0, 0.0]], [2.0]), 0)
        commanded(simulation, controller, 1.0)
        controller.accept(goal([[0.0, 0.0]], [1.0]), _S)
        # The simulation did not move: it is still measured at zero, and desired at one.
        assert commanded(simulation, controller, 1.0) == [start, 0.0]
        assert commanded(simulation, controller, 2.0) == [0.0, 0.0]


def test_what_a_partial_goal_leaves_out_stays_where_it_is(simulation):
    simulation.reset(np.array([0.7, 0.0]))
    controller = follower(simulation, partial=True)
    controller.accept(goal([[1.0]], [1.0], joints=('b',), velocity=[[0.0]]), 0)
    for seconds in (0.0, 0.5, 1.0):
        assert commanded(simulation, controller, seconds)[1] == 0.7
    assert commanded(simulation, controller, 1.0)[0] == 1.0


@pytest.mark.parametrize('degree', [3, 5])
def test_with_velocities_a_cubic_is_followed_exactly_and_with_accelerations_a_quintic(degree):
    """Hermite interpolation of a polynomial of that degree is the polynomial itself."""
    polynomial = np.polynomial.Polynomial(np.random.default_rng(0).normal(size=degree + 1))
    velocity, acceleration = polynomial.deriv(), polynomial.deriv(2)

    def point(seconds: float) -> Waypoint:
        values = [np.array([f(seconds)]) for f in (polynomial, velocity, acceleration)]
        return Waypoint(round(seconds * _S), *(values if degree == 5 else values[:2]))

    trajectory = Trajectory(point(0.0), [point(0.4), point(1.0)])
    for seconds in np.linspace(0, 0.999, 37):
        position, speed = trajectory.at(round(seconds * _S))
        np.testing.assert_allclose([position[0], speed[0]], [polynomial(seconds), velocity(seconds)], atol=1e-7)
    assert trajectory.at(2 * _S)[1] == 0


def test_a_point_that_has_no_velocity_is_reached_by_a_straight_line(simulation):
    controller = follower(simulation)
    rows = [[np.nan, np.nan], [0.0, 0.0]]
    controller.accept(goal([[1.0, 0.0], [2.0, 0.0]], [1.0, 2.0], velocity=rows), 0)
    assert commanded(simulation, controller, 0.5) == [0.5, 0.0]
    assert commanded(simulation, controller, 1.5) == [1.5, 0.0]


_GOOD = [[0.1, 0.2], [0.3, 0.4]]


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (goal(_GOOD, [1, 2], joints=('b', 'z')), 'found b, z'),
        (goal([[0.1]], [1], joints=('b',)), 'found no a'),
        (goal(_GOOD, [1, 2], joints=('b', 'b')), 'without repetition'),
        (goal(np.zeros((1, 0)), [1], joints=()), 'no joint names'),
        (goal(np.zeros((0, 2)), []), 'trajectory with points'),
        (goal([[0.1], [0.2]], [1, 2]), '2 values in each of 2 points'),
        (goal(_GOOD, [1, 2], velocity=[[0.0], [0.0]]), '2 values in each'),
        (goal(_GOOD, [1, 1]), r'from zero; found 1000000000 ns at point 1'),
        (goal(_GOOD, [-1, 1]), r'from zero; found -1000000000 ns at point 0'),
        (goal(_GOOD, [2, 1]), 'ascends strictly'),
        (goal([[0.1, np.nan], [0.3, 0.4]], [1, 2]), 'finite numbers'),
        (goal([[np.nan, np.nan], [0.3, 0.4]], [1, 2]), 'finite numbers'),
        (goal(_GOOD, [1, 2], velocity=[[np.inf, 0], [0, 0]]), 'finite numbers'),
        (goal(_GOOD, [1, 2], velocity=[[0, 0], [0, 0.1]]), 'last point without velocity'),
        (goal(_GOOD, [1, 2], stamp=7.9), 'ends after now, 10000000000 ns; found an end at 9900000000 ns'),
    ],
)
def test_a_goal_that_joint_trajectory_controller_refuses_is_refused_and_the_old_one_continues(simulation, wrong, named):
    controller = follower(simulation)
    controller.accept(goal([[1.0, 1.0]], [10.0]), 10 * _S)
    with pytest.raises(InterfaceError, match=named):
        controller.accept(wrong, 10 * _S)
    assert commanded(simulation, controller, 15.0) == [0.5, 0.5]


def test_what_is_refused_by_default_is_accepted_where_the_settings_allow_it(simulation):
    moving = goal(_GOOD, [1, 2], velocity=[[0, 0], [0, 0.1]])
    follower(simulation, moving_end=True).check(moving, 0)
    follower(simulation, partial=True).check(goal([[0.1]], [1], joints=('b',)), 0)
    # That it ends just now is not past.
    follower(simulation).check(goal(_GOOD, [1, 2], stamp=8.0), 10 * _S)


def test_a_joint_belongs_to_one_active_controller_only(simulation):
    arm, other = PositionController('arm', simulation, ('a', 'b')), TrajectoryController('other', simulation, ('b',))
    hand = GripperController('hand', simulation, {'c': (0, 1)}, 1.0)
    everyone = (arm, other, hand)
    assert claimant(everyone, arm) is None
    arm.active = True
    assert claimant(everyone, other) == (arm, 'b')
    assert claimant(everyone, arm) is None and claimant(everyone, hand) is None


def test_joints_that_no_controller_can_have_are_named(simulation):
    with pytest.raises(ConfigurationError, match='distinct joints for controller .*; found a twice'):
        PositionController('arm', simulation, ('a', 'b', 'a'))
    with pytest.raises(ModelError, match='joint elbow in the scene; found a, b, c'):
        TrajectoryController('arm', simulation, ('a', 'elbow'))
    with pytest.raises(ModelError, match='position servo on joint c'):
        PositionController('arm', simulation, ('c',))
    with pytest.raises(ModelError, match='actuator finger in the scene; found b, a, c'):
        GripperController('hand', simulation, {'finger': (0, 1)}, 1.0)


_MENAGERIE = """
<mujoco>
  <option integrator="implicitfast"/>
  <default>
    <general dyntype="none" biastype="affine"/>
  </default>
  <worldbody>
    <body gravcomp="1"><joint name="joint1" axis="0 0 1" armature="0.1"/><geom size="0.05" mass="2"/>
      <body name="left" gravcomp="1"><joint name="left" type="slide" axis="0 1 0" range="0 0.04" damping="10"/>
        <geom size="0.01" mass="0.1" contype="0" conaffinity="0"/></body>
      <body name="right" gravcomp="1"><joint name="right" type="slide" axis="0 -1 0" range="0 0.04" damping="10"/>
        <geom size="0.01" mass="0.1" contype="0" conaffinity="0"/></body>
    </body>
  </worldbody>
  <tendon>
    <fixed name="split"><joint joint="left" coef="0.5"/><joint joint="right" coef="0.5"/></fixed>
  </tendon>
  <equality><joint joint1="left" joint2="right"/></equality>
  <actuator>
    <general name="actuator1" joint="joint1" gainprm="4500" biasprm="0 -4500 -450"/>
    <general name="actuator8" tendon="split" gainprm="0.01568627451 0 0" biasprm="0 -100 -10" ctrlrange="0 255"/>
  </actuator>
</mujoco>
"""


def test_servos_and_grippers_as_menagerie_writes_them_are_understood():
    """Its servos are general actuators with an affine bias; its hand is one actuator, from 0 to 255, on a tendon."""
    simulation = Simulation(mujoco.MjModel.from_xml_string(_MENAGERIE), ('joint1', 'left'), passive=('left',))
    arm = PositionController('arm', simulation, ('joint1',))
    hand = GripperController('hand', simulation, {'actuator8': (0, 255)}, 0.08)
    for controller, goal in ((arm, 0.4), (hand, 0.08)):
        controller.start()
        controller.accept(controller.check(np.array([goal])), 0)
        controller.update(0)
    simulation.step(3 * _S)
    np.testing.assert_allclose(simulation.position, [0.4, 0.04], atol=2e-3)
