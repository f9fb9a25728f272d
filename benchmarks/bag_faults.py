"""Bags with all kinds of faults, and a check of the conversion reports.

Each bag is created from a seed: a valid recording, a storage, and one fault. Since the content is known, the conversion
report can be checked message by message.
"""

from __future__ import annotations

import functools
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import numpy as np
from rosbags.rosbag1 import Writer as Ros1Writer
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin
from rosbags.rosbag2 import Writer as Ros2Writer
from rosbags.typesys import Stores, get_typestore

from benchmarks.bag_making import COMMAND, JOINT_STATE, MARK, SECOND, STORE, Making, command, mark
from vdd_ros.common.errors import VddError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport

JOINTS = ('a', 'b')
STATES, COMMANDS, SPANS = '/joint_states', '/arm_controller/commands', '/episode'
KINDS = {STATES: JOINT_STATE, COMMANDS: COMMAND, SPANS: MARK}
PATIENCE = 20
"""Time limit for one bag [s], above which it counts as a hang."""
_STEP = SECOND // 100
_ROS1 = get_typestore(Stores.ROS1_NOETIC)

Message = tuple[str, int, bytes]
"""Topic, reception time [ns], serialised message."""


@dataclass(frozen=True)
class Result:
    """The result for one bag."""

    seed: int
    storage: str
    fault: str
    outcome: str
    """`converted` or `refused`; or a failure: `crash`, `hang`, `silent`, `nameless`, `untrue`."""
    detail: str
    seconds: float

    @property
    def good(self) -> bool:
        """Whether the result is correct."""
        return self.outcome in ('converted', 'refused')


def contract() -> Contract:
    """Return the contract of the bags: two joints at 20 Hz, maximum command age half a second."""
    return Contract.model_validate(
        {
            'schema_version': 2,
            'name': 'faults',
            'policy_rate': 20.0,
            'action_mode': 'delta',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'measured': {'align': {'max_age': 0.1}},
            'commanded': {'align': {'max_age': 0.5}},
            'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}],
            'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
        }
    )


@functools.cache
def recording(seconds: int = 4) -> tuple[Message, ...]:
    """Return a valid recording: distinct states at 100 Hz, commands at 20 Hz, two episodes."""
    rows: list[Message] = []
    for number in range(100 * seconds):
        stamp = SECOND + number * _STEP
        rows.append((STATES, stamp, _state(stamp, JOINTS, (number + 1.0, -number - 1.0))))
        if number % 5 == 0:
            message = command(np.array([number + 1.5, -number - 1.5]))
            rows.append((COMMANDS, stamp, bytes(STORE.serialize_cdr(message, COMMAND))))
    for place, event in ((0.2, 'start'), (1.7, 'end'), (2.2, 'start'), (3.7, 'end')):
        stamp = SECOND + round(place * SECOND)
        rows.append((SPANS, stamp, bytes(STORE.serialize_cdr(mark(stamp, event), MARK))))
    return tuple(sorted(rows, key=lambda row: row[1]))


def _state(stamp: int, names: tuple[str, ...], position: tuple[float, ...]) -> bytes:
    time_ = STORE.types['builtin_interfaces/msg/Time'](stamp // SECOND, stamp % SECOND)
    header = STORE.types['std_msgs/msg/Header'](time_, 'base')
    empty = np.zeros(0)
    message = STORE.types[JOINT_STATE](header, list(names), np.array(position), empty, empty)
    return bytes(STORE.serialize_cdr(message, JOINT_STATE))


def _mcap(compression: str, chunk: int) -> Callable[[Path, list[Message]], Path]:
    def write(folder: Path, rows: list[Message]) -> Path:
        making = Making(folder, KINDS, compression=compression, chunk=chunk)
        for row in rows:
            making.put(*row)
        return making.close()

    return write


def _rosbags(plugin: StoragePlugin, mode: CompressionMode) -> Callable[[Path, list[Message]], Path]:
    def write(folder: Path, rows: list[Message]) -> Path:
        writer = Ros2Writer(folder, version=9, storage_plugin=plugin)
        if mode != CompressionMode.NONE:
            writer.set_compression(mode, CompressionFormat.ZSTD)
        with writer:
            connections = {topic: writer.add_connection(topic, kind, typestore=STORE) for topic, kind in KINDS.items()}
            for topic, stamp, data in rows:
                writer.write(connections[topic], stamp, data)
        return folder

    return write


def _ros1(folder: Path, rows: list[Message]) -> Path:
    folder.mkdir()
    with Ros1Writer(folder / 'one.bag') as writer:
        connections = {topic: writer.add_connection(topic, kind, typestore=_ROS1) for topic, kind in KINDS.items()}
        for topic, stamp, data in rows:
            writer.write(connections[topic], stamp, bytes(STORE.cdr_to_ros1(data, KINDS[topic])))
    return folder


STORAGES: dict[str, Callable[[Path, list[Message]], Path]] = {
    'mcap zstd': _mcap('zstd', 8000),
    'mcap lz4': _mcap('lz4', 8000),
    'mcap plain': _mcap('', 8000),
    'mcap unchunked': _mcap('', 0),
    'mcap without checksums': _rosbags(StoragePlugin.MCAP, CompressionMode.NONE),
    'mcap by message': _rosbags(StoragePlugin.MCAP, CompressionMode.MESSAGE),
    'mcap by file': _rosbags(StoragePlugin.MCAP, CompressionMode.FILE),
    'sqlite3': _rosbags(StoragePlugin.SQLITE3, CompressionMode.NONE),
    'sqlite3 by message': _rosbags(StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    'ros 1': _ros1,
}
CHECKED = ('mcap zstd', 'mcap lz4', 'mcap plain')
"""Storages with checksums, which detect every flipped bit."""


@dataclass
class Made:
    """A recording with a fault in its messages, and the expected result."""

    rows: list[Message]
    bad: Counter
    """Number of unusable messages, by topic."""


def _none(rows: list[Message], generator: np.random.Generator) -> Made:
    return Made(rows, Counter())


def _reordered(rows: list[Message], generator: np.random.Generator) -> Made:
    return Made([rows[place] for place in generator.permutation(len(rows))], Counter())


def _gaps(rows: list[Message], generator: np.random.Generator) -> Made:
    begin, length = generator.integers(0, len(rows)), generator.integers(1, len(rows) // 3)
    topic = generator.choice([STATES, COMMANDS])
    inside = range(int(begin), int(begin + length))
    return Made([row for place, row in enumerate(rows) if row[0] != topic or place not in inside], Counter())


def _stamps(rows: list[Message], generator: np.random.Generator) -> Made:
    """Headers repeat, decrease, or jump."""
    found = []
    for topic, stamp, data in rows:
        if topic == STATES and generator.random() < 0.2:
            shift = int(generator.choice([-_STEP, -7 * _STEP, 0, 3 * _STEP, 10**15]))
            moved = max(stamp + shift, 0)
            head = np.array([moved // SECOND, moved % SECOND], dtype='<u4').tobytes()
            data = data[:4] + head + data[12:]
        found.append((topic, stamp, data))
    return Made(found, Counter())


def _types(rows: list[Message], generator: np.random.Generator) -> Made:
    """Replace some messages of a topic by messages of another type."""
    topic = str(generator.choice([STATES, COMMANDS]))
    other = rows[[row[0] for row in rows].index(COMMANDS if topic == STATES else STATES)][2]
    found, bad = [], Counter()
    for name, stamp, data in rows:
        if name == topic and generator.random() < 0.3:
            bad[topic] += 1
            data = other
        found.append((name, stamp, data))
    return Made(found, bad)


def _contents(rows: list[Message], generator: np.random.Generator) -> Made:
    """Messages are cut, empty, not finite, or of other joints."""
    found, bad = [], Counter()
    for topic, stamp, data in rows:
        if topic == STATES and generator.random() < 0.2:
            kind = generator.integers(5)
            bad[topic] += 1
            if kind == 0:
                data = data[: generator.integers(4, len(data) - 16)]
            elif kind == 1:
                data = _state(stamp, JOINTS, (np.nan, 1.0))
            elif kind == 2:
                data = _state(stamp, ('a', 'c'), (1.0, 2.0))
            elif kind == 3:
                data = _state(stamp, JOINTS, (1.0,))
            else:
                data = b'\0\1\0\0'
        found.append((topic, stamp, data))
    return Made(found, bad)


MESSAGES = {
    'none': _none,
    'reordered': _reordered,
    'gaps': _gaps,
    'stamps': _stamps,
    'types': _types,
    'contents': _contents,
}


def _truncated(data: bytearray, generator: np.random.Generator) -> bytearray:
    return data[: generator.integers(0, len(data))]


def _flipped(data: bytearray, generator: np.random.Generator) -> bytearray:
    for _ in range(int(generator.choice([1, 1, 3, 20]))):
        data[generator.integers(len(data))] ^= 1 << int(generator.integers(8))
    return data


def _zeroed(data: bytearray, generator: np.random.Generator) -> bytearray:
    begin = int(generator.integers(len(data)))
    length = min(int(generator.integers(1, 5000)), len(data) - begin)
    data[begin : begin + length] = bytes(length)
    return data


def _spliced(data: bytearray, generator: np.random.Generator) -> bytearray:
    begin = int(generator.integers(len(data)))
    junk = generator.bytes(int(generator.integers(1, 3000)))
    if generator.random() < 0.5:
        return data[:begin] + junk + data[begin:]
    return data[:begin] + data[begin + len(junk) :]


FILES = {'truncated': _truncated, 'bits flipped': _flipped, 'zeroed': _zeroed, 'spliced': _spliced}
FAULTS = (*MESSAGES, *FILES, 'metadata')


def bags(seeds: range) -> Iterator[Result]:
    """Create a bag for every seed, convert it, and check the result."""
    with tempfile.TemporaryDirectory(prefix='vdd_ros_faults_') as folder:
        whole: dict[str, Path] = {}
        for seed in seeds:
            yield _bag(Path(folder), seed, whole)


def _bag(folder: Path, seed: int, whole: dict[str, Path]) -> Result:
    generator = np.random.default_rng(seed)
    storage, fault = list(STORAGES)[seed % len(STORAGES)], FAULTS[seed // len(STORAGES) % len(FAULTS)]
    rows = list(recording())
    path = folder / f'bag{seed}'
    if fault in MESSAGES:
        made = MESSAGES[fault](rows, generator)
        if storage == 'ros 1' and fault in ('types', 'contents'):
            made = _none(rows, generator)  # the library cannot write invalid messages
        STORAGES[storage](path, made.rows)
    else:
        made = Made(rows, Counter())
        if storage not in whole:
            whole[storage] = STORAGES[storage](folder / f'whole {len(whole)}', rows)
        shutil.copytree(whole[storage], path)
        files = sorted(file for file in path.iterdir() if (file.suffix == '.yaml') == (fault == 'metadata'))
        for file in files[:1]:
            damage = FILES[fault] if fault in FILES else list(FILES.values())[int(generator.integers(4))]
            file.write_bytes(damage(bytearray(file.read_bytes()), generator))
    target = next(path.glob('*.bag')) if storage == 'ros 1' else path
    began = time.perf_counter()
    outcome, detail = _judged(target, storage, fault, made)
    seconds = time.perf_counter() - began
    shutil.rmtree(path)
    return Result(seed, storage, fault, outcome, detail, seconds)


class _Hang(BaseException):
    """Not caught by `except Exception`."""


@contextmanager
def _patience() -> Iterator[None]:
    def ring(number: int, frame: FrameType | None) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(PATIENCE)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _judged(path: Path, storage: str, fault: str, made: Made) -> tuple[str, str]:
    report = ConversionReport()
    try:
        with _patience():
            episodes = list(convert(path, contract(), None, report))
    except VddError as error:
        text = str(error)
        named = str(path) in text or path.name in text or any(file.name in text for file in path.rglob('*'))
        return ('refused' if named else 'nameless'), text
    except _Hang:
        return 'hang', f'over {PATIENCE} s'
    except Exception as error:  # noqa: BLE001 - crashes are the subject of the benchmark
        return 'crash', f'{type(error).__name__}: {error}'
    there = Counter(topic for topic, _, _ in made.rows)
    vague = report.dropped('part') or any('does not state' in entry.why for entry in report.entries)
    for topic, count in there.items():
        read, lost = report.read.get(topic, 0), report.dropped('message', topic)
        story = f'{topic}: {count} made, {read} read, {lost} told of; {[str(entry) for entry in report.entries]}'
        if fault in MESSAGES and (read + lost != count or lost != made.bad[topic]):
            return 'untrue', story
        if read < count and not vague and read + lost < count:
            return 'silent', story
        if read > count and storage in CHECKED:
            return 'untrue', story
    known = {np.array([number + 1.0, -number - 1.0]).tobytes() for number in range(len(recording()))}
    if storage in CHECKED and fault not in ('types', 'contents', 'stamps'):
        for episode in episodes:
            if any(row.tobytes() not in known for row in episode.observation):
                return 'untrue', 'a joint state that was never made'
    if fault in MESSAGES:
        indices = {episode.index for episode in episodes}
        dropped = {entry.where for entry in report.entries if entry.kind == 'episode'}
        if len(indices) + len(dropped) != 2 and fault != 'stamps':
            return 'untrue', f'of 2 episodes {len(indices)} were made and {len(dropped)} dropped'
        ticks = sum(map(len, episodes))
        unharmed = not dropped and not report.dropped('tick') and fault in ('none', 'reordered', 'gaps')
        if unharmed and ticks != 60:
            return 'silent', f'{ticks} ticks'
    return 'converted', f'{sum(map(len, episodes))} ticks'
