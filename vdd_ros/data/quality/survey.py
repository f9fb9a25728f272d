"""Looks at a whole bag: the one pass that drafts, checks and inspections are made from."""

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
"""Offset over which the clock of headers is not that of the recorder [s]."""
_MAX_ROWS = 20_000


@dataclass(frozen=True)
class Table:
    """Positions that belong together: the joints that some messages of a topic name, or the numbers of an array."""

    names: tuple[str, ...]
    """The joints, in the order of the first of these messages; empty for an array."""
    received: np.ndarray
    """Shape (message,), ascending [ns]."""
    values: np.ndarray
    """Shape (message, number), as the messages have them; NaN where a message has it."""
    count: int
    """Messages of the whole topic that have them; `values` are those of the beginning."""

    @property
    def size(self) -> int:
        """Numbers in a message."""
        return self.values.shape[1]


@dataclass(frozen=True)
class Seen:
    """One topic of a bag."""

    info: TopicInfo
    quality: StreamQuality
    received: np.ndarray
    """Shape (message,) [ns], in the order of the bag."""
    headers: np.ndarray | None
    """Shape (message,) [ns]: the stamps of the headers; None where there are none, or all are 0."""
    layout: Layout | None = None
    """Where the fields of the first message lie that can be decoded."""
    problem: str = ''
    """Why no message can be decoded, if none can."""
    tables: tuple[Table, ...] = ()
    """What joints and arrays say, the most frequent first; only where a survey asks for `values`."""

    @property
    def stamps(self) -> np.ndarray:
        """Shape (message,) [ns]: those of the headers, or of the reception where headers are of another clock."""
        offset = self.quality.clock_offset
        return self.received if self.headers is None or abs(offset or 0.0) > OTHER_CLOCK else self.headers

    @property
    def latency(self) -> float | None:
        """How long nearly all messages take [s]; None where the clocks do not allow to measure it."""
        offset, delay = self.quality.clock_offset, self.quality.delay
        if offset is None or delay is None or not -0.001 < offset < 1.0:
            return None
        return max(offset, 0.0) + 3 * delay


@dataclass(frozen=True)
class Survey:
    """What is in a bag."""

    path: Path
    size: int
    """Of its files [byte]."""
    topics: Mapping[str, Seen]
    report: ConversionReport
    """What was dropped, and why."""
    recording: Recording | None = None
    """What the contract reads; None without a contract, or where a stream is missing."""
    reader: RecordingReader | None = None
    """The decoded streams of the contract."""
    complaints: Mapping[str, str] = field(default_factory=dict)
    """By stream or signal of the contract, why it cannot be read."""

    @property
    def times(self) -> dict[str, np.ndarray]:
        """By topic with messages, their stamps in ascending order [ns]."""
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
        What to decode; without one only stamps are read.
    progress
        Called with the share that is read, in [0, 1].
    values
        Whether to gather what joints and arrays say, which needs no contract.
    tolerant
        Whether a stream of the contract that cannot be read is a complaint, and not an error.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, or, unless `tolerant`, it lacks what the contract names.

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
    topics = {}
    for name, item in stamps.items():
        quality = measure_stream(
            name,
            item.info.type,
            item.received,
            item.headers,
            expected_rate=of_topic(rates, name),
            sensor=item.headers is not None,
            events=item.info.type == MARKS,
        )
        quality = replace(quality, foreign=item.foreign)
        look = looks.get(name)
        seen = (look.layout, look.problem, look.tables()) if look is not None else ()
        topics[name] = Seen(item.info, quality, item.received, item.headers, *seen)
    size = sum(file.stat().st_size for file in ([path] if path.is_file() else path.rglob('*')) if file.is_file())
    return Survey(path, size, topics, report, recording, reader, complaints)


class _Look:
    """Looks at the messages of a topic that nobody described, and gathers the joints and arrays in them."""

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
            self.problem = f'they are serialised as {self._info.foreign}, not as CDR'
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
    """Reads all positions of joint states, trajectories and arrays, whatever joints they name."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self._rows: dict[tuple, list[tuple[tuple[str, ...], np.ndarray, np.ndarray]]] = {}
        self._counts: dict[tuple, int] = {}

    def pattern(self, layout: Layout) -> Pattern | None:
        """Say where the positions lie; None for a message without any."""
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
        """Take in some messages; what cannot be decoded is for others to count."""
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
        """Return what was gathered, the most frequent first."""
        found = []
        for key, parts in self._rows.items():
            names = parts[0][0]
            if len(set(names)) != len(names):
                continue  # a joint that is named twice has no position
            values = np.concatenate([
                part if other == names else part[:, [other.index(name) for name in names]]
                for other, _, part in parts
            ])  # fmt: skip
            received = np.concatenate([stamps for _, stamps, _ in parts])
            order = np.argsort(received, kind='stable')
            found.append(Table(names, received[order], values[order], self._counts[key]))
        return tuple(sorted(found, key=lambda table: -table.count))
