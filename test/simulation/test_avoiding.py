"""The Avoiding task: where things are, who shows it, who judges."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.learning_on import WideDemonstrator, is_new
from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import load_contract
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD, Teleoperation, demonstrate
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import load_task
from vdd_ros.sim.tasks.avoiding.demonstrator import AvoidingDemonstrator, DemonstratorSettings
from vdd_ros.sim.tasks.avoiding.layout import FINISH, HEIGHT, MODE_NAMES, MODES, ROD_RADIUS, ROWS, START
from vdd_ros.sim.tasks.avoiding.success_detector import AvoidingSuccessDetector
from vdd_ros.sim.tasks.avoiding.task import Avoiding
from vdd_ros.sim.tasks.spline import monotone_spline

_TICK = 35_000_000


@pytest.fixture(scope='module')
def task() -> Avoiding:
    """Return the task."""
    return load_task('avoiding')


def _clearance(path: np.ndarray) -> float:
    """Return how far from touching a post a path of shape (point, 2) stays [m]."""
    posts = np.array([(x, row.y) for row in ROWS for x in row.posts])
    radii = np.array([row.radius + ROD_RADIUS for row in ROWS for _ in row.posts])
    return float((np.linalg.norm(path[:, None] - posts, axis=2) - radii).min())


def _show(demonstrator: AvoidingDemonstrator) -> np.ndarray:
    """Return the commanded points of one demonstration, shape (time, 2)."""
    points = [np.array([*START, HEIGHT])]
    demonstrator.begin(points[0])
    while not demonstrator.finished:
        points.append(demonstrator.command(points[-1]))
    assert np.all(np.array(points)[:, 2] == HEIGHT)
    return np.array(points)[:, :2]


def test_unknown_task_is_answered_with_the_known_ones():
    with pytest.raises(ConfigurationError, match='avoiding'):
        load_task('juggling')


def test_posts_of_the_scene_stand_as_in_the_layout(task: Avoiding):
    model = task.simulation().model
    for number, row in enumerate(ROWS, 1):
        for post, x in enumerate(row.posts, 1):
            geom = model.geom(f'post_{number}_{post}')
            np.testing.assert_array_equal(model.body(f'post_{number}_{post}').pos, [x, row.y, 0])
            np.testing.assert_array_equal(geom.pos, [0, 0, 0])
            assert geom.size[0] == row.radius
    names = [model.geom(geom).name for geom in range(model.ngeom)]
    assert sum(name.startswith('post_') for name in names) == 6
    assert model.geom('finish').pos[1] == FINISH
    np.testing.assert_array_equal(model.geom('held_rod').size[:2], [ROD_RADIUS, 0.15])


def test_free_gaps_are_those_of_the_benchmark():
    def edges(row: int) -> list[tuple[float, float]]:
        return [ROWS[row].free(gap, 0.0, 0.05) for gap in range(len(ROWS[row].gap_names))]

    np.testing.assert_allclose(edges(0), [(0.41, 0.46), (0.54, 0.59)])
    np.testing.assert_allclose(edges(1), [(0.34, 0.39), (0.46, 0.54), (0.61, 0.66)])
    np.testing.assert_allclose(edges(2), [(0.265, 0.315), (0.385, 0.465), (0.535, 0.615), (0.685, 0.735)])


def test_arm_starts_pointing_down_with_the_tool_point_in_place(task: Avoiding):
    simulation = task.simulation()
    np.testing.assert_allclose(simulation.site_position(task.tool), [*START, HEIGHT], atol=1e-9)
    start = simulation.position
    kinematics = Kinematics.from_contract(load_contract('avoiding_cartesian'))
    np.testing.assert_allclose(np.abs(kinematics.tool_orientation(start)), [0, 1, 0, 0], atol=1e-9)
    np.testing.assert_allclose(kinematics.tool_position(start), [*START, HEIGHT], atol=1e-9)


def test_rod_touches_nothing_where_it_stands_free_and_a_post_where_it_does_not(task: Avoiding):
    kinematics = Kinematics.from_contract(load_contract('avoiding_cartesian'))
    simulation = task.simulation()
    start = simulation.position
    for row in ROWS:
        for post in row.posts:
            for gap, verdict in ((-0.002, 'failure'), (0.002, 'running')):
                point = np.array([post, row.y - row.radius - ROD_RADIUS - gap, HEIGHT])
                simulation.reset(kinematics.solve(point, np.array([0.0, 1.0, 0.0, 0.0]), start))
                simulation.step(simulation.timestep)
                assert task.new_success_detector().judge(simulation) == verdict, (row.y, post, gap)


@pytest.mark.parametrize('mode', range(24))
def test_success_detector_names_the_mode_by_the_gaps_where_the_rows_are_met(mode: int):
    middles = [sum(row.free(gap, 0.0, 0.05)) / 2 for row, gap in zip(ROWS, MODES[mode])]
    success_detector = AvoidingSuccessDetector('tool_point')
    for y in np.arange(-0.28, 0.36, 0.01):
        success_detector.note(float(np.interp(y, [-0.1, 0.08, 0.26], middles)), float(y))
        assert (success_detector.mode is None) == (y < ROWS[2].y)
    assert success_detector.mode == mode
    assert MODE_NAMES[mode] == '-'.join(row.gap_names[gap] for row, gap in zip(ROWS, MODES[mode]))


def test_first_meeting_with_a_row_decides():
    success_detector = AvoidingSuccessDetector('tool_point')
    for x, y in ((0.45, -0.13), (0.55, -0.10), (0.50, 0.05), (0.30, 0.10), (0.70, 0.25), (0.70, 0.26), (0.30, 0.30)):
        success_detector.note(x, y)
    assert MODE_NAMES[success_detector.mode] == 'left-middle-rightmost'


def test_spline_is_exact_on_lines_and_overshoots_no_knot():
    knots, points = np.array([0.0, 1.0, 3.0, 3.5, 5.0]), np.linspace(0, 5, 50_001)
    np.testing.assert_allclose(monotone_spline(knots, 2 * knots - 1, points), 2 * points - 1, atol=1e-12)
    values = np.array([0.0, 2.0, 2.5, -1.0, 4.0])
    spline = monotone_spline(knots, values, points)
    np.testing.assert_allclose(monotone_spline(knots, values, knots), values, atol=1e-12)
    for low, high, left, right in zip(knots[:-1], knots[1:], values[:-1], values[1:]):
        piece = spline[(points >= low) & (points <= high)]
        assert np.all(np.diff(piece) * np.sign(right - left) >= -1e-12)


def test_spline_converges_with_second_order_at_least():
    def error(count: int) -> float:
        knots = np.linspace(0.2, 1.2, count)
        points = np.linspace(0.2, 1.2, 1000)
        return np.abs(monotone_spline(knots, np.exp(knots), points) - np.exp(points)).max()

    assert error(11) / error(21) > 4


def test_demonstrator_shows_every_mode_once_in_a_round_and_clear_of_the_posts(task: Avoiding):
    demonstrator = task.new_demonstrator(np.random.default_rng(3))
    modes = []
    for _ in range(48):
        path = _show(demonstrator)
        modes.append(demonstrator.mode)
        success_detector = AvoidingSuccessDetector(task.tool)
        for x, y in path:
            success_detector.note(x, y)
        assert success_detector.mode == demonstrator.mode
        # Half the margin is planned for; noise of 0.6 mm takes less than 3 mm of it.
        assert _clearance(path) > 0.002
        assert path[-1, 1] > FINISH + 0.015
    assert sorted(modes[:24]) == sorted(modes[24:]) == list(range(24))
    assert modes[:24] != modes[24:]


def test_steps_ramp_up_and_are_then_even(task: Avoiding):
    settings = DemonstratorSettings(noise=0.0, pace_spread=0.0)
    lengths = np.linalg.norm(np.diff(_show(AvoidingDemonstrator(np.random.default_rng(0), settings)), axis=0), axis=1)
    np.testing.assert_allclose(lengths[:8], 0.010 * np.arange(1, 9) / 8, rtol=0.02)
    # A chord is shorter than its arc; here the path turns by less than half a radian per step.
    np.testing.assert_allclose(lengths[8:-1], 0.010, rtol=0.02)


def test_disturbed_command_is_led_back_to_the_plan(task: Avoiding):
    settings = DemonstratorSettings(noise=0.0, pace_spread=0.0)
    undisturbed = _show(AvoidingDemonstrator(np.random.default_rng(5), settings))
    demonstrator = AvoidingDemonstrator(np.random.default_rng(5), settings)
    point = np.array([*START, HEIGHT])
    demonstrator.begin(point)
    distances = []
    for tick in range(40):
        point = demonstrator.command(point)
        if tick == 20:
            point = point + [0.02, 0.0, 0.0]
        distances.append(np.linalg.norm(undisturbed - point[:2], axis=1).min())
    # A share of 0.8 is left after each step, 0.8^19 = 0.014 at the end; the chords of the plan are 10 mm apart.
    assert distances[19] < 1e-9 and distances[20] > 0.015
    assert max(distances[30:]) < 0.02 * 0.8**9 + 0.005


def test_demonstrator_repeats_itself_from_the_same_seed(task: Avoiding):
    np.testing.assert_array_equal(
        _show(task.new_demonstrator(np.random.default_rng(7))), _show(task.new_demonstrator(np.random.default_rng(7)))
    )


@pytest.mark.parametrize('wrong', [{'step': 0.0}, {'persistence': 1.0}, {'ramp': 0}, {'pace_spread': 1.0}])
def test_settings_that_lead_nowhere_are_refused(wrong: dict):
    with pytest.raises(ConfigurationError):
        DemonstratorSettings(**wrong)


def test_demonstrations_succeed_in_the_intended_mode(task: Avoiding):
    episodes = demonstrate(task, load_contract('avoiding_cartesian'), 24, seed=1)
    assert all(episode.success for episode in episodes)
    assert sorted(episode.labels['mode'] for episode in episodes) == sorted(MODE_NAMES)


@pytest.mark.parametrize('contract', ['avoiding_cartesian', 'avoiding_joint'])
def test_rows_of_a_demonstration_add_up(task: Avoiding, contract: str):
    """The observation holds the command before the tick, and the action leads to the one after."""
    contract = load_contract(contract)
    progress = []
    episodes = demonstrate(task, contract, 2, seed=2, progress=lambda done, total: progress.append((done, total)))
    assert progress == [(1, 2), (2, 2)]
    for episode in episodes:
        commanded = episode.observation[:, -contract.action_size :]
        np.testing.assert_allclose(np.diff(commanded, axis=0), episode.action[:-1], atol=1e-12)
        start = START if contract.action_size == 2 else task.simulation().position
        np.testing.assert_allclose(commanded[0], start, atol=1e-9)


def test_straight_on_is_a_failure_by_contact(task: Avoiding):
    kinematics = Kinematics.from_contract(load_contract('avoiding_cartesian'))
    simulation, success_detector = task.simulation(), task.new_success_detector()
    joints, verdict, y = simulation.position, 'running', START[1]
    orientation = kinematics.tool_orientation(joints)
    while verdict == 'running':
        y += 0.01
        joints = kinematics.solve(np.array([START[0], y, HEIGHT]), orientation, joints)
        simulation.set_command(joints)
        simulation.step(_TICK)
        verdict = success_detector.judge(simulation)
    # It meets the first post, 25 mm beside its middle: at y = -.10 - sqrt(.04^2 - .025^2).
    assert verdict == 'failure' and success_detector.mode is None
    assert simulation.site_position(task.tool)[1] == pytest.approx(-0.131, abs=0.012)


def test_drawing_shows_every_post(task: Avoiding):
    axes = Figure().add_subplot()
    task.draw(axes)
    circles = [(patch.center, patch.radius) for patch in axes.patches]
    for row in ROWS:
        for x in row.posts:
            assert ((x, row.y), row.radius) in circles


def test_steps_of_physics_are_fine_enough(task: Avoiding):
    """Ten times as fine ones bring the tool to the same places, but for less than a tenth of a policy step."""
    fine = copy.copy(task.simulation().shared_model)
    fine.opt.timestep = 0.0005
    scenes = task.simulation(), Simulation(fine, task.joints)
    hand = Teleoperation(Kinematics.from_contract(load_contract(task.contract)), task, task.new_demonstrator(_random()))
    for scene in scenes:
        task.reset(scene)
    hand.begin(scenes[0].position)
    apart = []
    while not hand.finished:
        command = hand.command()
        for scene in scenes:
            scene.set_command(command)
            scene.step(CONTROL_PERIOD)
        one, other = (scene.site_position(task.tool) for scene in scenes)
        apart.append(np.linalg.norm(one - other))
    assert scenes[0].timestep == 5_000_000
    assert 0 < np.median(apart) < 0.001 and max(apart) < 0.003


def _random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_the_demonstrator_of_a_25th_mode_passes_where_no_other_does(task: Avoiding):
    contract = load_contract(task.contract)
    for demonstrator, new in ((WideDemonstrator(_random()), True), (task.new_demonstrator(_random()), False)):
        shown = demonstrate(task, contract, 3, 0, demonstrator=demonstrator)
        assert all(episode.success for episode in shown)
        assert [is_new(np.asarray(episode.observation)[:, :2]) for episode in shown] == [new] * 3
        assert ({episode.labels['mode'] for episode in shown} == {'right-right-rightmost'}) == new
