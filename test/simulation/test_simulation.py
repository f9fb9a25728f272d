"""Simulation: time, servos, contacts and pictures."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from vdd_ros.common.errors import ModelError, SimulationError
from vdd_ros.common.share import model_path
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import load_task

_JOINTS = tuple(f'joint{number}' for number in range(1, 8))
_PERIOD = 35_000_000

_BALL = """
<mujoco>
  <option timestep="0.001"/>
  <default><geom solref="-5000 0"/></default>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <geom name="shelf" type="box" size="0.1 0.1 0.1" pos="3 0 0.1"/>
    <body pos="0 0 0.15"><freejoint/><geom name="ball" size="0.05" mass="1"/></body>
    <body pos="3 0 3"><joint name="slide" type="slide" axis="1 0 0"/><geom name="cart" size="0.05" mass="1"/></body>
  </worldbody>
  <actuator>
    <motor joint="slide"/>
    <position joint="slide" kp="100" kv="20"/>
  </actuator>
</mujoco>
"""


@pytest.fixture
def panda() -> Simulation:
    """Return the arm, at its keyframe home."""
    simulation = Simulation(model_path('panda'), _JOINTS)
    simulation.reset('home')
    return simulation


@pytest.fixture
def ball(tmp_path: Path) -> Simulation:
    """Return a ball that falls and bounces, and a cart on a servo."""
    file = tmp_path / 'ball.xml'
    file.write_text(_BALL, encoding='utf-8')
    return Simulation(file, ('slide',))


def test_stamps_do_not_drift_and_are_not_turned_back(panda: Simulation):
    for _ in range(300):
        panda.step(_PERIOD)
    assert panda.stamp == 300 * _PERIOD
    panda.reset('home')
    assert panda.stamp == 300 * _PERIOD


def test_same_calls_give_the_same_motion_after_a_reset_and_in_a_new_scene(panda: Simulation):
    def motion(simulation: Simulation) -> np.ndarray:
        simulation.reset('home')
        start, rows = simulation.position, []
        for tick in range(20):
            simulation.set_command(start + 0.02 * tick)
            simulation.step(_PERIOD)
            rows.append(np.concatenate([simulation.position, simulation.velocity, simulation.effort]))
        return np.array(rows)

    first = motion(panda)
    np.testing.assert_array_equal(motion(panda), first)
    np.testing.assert_array_equal(motion(Simulation(panda.model, _JOINTS)), first)


def test_step_may_be_cut_into_pieces(panda: Simulation):
    other = Simulation(panda.model, _JOINTS)
    other.reset('home')
    for simulation in (panda, other):
        simulation.set_command(simulation.position + 0.05)
    panda.step(_PERIOD)
    for _ in range(_PERIOD // other.timestep):
        other.step(other.timestep)
    np.testing.assert_array_equal(panda.position, other.position)


def test_joints_are_matched_by_name(panda: Simulation):
    order = (6, 2, 0, 1, 5, 4, 3)
    shuffled = Simulation(panda.model, [_JOINTS[joint] for joint in order])
    shuffled.reset('home')
    command = panda.position + np.arange(7) * 0.01
    panda.set_command(command)
    shuffled.set_command(command[list(order)])
    for simulation in (panda, shuffled):
        simulation.step(_PERIOD)
    np.testing.assert_array_equal(shuffled.position, panda.position[list(order)])
    np.testing.assert_array_equal(shuffled.effort, panda.effort[list(order)])
    np.testing.assert_array_equal(shuffled.command, command[list(order)])


def test_arm_at_rest_stays_without_effort_because_gravity_is_compensated(panda: Simulation):
    elsewhere = panda.position + 0.2
    for start in ('home', elsewhere):
        panda.reset(start)
        before = panda.position
        panda.step(1_000_000_000)
        np.testing.assert_allclose(panda.position, before, atol=1e-9)
        np.testing.assert_allclose(panda.effort, 0, atol=1e-6)
    np.testing.assert_array_equal(before, elsewhere)


def test_servos_settle_on_the_command_within_torque_limits_and_without_overshoot(panda: Simulation):
    target = panda.position + 0.1
    start, highest = panda.position, np.full(7, -np.inf)
    panda.set_command(target)
    for _ in range(30):
        panda.step(_PERIOD)
        highest = np.maximum(highest, panda.position)
        assert np.all(np.abs(panda.effort) <= [87] * 4 + [12] * 3)
    np.testing.assert_allclose(panda.position, target, atol=1e-4)
    # Joints pull at each other, so a little is allowed: a tenth of the step.
    assert np.all(highest - start < 1.1 * (target - start))


def test_contact_within_a_step_is_not_missed_and_is_forgotten_at_the_reset(ball: Simulation):
    with pytest.raises(ModelError, match='a geom or body flor in the scene; found'):
        ball.touched(('ball',), ('flor',))
    # Falls 0.1 m in 0.143 s, bounces without loss, and is in the air again at 0.25 s.
    ball.step(100_000_000)
    assert not ball.touched(('ball',), ('floor',))
    ball.step(150_000_000)
    assert ball.touched(('ball',), ('floor', 'shelf')) and ball.touched(('floor',), ('ball',))
    assert not ball.touched(('ball',), ('shelf', 'cart'))
    ball.step(ball.timestep)
    assert ball.touched(('ball',), ('floor',))
    ball.reset()
    assert not ball.touched(('ball',), ('floor',))
    ball.step(100_000_000)
    assert not ball.touched(('ball',), ('floor',))


def test_position_servo_is_distinguished_from_other_actuators(ball: Simulation):
    ball.set_command(np.array([0.3]))
    ball.step(3_000_000_000)
    np.testing.assert_allclose(ball.position, [0.3], atol=1e-3)


def test_site_is_where_the_joints_of_this_stamp_put_it(panda: Simulation):
    panda.set_command(panda.position + 0.1)
    panda.step(_PERIOD)
    other = Simulation(panda.model, _JOINTS)
    other.reset(panda.position)
    np.testing.assert_allclose(panda.site_position('tool_point'), other.site_position('tool_point'), atol=1e-12)


def test_picture_shows_the_rod_and_keeps_its_size():
    simulation = load_task('avoiding').simulation()
    picture = simulation.render('angle', 320, 240)
    assert picture.shape == (240, 320, 3) and picture.dtype == np.uint8
    red, green, blue = picture.astype(int).transpose(2, 0, 1)
    rod = np.argwhere((red > 60) & (red > 2 * green) & (red > 2 * blue))
    # Upright and in the lower half: OpenGL's rows were turned.
    assert 50 < len(rod) < 2000 and rod[:, 0].mean() > 120 and np.ptp(rod[:, 0]) > np.ptp(rod[:, 1])
    assert simulation.render('angle', 160, 120).shape == (120, 160, 3)
    with pytest.raises(SimulationError, match='at most 1280 x 960'):
        simulation.render('angle', 4000, 240)
    simulation.close()


def test_machine_without_opengl_gets_the_remedy():
    code = (
        'from vdd_ros.sim.tasks import load_task\n'
        'from vdd_ros.common.errors import SimulationError\n'
        'try:\n'
        "    load_task('avoiding').simulation().render('above')\n"
        'except SimulationError as error:\n'
        '    raise SystemExit(str(error))\n'
    )
    # EGL refuses to be the backend where another was asked for: as good as absent.
    environment = {**os.environ, 'PYOPENGL_PLATFORM': 'osmesa', 'MUJOCO_GL': 'disable'}
    ended = subprocess.run([sys.executable, '-c', code], env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 1 and 'libegl1' in ended.stderr and 'Traceback' not in ended.stderr


@pytest.mark.parametrize('duration', [1, 34_999_999, -2_500_000])
def test_duration_that_is_no_whole_number_of_timesteps_is_refused(panda: Simulation, duration: int):
    with pytest.raises(SimulationError, match='2500000 ns'):
        panda.step(duration)
    assert panda.stamp == 0


@pytest.mark.parametrize('command', [np.full(7, np.nan), np.zeros(6), np.array([np.inf, *np.zeros(6)])])
def test_command_that_is_none_is_refused_and_the_last_one_holds(panda: Simulation, command: np.ndarray):
    before = panda.command
    with pytest.raises(SimulationError, match='7 finite joint positions'):
        panda.set_command(command)
    with pytest.raises(SimulationError, match='7 finite joint positions'):
        panda.reset(command)
    np.testing.assert_array_equal(panda.command, before)


def test_physics_that_diverges_is_an_error(tmp_path: Path):
    file = tmp_path / 'wild.xml'
    # A servo far too stiff for an explicit integrator at this timestep.
    text = _BALL.replace('"0.001"/>', '"0.1" integrator="RK4"/>').replace('kp="100"', 'kp="1e9"')
    file.write_text(text, encoding='utf-8')
    wild = Simulation(file, ('slide',))
    wild.set_command(np.array([1.0]))
    with pytest.raises(SimulationError, match='divergence'):
        wild.step(10_000_000_000)


@pytest.mark.parametrize(
    ('joint', 'old', 'new', 'named'),
    [
        ('slide', '<position joint="slide" kp="100" kv="20"/>', '', 'position servo on joint slide'),
        ('elbow', '', '', 'joint elbow in the scene; found slide'),
        ('slide', '"0.001"', '"1e-10"', 'whole nanoseconds'),
        ('slide', '</worldbody>', '', 'ball.xml'),
    ],
    ids=['no_servo', 'no_joint', 'odd_timestep', 'not_xml'],
)
def test_unfit_scene_is_named_in_the_error(tmp_path: Path, joint: str, old: str, new: str, named: str):
    file = tmp_path / 'ball.xml'
    file.write_text(_BALL.replace(old, new), encoding='utf-8')
    with pytest.raises(ModelError, match=named):
        Simulation(file, (joint,))


def test_absent_parts_of_a_scene_are_named_in_the_error(panda: Simulation, tmp_path: Path):
    with pytest.raises(ModelError, match='absent.xml'):
        Simulation(tmp_path / 'absent.xml', _JOINTS)
    with pytest.raises(ModelError, match='key nowhere in the scene; found home'):
        panda.reset('nowhere')
    with pytest.raises(ModelError, match='site elbow in the scene; found tool_point'):
        panda.site_position('elbow')
    with pytest.raises(ModelError, match='camera top in the scene; found none'):
        panda.render('top')
    with pytest.raises(ModelError, match='a site or body elbow in the scene; found site: tool_point, body: world'):
        panda.place('elbow')
