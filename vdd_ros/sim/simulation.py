"""A MuJoCo simulation of a robot: joints by name, position servos, stamps in nanoseconds."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Collection, Sequence
from math import isfinite
from pathlib import Path
from typing import Literal

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError, SimulationError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.sim.camera import OffscreenCamera, optical_rotation, pinhole_of
from vdd_ros.sim.model import find, find_either, load_model, servo_of
from vdd_ros.sim.start import Start

_WARNING = mujoco.mjtWarning
_DIVERGED = tuple(int(each) for each in (_WARNING.mjWARN_BADQPOS, _WARNING.mjWARN_BADQVEL, _WARNING.mjWARN_BADQACC))


_SITE, _BODY, _GEOM = mujoco.mjtObj.mjOBJ_SITE, mujoco.mjtObj.mjOBJ_BODY, mujoco.mjtObj.mjOBJ_GEOM


class Simulation:
    """One simulated scene with position-controlled joints.

    Equal calls give bit-identical motion on one machine. Several scenes can share a model.
    """

    def __init__(
        self,
        model: mujoco.MjModel | str | Path,
        joints: Sequence[str],
        *,
        passive: Collection[str] = (),
        home: Start = Start(),
    ) -> None:
        """Create a scene at rest.

        Parameters
        ----------
        model
            A compiled model, or its MJCF or URDF file.
        joints
            Names of joints, in the order of all arrays. Each must have a position servo.
        passive
            Those of ``joints`` that need no servo: they are measured, but not commanded.
        home
            Default start of `reset`.

        Raises
        ------
        ModelError
            The file is missing or malformed, a joint or its servo is missing, or the timestep is not an integer number
            of nanoseconds.

        """
        self.model = model if isinstance(model, mujoco.MjModel) else load_model(Path(model))
        """The simulated model; after `private_model` a copy of `shared_model`."""
        self.shared_model = self.model
        """The model given to the constructor, which other scenes may share."""
        self.joints = tuple(joints)
        self._data = mujoco.MjData(self.model)
        self._warnings = [self._data.warning[warning] for warning in _DIVERGED]
        indices = [find(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in self.joints]
        # As intp: numpy indexes ten times slower with the int32 of MuJoCo.
        self._qpos = self.model.jnt_qposadr[indices].astype(np.intp)
        self._dof = self.model.jnt_dofadr[indices].astype(np.intp)
        self.commanded = tuple(joint for joint in self.joints if joint not in passive)
        """Names of the joints with servos."""
        servoed = [find(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in self.commanded]
        self._servo = np.array([servo_of(self.model, index) for index in servoed], dtype=np.intp)
        self._servo_qpos = self.model.jnt_qposadr[servoed].astype(np.intp)
        self.home = home
        self.timestep = round(self.model.opt.timestep * NANOSECONDS)
        """Physics timestep [ns]."""
        if self.timestep <= 0 or abs(self.model.opt.timestep * NANOSECONDS - self.timestep) > 1e-6:
            raise ModelError(
                expected='a timestep of whole nanoseconds',
                found=f'{self.model.opt.timestep} s',
                remedy='set <option timestep="..."/>',
            )
        self._stamp = 0
        self._touches: set[tuple[int, int]] = set()
        self._sites: dict[str, np.ndarray] = {}  # views of their positions; looked up once
        self._geom_pairs: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[int, int]]] = {}
        self._groups: dict[tuple[str, ...], frozenset[int]] = {}
        self._camera: OffscreenCamera | None = None
        self.reset()

    @property
    def stamp(self) -> int:
        """Simulated time since construction [ns]; resets do not set it back."""
        return self._stamp

    @property
    def data(self) -> mujoco.MjData:
        """The MuJoCo state of the scene. Changes to it change the motion."""
        return self._data

    @property
    def tool_body(self) -> int:
        """Index of the body moved by the last commanded hinge joint."""
        indices = [find(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in self.joints]
        turning = [index for index in indices if self.model.jnt_type[index] == int(mujoco.mjtJoint.mjJNT_HINGE)]
        # The joint farthest from the base, regardless of the order.
        return int(self.model.jnt_bodyid[max(turning or indices)])

    @property
    def position(self) -> np.ndarray:
        """Joint positions, shape (joint,) [rad]."""
        return self._data.qpos[self._qpos]

    @property
    def velocity(self) -> np.ndarray:
        """Joint velocities, shape (joint,) [rad/s]."""
        return self._data.qvel[self._dof]

    @property
    def effort(self) -> np.ndarray:
        """Torques of the servos in the last physics step, shape (joint,) [N m]."""
        return self._data.qfrc_actuator[self._dof]

    @property
    def command(self) -> np.ndarray:
        """Servo commands, shape (joint,) [rad], without passive joints."""
        return self._data.ctrl[self._servo]

    def reset(self, start: np.ndarray | str | Start | None = None) -> None:
        """Set the scene to rest, with servo commands equal to the joint positions, and clear recorded contacts.

        Parameters
        ----------
        start
            Positions, shape (joint,) [rad]; the name of a keyframe; a `Start`; or None: `home`.

        Raises
        ------
        SimulationError
            The positions are not finite.
        ModelError
            The model has no such keyframe or joint.

        """
        if start is None:
            start = self.home
        elif isinstance(start, str):
            start = Start(start)
        elif not isinstance(start, Start):
            start = Start(position=dict(zip(self.joints, self._checked(start, self.joints).tolist())))
        start.put(self.model, self._data)
        self.hold()
        self._touches.clear()
        mujoco.mj_forward(self.model, self._data)

    def skip(self, duration: int) -> None:
        """Advance the clock by ``duration`` [ns] without motion."""
        self._stamp += duration

    def check(self, kind: Literal['joint', 'key', 'site', 'geom', 'camera', 'body', 'actuator'], name: str) -> None:
        """Raise a `ModelError` that lists the existing names if the scene has no element of a kind and name."""
        find(self.model, getattr(mujoco.mjtObj, f'mjOBJ_{kind.upper()}'), name)

    def private_model(self) -> mujoco.MjModel:
        """Return a model used by this scene only, created at the first call: changes do not affect other scenes."""
        if self.model is self.shared_model:
            self.close()
            self.model = copy.copy(self.shared_model)
        return self.model

    def hold(self) -> None:
        """Set the servo commands to the joint positions."""
        self._data.ctrl[self._servo] = self._data.qpos[self._servo_qpos]

    def set_command(self, position: np.ndarray) -> None:
        """Set the servo commands, shape (joint,) [rad] without passive joints, until the next command.

        Raises
        ------
        SimulationError
            The positions are not finite, or their number is not that of the joints.

        """
        self._data.ctrl[self._servo] = self.checked(position)

    def step(self, duration: int) -> None:
        """Simulate ``duration`` [ns], an integer number of timesteps.

        Raises
        ------
        SimulationError
            The duration is not an integer number of timesteps, or the physics diverged.

        """
        steps, rest = divmod(duration, self.timestep)
        if rest or steps < 0:
            raise SimulationError(
                expected=f'a whole number of timesteps of {self.timestep} ns',
                found=f'{duration} ns',
                remedy='choose a rate that the timestep divides',
            )
        model, data = self.model, self._data
        for _ in range(steps):
            mujoco.mj_step(model, data)
            if data.ncon:
                self._touches.update(tuple(sorted(pair)) for pair in data.contact.geom.tolist())
        # The last step moved the joints after the body poses had been computed.
        mujoco.mj_kinematics(model, data)
        self._stamp += duration
        if any(warning.number for warning in self._warnings):
            raise SimulationError(
                expected='finite motion',
                found=f'divergence at {self._stamp} ns',
                remedy='shorten the timestep, or add `armature` to the servos of light links',
            )

    def site_position(self, site: str) -> np.ndarray:
        """Return the position of a site, shape (3,) [m]."""
        if site not in self._sites:
            self._sites[site] = self._data.site_xpos[find(self.model, mujoco.mjtObj.mjOBJ_SITE, site)]
        return self._sites[site].copy()

    def place(self, name: str) -> np.ndarray:
        """Return the position of a site, or of a body if there is no such site, shape (3,) [m]."""
        if name not in self._sites:
            kind, index = find_either(self.model, (_SITE, _BODY), name)
            self._sites[name] = (self._data.site_xpos if kind == _SITE else self._data.xpos)[index]
        return self._sites[name].copy()

    def body_position(self, body: str) -> np.ndarray:
        """Return the position of a body's origin, shape (3,) [m]."""
        return self._data.xpos[find(self.model, mujoco.mjtObj.mjOBJ_BODY, body)].copy()

    def body_speed(self, body: str) -> float:
        """Return the speed of a body's origin [m/s]."""
        kind, velocity = mujoco.mjtObj.mjOBJ_BODY, np.empty(6)
        mujoco.mj_objectVelocity(self.model, self._data, int(kind), find(self.model, kind, body), velocity, 0)
        return float(np.linalg.norm(velocity[3:]))

    def clearance(self, first: Collection[str], second: Collection[str], within: float = 1.0) -> float:
        """Return the minimum distance between the geoms of two groups [m], at most ``within`` [m].

        Groups are defined as for `geoms`. Negative distances are penetrations.
        """
        for a, b in self._pairs(tuple(first), tuple(second)):
            within = min(within, mujoco.mj_geomDistance(self.model, self._data, a, b, within, None))
        return within

    def _pairs(self, first: tuple[str, ...], second: tuple[str, ...]) -> list[tuple[int, int]]:
        """Return all index pairs of geoms of two groups; cached."""
        if (first, second) not in self._geom_pairs:
            self._geom_pairs[first, second] = list(itertools.product(self.geoms(first), self.geoms(second)))
        return self._geom_pairs[first, second]

    def geoms(self, names: Collection[str]) -> list[int]:
        """Return the indices of geoms by name. The name of a body selects all its colliding geoms.

        Raises
        ------
        ModelError
            One of the names belongs neither to a geom nor to a body.

        """
        found = []
        for name in names:
            kind, index = find_either(self.model, (_GEOM, _BODY), name)
            if kind == _GEOM:
                found.append(index)
                continue
            first = int(self.model.body_geomadr[index])
            colliding = self.model.geom_contype | self.model.geom_conaffinity
            found += [geom for geom in range(first, first + int(self.model.body_geomnum[index])) if colliding[geom]]
        return found

    def _group(self, names: tuple[str, ...]) -> frozenset[int]:
        """Return the indices of the geoms of a group; cached."""
        if names not in self._groups:
            self._groups[names] = frozenset(self.geoms(names))
        return self._groups[names]

    def touched(self, first: Collection[str], second: Collection[str]) -> bool:
        """Return whether geoms of two groups were in contact in any physics step since the reset.

        Groups are defined as for `geoms`. An unknown name is an error, also without any contact.
        """
        one, other = self._group(tuple(first)), self._group(tuple(second))
        return any((a in one and b in other) or (a in other and b in one) for a, b in self._touches)

    def pose(self, configuration: np.ndarray) -> None:
        """Set the scene to a copy of ``data.qpos`` for viewing; no time passes."""
        self._data.qpos[:] = configuration
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)

    def render(self, camera: str | None, width: int = 640, height: int = 480) -> np.ndarray:
        """Render an image from a camera of the model, shape (height, width, 3), uint8 RGB.

        None selects the free camera of MuJoCo, which shows the whole scene.

        Raises
        ------
        ModelError
            The model has no such camera.
        SimulationError
            No OpenGL context is available.

        """
        index = -1 if camera is None else find(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if self._camera is None or (self._camera.width, self._camera.height) != (width, height):
            self.close()
            self._camera = OffscreenCamera(self.model, width, height)
        return self._camera.render(self._data, index)

    def pixels(self, camera: str, points: np.ndarray, width: int, height: int) -> np.ndarray:
        """Project points of the world to columns and rows of an image of `render`, shape (point, 2).

        ``points`` has shape (point, 3) [m]. The result is NaN for points behind the camera. Raises `ModelError` if the
        model has no such camera.
        """
        index = find(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        rotation = optical_rotation(self._data.cam_xmat[index])
        seen = (points - self._data.cam_xpos[index]) @ rotation
        return pinhole_of(self.model, index, width, height).pixels(seen)

    def close(self) -> None:
        """Release the OpenGL context, if any; the next `render` creates another."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def checked(self, position: np.ndarray) -> np.ndarray:
        """Return positions as an array, one for each commanded joint [rad]; raises `SimulationError` if invalid."""
        return self._checked(position, self.commanded)

    def _checked(self, values: np.ndarray | list[float], joints: Collection) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(joints),) or not all(map(isfinite, values.tolist())):
            raise SimulationError(
                expected=f'{len(joints)} finite joint positions',
                found=np.array2string(values, max_line_width=1000),
                remedy='check the program that computes them',
            )
        return values
