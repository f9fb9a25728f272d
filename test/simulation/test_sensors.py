"""Sensors: held against closed forms of statics and of rigid motion."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.sim import scene
from vdd_ros.sim.disturbances import SensorDisturbances
from vdd_ros.sim.sensors import Schedule, SensorSuite
from vdd_ros.sim.simulation import Simulation

_G = 9.81

_SCENE = """
<mujoco>
  <option timestep="0.001"/>
  <worldbody>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="arm" pos="0 0 1" gravcomp="1">
      <joint name="turn" axis="0 0 1"/>
      <geom name="rod" type="capsule" fromto="0 0 0 0.5 0 0" size="0.02" mass="1"/>
      <body name="weight" pos="0.5 0 0">
        <geom name="weight" pos="0.2 0 0" size="0.05" mass="2"/>
        <site name="flange" euler="0 90 0"/>
      </body>
    </body>
    <body name="box" pos="0.5 0.5 0.1">
      <freejoint/>
      <geom name="box" type="box" size="0.1 0.1 0.1" mass="3"/>
    </body>
  </worldbody>
  <actuator><position joint="turn" kp="5000" kv="500"/></actuator>
</mujoco>
"""


def mounted(disturbances: dict | None = None, **sensors: dict) -> tuple[Simulation, SensorSuite]:
    """Return the scene with sensors on it."""
    simulation = Simulation(mujoco.MjModel.from_xml_string(_SCENE), ('turn',))
    settings = scene.SceneSettings.parse({'sensors': sensors}).sensors
    disturbances_of = {name: SensorDisturbances.parse(values) for name, values in (disturbances or {}).items()}
    suite = SensorSuite(simulation, settings, disturbances_of, 200.0)
    suite.begin(np.random.SeedSequence(0))
    return simulation, suite


def value(suite: SensorSuite) -> object:
    """Return the only thing that has arrived."""
    (reading,) = suite.readings()
    return reading.value


def test_force_and_torque_are_those_of_the_weight_that_hangs_from_the_flange():
    simulation, suite = mounted(wrist={'type': 'force_torque', 'site': 'flange', 'rate': 1.0})
    simulation.step(1_000_000_000)
    wrench = value(suite)
    # Turned by 90 degrees about y, the flange has the world's down along its +x, and the weight's arm along its +z.
    np.testing.assert_allclose(wrench.force, [2 * _G, 0, 0], atol=1e-3)
    np.testing.assert_allclose(wrench.torque, np.cross([0, 0, 0.2], [2 * _G, 0, 0]), atol=1e-3)


def test_an_imu_at_rest_feels_what_keeps_it_from_falling_and_turning_the_rate_and_the_pull_inwards():
    simulation, suite = mounted(imu={'type': 'imu', 'site': 'flange', 'rate': 1.0})
    motion = value(suite)
    np.testing.assert_allclose(motion.acceleration, [-_G, 0, 0], atol=1e-9)
    np.testing.assert_allclose(motion.orientation, [np.sqrt(0.5), 0, np.sqrt(0.5), 0], atol=1e-12)

    simulation.data.qvel[0] = 2.0
    suite.begin(np.random.SeedSequence(0))
    motion = value(suite)
    np.testing.assert_allclose(motion.angular_velocity, [-2, 0, 0], atol=1e-12)
    # Half a metre from the axis: omega^2 r towards it, and that is along the flange's -z.
    np.testing.assert_allclose(motion.acceleration[2], -(2.0**2) * 0.5, atol=1e-9)


def test_contacts_bear_the_weight_and_name_the_geoms():
    simulation, suite = mounted(touch={'type': 'contacts', 'geoms': ['b?x'], 'rate': 1.0})
    simulation.step(1_000_000_000)
    contacts = value(suite)
    assert {contact.geoms for contact in contacts} == {('floor', 'box')}
    np.testing.assert_allclose(sum(contact.force for contact in contacts), [0, 0, 3 * _G], atol=1e-3)
    assert all(abs(contact.position[2]) < 1e-3 for contact in contacts)
    assert value(mounted(touch={'type': 'contacts', 'geoms': ['rod'], 'rate': 1.0})[1]) == ()


@pytest.mark.parametrize('name', ['box', 'flange'])
def test_a_pose_is_that_of_the_body_or_site(name: str):
    _, suite = mounted(pose={'type': 'pose', 'of': name, 'rate': 1.0})
    pose = value(suite)
    np.testing.assert_allclose(pose.position, [0.5, 0.5, 0.1] if name == 'box' else [0.5, 0, 1], atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(pose.orientation), 1)


def test_measuring_does_not_change_the_motion_by_a_single_bit():
    sensors = {'wrist': {'type': 'force_torque', 'site': 'flange'}, 'touch': {'type': 'contacts'}}
    plain, (watched, suite) = mounted()[0], mounted(**sensors)
    for tick in range(50):
        for simulation in (plain, watched):
            simulation.set_command(np.array([0.01 * tick]))
            simulation.step(5_000_000)
        suite.readings()
    np.testing.assert_array_equal(plain.data.qpos, watched.data.qpos)
    np.testing.assert_array_equal(plain.data.qvel, watched.data.qvel)


def test_readings_come_as_often_as_the_rate_and_as_late_as_the_latency():
    wrist = {'type': 'force_torque', 'site': 'flange', 'rate': 60}
    simulation, suite = mounted({'wrist': {'latency': 0.02}}, wrist=wrist)
    stamps = []
    for _ in range(400):
        simulation.step(5_000_000)
        stamps += [(simulation.stamp, reading.stamp) for reading in suite.readings()]
    ages = {now - stamp for now, stamp in stamps}
    assert ages == {20_000_000}
    assert len(stamps) == pytest.approx(60 * 2, abs=2)


def test_noise_has_the_deviations_of_each_quantity():
    disturbances = {'wrist': {'noise': [2.0, 0.1]}}
    simulation, suite = mounted(disturbances, wrist={'type': 'force_torque', 'site': 'flange', 'rate': 200})
    simulation.step(1_000_000_000)
    wrenches = []
    for _ in range(500):
        simulation.step(5_000_000)
        wrenches += [reading.value for reading in suite.readings()]
    # 1500 draws each: the deviation is known to 1.8 %.
    assert np.std([w.force - [2 * _G, 0, 0] for w in wrenches]) == pytest.approx(2.0, rel=0.08)
    assert np.std([w.torque - [0, 0.4 * _G, 0] for w in wrenches]) == pytest.approx(0.1, rel=0.08)


def test_a_schedule_makes_nothing_up_that_was_missed():
    schedule = Schedule(10.0)
    schedule.begin(0)
    due = [now for now in (0, 99, 100, 150, 450, 460, 500) if schedule.is_due(now * 1_000_000)]
    assert due == [0, 100, 450, 500]


@pytest.mark.parametrize(
    ('sensor', 'error', 'named'),
    [
        ({'type': 'imu', 'site': 'wrist'}, ModelError, 'site wrist in the scene; found flange'),
        ({'type': 'pose', 'of': 'ball'}, ModelError, 'site or body ball for sensor it; found flange'),
        ({'type': 'imu', 'site': 'flange', 'rate': 300}, ConfigurationError, 'at most 200 Hz for it'),
    ],
)
def test_what_a_sensor_cannot_measure_is_named(sensor: dict, error: type, named: str):
    with pytest.raises(error, match=named):
        mounted(it=sensor)
