"""Read the topics of a contract from a bag, at once or block by block."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded, Decoder
from vdd_ros.data.decode.frames import Picture
from vdd_ros.data.decode.resample import aligned_frames, nanoseconds
from vdd_ros.data.decode.sensor_decoders import SignalReader, stamp_of
from vdd_ros.data.decode.serialized import Definitions, Messages, Undecodable, walk
from vdd_ros.data.decode.sources import COMMANDED, MEASURED, Source, alignment, decoder, sources
from vdd_ros.data.recording import EpisodeMark, Recording, SignalValue, Track
from vdd_ros.data.spans import Span, spans_of, started, ticks_of

_MARKS = 'diagnostic_msgs/msg/DiagnosticArray'
_OTHER_CLOCK = 60 * NANOSECONDS
"""A larger delay [ns] means that the clocks differ."""
_STATES = ('signal', 'discard')
"""Roles for which only changes of the value matter."""
WAITING = 64 << 20
"""Limit of bytes of images that are not decoded yet."""
_LEFT = 0.75
"""Share of the limit `WAITING` that may remain after decoding."""
_NEVER = 1 << 62
_ROLES = ('signal', 'discard', 'outcome', 'language')


class RecordingReader:
    """Reads the streams of a contract from an open bag."""

    def __init__(
        self, bag: Bag, contract: Contract, *, complaints: dict[str, str] | None = None, waiting: int = WAITING
    ) -> None:
        """Find the topics.

        Parameters
        ----------
        bag, contract
            The bag and the contract.
        complaints
            Receives streams and signals that cannot be read, with the reason. If omitted, they are errors.
        waiting
            Limit of bytes of images that are not decoded yet.

        Raises
        ------
        BagError
            A topic is missing, ambiguous, or has another type than in the contract.

        """
        self._complaints = complaints
        self._bag, self._contract, self.report = bag, contract, bag.report
        self._topics: dict[str, str] = {}
        self._definitions: dict[str, tuple[Definitions, bool]] = {}
        self._readers: list[tuple[Source, str, Decoder]] = []
        wanted = sources(contract)
        shared = Counter(source.topic for source in wanted)
        for source in wanted:
            if self._find(source.topic, source.type, source.stream, optional=source.optional):
                name = self._topics[source.topic] + f' as {source.stream}' * (shared[source.topic] > 1)
                self._readers.append((source, name, decoder(contract, source, self._described, deferred=True)))
        self.tracks = {source.stream: Track(source.stream, source.width, pictures=source.pictures) for source in wanted}
        self._waiting, self._most_waiting = 0, waiting
        self._latency = {name: nanoseconds(alignment(contract, name).latency) for name in self.tracks}
        self._signal_readers: dict[str, SignalReader] = {}
        self._marks: list[EpisodeMark] = []
        self._signals: dict[str, list[SignalValue]] = {role: [] for role in _ROLES}
        rules = contract.episodes
        for role in _ROLES:
            signal = getattr(rules, role)
            if signal is not None and self._find(signal.topic, signal.type, role):
                definitions, ros1 = self._described(signal.topic)
                self._signal_readers[role] = SignalReader(
                    signal.type, definitions, signal.field, by_header=signal.by_header, ros1=ros1
                )
        if rules.by == 'marks':
            self._find(contract.topics.episode, _MARKS, 'episode')

    @property
    def topics(self) -> frozenset[str]:
        """The topics of the bag that the contract needs."""
        return frozenset(self._topics.values())

    @property
    def size(self) -> int:
        """Size of the stored messages [byte]."""
        return sum(track.size for track in self.tracks.values())

    def take(self, block: Mapping[str, Messages]) -> None:
        """Decode a block of the bag. Images are decoded when a tick needs them, or when too many are pending."""
        for source, name, reader in self._readers:
            if (messages := block.get(self._topics[source.topic])) is not None:
                found = reader.decode(messages, self.report, name)
                self._note_late(source.stream, found)
                self.tracks[source.stream].add(found, self.report)
                if source.pictures:
                    self._waiting += int(messages.sizes.sum())
        for role, reader in self._signal_readers.items():
            topic = getattr(self._contract.episodes, role).topic
            if (messages := block.get(self._topics[topic])) is not None:
                values, known = reader.read(messages, self.report, self._topics[topic]), self._signals[role]
                self._signals[role] = _shortened(known, values) if role in _STATES else known + values
        topic = self._contract.topics.episode
        by_marks = self._contract.episodes.by == 'marks' and topic in self._topics
        if by_marks and (messages := block.get(self._topics[topic])) is not None:
            self._marks += read_marks(messages, self._described(topic), self.report, self._topics[topic])

        if self._waiting > self._most_waiting:
            self._decode_pictures()

    def _decode_pictures(self) -> None:
        """Decode the images at ticks, and the oldest others until the pending bytes are below the limit.

        An episode without an end counts as if it ended here. If that is wrong, an image is decoded too early or
        unnecessarily.
        """
        recording = self.recording()
        spans = spans_of(recording, self._contract, ConversionReport())
        began, measured = started(recording, self._contract), recording.measured.stamps
        if began is not None and len(measured):
            spans.append(Span(began, int(measured[-1]) + 1, None))
        pictures = {source.stream: self.tracks[source.stream] for source, _, _ in self._readers if source.pictures}
        for span in spans:
            ticks, _ = ticks_of(recording, self._contract, span)
            for name, track in pictures.items() if not span.dropped else ():
                stream = recording.streams[name]
                oldest = min((stamp for stamp, _ in track.waiting), default=_NEVER)
                open_ = ticks[np.searchsorted(ticks, oldest) :]
                aligned_frames(stream.stamps, stream.values, open_, alignment(self._contract, name))
        waiting = sorted((item for track in pictures.values() for item in track.waiting), key=lambda item: item[0])
        self._waiting = sum(picture.size for _, picture in waiting)
        oldest = []
        for _, picture in waiting:
            if self._waiting > _LEFT * self._most_waiting:
                oldest.append(picture)
                self._waiting -= picture.size
        Picture.decode(oldest)
        for track in pictures.values():
            track.count()

    def _note_late(self, stream: str, found: Decoded) -> None:
        """Report messages that arrived too late for the live policy, if the clocks allow the comparison."""
        late = found.received - found.stamps - self._latency[stream] - self._contract.period
        count = int(((late > 0) & (late < _OTHER_CLOCK)).sum())
        self.report.add('note', stream, 'messages that arrived more than a policy period late: set `latency`', count)

    def recording(self) -> Recording:
        """Return the stored messages."""
        streams = {name: track.stream() for name, track in self.tracks.items()}
        measured = streams.pop(MEASURED)
        # If no commands were recorded, the next measured state is used as the command.
        commanded = streams.pop(COMMANDED, measured)
        marks = tuple(sorted(self._marks, key=lambda mark: mark.stamp))
        signals = {role: tuple(sorted(values, key=lambda item: item[0])) for role, values in self._signals.items()}
        return Recording(measured, commanded, marks, streams, signals)

    def forget(self, until: int) -> None:
        """Drop messages older than a stamp [ns], except those that are still needed."""
        for track in self.tracks.values():
            track.forget(until)
        self._marks = [
            mark for mark in self._marks if mark.stamp > until or (mark.stamp == until and mark.event != 'end')
        ]
        for role, values in self._signals.items():
            older = [item for item in values if item[0] < until]
            newest = [max(older, key=lambda word: word[0])] if older else []
            self._signals[role] = newest + [item for item in values if item[0] >= until]

    def complete(self) -> None:
        """Check that every needed topic had a message.

        Raises
        ------
        BagError
            A topic had no message, or all of its messages were dropped.

        """
        for source, name, _ in self._readers:
            if not source.optional and self.tracks[source.stream].empty:
                places = (name, self._topics[source.topic])
                reasons = [str(entry) for entry in self.report.entries if entry.where in places]
                raise BagError(
                    expected=f'messages on {source.topic} in {self._bag.path}',
                    found='; '.join(reasons[:3]) or 'none',
                    remedy='check the recording, or correct the source in the contract',
                )

    def _described(self, topic: str) -> tuple[Definitions, bool]:
        if topic not in self._definitions:
            name = self._topics[topic]
            self._definitions[topic] = (self._bag.definitions(name), self._bag.topics[name].ros1)
        return self._definitions[topic]

    def name_of(self, stream: str) -> tuple[str, ...]:
        """Return the report name of a stream and its topic; empty if the stream is not read."""
        for source, name, _ in self._readers:
            if source.stream == stream:
                return name, self._topics[source.topic]
        return ()

    def _find(self, topic: str, kind: str, stream: str, *, optional: bool = False) -> bool:
        try:
            return self._found(topic, kind, optional=optional)
        except BagError as error:
            if self._complaints is None:
                raise
            self._complaints[stream] = f'expected {error.expected}; found {error.found}'
            return False

    def _found(self, topic: str, kind: str, *, optional: bool) -> bool:
        name = find_topic(self._bag.topics, topic)
        if name is None and optional:
            return False
        if name is None:
            raise BagError(
                expected=f'one topic {topic} in {self._bag.path}',
                found=', '.join(sorted(self._bag.topics)) or 'no topics',
                remedy='change the topics of the contract to those of the bag',
            )
        found, foreign = self._bag.topics[name].type, self._bag.topics[name].foreign
        if foreign:
            raise BagError(
                expected=f'ROS messages (CDR or ROS 1) on {topic} in {self._bag.path}',
                found=f'messages serialised as {foreign}',
                remedy='record the topic with rosbag2, or convert the bag',
            )
        if found != kind:
            raise BagError(
                expected=f'{kind} on {topic} in {self._bag.path}',
                found=found,
                remedy='correct the topic in the contract',
            )
        self._topics[topic] = name
        return True


def _shortened(known: list[SignalValue], values: Sequence[SignalValue]) -> list[SignalValue]:
    """Append values; of a run of equal values keep the first and the last (a joystick repeats its state for hours)."""
    for value in values:
        if len(known) > 1 and known[-2][2] == known[-1][2] == value[2]:
            known[-1] = value
        else:
            known.append(value)
    return known


def find_topic(names: Iterable[str], topic: str) -> str | None:
    """Return the topic with this name, or the only one with this name in a namespace; else None."""
    names = set(names)
    for exact in (topic, f'/{topic}'):
        if exact in names:
            return exact
    found = [name for name in names if name.endswith(f'/{topic.lstrip("/")}')]
    return found[0] if len(found) == 1 else None


def read_marks(
    messages: Messages, described: tuple[Definitions, bool], report: ConversionReport, topic: str
) -> list[EpisodeMark]:
    """Read episode marks."""
    marks = []
    definitions, ros1 = described
    for index in range(len(messages)):
        data = messages.data(index)
        try:
            layout = walk(data, _MARKS, definitions, ros1)
            if 'status[0].message' not in layout.texts:
                raise Undecodable('a mark without a status')
            texts, count = layout.texts, layout.counts['status[0].values']
            values = (f'status[0].values[{place}]' for place in range(count))
            labels = {texts[f'{value}.key']: texts[f'{value}.value'] for value in values}
            received = int(messages.received[index])
            marks.append(EpisodeMark(stamp_of(data, layout), texts['status[0].message'], labels, received))
        except Undecodable as error:
            report.add('message', topic, str(error), 1, messages.place(index))
    report.took(topic, len(marks))
    return marks


def read_recording(
    path: str | Path,
    contract: Contract,
    progress: Callable[[float], None] | None = None,
    report: ConversionReport | None = None,
) -> Recording:
    """Read the topics of a contract from a bag, all at once.

    Parameters
    ----------
    path
        The bag. A bag that a killed recorder left is accepted, too (`vdd recover` repairs it).
    contract
        The contract. A topic is also found in a namespace, if only one namespace has it.
    progress
        Called after each block of messages with the share of messages read, in [0, 1].
    report
        Receives what is dropped, with the reason.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, a topic is missing, or a topic has no usable message.

    """
    with Bag(path, report) as bag:
        reading = RecordingReader(bag, contract)
        for block in bag.blocks(reading.topics, progress):
            reading.take(block)
        reading.complete()
        return reading.recording()
