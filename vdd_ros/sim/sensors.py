"""Simulate sensors other than joint sensors, without affecting the motion."""

from __future__ import annotations

import fnmatch
from collections.abc import Mapping
from dataclasses import dataclass

import mujoco
import numpy as np

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.sim import scene
from vdd_ros.sim.disturbances import Channel, SensorDisturbances, generator_of
from vdd_ros.sim.model import find, names
from vdd_ros.sim.simulation import Simulation

_OBJECT = mujoco.mjtObj
_STATE = int(mujoco.mjtState.mjSTATE_INTEGRATION)


@dataclass(frozen=True)
class Wrench:
    """The load on a site, in the axes of the site. The force of a suspended weight points down."""

    force: np.ndarray
    """Shape (3,) [N]."""
    torque: np.ndarray
    """Shape (3,) [N m]."""


@dataclass(frozen=True)
class Motion:
    """The motion of a site, in the axes of the site."""

    acceleration: np.ndarray
    """Proper acceleration, as measured by an accelerometer, shape (3,) [m/s^2]."""
    angular_velocity: np.ndarray
    """Shape (3,) [rad/s]."""
    orientation: np.ndarray
    """Unit quaternion relative to the world, shape (4,), w x y z."""


@dataclass(frozen=True)
class Contact:
    """A contact of two geoms."""

    geoms: tuple[str, str]
    """Names, or indices of unnamed geoms."""
    position: np.ndarray
    """Position in the world, shape (3,) [m]."""
    force: np.ndarray
    """Force of the first geom on the second, in world axes, shape (3,) [N]."""


@dataclass(frozen=True)
class Placement:
    """A pose in the world."""

    position: np.ndarray
    """Shape (3,) [m]."""
    orientation: np.ndarray
    """Unit quaternion, shape (4,), w x y z."""


Value = Wrench | Motion | tuple[Contact, ...] | Placement


@dataclass(frozen=True)
class Reading:
    """The measurement of one sensor at one time."""

    name: str
    """Name of the sensor."""
    stamp: int
    """Time of the measurement [ns]."""
    value: Value
    """The measured value; its type depends on the sensor."""


class Probe:
    """Evaluates a scene on a copy of its state: forces and accelerations of the present instant."""

    def __init__(self, simulation: Simulation) -> None:
        """Create a probe for a scene."""
        self._simulation = simulation
        self._data = mujoco.MjData(simulation.model)
        self._state = np.empty(mujoco.mj_stateSize(simulation.model, _STATE))

    def look(self) -> None:
        """Copy the present state, which all other methods evaluate."""
        model = self._simulation.model
        mujoco.mj_getState(model, self._simulation.data, self._state, _STATE)
        mujoco.mj_setState(model, self._data, self._state, _STATE)
        mujoco.mj_forward(model, self._data)
        mujoco.mj_rnePostConstraint(model, self._data)

    def wrench(self, site: int) -> Wrench:
        """Return the load on the body of a site from the links beyond it."""
        model, data = self._simulation.model, self._data
        body = model.site_bodyid[site]
        centre = data.subtree_com[model.body_rootid[body]]
        spatial, rotation = data.cfrc_int[body], data.site_xmat[site].reshape(3, 3)
        # Spatial forces are given about the centre of mass of the whole tree.
        torque = spatial[:3] - np.cross(data.site_xpos[site] - centre, spatial[3:])
        return Wrench(rotation.T @ -spatial[3:], rotation.T @ -torque)

    def motion(self, site: int) -> Motion:
        """Return the motion of a site."""
        model, data, kind = self._simulation.model, self._data, int(_OBJECT.mjOBJ_SITE)
        velocity, acceleration, orientation = np.empty(6), np.empty(6), np.empty(4)
        mujoco.mj_objectVelocity(model, data, kind, site, velocity, 1)
        mujoco.mj_objectAcceleration(model, data, kind, site, acceleration, 1)
        mujoco.mju_mat2Quat(orientation, data.site_xmat[site])
        return Motion(acceleration[3:], velocity[:3], orientation)

    def contacts(self) -> tuple[Contact, ...]:
        """Return all contacts with a force."""
        model, data, found, force = self._simulation.model, self._data, [], np.empty(6)
        for index in range(data.ncon):
            contact = data.contact[index]
            mujoco.mj_contactForce(model, data, index, force)
            if force[0] > 0:
                geoms = tuple(model.geom(geom).name or str(geom) for geom in contact.geom)
                # The normal, the first row of the frame, points from the first geom to the second.
                in_world = contact.frame.reshape(3, 3).T @ force[:3]
                found.append(Contact(geoms, contact.pos.copy(), in_world))
        return tuple(found)

    def site(self, site: int) -> Placement:
        """Return the pose of a site."""
        orientation = np.empty(4)
        mujoco.mju_mat2Quat(orientation, self._data.site_xmat[site])
        return Placement(self._data.site_xpos[site].copy(), orientation)

    def body(self, body: int) -> Placement:
        """Return the pose of a body."""
        return Placement(self._data.xpos[body].copy(), self._data.xquat[body].copy())


class Schedule:
    """Schedules periodic events at given instants such that their mean rate is exact."""

    def __init__(self, rate: float) -> None:
        """Schedule ``rate`` events per second [Hz]."""
        self._rate = rate
        self.begin(0)

    def begin(self, now: int) -> None:
        """Schedule the first event at ``now`` [ns]."""
        self._origin, self._count = now, 0

    def is_due(self, now: int) -> bool:
        """Return whether an event is due at ``now`` [ns], and count it. Missed events are not repeated."""
        if now < self._origin + round(self._count * NANOSECONDS / self._rate):
            return False
        self._count = int((now - self._origin) * self._rate / NANOSECONDS + 1e-6) + 1
        return True


class SensorSuite:
    """All sensors of a scene except joint states and cameras, with their disturbances."""

    def __init__(
        self,
        simulation: Simulation,
        sensors: Mapping[str, scene.Sensor],
        disturbances: Mapping[str, SensorDisturbances],
        state_rate: float,
    ) -> None:
        """Create sensors by name. They measure at the times of joint states, whose rate is ``state_rate`` [Hz].

        Raises
        ------
        ModelError
            An element named by a sensor is not in the scene.
        ConfigurationError
            The rate of a sensor is above the rate of joint states.

        """
        self._probe = Probe(simulation)
        self._simulation = simulation
        self._sensors = dict(sensors)
        self._disturbances = {name: disturbances.get(name, SensorDisturbances()) for name in sensors}
        self._schedules = {name: Schedule(sensor.rate) for name, sensor in sensors.items()}
        self._places = {name: _place(simulation.model, name, sensor) for name, sensor in sensors.items()}
        for name, sensor in sensors.items():
            check_rate(name, sensor.rate, state_rate)
        self.begin(np.random.SeedSequence(0))

    def begin(self, seed: np.random.SeedSequence) -> None:
        """Drop pending messages, and seed the random numbers of the episode."""
        self._channels: dict[str, Channel[Reading]] = {
            name: Channel(disturbances, generator_of(seed, name)) for name, disturbances in self._disturbances.items()
        }
        self._noise = {name: generator_of(seed, f'{name} noise') for name in self._sensors}
        for schedule in self._schedules.values():
            schedule.begin(self._simulation.stamp)

    @property
    def dropped(self) -> int:
        """Number of messages of this episode lost to disturbances."""
        return sum(channel.dropped for channel in self._channels.values())

    def readings(self) -> list[Reading]:
        """Take the measurements that are due, and return the readings that have arrived."""
        now = self._simulation.stamp
        due = [name for name, schedule in self._schedules.items() if schedule.is_due(now)]
        if due:
            self._probe.look()
        for name in due:
            self._channels[name].send(now, Reading(name, now, self._measure(name)))
        return [reading for channel in self._channels.values() for reading in channel.receive(now)]

    def _measure(self, name: str) -> Value:
        deviations = (*self._disturbances[name].noise, 0.0, 0.0)[:2]

        def noisy(values: np.ndarray, which: int) -> np.ndarray:
            deviation = deviations[which]
            return values + self._noise[name].normal(scale=deviation, size=values.shape) if deviation else values

        sensor, place = self._sensors[name], self._places[name]
        if isinstance(sensor, scene.ForceTorque):
            wrench = self._probe.wrench(place[1])
            return Wrench(noisy(wrench.force, 0), noisy(wrench.torque, 1))
        if isinstance(sensor, scene.Imu):
            motion = self._probe.motion(place[1])
            return Motion(noisy(motion.acceleration, 0), noisy(motion.angular_velocity, 1), motion.orientation)
        if isinstance(sensor, scene.Contacts):
            return tuple(contact for contact in self._probe.contacts() if _is_of(contact, sensor.geoms))
        placement = self._probe.site(place[1]) if place[0] == 'site' else self._probe.body(place[1])
        return Placement(noisy(placement.position, 0), placement.orientation)


def _is_of(contact: Contact, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(geom, pattern) for geom in contact.geoms for pattern in patterns)


def check_rate(name: str, rate: float, state_rate: float) -> None:
    """Check that a rate [Hz] is at most the rate of joint states."""
    if rate > state_rate * (1 + 1e-9):
        raise ConfigurationError(
            expected=f'at most {state_rate:g} Hz for {name}, the rate of joint states',
            found=f'{rate:g} Hz',
            remedy='lower the rate in the scene file, or raise joint_state_rate',
        )


def _place(model: mujoco.MjModel, name: str, sensor: scene.Sensor) -> tuple[str, int]:
    if isinstance(sensor, scene.Contacts):
        return '', -1
    if not isinstance(sensor, scene.Pose):
        return 'site', find(model, _OBJECT.mjOBJ_SITE, sensor.site)
    for label, kind in (('site', _OBJECT.mjOBJ_SITE), ('body', _OBJECT.mjOBJ_BODY)):
        index = mujoco.mj_name2id(model, kind, sensor.of)
        if index >= 0:
            return label, index
    known = [*names(model, _OBJECT.mjOBJ_SITE), *names(model, _OBJECT.mjOBJ_BODY)]
    raise ModelError(
        expected=f'a site or body {sensor.of} for sensor {name}',
        found=', '.join(filter(None, known)),
        remedy='use one of these names in the scene file',
    )
