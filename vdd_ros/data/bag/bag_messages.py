"""Serialise ROS 2 messages from plain values, without ROS, for bags that are not recorded by a robot."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.decode.pinhole import Pinhole

JOINT_STATE = 'sensor_msgs/msg/JointState'
NUMBERS = 'std_msgs/msg/Float64MultiArray'
POSE = 'geometry_msgs/msg/PoseStamped'
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
CAMERA_INFO = 'sensor_msgs/msg/CameraInfo'
TRANSFORMS = 'tf2_msgs/msg/TFMessage'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'


def joint_state(stamp: int, names: Sequence[str], position: np.ndarray) -> bytes:
    """Serialise joint positions of shape (joint,) [rad], measured at ``stamp`` [ns]."""
    none = np.zeros(0)
    position = np.ascontiguousarray(position, dtype=np.float64)
    return _bytes(JOINT_STATE, _header(stamp), list(names), position, none, none)


def numbers(values: np.ndarray) -> bytes:
    """Serialise numbers of shape (number,), the message of position controllers."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    return _bytes(NUMBERS, _make('std_msgs/msg/MultiArrayLayout', [], 0), values)


def pose(stamp: int, position: Sequence[float], orientation: Sequence[float], frame: str = '') -> bytes:
    """Serialise a position x y z [m] and a unit quaternion x y z w with ``stamp`` [ns]."""
    point = _make('geometry_msgs/msg/Point', *map(float, position))
    return _bytes(POSE, _header(stamp, frame), _make('geometry_msgs/msg/Pose', point, _quaternion(orientation)))


def transforms(stamp: int, links: Sequence[tuple[str, str, Sequence[float]]]) -> bytes:
    """Serialise transforms at ``stamp`` [ns]: parent, child, and position x y z [m] with unit quaternion x y z w."""
    found = []
    for parent, child, values in links:
        shift = _make('geometry_msgs/msg/Vector3', *map(float, values[:3]))
        moved = _make('geometry_msgs/msg/Transform', shift, _quaternion(values[3:]))
        found.append(_make('geometry_msgs/msg/TransformStamped', _header(stamp, parent), child, moved))
    return _bytes(TRANSFORMS, found)


def camera_info(stamp: int, frame: str, size: tuple[int, int], pinhole: Pinhole, model: str = 'plumb_bob') -> bytes:
    """Serialise the camera model of images of a width and height [pixels], with the name of the optical frame."""
    (fx, fy), (cx, cy) = pinhole.focal, pinhole.centre
    matrix = np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])
    return _bytes(
        CAMERA_INFO,
        _header(stamp, frame),
        size[1],
        size[0],
        model,
        np.array(pinhole.distortion or [0.0] * 5, dtype=np.float64),
        matrix.ravel(),
        np.eye(3).ravel(),
        np.concatenate([matrix, np.zeros((3, 1))], axis=1).ravel(),
        0,
        0,
        _make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False),
    )


def image(stamp: int, pixels: np.ndarray) -> bytes:
    """Serialise an image of shape (height, width, 3), uint8, RGB, taken at ``stamp`` [ns]."""
    height, width, channels = pixels.shape
    data = np.ascontiguousarray(pixels, dtype=np.uint8).reshape(-1)
    return _bytes(IMAGE, _header(stamp), height, width, 'rgb8', 0, width * channels, data)


def compressed_image(stamp: int, data: bytes, form: str) -> bytes:
    """Serialise JPEG or PNG data, with a format such as ``rgb8; jpeg compressed bgr8``."""
    return _bytes(COMPRESSED_IMAGE, _header(stamp), form, np.frombuffer(data, dtype=np.uint8))


def mark(stamp: int, event: str, **labels: object) -> bytes:
    """Serialise an episode mark (`start`, `end`, `label` or `discard`) with labels."""
    values = [_make('diagnostic_msgs/msg/KeyValue', key, str(value)) for key, value in labels.items()]
    status = _make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)
    return _bytes(MARK, _header(stamp), [status])


@lru_cache(maxsize=1)
def _store() -> Typestore:
    return get_typestore(Stores.ROS2_HUMBLE)


def _make(kind: str, *values: Any) -> Any:
    return _store().types[kind](*values)


def _bytes(kind: str, *values: Any) -> bytes:
    return bytes(_store().serialize_cdr(_make(kind, *values), kind))


def _quaternion(xyzw: Sequence[float]) -> Any:
    return _make('geometry_msgs/msg/Quaternion', *map(float, xyzw))


def _header(stamp: int, frame: str = '') -> Any:
    time = _make('builtin_interfaces/msg/Time', stamp // NANOSECONDS, stamp % NANOSECONDS)
    return _make('std_msgs/msg/Header', time, frame)
