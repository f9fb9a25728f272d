"""Conversions between values of simulated sensors and controllers, and messages: pure functions."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Vector3, WrenchStamped
from sensor_msgs.msg import Imu, JointState
from std_msgs.msg import Header
from trajectory_msgs.msg import JointTrajectory
from visualization_msgs.msg import Marker, MarkerArray

from vdd_ros.common.errors import InterfaceError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.nodes.messages import from_time, to_time
from vdd_ros.sim.sensors import Contact, Motion, Placement, Wrench
from vdd_ros.sim.trajectory import TrajectoryGoal

_METRES_PER_NEWTON = 0.02
_ARROW = Vector3(x=0.004, y=0.008, z=0.0)


def to_header(stamp: int, frame: str) -> Header:
    """Return a header with a stamp [ns] and a frame."""
    return Header(stamp=to_time(stamp), frame_id=frame)


def to_quaternion(wxyz: np.ndarray) -> Quaternion:
    """Convert a MuJoCo quaternion, shape (4,), w x y z."""
    w, x, y, z = (float(value) for value in wxyz)
    return Quaternion(w=w, x=x, y=y, z=z)


def to_vector(values: np.ndarray) -> Vector3:
    """Convert a vector, shape (3,)."""
    return Vector3(x=float(values[0]), y=float(values[1]), z=float(values[2]))


def to_point(values: np.ndarray) -> Point:
    """Convert a point, shape (3,)."""
    return Point(x=float(values[0]), y=float(values[1]), z=float(values[2]))


def to_wrench(stamp: int, frame: str, wrench: Wrench) -> WrenchStamped:
    """Convert a wrench in the axes of its frame."""
    message = WrenchStamped(header=to_header(stamp, frame))
    message.wrench.force, message.wrench.torque = to_vector(wrench.force), to_vector(wrench.torque)
    return message


def to_imu(stamp: int, frame: str, motion: Motion) -> Imu:
    """Convert IMU values; zero covariances mean unknown."""
    return Imu(
        header=to_header(stamp, frame),
        orientation=to_quaternion(motion.orientation),
        angular_velocity=to_vector(motion.angular_velocity),
        linear_acceleration=to_vector(motion.acceleration),
    )


def to_pose(stamp: int, frame: str, placement: Placement) -> PoseStamped:
    """Convert a pose in a frame."""
    pose = Pose(position=to_point(placement.position), orientation=to_quaternion(placement.orientation))
    return PoseStamped(header=to_header(stamp, frame), pose=pose)


def to_contacts(stamp: int, frame: str, contacts: tuple[Contact, ...]) -> MarkerArray:
    """Convert contacts to arrows of 2 cm per newton, starting at the contact; earlier markers are deleted.

    ``ns`` names the geoms as ``first|second``; ``text`` has the force of the first on the second in newtons.
    """
    markers = [Marker(header=to_header(stamp, frame), action=Marker.DELETEALL)]
    for number, contact in enumerate(contacts):
        marker = Marker(header=to_header(stamp, frame), ns='|'.join(contact.geoms), id=number, type=Marker.ARROW)
        marker.points = [to_point(contact.position), to_point(contact.position + contact.force * _METRES_PER_NEWTON)]
        marker.scale, marker.text = _ARROW, f'{np.linalg.norm(contact.force):.3f}'
        marker.color.r, marker.color.g, marker.color.a = 1.0, 0.4, 1.0
        markers.append(marker)
    return MarkerArray(markers=markers)


def from_trajectory(message: JointTrajectory) -> TrajectoryGoal:
    """Convert a message to a goal; `check` of a controller validates it.

    Raises
    ------
    InterfaceError
        Points have effort, which position servos cannot follow, or different numbers of values.

    """
    width = len(message.joint_names)
    if any(len(point.effort) for point in message.points):
        raise InterfaceError(expected='a trajectory without effort', found='effort', remedy='remove it')

    def rows(field: str) -> np.ndarray | None:
        values = [getattr(point, field) for point in message.points]
        if field != 'positions' and not any(len(row) for row in values):
            return None
        for number, row in enumerate(values):
            if len(row) != width and (field == 'positions' or len(row)):
                raise InterfaceError(
                    expected=f'{width} {field}, one for each joint name, in point {number}',
                    found=f'{len(row)}',
                    remedy='correct the trajectory',
                )
        return np.array([row if len(row) else [np.nan] * width for row in values], dtype=np.float64).reshape(-1, width)

    times = [point.time_from_start.sec * NANOSECONDS + point.time_from_start.nanosec for point in message.points]
    return TrajectoryGoal(
        joints=tuple(message.joint_names),
        stamp=from_time(message.header.stamp),
        times=np.array(times, dtype=np.int64),
        position=rows('positions'),
        velocity=rows('velocities'),
        acceleration=rows('accelerations'),
    )


def from_joint_state(message: JointState) -> tuple[dict[str, float], dict[str, float]]:
    """Convert a message to positions and velocities by joint; either may be empty.

    Raises
    ------
    InterfaceError
        The number of values differs from that of the names.

    """
    for field in ('position', 'velocity'):
        if len(getattr(message, field)) not in (0, len(message.name)):
            raise InterfaceError(
                expected=f'a {field} for each of {len(message.name)} joints, or none',
                found=f'{len(getattr(message, field))}',
                remedy='correct the message',
            )
    return dict(zip(message.name, message.position)), dict(zip(message.name, message.velocity))
