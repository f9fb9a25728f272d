"""Draws snapshots of a scene in whatever process holds this: pictures, depths, and where the cameras are."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError
from vdd_ros.sim.camera import OffscreenCamera, Pinhole, optical_rotation
from vdd_ros.sim.model import find
from vdd_ros.sim.sensors import Placement
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import unpack

Size = tuple[int, int]
"""Width and height of a picture [pixels]."""


def save_compiled(simulation: Simulation, file: Path) -> None:
    """Write the compiled model of a scene, for a process of one's own to draw."""
    mujoco.mj_saveModel(simulation.shared_model, str(file))


class Renderer:
    """A copy of a scene that goes wherever a snapshot says.

    Holds OpenGL contexts: use it in the thread that made it.
    """

    def __init__(self, file: Path, kinds: Collection[tuple[Size, bool]]) -> None:
        """Load a model that `save_compiled` wrote, and prepare to draw at sizes, each with depth or without.

        Raises
        ------
        SimulationError
            No OpenGL context can be had on this machine.

        """
        self._model = mujoco.MjModel.from_binary_path(str(file))
        self._data = mujoco.MjData(self._model)
        buffer = self._model.vis.global_
        # A picture larger than the author of the model thought of is a matter of its buffer alone.
        buffer.offwidth = max(buffer.offwidth, *(width for (width, _), _ in kinds))
        buffer.offheight = max(buffer.offheight, *(height for (_, height), _ in kinds))
        self._lenses = {
            (size, deep): OffscreenCamera(self._model, *size, deep=deep) for size, deep in dict.fromkeys(kinds)
        }

    def close(self) -> None:
        """Give the OpenGL contexts back."""
        for lens in self._lenses.values():
            lens.close()

    def pinhole(self, camera: str, size: Size) -> Pinhole:
        """Return how a camera maps at a size."""
        return Pinhole.of(self._model, find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), *size)

    def take(self, vector: np.ndarray) -> None:
        """Put everything where a snapshot says.

        Raises
        ------
        ModelError
            The snapshot is one of another model.

        """
        if not unpack(vector, self._model, self._data):
            raise ModelError(
                expected='a snapshot of the model that is drawn',
                found=f'{vector.size} numbers',
                remedy='draw the scene that the snapshots are of',
            )

    def draw(self, camera: str, size: Size, *, deep: bool) -> tuple[np.ndarray, np.ndarray | None]:
        """Return the picture, and if wanted the depth, as `OffscreenCamera.render_depth` has them."""
        index, lens = find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), self._lenses[size, deep]
        return lens.render_depth(self._data, index) if deep else (lens.render(self._data, index), None)

    def place(self, camera: str) -> Placement:
        """Return where the optical frame of a camera is in the world."""
        index, orientation = find(self._model, mujoco.mjtObj.mjOBJ_CAMERA, camera), np.empty(4)
        mujoco.mju_mat2Quat(orientation, optical_rotation(self._data.cam_xmat[index]).flatten())
        return Placement(self._data.cam_xpos[index].copy(), orientation)
