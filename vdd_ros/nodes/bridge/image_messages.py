"""Conversion of images to messages: pure functions. They use arrays, since rclpy checks lists element by element."""

from __future__ import annotations

import io
import struct
from array import array
from collections.abc import Callable

import numpy as np
from PIL import Image as Pillow
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from vdd_ros.data.decode.pinhole import Pinhole

try:
    from sensor_msgs_py.point_cloud2 import create_cloud as _installed_create_cloud
except ModuleNotFoundError:  # missing in the ROS wheels
    _installed_create_cloud = None

_DEPTH_QUANTIZATION, _DEPTH_MAX = 100.0, 10.0
"""Parameters of compressed_depth_image_transport: `depth_quantization`, and `depth_max` [m]."""
_POINT = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<f4')])
_FIELDS = [
    PointField(name=name, offset=4 * place, datatype=PointField.FLOAT32, count=1)
    for place, name in enumerate(('x', 'y', 'z', 'rgb'))
]


def to_image(header: Header, picture: np.ndarray) -> Image:
    """Convert an image: shape (height, width, 3), uint8, to rgb8; shape (height, width), float32 [m], to 32FC1."""
    colour = picture.ndim == 3
    return Image(
        header=header,
        height=picture.shape[0],
        width=picture.shape[1],
        encoding='rgb8' if colour else '32FC1',
        step=picture.shape[1] * (3 if colour else 4),
        data=_octets(picture if colour else picture.astype('<f4', copy=False)),
    )


def to_compressed(header: Header, picture: np.ndarray) -> CompressedImage:
    """Convert an image, shape (height, width, 3), uint8, to JPEG as the transport `compressed` of image_transport."""
    octets = io.BytesIO()
    Pillow.fromarray(picture).save(octets, format='JPEG', quality=95)
    return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=array('B', octets.getvalue()))


def to_compressed_depth(header: Header, depth: np.ndarray) -> CompressedImage:
    """Convert depth, shape (height, width), float32 [m], as the transport `compressedDepth` of image_transport.

    The inverse depth is quantised to 16 bits with the default parameters of compressed_depth_image_transport, and
    stored as PNG after a header with these parameters. Missing depth, and depth of at least `_DEPTH_MAX`, becomes 0;
    depth below 0.152 m becomes 0.152 m. The error is at most 0.05 mm at 1 m, and 1.3 mm at 5 m.
    """
    scale = _DEPTH_QUANTIZATION * (_DEPTH_QUANTIZATION + 1.0)
    shift = 1.0 - scale / _DEPTH_MAX
    known = np.isfinite(depth) & (depth > 0) & (depth < _DEPTH_MAX)
    inverse = np.where(known, np.clip(np.rint(scale / np.where(known, depth, 1.0) + shift), 1, 65535), 0)
    octets = io.BytesIO(struct.pack('<iff', 0, scale, shift))
    octets.seek(0, io.SEEK_END)
    Pillow.fromarray(inverse.astype(np.uint16)).save(octets, format='PNG', compress_level=1)
    return CompressedImage(header=header, format='32FC1; compressedDepth png', data=array('B', octets.getvalue()))


def to_camera_info(header: Header, width: int, height: int, pinhole: Pinhole) -> CameraInfo:
    """Convert a pinhole model without distortion; the image counts as rectified."""
    (fx, fy), (cx, cy) = pinhole.focal, pinhole.centre
    return CameraInfo(
        header=header,
        height=height,
        width=width,
        distortion_model='plumb_bob',
        d=[0.0] * 5,
        k=[fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0],
        r=[1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
        p=[fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )


def create_cloud(header: Header, fields: list[PointField], points: np.ndarray) -> PointCloud2:
    """Return an unorganized cloud, equal to that of sensor_msgs_py, from a structured array with shape (point,)."""
    return PointCloud2(
        header=header,
        height=1,
        width=len(points),
        fields=fields,
        is_bigendian=False,
        point_step=points.itemsize,
        row_step=points.itemsize * len(points),
        data=_octets(points),
        is_dense=False,
    )


CREATE_CLOUD: Callable[[Header, list[PointField], np.ndarray], PointCloud2] = _installed_create_cloud or create_cloud
"""The function of sensor_msgs_py if that package is installed; otherwise `create_cloud`, with the same result."""


def to_points(
    header: Header,
    points: np.ndarray,
    colours: np.ndarray,
    create: Callable[[Header, list[PointField], np.ndarray], PointCloud2] = CREATE_CLOUD,
) -> PointCloud2:
    """Convert points and their colours to an organized point cloud, with one point for each pixel.

    ``points`` has shape (row, column, 3) [m], ``colours`` the same shape, uint8. Colours are packed into a float as
    RViz and PCL expect. ``create`` builds an unorganized cloud of one row, whose height and width are then set.
    """
    height, width = points.shape[:2]
    cloud = np.empty(height * width, dtype=_POINT)
    cloud['x'], cloud['y'], cloud['z'] = points.reshape(-1, 3).T
    red, green, blue = colours.reshape(-1, 3).astype(np.uint32).T
    cloud['rgb'] = (red << 16 | green << 8 | blue).view(np.float32)
    message = create(header, _FIELDS, cloud)
    message.height, message.width, message.row_step = height, width, _POINT.itemsize * width
    return message


def _octets(values: np.ndarray) -> array:
    octets = array('B')
    octets.frombytes(np.ascontiguousarray(values).tobytes())
    return octets
