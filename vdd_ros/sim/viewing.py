"""Show a scene in the MuJoCo window, or as images of a video."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError, SimulationError
from vdd_ros.sim.camera import OffscreenCamera
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import unpack


def has_display() -> bool:
    """Return whether a window can be opened."""
    return sys.platform != 'linux' or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


class Window:
    """The MuJoCo viewer on a scene that is simulated elsewhere; drag to rotate, double-click to select."""

    def __init__(self, simulation: Simulation, press: Callable[[int], None]) -> None:
        """Open the window; ``press`` is called with the code of every key, in a thread of the window.

        Raises
        ------
        SimulationError
            No window can be opened.

        """
        try:
            from mujoco import viewer  # opens a display driver

            self._handle = viewer.launch_passive(simulation.private_model(), simulation.data, key_callback=press)
        except (RuntimeError, ImportError, mujoco.FatalError) as error:
            raise SimulationError(
                expected='a window on this display',
                found=' '.join(str(error).split()),
                remedy='write a video instead: vdd view --film view.mp4',
            ) from error
        self._simulation = simulation

    @property
    def is_open(self) -> bool:
        """Whether the window is open."""
        return self._handle.is_running()

    def show(self, vector: np.ndarray) -> None:
        """Show a snapshot; raises `ModelError` if it belongs to another scene."""
        with self._handle.lock():
            _take(vector, self._simulation)
        self._handle.sync()

    def close(self) -> None:
        """Close the window."""
        self._handle.close()


class Picturing:
    """Renders images of a scene that is simulated elsewhere, from one of its cameras or the default view."""

    def __init__(self, simulation: Simulation, camera: str, width: int, height: int) -> None:
        """Prepare rendering.

        Raises
        ------
        ModelError
            The scene has no such camera.
        SimulationError
            No OpenGL context is available.

        """
        self._simulation = simulation
        model = simulation.private_model()
        buffer = model.vis.global_
        buffer.offwidth, buffer.offheight = max(buffer.offwidth, width), max(buffer.offheight, height)
        if camera:
            simulation.check('camera', camera)
        self._camera = model.camera(camera).id if camera else -1
        self._lens = OffscreenCamera(model, width, height)

    def picture(self, vector: np.ndarray) -> np.ndarray:
        """Render a snapshot, shape (height, width, 3), uint8 RGB; `ModelError` if it belongs to another scene."""
        _take(vector, self._simulation)
        return self._lens.render(self._simulation.data, self._camera)

    def close(self) -> None:
        """Release the OpenGL context."""
        self._lens.close()


def _take(vector: np.ndarray, simulation: Simulation) -> None:
    if not unpack(vector, simulation.model, simulation.data):
        raise ModelError(
            expected='snapshots of the shown scene',
            found=f'{vector.size} numbers',
            remedy='start the viewer on the machine of the bridge, with the same files',
        )
