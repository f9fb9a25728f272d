"""Messages and bags for tests, made by rosbags: an oracle that shares nothing with the package's own reader."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

STORE = get_typestore(Stores.ROS2_HUMBLE)
STORE1 = get_typestore(Stores.ROS1_NOETIC)
JOINT_STATE = 'sensor_msgs/msg/JointState'
COMMAND = 'std_msgs/msg/Float64MultiArray'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'
MILLISECOND = 1_000_000
SECOND = 1_000_000_000


def make(kind: str, *arguments: Any, store: Any = STORE) -> Any:
    """Make a message, its fields in order."""
    return store.types[kind](*arguments)


def header(stamp: int, frame: str = '') -> Any:
    """Make a header."""
    return make('std_msgs/msg/Header', make('builtin_interfaces/msg/Time', stamp // SECOND, stamp % SECOND), frame)


def state(stamp: int, names: Iterable[str], position: Iterable[float], velocity: Iterable[float] = ()) -> Any:
    """Make a joint state."""
    arrays = (np.array(list(item), dtype=np.float64) for item in (position, velocity, ()))
    return make(JOINT_STATE, header(stamp, 'base'), list(names), *arrays)


def command(values: Iterable[float]) -> Any:
    """Make a command."""
    return make(COMMAND, make('std_msgs/msg/MultiArrayLayout', [], 0), np.array(list(values), dtype=np.float64))


def mark(stamp: int, event: str, **labels: str) -> Any:
    """Make a mark of an episode."""
    values = [make('diagnostic_msgs/msg/KeyValue', key, value) for key, value in labels.items()]
    return make(MARK, header(stamp), [make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)])


def vector(kind: str, *values: float) -> Any:
    """Make a geometry message of numbers."""
    return make(f'geometry_msgs/msg/{kind}', *map(float, values))


def cdr(message: Any, store: Any = STORE, little_endian: bool = True) -> bytes:
    """Serialise a message."""
    return bytes(store.serialize_cdr(message, message.__msgtype__, little_endian=little_endian))


def write_bag(
    path: Path,
    messages: Iterable[tuple[str, int, Any]],
    storage: StoragePlugin = StoragePlugin.MCAP,
    compression: CompressionMode = CompressionMode.NONE,
    store: Any = STORE,
    topics: dict[str, str] | None = None,
) -> Path:
    """Write a rosbag2 of topic, stamp and message."""
    messages = list(messages)
    writer = Writer(path, version=9, storage_plugin=storage)
    if compression != CompressionMode.NONE:
        writer.set_compression(compression, CompressionFormat.ZSTD)
    with writer:
        types = topics or {topic: message.__msgtype__ for topic, _, message in messages}
        connections = {topic: writer.add_connection(topic, kind, typestore=store) for topic, kind in types.items()}
        for topic, stamp, message in messages:
            data = message if isinstance(message, bytes) else cdr(message, store)
            writer.write(connections[topic], stamp, data)
    return path


def write_ros1(path: Path, states: int) -> Path:
    """Write a bag of ROS 1 with joint states of joints a and b, and a command and a mark now and then."""
    with Ros1Writer(path) as writer:
        kinds = {'/joint_states': JOINT_STATE, '/arm_controller/commands': COMMAND, '/episode': MARK}
        connections = {topic: writer.add_connection(topic, kind, typestore=STORE1) for topic, kind in kinds.items()}

        def time(stamp: int) -> Any:
            return make('builtin_interfaces/msg/Time', stamp // SECOND, stamp % SECOND, store=STORE1)

        def put(topic: str, stamp: int, message: Any) -> None:
            writer.write(connections[topic], stamp, bytes(STORE1.serialize_ros1(message, message.__msgtype__)))

        def say(stamp: int, event: str) -> None:
            status = make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', [], store=STORE1)
            top = make('std_msgs/msg/Header', 0, time(stamp), '', store=STORE1)
            put('/episode', stamp, make(MARK, top, [status], store=STORE1))

        say(0, 'start')
        for number in range(states):
            stamp = number * 10 * MILLISECOND
            top = make('std_msgs/msg/Header', number, time(stamp), 'base', store=STORE1)
            empty = np.zeros(0)
            position = np.array([number, -number], dtype=np.float64)
            put('/joint_states', stamp, make(JOINT_STATE, top, ['a', 'b'], position, empty, empty, store=STORE1))
            layout = make('std_msgs/msg/MultiArrayLayout', [], 0, store=STORE1)
            commanded = make(COMMAND, layout, position + np.array([0.5, -0.5]), store=STORE1)
            put('/arm_controller/commands', stamp, commanded)
        say(states * 10 * MILLISECOND, 'end')
    return path
