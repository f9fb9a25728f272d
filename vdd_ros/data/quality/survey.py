"""Survey a bag in the single pass used by drafts, checks and inspections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import JointStream
from vdd_ros.contract.naming import expected_rates, of_topic
from vdd_ros.data.bag.bag import Bag, TopicInfo
from vdd_ros.data.bag.bag_recording import RecordingReader
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoder, Pattern, gathered
from vdd_ros.data.decode.serialized import Definitions, Layout, Messages, Undecodable, walk
from vdd_ros.data.quality.quality import StreamQuality, measure_stream
from vdd_ros.data.quality.stamps import Stamps
from vdd_ros.data.recording import Recording

JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
MARKS = 'diagnostic_msgs/msg/DiagnosticArray'
ARRAYS = ('std_msgs/msg/Float64MultiArray', 'std_msgs/msg/Float32MultiArray')
OTHER_CLOCK = 1.0
"""Offset above which the header clock is not the recorder clock [s]."""
_MAX_ROWS = 20_000


@dataclass(frozen=True)
class Table:
    """Positions that belong together: joints named by the messages of a topic, or the values of an array."""

    names: tuple[str, ...]
    """The joints, in the order of the first message; empty for an array."""
    received: np.ndarray
    """Shape (message,), ascending [ns]."""
    values: np.ndarray
    """Shape (message, number), as transmitted; NaN where a message has NaN."""
    count: int
    """Number of messages of the topic with these joints; `values` contains only the first ones."""

    @property
    def size(self) -> int:
        """Number of values in a message."""
        return self.values.shape[1]


@dataclass(frozen=True)
class Seen:
    """What a survey found about one topic of a bag: quality, stamps, message layout, joints and arrays."""

    info: TopicInfo
    quality: StreamQuality
    received: np.ndarray
    """Shape (message,) [ns], in the order of the bag."""
    headers: np.ndarray | None
    """Shape (message,) [ns]: header stamps; None if there are none, or all are 0."""
    layout: Layout | None = None
    """The layout of the first decodable message."""
    problem: str = ''
    """Why no message can be decoded; empty if some can."""
    tables: tuple[Table, ...] = ()
    """Content of joints and arrays, the most frequent first; only if the survey has `values`."""

    @property
    def stamps(self) -> np.ndarray:
        """Shape (message,) [ns]: header stamps, or reception times if the headers use another clock."""
        offset = self.quality.clock_offset
        return self.received if self.headers is None or abs(offset or 0.0) > OTHER_CLOCK else self.headers

    @property
    def latency(self) -> float | None:
        """High percentile of the transport delay [s]; None if the clocks do not allow the comparison."""
        offset, delay = self.quality.clock_offset, self.quality.delay
        if offset is None or delay is None or not -0.001 < offset < 1.0:
            return None
        return max(offset, 0.0) + 3 * delay


@dataclass(frozen=True)
class Survey:
    """The result of reading a whole bag: its topics, the dropped data, and the streams of a contract, if given."""

    path: Path
    size: int
    """Size of the files [byte]."""
    topics: Mapping[str, Seen]
    report: ConversionReport
    """Dropped data, with reasons."""
    recording: Recording | None = None
    """The decoded topics of the contract; None without a contract, or if a stream is missing."""
    reader: RecordingReader | None = None
    """The decoded streams of the contract."""
    complaints: Mapping[str, str] = field(default_factory=dict)
    """Why a stream or signal of the contract cannot be read, by its name."""

    @property
    def times(self) -> dict[str, np.ndarray]:
        """Stamps in ascending order [ns], by topic with messages."""
        return {name: np.sort(seen.stamps) for name, seen in self.topics.items() if len(seen.received)}


def survey(
    path: str | Path,
    contract: Contract | None = None,
    progress: Callable[[float], None] | None = None,
    *,
    values: bool = False,
    tolerant: bool = False,
) -> Survey:
    """Read a bag once.

    Parameters
    ----------
    path
        The bag.
    contract
        Defines what is decoded; without a contract only stamps are read.
    progress
        Called after each block of messages with the share of messages read, in [0, 1].
    values
        Whether to collect the content of joints and arrays, which needs no contract.
    tolerant
        Whether an unreadable stream of the contract is a complaint instead of an error.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, or, unless `tolerant`, a topic of the contract is missing.

    """
    path = Path(path)
    report = ConversionReport()
    complaints: dict[str, str] = {}
    with Bag(path, report) as bag:
        stamps = {name: Stamps(info, bag) for name, info in bag.topics.items()}
        looks = {name: _Look(bag, name) for name in bag.topics} if values else {}
        reader = None
        if contract is not None:
            reader = RecordingReader(bag, contract, complaints=complaints if tolerant else None)
        for block in bag.blocks(bag.topics, progress):
            for topic, messages in block.items():
                stamps[topic].take(messages)
                if values:
                    looks[topic].take(messages)
            if reader is not None:
                reader.take({topic: messages for topic, messages in block.items() if topic in reader.topics})
        recording = None
        if reader is not None and not complaints:
            try:
                reader.complete()
                recording = reader.recording()
            except BagError as error:
                if not tolerant:
                    raise
                complaints['messages'] = f'expected {error.expected}; found {error.found}'
    rates = expected_rates(contract) if contract is not None else {}
    topics = {name: _seen(item, looks.get(name), of_topic(rates, name)) for name, item in stamps.items()}
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob('*')) if file.is_file())
    return Survey(path, size, topics, report, recording, reader, complaints)


def _seen(item: Stamps, look: _Look | None, expected_rate: float | None) -> Seen:
    """Return what was read of one topic."""
    quality = measure_stream(
        item.info.name,
        item.info.type,
        item.received,
        item.headers,
        expected_rate=expected_rate,
        sensor=item.headers is not None,
        events=item.info.type == MARKS,
    )
    quality = replace(quality, foreign=item.foreign)
    content = () if look is None else (look.layout, look.problem, look.tables())
    return Seen(item.info, quality, item.received, item.headers, *content)


class _Look:
    """Decodes joints and arrays of a topic without a contract."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._info, self._bag, self._topic = bag.topics[topic], bag, topic
        self._definitions: Definitions | None = None
        self._decoder: _Positions | None = None
        self.layout: Layout | None = None
        self.problem = ''

    def take(self, messages: Messages) -> None:
        kind = self._info.type
        if self._definitions is None:
            self._definitions = self._bag.definitions(self._topic)
            if kind in (JOINT_STATE, TRAJECTORY, *ARRAYS):
                plain = JointStream()
                self._decoder = _Positions(kind, self._definitions, plain, by_header=False, ros1=self._info.ros1)
        if self._info.foreign:
            self.problem = f'serialised as {self._info.foreign}, not as CDR'
            return
        for index in range(len(messages) if self.layout is None else 0):
            try:
                self.layout = walk(messages.data(index), kind, self._definitions, self._info.ros1)
                self.problem = ''
                break
            except Undecodable as error:
                self.problem = str(error)
        if self._decoder is not None:
            self._decoder.gather(messages, self._topic)

    def tables(self) -> tuple[Table, ...]:
        return self._decoder.tables() if self._decoder is not None else ()


class _Positions(Decoder):
    """Decodes all positions of joint states, trajectories and arrays, for any joint names."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self._rows: dict[tuple, list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]] = {}
        self._counts: dict[tuple, int] = {}

    def pattern(self, layout: Layout) -> Pattern | None:
        """Return the offsets of the positions; None for a message without positions."""
        if self._type in ARRAYS:
            path, spans = 'data', []
        else:
            names = 'joint_names' if self._type == TRAJECTORY else 'name'
            spans = [layout.spans[f'{names}[{place}]'] for place in range(layout.counts.get(names, 0))]
            points = layout.counts.get('points', 0)
            path = f'points[{points - 1}].positions' if self._type == TRAJECTORY else 'position'
            if layout.counts.get(path) != len(spans):
                return None
        pattern = Pattern(spans)
        for place in range(layout.counts.get(path, 0)):
            pattern.add(*layout.place(f'{path}[{place}]'))
        return pattern if pattern.runs else None

    def gather(self, messages: Messages, topic: str) -> None:
        """Decode messages; messages that cannot be decoded are counted elsewhere."""
        if not len(messages):
            return
        sizes, groups = np.unique(messages.sizes, return_inverse=True)
        for group, size in enumerate(sizes.tolist()):
            chosen = np.flatnonzero(groups == group)
            for index, rows, pattern in self._matched(messages, chosen, size, ConversionReport(), topic):
                names = self._names(pattern.layout)
                key = (*sorted(names), sum(count for *_, count in pattern.runs))
                self._counts[key] = self._counts.get(key, 0) + len(index)
                parts = self._rows.setdefault(key, [])
                if sum(len(values) for _, _, values in parts) < _MAX_ROWS:
                    parts.append((names, messages.received[index], gathered(rows, pattern)))

    def _names(self, layout: Layout) -> tuple[str, ...]:
        names = 'joint_names' if self._type == TRAJECTORY else 'name'
        return tuple(layout.texts[f'{names}[{place}]'] for place in range(layout.counts.get(names, 0)))

    def tables(self) -> tuple[Table, ...]:
        """Return the collected tables, the most frequent first."""
        found = []
        for key, parts in self._rows.items():
            names = parts[0][0]
            if len(set(names)) != len(names):
                continue  # a joint that is named twice is ambiguous
            values = np.concatenate([
                part if other == names else part[:, [other.index(name) for name in names]]
                for other, _, part in parts
            ])  # fmt: skip
            received = np.concatenate([stamps for _, stamps, _ in parts])
            order = np.argsort(received, kind='stable')
            found.append(Table(names, received[order], values[order], self._counts[key]))
        return tuple(sorted(found, key=lambda table: -table.count))
