"""What sensors other than those of the joints measure, without disturbing the motion that they measure."""

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
    """What pulls at a site, in its axes: a weight that hangs from it points down."""

    force: np.ndarray
    """Shape (3,) [N]."""
    torque: np.ndarray
    """Shape (3,) [N m]."""


@dataclass(frozen=True)
class Motion:
    """How a site moves, in its axes."""

    acceleration: np.ndarray
    """As an accelerometer has it, with what keeps it from falling; shape (3,) [m/s^2]."""
    angular_velocity: np.ndarray
    """Shape (3,) [rad/s]."""
    orientation: np.ndarray
    """Unit quaternion from the world's axes, shape (4,), w x y z."""


@dataclass(frozen=True)
class Contact:
    """Two geoms that touch."""

    geoms: tuple[str, str]
    """Names; a number stands for one without a name."""
    position: np.ndarray
    """Where, in the world, shape (3,) [m]."""
    force: np.ndarray
    """Of the first upon the second, in the world's axes, shape (3,) [N]."""


@dataclass(frozen=True)
class Placement:
    """Where something is in the world."""

    position: np.ndarray
    """Shape (3,) [m]."""
    orientation: np.ndarray
    """Unit quaternion, shape (4,), w x y z."""


Value = Wrench | Motion | tuple[Contact, ...] | Placement


@dataclass(frozen=True)
class Reading:
    """What one sensor measured at one time."""

    name: str
    """Name of the sensor."""
    stamp: int
    """When it was measured [ns]."""
    value: Value
    """What; by kind of sensor."""


class Probe:
    """Evaluates a scene at the present on a copy of its state: forces and accelerations of this very instant."""

    def __init__(self, simulation: Simulation) -> None:
        """Look at a scene."""
        self._simulation = simulation
        self._data = mujoco.MjData(simulation.model)
        self._state = np.empty(mujoco.mj_stateSize(simulation.model, _STATE))

    def look(self) -> None:
        """Take in the present; everything else here tells of the last look."""
        model = self._simulation.model
        mujoco.mj_getState(model, self._simulation.data, self._state, _STATE)
        mujoco.mj_setState(model, self._data, self._state, _STATE)
        mujoco.mj_forward(model, self._data)
        mujoco.mj_rnePostConstraint(model, self._data)

    def wrench(self, site: int) -> Wrench:
        """Return what pulls at a site's body from beyond."""
        model, data = self._simulation.model, self._data
        body = model.site_bodyid[site]
        centre = data.subtree_com[model.body_rootid[body]]
        spatial, rotation = data.cfrc_int[body], data.site_xmat[site].reshape(3, 3)
        # Spatial forces are given about the centre of mass of the whole tree.
        torque = spatial[:3] - np.cross(data.site_xpos[site] - centre, spatial[3:])
        return Wrench(rotation.T @ -spatial[3:], rotation.T @ -torque)

    def motion(self, site: int) -> Motion:
        """Return how a site moves."""
        model, data, kind = self._simulation.model, self._data, int(_OBJECT.mjOBJ_SITE)
        velocity, acceleration, orientation = np.empty(6), np.empty(6), np.empty(4)
        mujoco.mj_objectVelocity(model, data, kind, site, velocity, 1)
        mujoco.mj_objectAcceleration(model, data, kind, site, acceleration, 1)
        mujoco.mju_mat2Quat(orientation, data.site_xmat[site])
        return Motion(acceleration[3:], velocity[:3], orientation)

    def contacts(self) -> tuple[Contact, ...]:
        """Return all contacts that press."""
        model, data, found, force = self._simulation.model, self._data, [], np.empty(6)
        for index in range(data.ncon):
            contact = data.contact[index]
            mujoco.mj_contactForce(model, data, index, force)
            if force[0] > 0:
                geoms = tuple(model.geom(geom).name or str(geom) for geom in contact.geom)
                # The normal, first row of the frame, points from the first geom to the second.
                in_world = contact.frame.reshape(3, 3).T @ force[:3]
                found.append(Contact(geoms, contact.pos.copy(), in_world))
        return tuple(found)

    def site(self, site: int) -> Placement:
        """Return where a site is."""
        orientation = np.empty(4)
        mujoco.mju_mat2Quat(orientation, self._data.site_xmat[site])
        return Placement(self._data.site_xpos[site].copy(), orientation)

    def body(self, body: int) -> Placement:
        """Return where a body is."""
        return Placement(self._data.xpos[body].copy(), self._data.xquat[body].copy())


class Schedule:
    """When something with a rate is due: on the average exactly so often, on the physics steps of whoever asks."""

    def __init__(self, rate: float) -> None:
        """Be due ``rate`` times in a second [Hz]."""
        self._rate = rate
        self.begin(0)

    def begin(self, now: int) -> None:
        """Be due at ``now`` [ns], and count from there."""
        self._origin, self._count = now, 0

    def is_due(self, now: int) -> bool:
        """Tell whether it is due at ``now`` [ns], and count that if so; what was missed is not made up for."""
        if now < self._origin + round(self._count * NANOSECONDS / self._rate):
            return False
        self._count = int((now - self._origin) * self._rate / NANOSECONDS + 1e-6) + 1
        return True


class SensorSuite:
    """All sensors of a scene besides joint states and cameras, with what disturbs their messages."""

    def __init__(
        self,
        simulation: Simulation,
        sensors: Mapping[str, scene.Sensor],
        disturbances: Mapping[str, SensorDisturbances],
        state_rate: float,
    ) -> None:
        """Mount sensors by name; they measure at instants of joint states, which come ``state_rate`` [Hz].

        Raises
        ------
        ModelError
            A sensor names something that is not in the scene.
        ConfigurationError
            A sensor is to measure oftener than joints are measured.

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
        """Forget what is under way; draw all chance of the episode from a seed."""
        self._channels: dict[str, Channel[Reading]] = {
            name: Channel(disturbances, generator_of(seed, name)) for name, disturbances in self._disturbances.items()
        }
        self._noise = {name: generator_of(seed, f'{name} noise') for name in self._sensors}
        for schedule in self._schedules.values():
            schedule.begin(self._simulation.stamp)

    @property
    def dropped(self) -> int:
        """Messages of this episode that were lost on purpose."""
        return sum(channel.dropped for channel in self._channels.values())

    def readings(self) -> list[Reading]:
        """Measure what is due now, and return what has arrived by now."""
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
    """Refuse a rate [Hz] above that of joint states: between two of them nothing is measured."""
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
        remedy='name one of them in the scene file',
    )
