"""Create bags for benchmarks and tests of reading: one with all kinds of features, and large ones."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mcap.writer import CompressionType
from mcap.writer import Writer as McapWriter
from rosbags.typesys import Stores, get_typestore

from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag_metadata import BagFile, Topic, write_metadata

STORE = get_typestore(Stores.ROS2_HUMBLE)
MILLISECOND, SECOND = 1_000_000, 1_000_000_000
JOINTS = tuple(f'joint{number}' for number in range(1, 8))
JOINT_STATE = 'sensor_msgs/msg/JointState'
COMMAND = 'std_msgs/msg/Float64MultiArray'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'

Row = tuple[str, int, str, bytes]
"""Topic, reception time [ns], type, and serialised message."""


def rich_contract(*, without: tuple[str, ...] = (), version: int = 2) -> Contract:
    """Return a contract of a version with all kinds of features and alignments, except those in ``without``."""
    size = {'height': 4, 'width': 6}
    observation: list[dict[str, Any]] = [
        {'name': 'measured', 'source': 'measured', 'space': 'joint'},
        {'name': 'commanded', 'source': 'commanded', 'space': 'joint'},
        {'name': 'grip', 'topic': 'joint_states', 'type': JOINT_STATE, 'joints': ['finger'], 'scale': 25.0},
        {'name': 'force', 'topic': 'wrench', 'type': 'WrenchStamped', 'align': {'max_age': 0.3, 'latency': 0.004}},
        {
            'name': 'object',
            'topic': 'object',
            'type': 'PoseStamped',
            'align': {'method': 'interpolate', 'delay': 0.05, 'latency': 0.06},
        },
        {
            'name': 'twist',
            'topic': 'twist',
            'type': 'TwistStamped',
            'fields': ['twist.linear'],
            'align': {'method': 'nearest', 'tolerance': 0.2, 'delay': 0.03, 'latency': 0.02},
        },
        {'name': 'camera', 'topic': 'image', 'type': 'Image', 'image': {**size, 'color': 'rgb'}},
        {'name': 'depth', 'topic': 'depth', 'type': 'Image', 'image': {**size, 'color': 'depth'}},
        {'name': 'cloud', 'topic': 'points', 'type': 'PointCloud2', 'points': 5},
        {
            'name': 'tool',
            'topic': 'tf',
            'type': 'TFMessage',
            'rotation': 'quaternion',
            'frames': ['base', 'arm', 'tool'],
        },
        {'name': 'imu', 'topic': 'imu', 'type': 'Imu', 'fields': ['angular_velocity', 'linear_acceleration']},
        {'name': 'load', 'topic': 'load', 'type': 'Float64', 'unit': 'gram', 'offset': 1.0},
        {'name': 'touch', 'topic': 'touch', 'type': 'Bool'},
    ]
    return Contract.model_validate(
        {
            'schema_version': version,
            'name': 'rich',
            'policy_rate': 20.0,
            'observation': [item for item in observation if item['name'] not in without],
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
            'measured': {'unit': 'degree', 'sign': [1, -1, 1, 1, 1, 1, -1], 'offset': 0.25},
        }
    )


def rich_rows(seconds: float, seed: int = 0, episodes: int = 2) -> list[Row]:
    """Return the messages of a recording for `rich_contract`, in the order of reception.

    Every stream has its own rate and jitter. Messages with a header arrive some milliseconds after their stamp, within
    the latency of the contract, and sometimes out of order.
    """
    generator = np.random.default_rng(seed)
    rows: list[Row] = []
    for topic, rate, delay, build in _streams(generator):
        stamps = np.arange(SECOND // 2, round((seconds + 0.5) * SECOND), round(SECOND / rate))
        jitter = generator.integers(0, round(0.3 * SECOND / rate), len(stamps)) if topic != 'joint_states' else 0
        for stamp in (stamps + jitter).tolist():
            received = stamp + (int(generator.integers(0, delay)) if delay else 0)
            message = build(stamp)
            kind = message.__msgtype__
            rows.append((topic, received, kind, bytes(STORE.serialize_cdr(message, kind))))
    length = round(seconds * SECOND / episodes)
    for number in range(episodes):
        begin = SECOND // 2 + number * length
        for stamp, event in ((begin + SECOND // 2, 'start'), (begin + length - SECOND // 10, 'end')):
            data = bytes(STORE.serialize_cdr(mark(stamp, event, index=str(number)), MARK))
            rows.append(('episode', stamp, MARK, data))
    static = _make('tf2_msgs/msg/TFMessage', [_transform(generator, 0, 'arm', 'tool')])
    rows.append(('tf_static', 1, static.__msgtype__, bytes(STORE.serialize_cdr(static, static.__msgtype__))))
    return sorted(rows, key=lambda row: row[1])


def _streams(generator: np.random.Generator) -> Iterator[tuple[str, float, int, Any]]:
    """Yield topic, rate [Hz], maximum delay [ns], and a function that creates the message of a stamp."""
    names = [*JOINTS[::-1], 'finger']

    def six(*_: object) -> list[Any]:
        return [_make('geometry_msgs/msg/Vector3', *generator.normal(size=3)) for _ in range(2)]

    def image(stamp: int, encoding: str, kind: type, channels: int) -> Any:
        pixels = generator.integers(0, 256 if channels == 3 else 4000, (12, 16 * channels)).astype(kind)
        data = pixels.view(np.uint8).reshape(12, -1)
        return _make('sensor_msgs/msg/Image', _header(stamp), 12, 16, encoding, 0, data.shape[1], data.ravel())

    def cloud(stamp: int) -> Any:
        points = generator.normal(size=(int(generator.integers(6, 9)), 3)).astype(np.float32)
        points[0] = np.nan
        fields = [_make('sensor_msgs/msg/PointField', axis, 4 * place, 7, 1) for place, axis in enumerate('xyz')]
        shape = (1, len(points), fields, False, 12, 12 * len(points))
        return _make('sensor_msgs/msg/PointCloud2', _header(stamp), *shape, points.view(np.uint8).ravel(), False)

    def pose(stamp: int) -> Any:
        place = _make('geometry_msgs/msg/Point', *generator.normal(size=3))
        inner = _make('geometry_msgs/msg/Pose', place, _turn(generator))
        return _make('geometry_msgs/msg/PoseStamped', _header(stamp), inner)

    nine = np.zeros(9)
    yield (
        'joint_states',
        200,
        0,
        lambda stamp: _make(
            JOINT_STATE, _header(stamp), names, generator.normal(size=8), generator.normal(size=8), np.zeros(0)
        ),
    )
    yield 'arm_controller/commands', 50, 0, lambda stamp: command(generator.normal(size=7))
    yield (
        'wrench',
        80,
        4 * MILLISECOND,
        lambda stamp: _make(
            'geometry_msgs/msg/WrenchStamped', _header(stamp), _make('geometry_msgs/msg/Wrench', *six())
        ),
    )
    yield 'object', 30, 60 * MILLISECOND, pose
    yield (
        'twist',
        40,
        20 * MILLISECOND,
        lambda stamp: _make('geometry_msgs/msg/TwistStamped', _header(stamp), _make('geometry_msgs/msg/Twist', *six())),
    )
    yield 'image', 15, 0, lambda stamp: image(stamp, 'rgb8', np.uint8, 3)
    yield 'depth', 15, 0, lambda stamp: image(stamp, '16UC1', np.uint16, 1)
    yield 'points', 10, 0, cloud
    yield (
        'tf',
        60,
        0,
        lambda stamp: _make(
            'tf2_msgs/msg/TFMessage',
            [_transform(generator, stamp, 'odom', 'base'), _transform(generator, stamp, 'base', 'arm')],
        ),
    )
    yield (
        'imu',
        100,
        0,
        lambda stamp: _make(
            'sensor_msgs/msg/Imu', _header(stamp), _turn(generator), nine, six()[0], nine, six()[1], nine
        ),
    )
    yield 'load', 25, 0, lambda stamp: _make('std_msgs/msg/Float64', float(generator.normal()))
    yield 'touch', 25, 0, lambda stamp: _make('std_msgs/msg/Bool', bool(generator.integers(2)))


def command(values: np.ndarray) -> Any:
    """Create a command."""
    return _make(COMMAND, _make('std_msgs/msg/MultiArrayLayout', [], 0), np.asarray(values, dtype=np.float64))


def mark(stamp: int, event: str, **labels: str) -> Any:
    """Create an episode mark."""
    values = [_make('diagnostic_msgs/msg/KeyValue', key, value) for key, value in labels.items()]
    return _make(MARK, _header(stamp), [_make('diagnostic_msgs/msg/DiagnosticStatus', 0, 'episode', event, '', values)])


def _make(kind: str, *arguments: Any) -> Any:
    return STORE.types[kind](*arguments)


def _header(stamp: int, frame: str = 'base') -> Any:
    time = _make('builtin_interfaces/msg/Time', stamp // SECOND, stamp % SECOND)
    return _make('std_msgs/msg/Header', time, frame)


def _turn(generator: np.random.Generator) -> Any:
    turn = generator.normal(size=4)
    return _make('geometry_msgs/msg/Quaternion', *(turn / np.linalg.norm(turn)))


def _transform(generator: np.random.Generator, stamp: int, parent: str, child: str) -> Any:
    place = _make('geometry_msgs/msg/Vector3', *generator.normal(size=3))
    inner = _make('geometry_msgs/msg/Transform', place, _turn(generator))
    return _make('geometry_msgs/msg/TransformStamped', _header(stamp, parent), child, inner)


class Making:
    """Writes a bag of one MCAP file quickly."""

    def __init__(self, folder: Path, kinds: dict[str, str], *, compression: str = '', chunk: int = 1 << 20) -> None:
        """Create a folder for topics of given types."""
        folder.mkdir(parents=True)
        self._folder, self._kinds = folder, kinds
        self._counts = dict.fromkeys(kinds, 0)
        self._span: tuple[int, int] | None = None
        self._file = (folder / f'{folder.name}_0.mcap').open('wb')
        kind = {'': CompressionType.NONE, 'zstd': CompressionType.ZSTD, 'lz4': CompressionType.LZ4}[compression]
        self._writer = McapWriter(self._file, chunk_size=chunk, compression=kind, use_chunking=chunk > 0)
        self._writer.start('ros2', 'vdd_ros')
        schemas = {
            kind: self._writer.register_schema(kind, 'ros2msg', STORE.generate_msgdef(kind, ros_version=2)[0].encode())
            for kind in dict.fromkeys(kinds.values())
        }
        self._channels = {
            topic: self._writer.register_channel(topic, 'cdr', schemas[kind]) for topic, kind in kinds.items()
        }

    def put(self, topic: str, stamp: int, data: bytes) -> None:
        """Append a message."""
        self._writer.add_message(self._channels[topic], stamp, data, stamp)
        self._counts[topic] += 1
        first, last = self._span or (stamp, stamp)
        self._span = (min(first, stamp), max(last, stamp))

    @property
    def size(self) -> int:
        """Size of the file [byte]."""
        return self._file.tell()

    def close(self) -> Path:
        """Finish and return the bag."""
        self._writer.finish()
        self._file.close()
        topics = [Topic(topic, kind, count=self._counts[topic]) for topic, kind in self._kinds.items()]
        count = sum(self._counts.values())
        write_metadata(self._folder, [BagFile(Path(self._file.name).name, *(self._span or (0, 0)), count)], topics)
        return self._folder


def rooted(rows: list[Row]) -> tuple[dict[str, str], list[tuple[str, int, bytes]]]:
    """Return the topics and types of messages, and the messages, with a leading slash in topic names."""
    return {f'/{row[0]}': row[2] for row in rows}, [(f'/{row[0]}', row[1], row[3]) for row in rows]


def write_rows(folder: Path, rows: list[Row], **options: Any) -> Path:
    """Write messages into a bag."""
    kinds, messages = rooted(rows)
    making = Making(folder, kinds, **options)
    for topic, stamp, data in messages:
        making.put(topic, stamp, data)
    return making.close()


def write_arm(folder: Path, size: int, *, states: int = 1000, commands: int = 100, **options: Any) -> tuple[Path, int]:
    """Write joint states at 1 kHz and commands at 100 Hz, in episodes of 5 s, up to a file size.

    Returns the bag, and the number of states and commands.
    """
    kinds = {'/joint_states': JOINT_STATE, '/arm_controller/commands': COMMAND, '/episode': MARK}
    making = Making(folder, kinds, **options)
    zero = np.zeros(len(JOINTS))
    state = bytearray(STORE.serialize_cdr(_make(JOINT_STATE, _header(0), list(JOINTS), zero, zero, zero), JOINT_STATE))
    answer = bytearray(STORE.serialize_cdr(command(zero), COMMAND))
    numbers = len(state) - 3 * (8 * len(zero) + 8) + 8
    wave = np.sin(np.arange(5 * states)[:, None] * 1e-3 + np.arange(len(zero)))
    count = 0
    for tick in range(1 << 40):
        stamp = tick * (SECOND // states)
        step = tick % len(wave)
        if step == 0:
            if tick:
                making.put('/episode', stamp, bytes(STORE.serialize_cdr(mark(stamp, 'end', outcome='success'), MARK)))
            if making.size >= size:
                break
            making.put('/episode', stamp, bytes(STORE.serialize_cdr(mark(stamp, 'start'), MARK)))
        struct.pack_into('<iI', state, 4, stamp // SECOND, stamp % SECOND)
        row = wave[step].tobytes()
        state[numbers : numbers + len(row)] = row
        making.put('/joint_states', stamp, bytes(state))
        count += 1
        if tick % (states // commands) == 0:
            answer[-len(row) :] = row
            making.put('/arm_controller/commands', stamp, bytes(answer))
            count += 1
    return making.close(), count
