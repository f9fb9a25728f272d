"""Properties of message types that are known by name: whether they have a header, and their main numeric fields."""

from __future__ import annotations

import re
from typing import Literal

Kind = Literal['scalars', 'joints', 'frames', 'image', 'points']

_PACKAGES = {
    'sensor_msgs': 'JointState Image CompressedImage CameraInfo PointCloud2 Imu Joy',
    'std_msgs': 'Float64MultiArray Float32MultiArray Float64 Float32 Int32 Int64 UInt8 Bool String',
    'geometry_msgs': 'PoseStamped Pose TwistStamped Twist WrenchStamped Wrench PointStamped Point Vector3Stamped '
    'TransformStamped AccelStamped QuaternionStamped',
    'trajectory_msgs': 'JointTrajectory',
    'tf2_msgs': 'TFMessage',
    'nav_msgs': 'Odometry',
    'diagnostic_msgs': 'DiagnosticArray',
}
_FULL = {name: f'{package}/msg/{name}' for package, names in _PACKAGES.items() for name in names.split()}
_HEADLESS = {
    _FULL[name]
    for name in 'Float64MultiArray Float32MultiArray Float64 Float32 Int32 Int64 UInt8 Bool String Pose Twist Wrench '
    'Point'.split()
}
_KINDS: dict[str, Kind] = {
    _FULL['JointState']: 'joints',
    _FULL['JointTrajectory']: 'joints',
    _FULL['TFMessage']: 'frames',
    _FULL['Image']: 'image',
    _FULL['CompressedImage']: 'image',
    _FULL['PointCloud2']: 'points',
}
_FIELDS = {
    'JointState': ('position',),
    'JointTrajectory': ('position',),
    'PoseStamped': ('pose.position', 'pose.orientation'),
    'Pose': ('position', 'orientation'),
    'TwistStamped': ('twist.linear', 'twist.angular'),
    'Twist': ('linear', 'angular'),
    'WrenchStamped': ('wrench.force', 'wrench.torque'),
    'Wrench': ('force', 'torque'),
    'AccelStamped': ('accel.linear', 'accel.angular'),
    'PointStamped': ('point',),
    'Point': ('x', 'y', 'z'),
    'Vector3Stamped': ('vector',),
    'QuaternionStamped': ('quaternion',),
    'TransformStamped': ('transform.translation', 'transform.rotation'),
    'Odometry': ('pose.pose.position', 'pose.pose.orientation', 'twist.twist.linear', 'twist.twist.angular'),
    'Imu': ('orientation', 'angular_velocity', 'linear_acceleration'),
    'CameraInfo': ('k[0:9]',),
    **dict.fromkeys('Float64 Float32 Int32 Int64 UInt8 Bool'.split(), ('data',)),
}
_ORIENTATIONS = {'orientation', 'rotation', 'quaternion'}
_VECTORS = {
    *('position', 'translation', 'point', 'vector', 'force', 'torque', 'linear', 'angular'),
    *('angular_velocity', 'linear_acceleration'),
}
ARRAYS = {_FULL[name] for name in ('Float64MultiArray', 'Float32MultiArray')}
"""Types whose content is one array of numbers, `data`."""
GRIPPER_COMMAND = 'control_msgs/msg/GripperCommand'
_NUMBERS = {_FULL[name] for name in 'Float64 Float32 Int32 Int64 UInt8 Bool'.split()}
_SLICE = re.compile(r'^(.*)\[(\d+):(\d+)\]$')


def full_name(name: object) -> object:
    """Return the full name of a type: ``JointState`` and ``sensor_msgs/JointState`` are sensor_msgs/msg/JointState.

    A name of three parts is a full name, such as ``some_package/action/Grip_FeedbackMessage`` for an action's feedback.
    """
    if not isinstance(name, str):
        return name
    parts = name.split('/')
    if len(parts) == 1:
        if name not in _FULL:
            raise ValueError(f'{name} is no type that is known by its short name: write package/msg/{name}')
        return _FULL[name]
    return name if len(parts) > 2 else f'{parts[0]}/msg/{parts[1]}'


def has_header(name: str) -> bool | None:
    """Return whether a message type begins with a header; None for unknown types."""
    return name not in _HEADLESS if name in _FULL.values() else None


def kind(name: str) -> Kind:
    """Return the kind of content of a message type; `scalars` for unknown types."""
    return _KINDS.get(name, 'scalars')


def default_fields(name: str) -> tuple[str, ...]:
    """Return the paths of the main content of a message type; empty for types without an obvious main content."""
    return _FIELDS.get(name.rpartition('/')[2], ()) if name in _FULL.values() else ()


def position_paths(name: str, size: int) -> tuple[str, ...]:
    """Return the paths of the positions in a message that commands ``size`` positions.

    For messages with joint names this is `position`. The result is empty for types that cannot command ``size``
    positions.
    """
    if name in ARRAYS:
        return tuple(f'data[{place}]' for place in range(size))
    if kind(name) == 'joints':
        return ('position',)
    if size == 1 and name in _NUMBERS:
        return ('data',)
    return ('position',) if size == 1 and name == GRIPPER_COMMAND else ()


def is_orientation(path: str) -> bool:
    """Return whether a path refers to a whole quaternion."""
    return path.rpartition('.')[2] in _ORIENTATIONS


def expand(path: str, name: str = '') -> tuple[str, ...]:
    """Return the paths of all numbers to which a path refers: those of a vector, a quaternion or a slice, or itself.

    ``name`` is the message type, since the same path can differ: the `position` of a gripper command is one number.
    """
    if name == GRIPPER_COMMAND:
        return (path,)
    last = path.rpartition('.')[2]
    if last in _ORIENTATIONS:
        return tuple(f'{path}.{axis}' for axis in 'xyzw')
    if last in _VECTORS:
        return tuple(f'{path}.{axis}' for axis in 'xyz')
    match = _SLICE.match(path)
    if match:
        return tuple(f'{match[1]}[{place}]' for place in range(int(match[2]), int(match[3])))
    return (path,)
