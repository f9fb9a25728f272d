"""Pictures of a scene without a window."""

from __future__ import annotations

import sys
from dataclasses import dataclass

import mujoco
import numpy as np

from vdd_ros.common.errors import SimulationError

_FONT_SCALE = 150


@dataclass(frozen=True)
class Pinhole:
    """How a camera maps what it sees, in its optical frame (x right, y down, z ahead), to pixels."""

    focal: tuple[float, float]
    """Horizontal and vertical focal length [pixels]."""
    centre: tuple[float, float]
    """Column and row of what lies straight ahead [pixels]; whole numbers are the middles of pixels."""

    @classmethod
    def of(cls, model: mujoco.MjModel, camera: int, width: int, height: int) -> Pinhole:
        """Return that of a camera of a model, by index, at a size of the picture [pixels]."""
        sensor = model.cam_sensorsize[camera]
        if sensor[0] > 0:
            fx, fy, cx, cy = (float(value) for value in model.cam_intrinsic[camera])
            scale = width / sensor[0], height / sensor[1]
            centre = (width - 1) / 2 - cx * scale[0], (height - 1) / 2 - cy * scale[1]
            return cls((fx * scale[0], fy * scale[1]), centre)
        focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
        return cls((focal, focal), ((width - 1) / 2, (height - 1) / 2))

    def points(self, depth: np.ndarray, stride: int = 1) -> np.ndarray:
        """Return what every ``stride``-th pixel of a depth picture sees, shape (row, column, 3), float32 [m].

        In the optical frame; NaN where nothing is seen.
        """
        rows, columns = (np.arange(0, size, stride) for size in depth.shape)
        z = depth[::stride, ::stride].astype(np.float64)
        z[~np.isfinite(z)] = np.nan
        x = (columns - self.centre[0]) / self.focal[0] * z
        y = (rows - self.centre[1])[:, None] / self.focal[1] * z
        return np.stack([x, y, z], axis=-1).astype(np.float32)


def optical_rotation(matrix: np.ndarray) -> np.ndarray:
    """Turn the axes of a camera of MuJoCo, which looks along its -z, to those of its optical frame; shape (3, 3)."""
    return matrix.reshape(3, 3) * np.array([1.0, -1.0, -1.0])


class OffscreenCamera:
    """Renders the scenes of one model at one size.

    Holds an OpenGL context: use it in the thread that made it, and close it there, before it is forgotten.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, *, deep: bool = False) -> None:
        """Make an OpenGL context, on Linux by EGL, which needs no display.

        For depth, ``deep``, every pixel is sampled once, in its middle; else its edges are smoothed.

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
            samples = model.vis.quality.offsamples
            # Of several samples the depth would be that of one, beside the middle of the pixel.
            model.vis.quality.offsamples = 0 if deep else samples
            self._graphics = mujoco.MjrContext(model, _FONT_SCALE)
            model.vis.quality.offsamples = samples
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
        self._rectangle = mujoco.MjrRect(0, 0, width, height)
        self._graphics.readDepthMap = int(mujoco.mjtDepthMap.mjDEPTH_ZEROFAR)
        extent = model.stat.extent
        self._planes = model.vis.map.znear * extent, model.vis.map.zfar * extent

    def render(self, data: mujoco.MjData, camera: int) -> np.ndarray:
        """Take a picture with the camera of an index, shape (height, width, 3), uint8 RGB.

        A negative index is the free camera that MuJoCo's viewer begins with.
        """
        self._draw(data, camera)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._graphics)
        # OpenGL counts rows from below.
        return np.ascontiguousarray(picture[::-1])

    def render_depth(self, data: mujoco.MjData, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Take a picture and its depth in one go.

        Returns
        -------
        The picture, shape (height, width, 3), uint8 RGB, and the distance along the line of sight of the camera's
        middle, shape (height, width), float32 [m]; infinity where nothing is seen.

        """
        self._draw(data, camera)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        depth = np.empty((self.height, self.width), dtype=np.float32)
        mujoco.mjr_readPixels(picture, depth, self._rectangle, self._graphics)
        near, far = (np.float64(plane) for plane in self._planes)
        # The buffer falls from 1 at the near plane to 0 at the far one, as the reciprocal of the distance does.
        with np.errstate(divide='ignore'):
            distance = near * far / (near + depth.astype(np.float64) * (far - near))
        distance[depth <= 0] = np.inf
        return np.ascontiguousarray(picture[::-1]), np.ascontiguousarray(distance[::-1], dtype=np.float32)

    def _draw(self, data: mujoco.MjData, camera: int) -> None:
        self._context.make_current()
        if camera >= 0:
            self._view.type, self._view.fixedcamid = int(mujoco.mjtCamera.mjCAMERA_FIXED), camera
        else:
            mujoco.mjv_defaultFreeCamera(self._model, self._view)
        categories = int(mujoco.mjtCatBit.mjCAT_ALL)
        mujoco.mjv_updateScene(self._model, data, self._option, None, self._view, categories, self._scene)
        mujoco.mjr_render(self._rectangle, self._scene, self._graphics)

    def close(self) -> None:
        """Give the context back."""
        self._context.make_current()
        self._graphics.free()
        self._context.free()


def check_rendering() -> None:
    """Make an OpenGL context and close it; raises `SimulationError` where none can be had."""
    OffscreenCamera(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).close()
