"""MuJoCo behind the words of a robot: joints by name, position servos, stamps in nanoseconds."""

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
from vdd_ros.sim.camera import OffscreenCamera
from vdd_ros.sim.model import find, load_model, servo_of
from vdd_ros.sim.start import Start

_WARNING = mujoco.mjtWarning
_DIVERGED = tuple(int(each) for each in (_WARNING.mjWARN_BADQPOS, _WARNING.mjWARN_BADQVEL, _WARNING.mjWARN_BADQACC))


class Simulation:
    """One moving scene: some of its joints are commanded by position, and everything else follows from physics.

    The same calls give the same motion, bit for bit, on one machine. Scenes of one model may share it.
    """

    def __init__(
        self,
        model: mujoco.MjModel | str | Path,
        joints: Sequence[str],
        *,
        passive: Collection[str] = (),
        home: Start = Start(),
    ) -> None:
        """Set a scene up at rest.

        Parameters
        ----------
        model
            A compiled model, or the MJCF or URDF file of one.
        joints
            Names of joints in the order of every array. Each must have a position servo.
        passive
            Those among them that need none: they are measured, and never commanded here.
        home
            Where `reset` leads by default.

        Raises
        ------
        ModelError
            The file is absent or malformed, lacks a joint or its servo, or its timestep is no whole number of
            nanoseconds.

        """
        self.model = model if isinstance(model, mujoco.MjModel) else load_model(Path(model))
        """What is simulated; after `private_model` a copy of `shared_model`."""
        self.shared_model = self.model
        """What was given: it may be that of other scenes too."""
        self.joints = tuple(joints)
        self._data = mujoco.MjData(self.model)
        self._warnings = [self._data.warning[warning] for warning in _DIVERGED]
        indices = [find(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in self.joints]
        # As intp: numpy takes ten times as long to look things up by the int32 that MuJoCo counts with.
        self._qpos = self.model.jnt_qposadr[indices].astype(np.intp)
        self._dof = self.model.jnt_dofadr[indices].astype(np.intp)
        self.commanded = tuple(joint for joint in self.joints if joint not in passive)
        """Names of the joints that have servos."""
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
        self._sites: dict[str, np.ndarray] = {}  # views of where they are; looked up once
        self._geom_pairs: dict[tuple[tuple[str, ...], tuple[str, ...]], list[tuple[int, int]]] = {}
        self._camera: OffscreenCamera | None = None
        self.reset()

    @property
    def stamp(self) -> int:
        """Simulated time since construction [ns]; a reset does not turn it back."""
        return self._stamp

    @property
    def data(self) -> mujoco.MjData:
        """MuJoCo's own view of the scene; who changes it changes the motion."""
        return self._data

    @property
    def tool_body(self) -> int:
        """The body that the last turning joint of the commanded ones moves, by index."""
        indices = [find(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in self.joints]
        turning = [index for index in indices if self.model.jnt_type[index] == int(mujoco.mjtJoint.mjJNT_HINGE)]
        # The one farthest from the base, whatever the order of the joints.
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
        """What the servos are commanded to, shape (joint,) [rad]; passive joints have none."""
        return self._data.ctrl[self._servo]

    def reset(self, start: np.ndarray | str | Start | None = None) -> None:
        """Put the scene at rest, with the servos commanded to where the joints are, and forget all contacts.

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
        """Let the clock go on by ``duration`` [ns] while nothing moves."""
        self._stamp += duration

    def check(self, kind: Literal['joint', 'key', 'site', 'geom', 'camera', 'body', 'actuator'], name: str) -> None:
        """Raise a `ModelError` that lists what there is, if the scene has nothing of a kind and name."""
        find(self.model, getattr(mujoco.mjtObj, f'mjOBJ_{kind.upper()}'), name)

    def private_model(self) -> mujoco.MjModel:
        """Return a model that this scene has for itself, made at the first call: what changes it changes no other."""
        if self.model is self.shared_model:
            self.close()
            self.model = copy.copy(self.shared_model)
        return self.model

    def hold(self) -> None:
        """Command the servos to where the joints are."""
        self._data.ctrl[self._servo] = self._data.qpos[self._servo_qpos]

    def set_command(self, position: np.ndarray) -> None:
        """Command the servos to positions, shape (joint,) [rad] without the passive ones, until the next command.

        Raises
        ------
        SimulationError
            The positions are not finite, or not one per joint.

        """
        self._data.ctrl[self._servo] = self.checked(position)

    def step(self, duration: int) -> None:
        """Let time pass: ``duration`` [ns], a whole number of timesteps.

        Raises
        ------
        SimulationError
            The duration is no whole number of timesteps, or the physics diverged.

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
        # The last step moved the joints after it had placed the bodies.
        mujoco.mj_kinematics(model, data)
        self._stamp += duration
        if any(warning.number for warning in self._warnings):
            raise SimulationError(
                expected='finite motion',
                found=f'divergence at {self._stamp} ns',
                remedy='shorten the timestep, or add `armature` to the servos of light links',
            )

    def site_position(self, site: str) -> np.ndarray:
        """Return where a site is, shape (3,) [m]."""
        if site not in self._sites:
            self._sites[site] = self._data.site_xpos[find(self.model, mujoco.mjtObj.mjOBJ_SITE, site)]
        return self._sites[site].copy()

    def place(self, name: str) -> np.ndarray:
        """Return where a site is, or a body if there is no site of that name, shape (3,) [m]."""
        if name not in self._sites:
            site = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_SITE, name)
            if site < 0:
                self._sites[name] = self._data.xpos[find(self.model, mujoco.mjtObj.mjOBJ_BODY, name)]
        return self.site_position(name)

    def body_position(self, body: str) -> np.ndarray:
        """Return where a body's origin is, shape (3,) [m]."""
        return self._data.xpos[find(self.model, mujoco.mjtObj.mjOBJ_BODY, body)].copy()

    def body_speed(self, body: str) -> float:
        """Return how fast a body's origin moves [m/s]."""
        kind, velocity = mujoco.mjtObj.mjOBJ_BODY, np.empty(6)
        mujoco.mj_objectVelocity(self.model, self._data, int(kind), find(self.model, kind, body), velocity, 0)
        return float(np.linalg.norm(velocity[3:]))

    def clearance(self, first: Collection[str], second: Collection[str], within: float = 1.0) -> float:
        """Return the least distance between a geom of the one group and one of the other [m]; at most ``within`` [m].

        Groups are as for `geoms`. Negative where they penetrate each other.
        """
        for a, b in self._pairs(tuple(first), tuple(second)):
            within = min(within, mujoco.mj_geomDistance(self.model, self._data, a, b, within, None))
        return within

    def _pairs(self, first: tuple[str, ...], second: tuple[str, ...]) -> list[tuple[int, int]]:
        """Return the indices of every geom of the one group with every one of the other; looked up once."""
        if (first, second) not in self._geom_pairs:
            self._geom_pairs[first, second] = list(itertools.product(self.geoms(first), self.geoms(second)))
        return self._geom_pairs[first, second]

    def geoms(self, names: Collection[str]) -> list[int]:
        """Return the indices of geoms by name. The name of a body stands for all its geoms that can collide.

        Raises
        ------
        ModelError
            There is neither a geom nor a body of a name.

        """
        found = []
        for name in names:
            body = mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_BODY, name)
            if mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_GEOM, name) >= 0 or body < 0:
                found.append(find(self.model, mujoco.mjtObj.mjOBJ_GEOM, name))
                continue
            first = int(self.model.body_geomadr[body])
            colliding = self.model.geom_contype | self.model.geom_conaffinity
            found += [geom for geom in range(first, first + int(self.model.body_geomnum[body])) if colliding[geom]]
        return found

    def touched(self, first: Collection[str], second: Collection[str]) -> bool:
        """Return whether a geom of the one group touched one of the other in any physics step since the reset.

        Groups are as for `geoms`.
        """
        if not self._touches:
            return False
        one, other = set(self.geoms(first)), set(self.geoms(second))
        return any((a in one and b in other) or (a in other and b in one) for a, b in self._touches)

    def pose(self, configuration: np.ndarray) -> None:
        """Put everything where a copy of ``data.qpos`` says, to look at it: no time passes."""
        self._data.qpos[:] = configuration
        mujoco.mj_kinematics(self.model, self._data)
        mujoco.mj_camlight(self.model, self._data)

    def render(self, camera: str | None, width: int = 640, height: int = 480) -> np.ndarray:
        """Take a picture with a camera of the model, shape (height, width, 3), uint8 RGB.

        None is the free camera of MuJoCo, which shows the whole scene.

        Raises
        ------
        ModelError
            The model has no such camera.
        SimulationError
            No OpenGL context can be had on this machine.

        """
        index = -1 if camera is None else find(self.model, mujoco.mjtObj.mjOBJ_CAMERA, camera)
        if self._camera is None or (self._camera.width, self._camera.height) != (width, height):
            self.close()
            self._camera = OffscreenCamera(self.model, width, height)
        return self._camera.render(self._data, index)

    def close(self) -> None:
        """Give the OpenGL context back, if there is one; the next `render` makes another."""
        if self._camera is not None:
            self._camera.close()
            self._camera = None

    def checked(self, position: np.ndarray) -> np.ndarray:
        """Return positions as an array, one for each commanded joint [rad]; a `SimulationError` if they are none."""
        return self._checked(position, self.commanded)

    def _checked(self, values: np.ndarray | list[float], joints: Collection) -> np.ndarray:
        values = np.asarray(values, dtype=np.float64)
        if values.shape != (len(joints),) or not all(map(isfinite, values.tolist())):
            raise SimulationError(
                expected=f'{len(joints)} finite joint positions',
                found=np.array2string(values, max_line_width=1000),
                remedy='check what computed them',
            )
        return values
