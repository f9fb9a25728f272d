"""Render images of a scene without a window."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import mujoco
import numpy as np

from vdd_ros.common.errors import SimulationError
from vdd_ros.data.decode.pinhole import Pinhole

_FONT_SCALE = 150


def pinhole_of(model: mujoco.MjModel, camera: int, width: int, height: int) -> Pinhole:
    """Return the pinhole model of a camera of a model, by index, for an image size [pixels]."""
    sensor = model.cam_sensorsize[camera]
    if sensor[0] > 0:
        fx, fy, cx, cy = (float(value) for value in model.cam_intrinsic[camera])
        scale = width / sensor[0], height / sensor[1]
        centre = (width - 1) / 2 - cx * scale[0], (height - 1) / 2 - cy * scale[1]
        return Pinhole((fx * scale[0], fy * scale[1]), centre)
    focal = height / 2 / np.tan(np.deg2rad(model.cam_fovy[camera]) / 2)
    return Pinhole((focal, focal), ((width - 1) / 2, (height - 1) / 2))


def optical_rotation(matrix: np.ndarray) -> np.ndarray:
    """Convert the axes of a MuJoCo camera, which looks along -z, to those of its optical frame; shape (3, 3)."""
    return matrix.reshape(3, 3) * np.array([1.0, -1.0, -1.0])


def disturbed(
    picture: np.ndarray,
    noise: np.random.Generator,
    *,
    deviation: float,
    brightness: float,
    covered: bool,
    color: Sequence[float] = (1.0, 1.0, 1.0),
) -> np.ndarray:
    """Return an image, uint8, with changed brightness and colours and added noise; black if ``covered``.

    ``deviation`` is the standard deviation of the noise [of 255].
    """
    if covered:
        return np.zeros_like(picture)
    factors = brightness * np.array(color)
    if (factors == 1.0).all() and not deviation:
        return picture
    values = factors * picture.astype(np.float64)
    if deviation:
        values += noise.normal(scale=deviation, size=picture.shape)
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


class OffscreenCamera:
    """Renders the scenes of one model at one size.

    Holds an OpenGL context: use and close it in the thread that created it.
    """

    def __init__(self, model: mujoco.MjModel, width: int, height: int, *, deep: bool = False) -> None:
        """Create an OpenGL context; on Linux with EGL, which needs no display.

        With ``deep``, every pixel is sampled once, at its centre. Otherwise edges are smoothed.

        Raises
        ------
        SimulationError
            No context is available, or the image is larger than the offscreen buffer of the model.

        """
        self.width = width
        self.height = height
        limits = model.vis.global_
        if width > limits.offwidth or height > limits.offheight:
            raise SimulationError(
                expected=f'an image of at most {limits.offwidth} x {limits.offheight}',
                found=f'{width} x {height}',
                remedy='request a smaller image, or increase <visual><global offwidth="..." offheight="..."/></visual>',
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
            # With several samples, the depth would be that of one sample beside the pixel centre.
            model.vis.quality.offsamples = 0 if deep else samples
            self._graphics = mujoco.MjrContext(model, _FONT_SCALE)
            model.vis.quality.offsamples = samples
        except (ImportError, AttributeError, RuntimeError, OSError, mujoco.FatalError) as error:
            raise SimulationError(
                expected='an OpenGL context for offscreen rendering',
                found=' '.join(str(error).split()),
                remedy='install libegl1 and a driver such as libgl1-mesa-dri, or disable cameras',
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
        """Render an image from the camera with the given index, shape (height, width, 3), uint8 RGB.

        A negative index selects the free camera of the MuJoCo viewer.
        """
        self._draw(data, camera)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        mujoco.mjr_readPixels(picture, None, self._rectangle, self._graphics)
        # OpenGL counts rows from the bottom.
        return np.ascontiguousarray(picture[::-1])

    def render_depth(self, data: mujoco.MjData, camera: int) -> tuple[np.ndarray, np.ndarray]:
        """Render an image and its depth.

        Returns
        -------
        The image, shape (height, width, 3), uint8 RGB, and the depth along the optical axis, shape (height, width),
        float32 [m]; infinity without an object.

        """
        self._draw(data, camera)
        picture = np.empty((self.height, self.width, 3), dtype=np.uint8)
        depth = np.empty((self.height, self.width), dtype=np.float32)
        mujoco.mjr_readPixels(picture, depth, self._rectangle, self._graphics)
        near, far = (np.float64(plane) for plane in self._planes)
        # The depth buffer decreases from 1 at the near plane to 0 at the far plane, linearly in the inverse distance.
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
        """Release the context."""
        self._context.make_current()
        self._graphics.free()
        self._context.free()


def check_rendering() -> None:
    """Create and close an OpenGL context; raises `SimulationError` if none is available."""
    OffscreenCamera(mujoco.MjModel.from_xml_string('<mujoco/>'), 16, 16).close()
