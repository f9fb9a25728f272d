"""Serialised messages of ROS 2 out of plain values, without ROS: what a bag is filled with that no robot recorded."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from rosbags.typesys import Stores, get_typestore
from rosbags.typesys.store import Typestore

from vdd_ros.contract.contract import NANOSECONDS

JOINT_STATE = 'sensor_msgs/msg/JointState'
NUMBERS = 'std_msgs/msg/Float64MultiArray'
POSE = 'geometry_msgs/msg/PoseStamped'
IMAGE = 'sensor_msgs/msg/Image'
COMPRESSED_IMAGE = 'sensor_msgs/msg/CompressedImage'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'


def joint_state(stamp: int, names: Sequence[str], position: np.ndarray) -> bytes:
    """Serialise positions of shape (joint,) [rad], measured at ``stamp`` [ns]."""
    none = np.zeros(0)
    position = np.ascontiguousarray(position, dtype=np.float64)
    return _bytes(JOINT_STATE, _header(stamp), list(names), position, none, none)


def numbers(values: np.ndarray) -> bytes:
    """Serialise numbers of shape (number,), as position controllers take them."""
    values = np.ascontiguousarray(values, dtype=np.float64)
    return _bytes(NUMBERS, _make('std_msgs/msg/MultiArrayLayout', [], 0), values)


def pose(stamp: int, position: Sequence[float], orientation: Sequence[float], frame: str = '') -> bytes:
    """Serialise a position x y z [m] and a unit quaternion x y z w, seen at ``stamp`` [ns]."""
    point = _make('geometry_msgs/msg/Point', *map(float, position))
    turn = _make('geometry_msgs/msg/Quaternion', *map(float, orientation))
    return _bytes(POSE, _header(stamp, frame), _make('geometry_msgs/msg/Pose', point, turn))


def image(stamp: int, pixels: np.ndarray) -> bytes:
    """Serialise a picture of shape (height, width, 3) uint8, red green blue, taken at ``stamp`` [ns]."""
    height, width, channels = pixels.shape
    data = np.ascontiguousarray(pixels, dtype=np.uint8).reshape(-1)
    return _bytes(IMAGE, _header(stamp), height, width, 'rgb8', 0, width * channels, data)


def compressed_image(stamp: int, data: bytes, form: str) -> bytes:
    """Serialise a picture that is a JPEG or PNG already, in a format such as ``rgb8; jpeg compressed bgr8``."""
    return _bytes(COMPRESSED_IMAGE, _header(stamp), form, np.frombuffer(data, dtype=np.uint8))


def mark(stamp: int, event: str, **labels: object) -> bytes:
    """Serialise the mark of an episode: `start`, `end`, `label` or `discard`, and what is said of it."""
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


def _header(stamp: int, frame: str = '') -> Any:
    time = _make('builtin_interfaces/msg/Time', stamp // NANOSECONDS, stamp % NANOSECONDS)
    return _make('std_msgs/msg/Header', time, frame)
