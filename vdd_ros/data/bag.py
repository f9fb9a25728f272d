"""Reads rosbag2."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Callable, Mapping, Sequence

import numpy as np
from rosbags.highlevel import AnyReader, AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError
from rosbags.typesys import Stores, get_typestore

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.data.recovery import settle
from vdd_ros.errors import BagError


@dataclass(frozen=True)
class Stream:
    """The messages of one topic, decoded."""

    stamps: np.ndarray
    """Shape (message,) [ns], ascending: header stamps where the type has them, else those of the bag."""
    values: np.ndarray
    """Shape (message, joint) [rad], in the order of the contract's joints."""


@dataclass(frozen=True)
class EpisodeMark:
    """The start or the end of a demonstration, as the recording tells it."""

    stamp: int
    event: str
    labels: Mapping[str, str]


@dataclass(frozen=True)
class Recording:
    """What the topics of a contract hold in one bag."""

    measured: Stream
    commanded: Stream
    marks: tuple[EpisodeMark, ...]


def read_recording(path: str | Path, contract: Contract, progress: Callable[[float], None] | None = None) -> Recording:
    """Read the topics of a contract out of a bag (rosbag2, MCAP or sqlite3, plain or compressed).

    Parameters
    ----------
    path
        The bag's folder.
    contract
        Topics and joint order. A topic is also found under a namespace, if there is one such only.
    progress
        Told the share of messages read, in [0, 1].

    Raises
    ------
    BagError
        There is no bag, it cannot be read, lacks a topic or a joint, or a message has the wrong size.

    """
    path = Path(path)
    settle(path)
    if not path.exists():
        raise BagError(expected=f'a rosbag2 at {path}', found='nothing there', remedy='record one, or mend the path')
    wanted = {
        contract.topics.joint_states: 'sensor_msgs/msg/JointState',
        contract.topics.commands: 'std_msgs/msg/Float64MultiArray',
        contract.topics.episode: 'diagnostic_msgs/msg/DiagnosticArray',
    }
    try:
        with AnyReader([path], default_typestore=get_typestore(Stores.ROS2_HUMBLE)) as reader:
            chosen = {_find(reader, path, topic, kind).topic: topic for topic, kind in wanted.items()}
            connections = [connection for connection in reader.connections if connection.topic in chosen]
            rows: dict[str, list] = {topic: [] for topic in wanted}
            total = max(sum(connection.msgcount for connection in connections), 1)
            decode = {
                contract.topics.joint_states: partial(_joint_state, JointOrder(contract.robot.joints), path),
                contract.topics.commands: partial(_command, len(contract.robot.joints), path),
                contract.topics.episode: _mark,
            }
            for count, (connection, stamp, data) in enumerate(reader.messages(connections)):
                topic = chosen[connection.topic]
                rows[topic].append(decode[topic](stamp, reader.deserialize(data, connection.msgtype)))
                if progress is not None and count % 5000 == 0:
                    progress(count / total)
    except (AnyReaderError, ReaderError, OSError, ValueError) as error:
        if isinstance(error, BagError):
            raise
        raise BagError(
            expected=f'a readable rosbag2 at {path}', found=' '.join(str(error).split())[:200], remedy='record it again'
        ) from error
    for topic in (contract.topics.joint_states, contract.topics.commands):
        if not rows[topic]:
            raise BagError(expected=f'messages on {topic} in {path}', found='none', remedy='check what was recorded')
    marks = tuple(sorted(rows[contract.topics.episode], key=lambda mark: mark.stamp))
    return Recording(_stream(rows[contract.topics.joint_states]), _stream(rows[contract.topics.commands]), marks)


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of a bag's files: what an artifact says that it was learned from."""
    digest = hashlib.sha256()
    for file in sorted(item for item in Path(path).rglob('*') if item.is_file()):
        digest.update(file.name.encode())
        with file.open('rb') as opened:
            for block in iter(lambda: opened.read(1 << 20), b''):
                digest.update(block)
    return digest.hexdigest()


class JointOrder:
    """Where each joint of the contract stands in a JointState; looked up anew only when the names change."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Set the wanted order."""
        self._joints = tuple(joints)
        self._names: tuple[str, ...] = ()
        self._index = np.zeros(0, dtype=np.intp)

    def index(self, names: Sequence[str]) -> np.ndarray:
        """Return the places of the wanted joints among `names`; KeyError names one that is missing."""
        names = tuple(names)
        if names != self._names:
            place = {name: position for position, name in enumerate(names)}
            self._index = np.array([place[joint] for joint in self._joints], dtype=np.intp)
            self._names = names
        return self._index


def _find(reader: AnyReader, path: Path, topic: str, kind: str) -> Connection:
    found = [item for item in reader.connections if item.topic == topic or item.topic.endswith(f'/{topic}')]
    if len({item.topic for item in found}) != 1:
        there = ', '.join(sorted({item.topic for item in reader.connections})) or 'no topics at all'
        raise BagError(
            expected=f'one topic {topic} in {path}',
            found=there,
            remedy='set the topics of the contract to those of the bag',
        )
    if found[0].msgtype != kind:
        raise BagError(expected=f'{kind} on {topic} in {path}', found=found[0].msgtype, remedy='choose the right topic')
    return found[0]


def _joint_state(order: JointOrder, path: Path, stamp: int, message: object) -> tuple[int, np.ndarray]:
    try:
        index = order.index(message.name)
        position = np.asarray(message.position, dtype=np.float64)[index]
    except (KeyError, IndexError) as error:
        raise BagError(
            expected=f'joint {error} with a position in the joint states of {path}',
            found=', '.join(message.name),
            remedy='name the joints of the contract as the robot does',
        ) from error
    header = message.header.stamp
    return header.sec * NANOSECONDS + header.nanosec, position


def _command(size: int, path: Path, stamp: int, message: object) -> tuple[int, np.ndarray]:
    values = np.asarray(message.data, dtype=np.float64)
    if len(values) != size:
        raise BagError(
            expected=f'{size} values in each command of {path}',
            found=f'{len(values)}',
            remedy='list the joints of the contract in the order of the controller',
        )
    return stamp, values


def _mark(stamp: int, message: object) -> EpisodeMark:
    header, status = message.header.stamp, message.status[0]
    labels = {item.key: item.value for item in status.values}
    return EpisodeMark(header.sec * NANOSECONDS + header.nanosec, status.message, labels)


def _stream(rows: list[tuple[int, np.ndarray]]) -> Stream:
    stamps = np.array([stamp for stamp, _ in rows], dtype=np.int64)
    order = np.argsort(stamps, kind='stable')
    return Stream(stamps[order], np.stack([values for _, values in rows])[order])
