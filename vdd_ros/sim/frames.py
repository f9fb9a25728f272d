"""The frame tree of a scene: each body in its parent, each site and camera in its body."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vdd_ros.sim.camera import optical_rotation
from vdd_ros.sim.model import find
from vdd_ros.sim.sensors import Placement

if TYPE_CHECKING:
    from vdd_ros.sim.simulation import Simulation

WORLD_FRAME = 'world'


@dataclass(frozen=True)
class Link:
    """The pose of a frame in its parent."""

    parent: str
    child: str
    placement: Placement


class FrameTree:
    """Evaluates the frames of a scene on a copy of its state, without an effect on the motion."""

    def __init__(
        self, simulation: Simulation, sites: Collection[str] = (), cameras: Mapping[str, str] | None = None
    ) -> None:
        """Select the frames: all bodies, some sites, and the optical frames of some cameras.

        Parameters
        ----------
        simulation
            The scene.
        sites
            Names of sites.
        cameras
            Names of cameras in the model, by the names of their optical frames.

        Raises
        ------
        ModelError
            The scene lacks a site or camera.

        """
        model = simulation.model
        self._simulation = simulation
        self._data = mujoco.MjData(model)
        self._sites = [(site, find(model, mujoco.mjtObj.mjOBJ_SITE, site)) for site in sorted(set(sites))]
        self._cameras = [
            (frame, find(model, mujoco.mjtObj.mjOBJ_CAMERA, camera)) for frame, camera in (cameras or {}).items()
        ]
        self._bodies = [WORLD_FRAME, *(model.body(index).name or f'body_{index}' for index in range(1, model.nbody))]

    def links(self) -> list[Link]:
        """Return the pose of every frame in its parent: position [m] and quaternion w x y z."""
        model, data = self._simulation.model, self._data
        for name in ('qpos', 'mocap_pos', 'mocap_quat'):
            getattr(data, name)[:] = getattr(self._simulation.data, name)
        mujoco.mj_kinematics(model, data)
        mujoco.mj_camlight(model, data)
        links = [
            self._link(int(model.body_parentid[index]), self._bodies[index], data.xpos[index], data.xquat[index])
            for index in range(1, model.nbody)
        ]
        for name, index in self._sites:
            orientation = _quaternion(data.site_xmat[index])
            links.append(self._link(int(model.site_bodyid[index]), name, data.site_xpos[index], orientation))
        for name, index in self._cameras:
            orientation = _quaternion(optical_rotation(data.cam_xmat[index]))
            links.append(self._link(int(model.cam_bodyid[index]), name, data.cam_xpos[index], orientation))
        return links

    def _link(self, body: int, child: str, position: np.ndarray, orientation: np.ndarray) -> Link:
        inverse, inside, turned = np.empty(4), np.empty(3), np.empty(4)
        mujoco.mju_negQuat(inverse, self._data.xquat[body])
        mujoco.mju_rotVecQuat(inside, position - self._data.xpos[body], inverse)
        mujoco.mju_mulQuat(turned, inverse, orientation)
        return Link(self._bodies[body], child, Placement(inside, turned))


def _quaternion(matrix: np.ndarray) -> np.ndarray:
    quaternion = np.empty(4)
    mujoco.mju_mat2Quat(quaternion, matrix.flatten())
    return quaternion
