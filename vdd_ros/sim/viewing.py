"""A scene for people: in MuJoCo's window, or as pictures for a film."""

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
    """Tell whether a window can be opened here."""
    return sys.platform != 'linux' or bool(os.environ.get('DISPLAY') or os.environ.get('WAYLAND_DISPLAY'))


class Window:
    """MuJoCo's viewer on a scene that moves elsewhere; drag to look around, double-click to look at something."""

    def __init__(self, simulation: Simulation, press: Callable[[int], None]) -> None:
        """Open the window; ``press`` is told the code of every key, in a thread of the window's own.

        Raises
        ------
        SimulationError
            No window can be opened here.

        """
        try:
            from mujoco import viewer  # opens a display's driver

            self._handle = viewer.launch_passive(simulation.private_model(), simulation.data, key_callback=press)
        except (RuntimeError, ImportError, mujoco.FatalError) as error:
            raise SimulationError(
                expected='a window on this display',
                found=' '.join(str(error).split()),
                remedy='write a film instead: vdd view --film view.mp4',
            ) from error
        self._simulation = simulation

    @property
    def is_open(self) -> bool:
        """Whether nobody has closed it."""
        return self._handle.is_running()

    def show(self, vector: np.ndarray) -> None:
        """Show what a snapshot says; a `ModelError` if it is one of another scene."""
        with self._handle.lock():
            _take(vector, self._simulation)
        self._handle.sync()

    def close(self) -> None:
        """Close it."""
        self._handle.close()


class Picturing:
    """Pictures of a scene that moves elsewhere, from one of its cameras or from where the viewer would begin."""

    def __init__(self, simulation: Simulation, camera: str, width: int, height: int) -> None:
        """Prepare to draw.

        Raises
        ------
        ModelError
            The scene has no such camera.
        SimulationError
            No OpenGL context can be had.

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
        """Draw what a snapshot says, shape (height, width, 3), uint8 RGB; a `ModelError` if it is of another scene."""
        _take(vector, self._simulation)
        return self._lens.render(self._simulation.data, self._camera)

    def close(self) -> None:
        """Give the OpenGL context back."""
        self._lens.close()


def _take(vector: np.ndarray, simulation: Simulation) -> None:
    if not unpack(vector, simulation.model, simulation.data):
        raise ModelError(
            expected='snapshots of the scene that is shown',
            found=f'{vector.size} numbers',
            remedy='start the viewer where the bridge runs, with the same files',
        )
