"""Conversions of pictures to messages: pure functions. Arrays, not lists: rclpy checks lists element by element."""

from __future__ import annotations

import io
import struct
from array import array

import numpy as np
from PIL import Image as Pillow
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2, PointField
from std_msgs.msg import Header

from vdd_ros.sim.camera import Pinhole

try:
    from sensor_msgs_py.point_cloud2 import create_cloud
except ModuleNotFoundError:  # the wheels of ROS lack it
    create_cloud = None

_DEPTH_QUANTIZATION, _DEPTH_MAX = 100.0, 10.0
"""Parameters of compressed_depth_image_transport: `depth_quantization`, and `depth_max` [m]."""
_POINT = np.dtype([('x', '<f4'), ('y', '<f4'), ('z', '<f4'), ('rgb', '<f4')])
_FIELDS = [
    PointField(name=name, offset=_POINT.fields[name][1], datatype=PointField.FLOAT32, count=1) for name in _POINT.names
]


def to_image(header: Header, picture: np.ndarray) -> Image:
    """Convert a picture: shape (height, width, 3), uint8, to rgb8; shape (height, width), float32 [m], to 32FC1."""
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
    """Convert a picture, shape (height, width, 3), uint8, to JPEG as the transport `compressed` of image_transport."""
    octets = io.BytesIO()
    Pillow.fromarray(picture).save(octets, format='JPEG', quality=95)
    return CompressedImage(header=header, format='rgb8; jpeg compressed bgr8', data=array('B', octets.getvalue()))


def to_compressed_depth(header: Header, depth: np.ndarray) -> CompressedImage:
    """Convert depth, shape (height, width), float32 [m], as the transport `compressedDepth` of image_transport.

    The inverse depth is quantised to 16 bits with the default parameters of compressed_depth_image_transport, and
    stored as PNG behind a header of these parameters. Depth from `_DEPTH_MAX` on, and none at all, becomes 0; depth
    below .152 m becomes .152 m. At 1 m the error is at most .05 mm, at 5 m 1.3 mm.
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
    """Convert how a camera maps: without distortion, and rectified as it is."""
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


def to_points(header: Header, points: np.ndarray, colours: np.ndarray) -> PointCloud2:
    """Convert points, shape (row, column, 3) [m], and their colours, of the same shape, uint8, to an ordered cloud.

    The colour is packed into a float as RViz and PCL want it. sensor_msgs_py makes the message where it is installed;
    without it the message is the same, byte for byte.
    """
    height, width = points.shape[:2]
    cloud = np.empty(height * width, dtype=_POINT)
    cloud['x'], cloud['y'], cloud['z'] = points.reshape(-1, 3).T
    red, green, blue = colours.reshape(-1, 3).astype(np.uint32).T
    cloud['rgb'] = (red << 16 | green << 8 | blue).view(np.float32)
    message = create_cloud(header, _FIELDS, cloud) if create_cloud else _unorganized(header, cloud)
    # Of a two-dimensional array sensor_msgs_py would take the rows for columns.
    message.height, message.width, message.row_step = height, width, _POINT.itemsize * width
    return message


def _unorganized(header: Header, cloud: np.ndarray) -> PointCloud2:
    return PointCloud2(
        header=header,
        height=1,
        width=len(cloud),
        fields=_FIELDS,
        is_bigendian=False,
        point_step=_POINT.itemsize,
        row_step=_POINT.itemsize * len(cloud),
        data=_octets(cloud),
        is_dense=False,
    )


def _octets(values: np.ndarray) -> array:
    octets = array('B')
    octets.frombytes(np.ascontiguousarray(values).tobytes())
    return octets
