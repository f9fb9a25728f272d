"""Pictures of a scene without a window."""

from __future__ import annotations

import sys

import mujoco
import numpy as np

from vdd_ros.errors import SimulationError

_FONT_SCALE = 150


class OffscreenCamera:
    """Renders the scenes of one model at one size.

    Holds an OpenGL context: use it in the thread that made it, and close it there.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int) -> None:
        """Make an OpenGL context, on Linux by EGL, which needs no display.

        Raises
        ------
        SimulationError
            No context can be had, or the picture is larger than the model's offscreen buffer.

        """
        self.width = width
        self.height = height
        limits = model.vis.global_
        if width > limits.offwidth or height > limits.offheight:
            raise SimulationError(
                expected=f'a picture of at most {limits.offwidth} x {limits.offheight}',
                found=f'{width} x {height}',
                remedy='ask for less, or raise <visual><global offwidth="..." offheight="..."/></visual>',
            )
        try:
            # The backend is chosen here because importing one opens a graphics driver.
            if sys.platform == 'linux':
                from mujoco.egl import GLContext
            else:
                from mujoco.gl_context import GLContext
            self._context = GLContext(width, height)
            self._context.make_current()
            self._graphics = mujoco.MjrContext(model, _FONT_SCALE)
        except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise SimulationError(
                expected='an OpenGL context for offscreen rendering',
                found=' '.join(str(error).split()),
                remedy='install libegl1 and a driver such as libgl1-mesa-dri, or do without pictures',
            ) from error
        mujoco.mjr_setBuffer(int(mujoco.mjtFramebuffer.mjFB_OFFSCREEN), self._graphics)
        self._model = model
        self._scene = mujoco.MjvScene(model, maxgeom=1000)
        self._option = mujoco.MjvOption()
        self._view = mujoco.MjvCamera()
        self._view.type = int(mujoco.mjtCamera.mjCAMERA_FIXED)
        self._rectangle = mujoco.MjrRect(0, 0, width, height)

    def render(self, data: mujoco.MjData, camera: int) -> np.ndarray:
        """Take a picture with the camera of an index, shape (height, width, 3), uint8 RGB."""
        self._context.make_current()
        self._view.fixedcamid = camera
        categories = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._view, categories, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._graphics)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._graphics)
        # OpenGL counts rows from below.
        return np.ascontiguousarray(picture[::-1])

    def close(self) -> None:
        """Give the context back."""
        self._context.make_current()
        self._graphics.free()
        self._context.free()
