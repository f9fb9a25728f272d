"""The Placing task: a UR5e of primitive shapes, a gripper that holds, 12 modes of putting a pan into a tray."""

from __future__ import annotations

import numpy as np
import pytest
from matplotlib.figure import Figure

from vdd_ros.common.errors import ConfigurationError, ContractError
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import load_contract
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import Teleoperation, demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.sim.tasks.placing import layout
from vdd_ros.sim.tasks.placing.demonstrator import DemonstratorSettings
from vdd_ros.sim.tasks.placing.task import Placing

# d, a [m] and alpha [rad] of each joint, as Universal Robots publishes them for the UR5e.
_DENAVIT_HARTENBERG = (
    (0.1625, 0.0, np.pi / 2),
    (0.0, -0.425, 0.0),
    (0.0, -0.3922, 0.0),
    (0.1333, 0.0, np.pi / 2),
    (0.0997, 0.0, -np.pi / 2),
    (0.0996, 0.0, 0.0),
)
_HAND = 0.16


@pytest.fixture(scope='module')
def task() -> Placing:
    """Return the task."""
    return load_task('placing')


@pytest.fixture(scope='module')
def kinematics(task: Placing) -> Kinematics:
    """Return those of the arm."""
    return Kinematics(model_path('ur5e'), task.tool, task.joints)


def test_arm_has_the_kinematics_of_a_ur5e(kinematics: Kinematics):
    joints = np.random.default_rng(0).uniform(-np.pi, np.pi, (20, 6))
    for angles in joints:
        # base_link, the world of ROS, is turned by half a turn against the base of the parameters.
        pose = np.diag([-1.0, -1.0, 1.0, 1.0])
        for angle, (d, a, alpha) in zip(angles, _DENAVIT_HARTENBERG):
            (c, s), (ca, sa) = (np.cos(angle), np.sin(angle)), (np.cos(alpha), np.sin(alpha))
            pose = pose @ [[c, -s * ca, s * sa, a * c], [s, c * ca, -c * sa, a * s], [0, sa, ca, d], [0, 0, 0, 1]]
        tip = (pose @ [0, 0, _HAND, 1])[:3]
        # Quaternions in the model are rounded to single precision in places.
        np.testing.assert_allclose(kinematics.tool_position([*angles, 0.02]), tip, atol=1e-6)


def test_arm_has_the_limits_of_a_ur5e(kinematics: Kinematics):
    np.testing.assert_allclose(kinematics.upper, [2 * np.pi] * 2 + [np.pi] + [2 * np.pi] * 3 + [0.0425], rtol=1e-5)
    np.testing.assert_allclose(kinematics.lower, [*-kinematics.upper[:6], 0.0])
    np.testing.assert_allclose(kinematics.velocity_limits, [np.pi] * 6 + [0.075], rtol=1e-5)


def test_scene_is_as_in_the_layout(task: Placing):
    model = task.simulation().model
    np.testing.assert_allclose(model.body('post').pos[:2], layout.POST)
    assert model.geom('post').size[0] == layout.POST_RADIUS
    np.testing.assert_allclose(model.body('pan').pos, [*layout.PAN, layout.PAN_REST])
    np.testing.assert_allclose(model.geom('pan').size, [*layout.PAN_SIZE, layout.PAN_REST])
    for name, y in layout.HANDLES.items():
        np.testing.assert_allclose(model.geom(f'handle_{name}').pos, [0, y, 0])
        np.testing.assert_allclose(model.geom(f'handle_{name}').size[:2], layout.HANDLE_SIZE)
    for name, x in layout.TRAYS.items():
        np.testing.assert_allclose(model.body(f'tray_{name}').pos, [x, layout.TRAY_Y, 0])
        assert layout.tray_at(np.array([x, layout.TRAY_Y])) == name
    assert layout.tray_at(np.array([0.42, layout.TRAY_Y])) is None
    assert layout.tray_at(np.array([0.50, 0.1])) is None
    # The gripper opens to 85 mm and cannot take the pan by its middle.
    assert 2 * layout.PAN_SIZE[0] > 2 * 0.0425


def test_arm_starts_pointing_down_above_the_pan(task: Placing, kinematics: Kinematics):
    simulation = task.simulation()
    np.testing.assert_allclose(simulation.site_position(task.tool), layout.START, atol=1e-6)
    np.testing.assert_allclose(simulation.position[-1], layout.OPEN)
    down = kinematics.tool_orientation(simulation.position)
    np.testing.assert_allclose(np.abs(down), [0, np.sqrt(0.5), np.sqrt(0.5), 0], atol=1e-6)


def test_one_round_of_demonstrations_takes_every_mode_and_succeeds(task: Placing):
    episodes = demonstrate(task, load_contract('placing_cartesian'), 12, seed=1)
    assert all(episode.success for episode in episodes)
    assert sorted(episode.labels['mode'] for episode in episodes) == sorted(layout.MODE_NAMES)
    assert len(layout.MODE_NAMES) == 12
    for episode in episodes:
        # The hand goes down, takes, lifts and carries, and lets go in the end.
        fingers = episode.observation[:, 3]
        assert fingers[0] == layout.OPEN and fingers.min() == pytest.approx(layout.CLOSED)
        assert fingers[-1] == pytest.approx(layout.OPEN)


@pytest.mark.parametrize('contract', ['placing_cartesian', 'placing_joint'])
def test_rows_of_a_demonstration_add_up_gripper_included(task: Placing, contract: str):
    contract = load_contract(contract)
    episode = demonstrate(task, contract, 1, seed=2)[0]
    commanded = episode.observation[:, -contract.action_size :]
    np.testing.assert_allclose(np.diff(commanded, axis=0), episode.action[:-1], atol=1e-12)
    largest = np.abs(episode.action[:, -1]).max()
    # The script moves the fingers by steps; smoothing in time takes a little off the fastest.
    assert 0.9 * DemonstratorSettings().grip_step < largest <= DemonstratorSettings().grip_step * (1 + 1e-9)


def test_equal_seeds_give_equal_demonstrations_to_the_last_bit(task: Placing):
    contract = load_contract('placing_joint')
    first, second = (demonstrate(load_task('placing'), contract, 1, seed=4)[0] for _ in range(2))
    np.testing.assert_array_equal(first.observation, second.observation)
    other = demonstrate(task, contract, 1, seed=5)[0]
    assert len(other) != len(first) or not np.array_equal(other.observation, first.observation)


def _carried(task: Placing, kinematics: Kinematics, *points: tuple[float, float, float, float]) -> tuple[str, object]:
    """Command the hand from point to point, x, y, z, finger [m], by 10 mm and 3 mm; return verdict and referee."""
    simulation, success_detector = task.simulation(), task.new_success_detector()
    joints, verdict = simulation.position, 'running'
    orientation = kinematics.tool_orientation(joints)
    hand = np.array([*layout.START, layout.OPEN])
    for point in points:
        motion = np.array(point) - hand
        steps = max(1, int(np.ceil(max(np.linalg.norm(motion[:3]) / 0.010, abs(motion[3]) / 0.003))))
        for share in np.arange(1, steps + 1) / steps:
            goal = hand + share * motion
            joints = kinematics.solve(goal[:3], orientation, joints)
            joints[-1] = goal[3]
            simulation.set_command(joints)
            simulation.step(task.period)
            verdict = success_detector.judge(simulation)
            if verdict != 'running':
                return verdict, success_detector
        hand = np.array(point)
    return verdict, success_detector


_X, _Y = layout.PAN[0], layout.PAN[1] + layout.HANDLES['left']
_GRIP = layout.GRIP_HEIGHT
_TAKEN = (
    (_X, _Y, 0.10, layout.OPEN),
    (_X, _Y, _GRIP, layout.OPEN),
    (_X, _Y, _GRIP, layout.CLOSED),
    (_X, _Y, 0.16, layout.CLOSED),
)


@pytest.mark.parametrize(
    ('points', 'verdict', 'mode'),
    [
        # Straight through the post.
        ([*_TAKEN, (_X, 0.2, 0.16, layout.CLOSED)], 'failure', None),
        # Dropped beside the trays.
        ([*_TAKEN, (_X, _Y, _GRIP, layout.CLOSED), (_X, _Y, _GRIP, layout.OPEN)], 'failure', None),
        # Carried outside past the post and into the tray.
        (
            [
                *_TAKEN,
                (0.63, -0.12, 0.16, layout.CLOSED),
                (0.63, 0.12, 0.16, layout.CLOSED),
                (0.66, 0.30, 0.10, layout.CLOSED),
                (0.66, 0.30, _GRIP + 0.003, layout.CLOSED),
                (0.66, 0.30, _GRIP + 0.003, layout.OPEN),
            ],
            'success',
            'left-outside-far',
        ),
        # By the middle, where the pan is wider than the gripper: it is not lifted.
        (
            [(_X, layout.PAN[1], 0.10, layout.OPEN), (_X, layout.PAN[1], 0.05, layout.OPEN)]
            + [(_X, layout.PAN[1], 0.05, layout.CLOSED), (_X, layout.PAN[1], 0.16, layout.CLOSED)],
            'running',
            None,
        ),
    ],
)
def test_success_detector_judges_what_became_of_the_pan(task: Placing, kinematics: Kinematics, points, verdict, mode):
    found, success_detector = _carried(task, kinematics, *points)
    assert found == verdict
    assert (None if success_detector.mode is None else layout.MODE_NAMES[success_detector.mode]) == mode


def test_contract_without_the_gripper_is_refused(task: Placing):
    arm = Kinematics(model_path('ur5e'), task.tool, task.joints[:6])
    with pytest.raises(ContractError, match='gripper'):
        Teleoperation(arm, task, task.new_demonstrator(np.random.default_rng(0)))


def test_settings_that_lead_nowhere_are_refused():
    with pytest.raises(ConfigurationError):
        DemonstratorSettings(step=0.0)


def test_drawing_shows_post_and_trays(task: Placing):
    axes = Figure().add_subplot()
    task.draw(axes)
    assert any(getattr(patch, 'radius', None) == layout.POST_RADIUS for patch in axes.patches)
    assert {text.get_text() for text in axes.texts} == set(layout.TRAYS)
