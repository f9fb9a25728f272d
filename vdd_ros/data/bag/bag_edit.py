"""Edit demonstrations after recording: write a new bag with all messages unchanged and additional marks."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from mcap.writer import CompressionType, Writer

from vdd_ros.common.errors import BagError, ConfigurationError, OutputError
from vdd_ros.contract.contract import NANOSECONDS, Contract, Feature
from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag import mcap_records as records
from vdd_ros.data.bag.bag import Bag, located
from vdd_ros.data.bag.bag_metadata import BagFile, Topic, claim_bag, read_metadata, write_metadata
from vdd_ros.data.bag.bag_recording import RecordingReader, find_topic, read_marks
from vdd_ros.data.bag.bag_writer import definition_of
from vdd_ros.data.bag.mcap_reader import McapFile, Part
from vdd_ros.data.bag.mcap_records import Channel, Schema
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.recording import EpisodeMark
from vdd_ros.data.spans import Span, spans_by_marks, spans_of

_MARKS_TOPIC = '/episode'


@dataclass(frozen=True)
class Demonstrations:
    """The demonstrations of a bag, found by marks or by a contract."""

    path: Path
    spans: tuple[Span, ...]
    marks: tuple[EpisodeMark, ...]
    """The marks of the bag, sorted by stamp; empty if demonstrations are found by another rule."""
    topic: str
    """The topic of the marks."""
    is_marked: bool
    """Whether demonstrations are found by marks."""


@dataclass(frozen=True)
class _Mark:
    """A mark to be added to a bag."""

    received: int
    """Reception time of the message that it follows [ns]."""
    stamp: int
    event: str
    labels: Mapping[str, str]


def demonstrations_of(path: str | Path, contract: Contract | None = None) -> Demonstrations:
    """Return the demonstrations of a bag; the number of a demonstration is its index in the result.

    Parameters
    ----------
    path
        The bag.
    contract
        Defines the rule that finds demonstrations. By default the marks of the recorder.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, or no rule finds demonstrations in it.

    """
    path, report = Path(path), ConversionReport()
    with Bag(path, report) as bag:
        if contract is not None and contract.episodes.by != 'marks':
            joints = Feature(name='measured', source='measured', space='joint')
            plain = contract.model_copy(update={'observation': (joints,), 'further_actions': ()})
            reader = RecordingReader(bag, plain)
            for block in bag.blocks(reader.topics):
                reader.take(block)
            _refuse_damaged(path, report)
            reader.complete()
            spans = spans_of(reader.recording(), contract, report)
            topic = find_topic(bag.topics, contract.topics.episode) or f'/{contract.topics.episode.lstrip("/")}'
            return Demonstrations(path, tuple(spans), (), topic, False)
        topic = find_topic(bag.topics, contract.topics.episode if contract is not None else _MARKS_TOPIC)
        if topic is None or bag.topics[topic].type != bag_messages.MARK:
            raise BagError(
                expected=f'episode marks in {path}',
                found=', '.join(sorted(bag.topics)) or 'no topics',
                remedy='give the contract whose `episodes` rule finds the demonstrations (`--contract`)',
            )
        marks: list[EpisodeMark] = []
        described = (bag.definitions(topic), bag.topics[topic].ros1)
        for block in bag.blocks([topic]):
            marks += read_marks(block[topic], described, report, topic)
        _refuse_damaged(path, report)
    ordered = tuple(sorted(marks, key=lambda mark: mark.stamp))
    return Demonstrations(path, tuple(spans_by_marks(ordered, report)), ordered, topic, True)


def _refuse_damaged(path: Path, report: ConversionReport) -> None:
    damages = [str(entry) for entry in report.entries if entry.kind == 'part']
    if damages:
        raise BagError(
            expected=f'a sound bag at {path}', found=damages[0], remedy='`vdd recover` copies its sound parts'
        )


def edit(
    path: str | Path,
    output: str | Path,
    contract: Contract | None = None,
    *,
    drop: Sequence[int] = (),
    trim: Mapping[int, tuple[float, float]] | None = None,
    labels: Mapping[int, Mapping[str, str]] | None = None,
) -> Demonstrations:
    """Write a bag with some demonstrations dropped, trimmed or relabelled; the original stays unchanged.

    All messages are copied unchanged. Additional marks record the edits, and readers of the marks leave out dropped
    parts. If demonstrations were found by another rule than marks, each of them gets marks.

    Parameters
    ----------
    path, contract
        The bag (MCAP), and the contract whose rule finds the demonstrations. By default the marks of the recorder.
    output
        The bag to write: a folder that does not exist.
    drop
        Numbers of demonstrations to leave out, from 0.
    trim
        Durations to cut from beginning and end [s], by number of the demonstration.
    labels
        Labels to set (`outcome`, `language`, or any other), by number of the demonstration.

    Returns
    -------
    The demonstrations of the new bag.

    Raises
    ------
    BagError
        There is no undamaged MCAP bag, or no demonstrations are found.
    ConfigurationError
        A number is out of range, or a trim leaves nothing.
    OutputError
        The output exists or cannot be written.

    """
    found = demonstrations_of(path, contract)
    trim, labels = dict(trim or {}), dict(labels or {})
    for number in {*drop, *trim, *labels}:
        if not 0 <= number < len(found.spans):
            raise ConfigurationError(
                expected=f'a demonstration of {found.path}: 0 to {len(found.spans) - 1}',
                found=f'{number}',
                remedy='`vdd edit list` shows them',
            )
    for number, (begin, end) in trim.items():
        seconds = (found.spans[number].end - found.spans[number].start) / NANOSECONDS
        if min(begin, end) < 0 or begin + end >= seconds:
            raise ConfigurationError(
                expected=f'less than {seconds:g} s to cut from demonstration {number}',
                found=f'{begin:g} s from its beginning and {end:g} s from its end',
                remedy='cut less, or drop it',
            )
    _write([found], Path(output), [sorted(_marks(found, drop, trim, labels), key=lambda mark: mark.received)])
    return demonstrations_of(output) if found.topic.endswith(_MARKS_TOPIC) else found


def merge(paths: Sequence[str | Path], output: str | Path) -> int:
    """Merge bags whose times do not overlap into one; return the number of messages.

    Raises
    ------
    BagError
        A bag cannot be read, two overlap in time, or a topic has two types.
    OutputError
        The output exists or cannot be written.

    """
    found = [Demonstrations(Path(path), (), (), _MARKS_TOPIC, False) for path in paths]
    spans = sorted((_span(item.path), index) for index, item in enumerate(found))
    for ((_, end), first), ((start, _), second) in pairwise(spans):
        if start <= end:
            raise BagError(
                expected='bags that do not overlap in time',
                found=f'{found[second].path} begins before {found[first].path} ends',
                remedy='pass both bags to training, which accepts several',
            )
    return _write([found[index] for _, index in spans], Path(output), [[] for _ in spans])


def _marks(
    found: Demonstrations,
    drop: Sequence[int],
    trim: Mapping[int, tuple[float, float]],
    labels: Mapping[int, Mapping[str, str]],
) -> Iterator[_Mark]:
    for number, span in enumerate(found.spans):
        index = span.labels.get('index', '') if found.is_marked else str(number)
        named = {'index': index} if index or not found.is_marked else {}
        received, stamp = _after(found, span, index) if found.is_marked else (span.end, span.end)
        if not found.is_marked:
            yield _Mark(span.start, span.start, 'start', named)
            yield _Mark(received, stamp, 'end', {**named, **span.labels})
        if number in trim:
            begin, end = trim[number]
            yield _Mark(received, stamp, 'trim', {**named, 'begin': f'{begin:.9g}', 'end': f'{end:.9g}'})
        if number in labels:
            yield _Mark(received, stamp, 'label', {**named, **labels[number]})
        if number in drop or (span.dropped and not found.is_marked):
            reason = span.dropped or 'discarded by vdd edit'
            yield _Mark(received, stamp, 'discard', {**named, 'reason': reason})


def _after(found: Demonstrations, span: Span, index: str) -> tuple[int, int]:
    """Return reception time and stamp [ns] of the last mark of a demonstration; a later mark overrides it."""
    received, stamp, began = span.end, span.end, False
    for mark in found.marks:
        if mark.labels.get('index', '') != index:
            continue
        if mark.event == 'start':
            if began and mark.stamp >= span.end:
                break
            began |= mark.stamp <= span.end
        elif mark.stamp >= span.end:
            received, stamp = max(received, mark.received), max(stamp, mark.stamp)
        elif mark.event == 'end':
            received = max(received, mark.received)
    return received, stamp


def _files(path: Path) -> list[Path]:
    """Return the MCAP files of a bag in order."""
    root = located(path)
    if root.is_file():
        files = [root]
    else:
        known = read_metadata(root) or {}
        if known.get('compression_mode'):
            raise BagError(
                expected=f'an MCAP bag without compression by file or message at {path}',
                found=f'compression_mode {known["compression_mode"]}',
                remedy='`ros2 bag convert` writes it uncompressed',
            )
        listed = [root / Path(name).name for name in known.get('relative_file_paths') or []]
        files = [file for file in listed if file.is_file()] or sorted(root.glob('*.mcap'))
    if not files or any(file.suffix != '.mcap' for file in files):
        raise BagError(
            expected=f'an MCAP bag at {path}',
            found=', '.join(file.name for file in files) or 'no file of it',
            remedy='`ros2 bag convert` writes a bag as MCAP',
        )
    return files


def _span(path: Path) -> tuple[int, int]:
    """Return the reception times of the first and the last message of a bag [ns]."""
    spans = [
        (int(run.stamps.min()), int(run.stamps.max()))
        for _, part in _parts(path)
        for run in part.runs
        if len(run.stamps)
    ]
    return (min(first for first, _ in spans), max(last for _, last in spans)) if spans else (0, 0)


def _parts(path: Path) -> Iterator[tuple[McapFile, Part]]:
    """Yield the parts of an MCAP bag in file order.

    Raises
    ------
    BagError
        A file is damaged or was not closed.

    """
    for name in _files(path):
        report = ConversionReport()
        try:
            file = McapFile(name, report)
        except OSError as error:
            raise _unsound(name, error.strerror or str(error)) from error
        try:
            for part in file.parts():
                yield file, part
                if file.damages:
                    break
            if file.damages or not file.closed:
                reasons = [item.reason for item in file.damages] or [str(entry) for entry in report.entries]
                raise _unsound(name, reasons[0])
        finally:
            file.close()


def _unsound(file: Path, found: str) -> BagError:
    return BagError(expected=f'a sound file {file}', found=found, remedy='`vdd recover` copies its sound parts')


def _write(found: Sequence[Demonstrations], output: Path, marks: Sequence[Sequence[_Mark]]) -> int:
    """Write bags one after the other with marks between their messages, first into a temporary place."""
    partial = claim_bag(output)
    try:
        partial.mkdir(parents=True)
        name = f'{output.name}_0.mcap'
        with (partial / name).open('wb') as sink:
            copy = _Copy(Writer(sink, compression=CompressionType.ZSTD))
            for item, added in zip(found, marks):
                copy.take(item, added)
            copy.writer.finish()
        write_metadata(partial, [BagFile(name, *copy.span, copy.count)], copy.topics)
        partial.rename(output)
    except OSError as error:
        raise OutputError(
            expected=f'a place for the bag at {output}',
            found=error.strerror or str(error),
            remedy='choose another path, or free disk space',
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return copy.count


class _Copy:
    """Copies messages unchanged, with their channels and schemas."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.count = 0
        self._low, self._high = 1 << 63, 0
        self._schemas: dict[tuple[str, str, bytes], int] = {}
        self._channels: dict[tuple, int] = {}
        self._kinds: dict[str, Topic] = {}
        self._counts: dict[str, int] = {}
        self._others: list[tuple[int, bytes]] = []
        writer.start('ros2', 'vdd_ros')

    @property
    def span(self) -> tuple[int, int]:
        """First and last reception time [ns]."""
        return (self._low, self._high) if self.count else (0, 0)

    @property
    def topics(self) -> list[Topic]:
        return [
            Topic(item.name, item.type, item.type_hash, item.qos, self._counts[name], item.encoding)
            for name, item in self._kinds.items()
        ]

    def take(self, found: Demonstrations, marks: Sequence[_Mark]) -> None:
        waiting = list(marks)
        for file, part in _parts(found.path):
            for run in part.runs:
                for offset, size in zip(run.offsets.tolist(), run.sizes.tolist()):
                    head = records.MESSAGE_HEAD.unpack_from(run.buffer, offset - records.MESSAGE_HEAD.size)
                    _, _, number, sequence, received, published = head
                    while waiting and waiting[0].received < received:
                        self._mark(found.topic, waiting.pop(0))
                    known = file.channels[number]
                    channel = self._channel(file.schemas.get(known.schema), known)
                    data = run.buffer[offset : offset + size]
                    self._add(known.topic, channel, received, data, published, sequence)
            if part.code in (records.ATTACHMENT, records.METADATA):
                self._others.append((part.code, b''.join(file.content(part.offset + records.RECORD.size, part.end))))
        for mark in waiting:
            self._mark(found.topic, mark)
        self._write_others()

    def _write_others(self) -> None:
        """Write attachments and metadata after the messages."""
        for code, body in self._others:
            if code == records.ATTACHMENT:
                self.writer.add_attachment(*records.read_attachment(body))
            else:
                self.writer.add_metadata(*records.read_metadata(body))
        self._others = []

    def _mark(self, topic: str, mark: _Mark) -> None:
        definition = definition_of(bag_messages.MARK)
        schema = Schema(bag_messages.MARK, definition.encoding, definition.text.encode())
        metadata = (('offered_qos_profiles', ''), ('topic_type_hash', definition.type_hash))
        known = next((number for key, number in self._channels.items() if key[:2] == (topic, 'cdr')), None)
        number = self._channel(schema, Channel(topic, 1, 'cdr', metadata)) if known is None else known
        data = bag_messages.mark(mark.stamp, mark.event, **mark.labels)
        self._add(topic, number, mark.received, data, mark.received, 0)

    def _channel(self, schema: Schema | None, channel: Channel) -> int:
        kind = schema.name if schema is not None else ''
        key = (channel.topic, channel.encoding, kind, tuple(sorted(channel.metadata)))
        if key not in self._channels:
            number = 0
            if schema is not None:
                content = (schema.name, schema.encoding, schema.text)
                if content not in self._schemas:
                    self._schemas[content] = self.writer.register_schema(*content)
                number = self._schemas[content]
            words = dict(channel.metadata)
            self._channels[key] = self.writer.register_channel(channel.topic, channel.encoding, number, words)
            qos, mark = (words.get(name, '') for name in ('offered_qos_profiles', 'topic_type_hash'))
            known = self._kinds.setdefault(channel.topic, Topic(channel.topic, kind, mark, qos, 0, channel.encoding))
            self._counts.setdefault(channel.topic, 0)
            if known.type != kind:
                raise BagError(
                    expected=f'one type on {channel.topic}',
                    found=f'{known.type} and {kind}',
                    remedy='pass the bags to training separately',
                )
        return self._channels[key]

    def _add(self, topic: str, channel: int, received: int, data: bytes, published: int, sequence: int) -> None:
        self.writer.add_message(channel, received, data, published, sequence)
        self._low, self._high = min(self._low, received), max(self._high, received)
        self._counts[topic] += 1
        self.count += 1
