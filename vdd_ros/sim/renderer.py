"""Render snapshots of a scene in another process: images, depth, and camera poses."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError
from vdd_ros.data.decode.pinhole import Pinhole
from vdd_ros.sim.camera import OffscreenCamera, optical_rotation, pinhole_of
from vdd_ros.sim.model import find
from vdd_ros.sim.sensors import Placement
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import unpack

Size = tuple[int, int]
"""Width and height of an image [pixels]."""


def save_compiled(simulation: Simulation, file: Path) -> None:
    """Write the compiled model of a scene for rendering in another process."""
    mujoco.mj_saveModel(simulation.shared_model, str(file))


class Renderer:
    """A copy of a scene that is set to snapshots.

    Holds OpenGL contexts: use it in the thread that created it.
    """

    def __init__(self, file: Path, kinds: Collection[tuple[Size, bool]]) -> None:
        """Load a model written by `save_compiled`, and prepare rendering at sizes, each with or without depth.

        Raises
        ------
        SimulationError
            No OpenGL context is available.

        """
        self._model = mujoco.MjModel.from_binary_path(str(file))
        self._data = mujoco.MjData(self._model)
        buffer = self._model.vis.global_
        # The offscreen buffer of the model is enlarged if necessary.
        buffer.offwidth = max(buffer.offwidth, *(width for (width, _), _ in kinds))
        buffer.offheight = max(buffer.offheight, *(height for (_, height), _ in kinds))
        self._lenses = {
            (size, deep): OffscreenCamera(self._model, *size, deep=deep) for size, deep in dict.fromkeys(kinds)
        }

    def close(self) -> None:
        """Release the OpenGL contexts."""
        for lens in self._lenses.values():
            lens.close()

    def pinhole(self, camera: str, size: Size) -> Pinhole:
        """Return the pinhole model of a camera for an image size."""
        return pinhole_of(self._model, find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), *size)

    def take(self, vector: np.ndarray) -> None:
        """Set the scene to a snapshot.

        Raises
        ------
        ModelError
            The snapshot belongs to another model.

        """
        if not unpack(vector, self._model, self._data):
            raise ModelError(
                expected='a snapshot of the rendered model',
                found=f'{vector.size} numbers',
                remedy='render the scene of the snapshots',
            )

    def draw(self, camera: str, size: Size, *, deep: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the image and, if requested, the depth: see `OffscreenCamera.render_depth`."""
        index, lens = find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), self._lenses[size, deep]
        return lens.render_depth(self._data, index) if deep else (lens.render(self._data, index), None)

    def place(self, camera: str) -> Placement:
        """Return the pose of the optical frame of a camera in the world."""
        index, orientation = find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), np.empty(4)
        mujoco.mju_mat2Quat(orientation, optical_rotation(self._data.cam_xmat[index]).flatten())
        return Placement(self._data.cam_xpos[index].copy(), orientation)
