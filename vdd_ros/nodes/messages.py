"""Conversions between messages and plain values: pure functions, without nodes or clocks."""

from __future__ import annotations

import struct
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numpy as np
from builtin_interfaces.msg import Duration, Time
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.serialization import deserialize_message, serialize_message
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from vdd_ros.common.errors import InterfaceError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.contract.features import JointStream
from vdd_ros.nodes.recorder.episode_control import Mark

Outcome = Literal['', 'success', 'failure', 'aborted']


@dataclass(frozen=True)
class JointReading:
    """A joint state in the order of the contract."""

    stamp: int
    """Time of measurement [ns]."""
    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray | None
    """Shape (joint,) [rad/s]; None if not published."""


@dataclass(frozen=True)
class EpisodeEvent:
    """The start or the end of a demonstration or a rollout."""

    stamp: int
    """Time in the clock of the joint states [ns]."""
    kind: Literal['start', 'end']
    index: int
    """Number of the episode, from 0."""
    outcome: Outcome = ''
    """Outcome."""
    mode: str = ''
    """The mode."""
    steps: int = 0
    """Duration in policy periods."""
    counts: Mapping[str, int] = field(default_factory=lambda: MappingProxyType({}))
    """Number of messages since the start by topic of the contract, such as ``/joint_states``, at an end in lockstep."""


def to_time(stamp: int) -> Time:
    """Convert a stamp [ns] to a message."""
    return Time(sec=stamp // NANOSECONDS, nanosec=stamp % NANOSECONDS)


def from_time(time: Time) -> int:
    """Convert a message to a stamp [ns]."""
    return time.sec * NANOSECONDS + time.nanosec


def to_clock(stamp: int) -> Clock:
    """Convert a stamp [ns] to a tick of the clock."""
    return Clock(clock=to_time(stamp))


def header_stamp(data: bytes) -> int:
    """Return the header stamp [ns] of a serialised message with a header as first field, without deserialising it."""
    little_endian = data[1] & 1
    seconds, nanoseconds = struct.unpack_from('<iI' if little_endian else '>iI', data, 4)
    return seconds * NANOSECONDS + nanoseconds


def to_joint_state(
    stamp: int, joints: Sequence[str], position: np.ndarray, velocity: np.ndarray, effort: np.ndarray
) -> JointState:
    """Convert joint values, each of shape (joint,) [rad], [rad/s], [N m], to a message.

    The fields take arrays, not lists: rclpy checks lists element by element.
    """
    message = JointState(
        name=list(joints), position=array('d', position), velocity=array('d', velocity), effort=array('d', effort)
    )
    message.header.stamp = to_time(stamp)
    return message


class JointReader:
    """Reads joint states with joints in any order, possibly with additional joints."""

    def __init__(self, joints: Sequence[str], stream: JointStream = JointStream()) -> None:
        """Request joints in this order, with names and units of the contract."""
        self._joints = list(stream.names or joints)
        self._names: list[str] = []
        self._order: list[int] = []
        self._factor, self._offset = np.array(stream.factor), np.array(stream.offset)
        self._plain = stream.factor == (1.0,) and stream.offset == (0.0,)

    def read(self, message: JointState) -> JointReading:
        """Convert a message.

        Raises
        ------
        InterfaceError
            A joint is missing, or the number of positions differs from that of the names.

        """
        if message.name != self._names:
            self._match(message)
        if len(message.position) != len(message.name):
            raise InterfaceError(
                expected=f'a position for each of {len(message.name)} joints in joint_states',
                found=f'{len(message.position)} positions',
                remedy='correct the publisher of joint_states',
            )
        position, velocity = np.array(message.position)[self._order], None
        if len(message.velocity) == len(message.name):
            velocity = np.array(message.velocity)[self._order]
        if not self._plain:
            position = position * self._factor + self._offset
            velocity = None if velocity is None else velocity * self._factor
        return JointReading(from_time(message.header.stamp), position, velocity)

    def _match(self, message: JointState) -> None:
        missing = [joint for joint in self._joints if joint not in message.name]
        if missing:
            raise InterfaceError(
                expected=f'joints {", ".join(self._joints)} in joint_states',
                found=f'no {", ".join(missing)} among {", ".join(message.name) or "no joints"}',
                remedy='remap joint_states to the arm of the contract, or correct the joint names in the contract',
            )
        twice = sorted({joint for joint in self._joints if list(message.name).count(joint) > 1})
        if twice:
            raise InterfaceError(
                expected=f'distinct joints {", ".join(self._joints)} in joint_states',
                found=f'{", ".join(twice)} several times',
                remedy='check the publisher that merges joint_states',
            )
        self._order = [list(message.name).index(joint) for joint in self._joints]
        self._names = list(message.name)


def to_command(position: np.ndarray) -> Float64MultiArray:
    """Convert joint positions of shape (joint,) [rad], in the controller's order, to a message."""
    return Float64MultiArray(data=array('d', position))


def from_command(message: Float64MultiArray, joints: Sequence[str]) -> np.ndarray:
    """Convert a message to joint positions of shape (joint,) [rad].

    Raises
    ------
    InterfaceError
        The number of values differs from that of the joints, or one is not finite.

    """
    if len(message.data) != len(joints):
        raise InterfaceError(
            expected=f'a command of {len(joints)} positions ({", ".join(joints)})',
            found=f'{len(message.data)}',
            remedy='send one position per joint of the controller',
        )
    position = np.array(message.data)
    if not np.isfinite(position).all():
        raise InterfaceError(
            expected='a command of finite positions',
            found=f'{position.tolist()}',
            remedy='check the commander',
        )
    return position


def to_trajectory(
    joints: Sequence[str], stamps: np.ndarray, position: np.ndarray, velocity: np.ndarray | None = None
) -> JointTrajectory:
    """Convert points to a message: ascending stamps [ns], positions and velocities, shape (point, joint)."""
    begin = int(stamps[0])
    points = [
        JointTrajectoryPoint(positions=array('d', row), time_from_start=to_duration((int(stamp) - begin) / NANOSECONDS))
        for stamp, row in zip(stamps, position)
    ]
    if velocity is not None:
        for point, row in zip(points, velocity):
            point.velocities = array('d', row)
    message = JointTrajectory(joint_names=list(joints), points=points)
    message.header.stamp = to_time(begin)
    return message


def to_duration(seconds: float) -> Duration:
    """Convert a duration [s] to a message."""
    nanoseconds = round(seconds * NANOSECONDS)
    return Duration(sec=nanoseconds // NANOSECONDS, nanosec=nanoseconds % NANOSECONDS)


def from_trajectory(message: JointTrajectory, joints: Sequence[str], stamp: int) -> np.ndarray:
    """Return the position of a trajectory at a time [ns], shape (joint,) [rad], linearly interpolated.

    Before the first point, the first position is returned, after the last point the last position. A trajectory without
    a stamp begins at ``stamp``.

    Raises
    ------
    InterfaceError
        There are no points, or none for one of the joints.

    """
    missing = [joint for joint in joints if joint not in message.joint_names]
    wanting = [point for point in message.points if len(point.positions) != len(message.joint_names)]
    if missing or wanting or not message.points:
        raise InterfaceError(
            expected=f'a trajectory with positions of {", ".join(joints)}',
            found=f'{len(message.points)} points for {", ".join(message.joint_names) or "no joints"}',
            remedy='check its publisher',
        )
    begin = from_time(message.header.stamp) or stamp
    times = [
        begin + point.time_from_start.sec * NANOSECONDS + point.time_from_start.nanosec for point in message.points
    ]
    after = bisect_right(times, stamp)
    first, last = message.points[max(after - 1, 0)], message.points[min(after, len(times) - 1)]
    share = 0.0 if first is last else (stamp - times[after - 1]) / (times[after] - times[after - 1])
    position = (1 - share) * np.array(first.positions) + share * np.array(last.positions)
    return position[[message.joint_names.index(joint) for joint in joints]]


def to_diagnostics(
    stamp: int, name: str, message: str, values: Mapping[str, object], level: bytes = DiagnosticStatus.OK
) -> DiagnosticArray:
    """Convert one status to a message; values are written as text.

    The name is the node name with its namespace. The hardware ID is the namespace, which distinguishes several arms;
    empty without a namespace.
    """
    name = name.lstrip('/')
    status = DiagnosticStatus(
        level=level,
        name=name,
        hardware_id=name.rpartition('/')[0] or 'none',
        message=message,
        values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
    )
    array_message = DiagnosticArray(status=[status])
    array_message.header.stamp = to_time(stamp)
    return array_message


def to_episode(event: EpisodeEvent) -> DiagnosticArray:
    """Convert an event to the message that marks it on the episode topic and in bags."""
    values: dict[str, object] = {'index': event.index}
    if event.kind == 'end':
        values |= {'outcome': event.outcome, 'mode': event.mode, 'steps': event.steps, **event.counts}
    return to_diagnostics(event.stamp, 'episode', event.kind, values)


def from_episode(message: DiagnosticArray) -> EpisodeEvent:
    """Convert a message back to the event.

    Raises
    ------
    InterfaceError
        The message is not an episode event.

    """
    try:
        status = message.status[0]
        values = {item.key: item.value for item in status.values}
        return EpisodeEvent(
            stamp=from_time(message.header.stamp),
            kind=status.message,
            index=int(values['index']),
            outcome=values.get('outcome', ''),
            mode=values.get('mode', values.get('way', '')),
            steps=int(values.get('steps', 0)),
            counts={key: int(value) for key, value in values.items() if key.startswith('/')},
        )
    except (IndexError, KeyError, ValueError) as error:
        raise InterfaceError(
            expected='an episode event',
            found=f'a message without {error}',
            remedy='use only one publisher on the episode topic',
        ) from error


def episode_of(data: bytes) -> EpisodeEvent:
    """Convert a serialised message back to the event; errors as for `from_episode`."""
    return from_episode(deserialize_message(data, DiagnosticArray))


def to_mark(stamp: int, mark: Mark) -> bytes:
    """Serialise an operator's mark of an episode, for the bag."""
    return serialize_message(to_diagnostics(stamp, 'episode', mark.kind, {'index': mark.index, **mark.labels}))


def mark_of(data: bytes) -> tuple[str, int]:
    """Return kind and index of a serialised mark; ``('', -1)`` for other messages."""
    message = deserialize_message(data, DiagnosticArray)
    values = {item.key: item.value for status in message.status[:1] for item in status.values}
    index = values.get('index', '')
    return (message.status[0].message, int(index)) if index.isdigit() else ('', -1)
