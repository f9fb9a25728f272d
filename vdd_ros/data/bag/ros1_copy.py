"""Read the sound parts of a ROS 1 bag that was not closed or is damaged, and write them as a complete bag.

The format is described in http://wiki.ros.org/Bags/Format/2.0: chunks of messages, each followed by an index, and at
the end an index of the chunks, which a killed recorder never wrote.
"""

from __future__ import annotations

import bz2
import mmap
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

import lz4.frame

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.bag.bag_definitions import definitions_of
from vdd_ros.data.bag.file_scan import DamagedPart, DroppedMessages, FileScan
from vdd_ros.data.bag.mcap_records import Channel, Schema
from vdd_ros.data.decode.conversion_report import ConversionReport

Progress = Callable[[float], None]

MAGIC = b'#ROSBAG V2.0\n'
_MESSAGE, _BAG, _INDEX, _CHUNK, _CHUNK_INFO, _CONNECTION = range(2, 8)
_KNOWN = range(_MESSAGE, _CONNECTION + 1)
_HEADER_SIZE = 4096
"""Size of the first record including padding [byte]."""
_MOST_HEADER = 1 << 16
_MOST_CHUNK = 1 << 31
_BACK = 300
"""Number of bytes before an opcode within which its record begins."""
_MALFORMED = (ValueError, KeyError, IndexError, struct.error, UnicodeDecodeError)


@dataclass(frozen=True)
class _Record:
    code: int
    fields: Mapping[str, bytes]
    begin: int
    """Offset of the record."""
    data: int
    """Offset of its data."""
    end: int

    def number(self, name: str) -> int:
        """Return a field of four or eight bytes as a number."""
        return int.from_bytes(self.fields[name], 'little')

    def time(self, name: str) -> int:
        """Return a time [ns]."""
        seconds, nanoseconds = struct.unpack('<II', self.fields[name])
        if nanoseconds >= NANOSECONDS:
            raise ValueError('not a time')
        return seconds * NANOSECONDS + nanoseconds


@dataclass
class _Content:
    """The records of a chunk."""

    data: bytes
    record: _Record | None
    """The chunk, if all of it is messages and connections; None if it must be rewritten."""
    messages: list[tuple[int, int, int, int]] = field(default_factory=list)
    """Connection, time [ns], begin and end of each."""
    connections: set[int] = field(default_factory=set)
    """Connections defined in it."""

    @property
    def counts(self) -> Counter[int]:
        """Number of messages by connection."""
        return Counter(message[0] for message in self.messages)


@dataclass(frozen=True)
class _Connection:
    topic: str
    type: str
    text: str
    record: bytes
    """The complete record."""


def scan(path: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Read a bag completely and find its sound parts. ROS 1 has no checksums, so `unverified` has no effect."""
    return _passed_through(path, None, progress)


def copy(path: Path, target: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Write a complete bag of the sound parts of another, which is left unchanged; sound chunks keep their bytes.

    Raises
    ------
    OSError
        The target cannot be written.

    """
    with target.open('xb') as file:
        return _passed_through(path, file, progress)


def _passed_through(path: Path, target: BinaryIO | None, progress: Progress | None) -> FileScan:
    found = FileScan(path)
    size = path.stat().st_size
    if not size:
        found.damages.append(DamagedPart(0, 0, 'an empty file'))
        return found
    with path.open('rb') as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        reader = _Reader(data, found)
        for content in reader.contents(progress):
            reader.counts.update(content.counts)
            for _, time, _, _ in content.messages:
                first, last = found.span or (time, time)
                found.span = (min(first, time), max(last, time))
        if target is not None:
            # A closed bag repeats its connections at the end: those of damaged chunks are known at this point.
            writer = _Writer(target, reader.connections)
            for content in _Reader(data, FileScan(path)).contents(None):
                writer.take(data, content)
            writer.close()
    for number, connection in reader.connections.items():
        found.channels[number] = Channel(connection.topic, number, 'ros1')
        found.schemas[number] = Schema(connection.type, 'ros1msg', connection.text.encode())
    for number, count in sorted(reader.counts.items()):
        if number in reader.connections:
            found.counts[number] = count
        else:
            why = f'messages of the undefined connection {number}'
            found.damages.append(DamagedPart(0, 0, why, count))
    found.complete = found.closed and not found.damages
    if not found.closed and not found.damages:
        found.damages.append(DamagedPart(size, 0, 'not closed: no index at the end'))
    return found


class _Reader:
    """Reads the records of a file in order."""

    def __init__(self, data: mmap.mmap, found: FileScan) -> None:
        self._data, self._found = data, found
        self.connections: dict[int, _Connection] = {}
        self.counts: Counter[int] = Counter()
        """Number of messages by connection."""
        if data[: len(MAGIC)] != MAGIC:
            found.damages.append(DamagedPart(0, len(MAGIC), 'the first bytes are not those of a ROS 1 bag'))

    def contents(self, progress: Progress | None) -> Iterator[_Content]:
        """Yield the readable messages chunk by chunk, and collect connections and damage."""
        place, size = len(MAGIC), len(self._data)
        stated = counted = 0
        waiting: Counter[int] = Counter()
        while place < size:
            try:
                record = _record(self._data, place)
            except _MALFORMED as error:
                place = self._after_damage(place, str(error))
                continue
            if record.code != _INDEX and any(waiting.values()):
                self._found.damages.append(DamagedPart(place, 0, 'a wrong or missing message index'))
                waiting = Counter()
            if record.code == _CHUNK:
                content = self._chunk(record)
                counted += content is not None
                waiting = content.counts if content is not None else Counter()
                if content is not None:
                    yield content
            elif record.code == _MESSAGE:  # part of a chunk that has a damaged header or is unfinished
                content = self._loose(record)
                self._found.damages.append(DamagedPart(place, 0, 'messages outside of a chunk (kept)'))
                yield content
                record = replace(record, end=place + len(content.data))
            elif record.code == _BAG:
                self._found.closed, stated = record.number('index_pos') > 0, record.number('chunk_count')
            elif record.code == _CONNECTION:
                self._connect(self._data[place : record.end])
            elif record.code == _INDEX:
                waiting[record.number('conn')] -= record.number('count')
            place = record.end
            if progress is not None:
                progress(place / size)
        if self._found.closed and stated != counted and not self._found.damages:
            self._found.damages.append(DamagedPart(size, 0, f'{counted} chunks where {stated} are stated'))

    def _chunk(self, record: _Record) -> _Content | None:
        """Return the content of a chunk; damage is recorded."""
        packed, compression = self._data[record.data : record.end], record.fields['compression'].decode()
        try:
            content = _Content(_opened(packed, compression, record.number('size')), record)
        except _MALFORMED as error:
            if compression == 'none' and record.end > record.data and not record.number('size'):
                return self._read(_Content(packed, None), record.begin)
            if record.end > record.data:
                self._lose(record.begin, record.end, str(error))
            return None
        return self._read(content, record.begin)

    def _loose(self, record: _Record) -> _Content:
        """Return consecutive messages and connections from a record on."""
        end = record.end
        while end < len(self._data):
            try:
                following = _record(self._data, end)
            except _MALFORMED:
                break
            if following.code not in (_MESSAGE, _CONNECTION):
                break
            end = following.end
        return self._read(_Content(self._data[record.begin : end], None), record.begin)

    def _read(self, content: _Content, begin: int) -> _Content:
        """Find the messages and connections in chunk content; damage is recorded."""
        data, place = content.data, 0
        while place < len(data):
            try:
                inner = _record(data, place)
                if inner.code == _MESSAGE:
                    content.messages.append((inner.number('conn'), inner.time('time'), place, inner.end))
                elif inner.code == _CONNECTION:
                    self._connect(data[place : inner.end])
                    content.connections.add(inner.number('conn'))
                else:
                    raise ValueError(f'a record of kind {inner.code} in a chunk')
                place = inner.end
            except _MALFORMED as error:
                following = _next(data, place + 1)
                why = f'{error}, in a chunk; {following - place} bytes of its content skipped'
                self._found.damages.append(DamagedPart(begin, 0, why))
                content.record, place = None, following
        return content

    def _connect(self, record: bytes) -> None:
        inner = _record(record, 0)
        number, topic = inner.number('conn'), inner.fields['topic'].decode()
        about = _fields(record[inner.data : inner.end])
        kind, text = about['type'].decode(), about['message_definition'].decode(errors='replace')
        found = _Connection(topic, kind, text, record)
        known = self.connections.setdefault(number, found)
        # A connection is defined twice, in a chunk and at the end. If the two differ, the readable one is used.
        if known.text != text and not _is_definition(known) and _is_definition(found):
            self.connections[number] = found

    def _after_damage(self, place: int, why: str) -> int:
        following = _next(self._data, place + 1)
        self._lose(place, following, why)
        return following

    def _lose(self, begin: int, end: int, why: str) -> None:
        """Record lost bytes, and the lost messages according to the index that follows."""
        dropped = []
        place = end
        while place < len(self._data):
            try:
                record = _record(self._data, place)
                if record.code != _INDEX:
                    break
                entries = [*struct.iter_unpack('<III', self._data[record.data : record.end])]
                times = [seconds * NANOSECONDS + nanoseconds for seconds, nanoseconds, _ in entries]
                number = record.number('conn')
            except _MALFORMED:
                break
            if times:
                known = self.connections.get(number)
                name = known.topic if known is not None else f'connection {number}'
                dropped.append(DroppedMessages(name, len(times), min(times), max(times)))
            place = record.end
        count = sum(item.count for item in dropped)
        self._found.damages.append(DamagedPart(begin, end - begin, why, count, tuple(dropped)))


class _Writer:
    """Writes a bag."""

    def __init__(self, file: BinaryIO, connections: Mapping[int, _Connection]) -> None:
        self._file, self._connections = file, connections
        self._infos: list[tuple[int, int, int, Counter[int]]] = []
        self._defined: set[int] = set()
        file.write(MAGIC)
        self._write_header(0)

    def take(self, source: mmap.mmap, content: _Content) -> None:
        """Write a chunk and its index."""
        numbers = content.counts.keys() & self._connections.keys()
        places = [message for message in content.messages if message[0] in numbers]
        if not places:
            return
        begin = self._file.tell()
        if content.record is not None and content.counts.keys() <= content.connections | self._defined:
            self._file.write(source[content.record.begin : content.record.end])
        else:
            places = self._write_anew(content, numbers)
        self._defined |= numbers
        entries: dict[int, bytearray] = {}
        for number, time, start, _ in places:
            entries.setdefault(number, bytearray()).extend(struct.pack('<III', *divmod(time, NANOSECONDS), start))
        for number, data in entries.items():
            fields = {'ver': 1, 'conn': number, 'count': len(data) // 12}
            head = {'op': bytes([_INDEX]), **{name: struct.pack('<I', value) for name, value in fields.items()}}
            self._file.write(_packed(head, bytes(data)))
        times = [time for _, time, _, _ in places]
        self._infos.append((begin, min(times), max(times), Counter(number for number, *_ in places)))

    def _write_anew(self, content: _Content, numbers: Collection[int]) -> list[tuple[int, int, int, int]]:
        """Write the messages of a chunk whose connection is known; return their places in its content."""
        data, places = bytearray(), []
        for number in sorted(numbers):
            data += self._connections[number].record
        for number, time, start, end in content.messages:
            if number in numbers:
                places.append((number, time, len(data), len(data) + end - start))
                data += content.data[start:end]
        head = {'op': bytes([_CHUNK]), 'compression': b'lz4', 'size': struct.pack('<I', len(data))}
        self._file.write(_packed(head, lz4.frame.compress(bytes(data))))
        return places

    def close(self) -> None:
        """Write the index of the chunks."""
        place = self._file.tell()
        for connection in self._connections.values():
            self._file.write(connection.record)
        for begin, first, last, counts in self._infos:
            head = {
                'op': bytes([_CHUNK_INFO]),
                'ver': struct.pack('<I', 1),
                'chunk_pos': struct.pack('<Q', begin),
                'start_time': struct.pack('<II', *divmod(first, NANOSECONDS)),
                'end_time': struct.pack('<II', *divmod(last, NANOSECONDS)),
                'count': struct.pack('<I', len(counts)),
            }
            self._file.write(_packed(head, b''.join(struct.pack('<II', *item) for item in counts.items())))
        self._file.seek(len(MAGIC))
        self._write_header(place)
        self._file.flush()

    def _write_header(self, place: int) -> None:
        head = {
            'op': bytes([_BAG]),
            'index_pos': struct.pack('<Q', place),
            'conn_count': struct.pack('<I', len(self._connections)),
            'chunk_count': struct.pack('<I', len(self._infos)),
        }
        empty = len(_packed(head, b''))
        self._file.write(_packed(head, b' ' * (_HEADER_SIZE - empty)))


def _is_definition(connection: _Connection) -> bool:
    """Return whether the message definition can be parsed."""
    report = ConversionReport()
    definitions_of(connection.type, 'ros1msg', connection.text, report, ros1=True)
    return not report.entries


def _record(data: bytes | mmap.mmap, place: int) -> _Record:
    """Read the record at an offset; raises one of `_MALFORMED` if there is none."""
    (length,) = struct.unpack_from('<I', data, place)
    begin = place + 4
    if not 0 < length <= _MOST_HEADER or begin + length + 4 > len(data):
        raise ValueError('a record of wrong length')
    fields = _fields(data[begin : begin + length])
    (code,) = fields['op']
    if code not in _KNOWN:
        raise ValueError(f'a record of the unknown kind {code}')
    (size,) = struct.unpack_from('<I', data, begin + length)
    end = begin + length + 4 + size
    if end > len(data):
        raise ValueError(f'it ends within a record, {end - len(data)} bytes too early')
    record = _Record(code, fields, place, begin + length + 4, end)
    _check(record)
    return record


def _check(record: _Record) -> None:
    """Check that a record has its fields."""
    sizes = {
        _MESSAGE: {'conn': 4, 'time': 8},
        _BAG: {'index_pos': 8, 'conn_count': 4, 'chunk_count': 4},
        _INDEX: {'conn': 4, 'count': 4},
        _CHUNK: {'size': 4},
        _CHUNK_INFO: {'chunk_pos': 8},
        _CONNECTION: {'conn': 4},
    }
    for name, size in sizes[record.code].items():
        if len(record.fields[name]) != size:
            raise ValueError(f'a record with a wrong {name}')
    if record.code == _INDEX and record.end - record.data != 12 * record.number('count'):
        raise ValueError('an index of wrong length')


def _fields(data: bytes) -> dict[str, bytes]:
    fields, place = {}, 0
    while place < len(data):
        (length,) = struct.unpack_from('<I', data, place)
        item = data[place + 4 : place + 4 + length]
        name, sign, value = item.partition(b'=')
        if len(item) < length or not sign:
            raise ValueError('an invalid field')
        fields[name.decode()] = value
        place += 4 + length
    return fields


def _next(data: bytes | mmap.mmap, place: int) -> int:
    """Return the offset of the next record from `place` on; the end if there is none."""
    mark = struct.pack('<I', 4) + b'op='
    at = place
    while (at := data.find(mark, at)) >= 0:
        for begin in range(at - 4, max(place, at - _BACK) - 1, -1):
            try:
                record = _record(data, begin)
            except _MALFORMED:
                continue
            if record.data > at:
                return begin
        at += 1
    return len(data)


def _opened(packed: bytes, compression: str, size: int) -> bytes:
    """Return the decompressed records of a chunk.

    Raises
    ------
    ValueError
        The content does not match the chunk header.

    """
    if size > _MOST_CHUNK:
        raise ValueError(f'a chunk of {size} bytes')
    try:
        if compression == 'bz2':
            data = bz2.decompress(packed)
        elif compression == 'lz4':
            data = lz4.frame.decompress(packed)
        elif compression == 'none':
            data = packed
        else:
            raise ValueError(f'unknown compression {compression!r}')
    except (OSError, EOFError, RuntimeError) as error:
        raise ValueError(f'a chunk that cannot be decompressed ({" ".join(str(error).split())[:60]})') from error
    if len(data) != size:
        raise ValueError(f'a chunk of {len(data)} bytes with a stated size of {size}')
    return data


def _packed(head: Mapping[str, bytes], data: bytes) -> bytes:
    fields = b''.join(
        struct.pack('<I', len(name) + 1 + len(value)) + name.encode() + b'=' + value for name, value in head.items()
    )
    return struct.pack('<I', len(fields)) + fields + struct.pack('<I', len(data)) + data
