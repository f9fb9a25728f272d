"""Write MCAP files from the sound parts of others: a complete copy, or the missing end of a truncated file."""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import BinaryIO

import lz4.frame
import numpy as np
import zstandard

from vdd_ros.common.errors import BagError
from vdd_ros.data.bag import mcap_records as records
from vdd_ros.data.bag.file_scan import DamagedPart, FileScan
from vdd_ros.data.bag.mcap_reader import McapFile, Part
from vdd_ros.data.bag.mcap_records import RECORD, Channel, Run, Schema
from vdd_ros.data.decode.conversion_report import ConversionReport

Progress = Callable[[float], None]

_FOOTER_START = struct.Struct('<BQQQ')
_NEW_CHUNK = 1 << 20
"""Minimum size of the MCAP chunks into which messages outside chunks are packed [byte]."""


class _Index:
    """Collects the data of the summary section."""

    def __init__(self) -> None:
        self.counts: Counter[int] = Counter()
        self.span: tuple[int, int] | None = None
        self._chunks: list[bytes] = []
        self._attachments: list[bytes] = []
        self._metadata: list[bytes] = []

    def add_messages(self, run: Run) -> None:
        self.counts.update(run.counts)
        low, high = int(run.stamps.min()), int(run.stamps.max())
        first, last = self.span or (low, high)
        self.span = (min(first, low), max(last, high))

    def add_chunk(
        self, part: Part, place: tuple[int, int], compressed: int, compression: str, offsets: Mapping[int, int]
    ) -> None:
        """Add an MCAP chunk with its offset and length, and the offsets of its message indices by channel."""
        for run in part.runs:
            self.add_messages(run)
        size = sum(len(record) for record in message_index(part).values()) if offsets else 0
        self._chunks.append(
            struct.pack('<QQQQI', *_times(part.runs), *place, 10 * len(offsets))
            + b''.join(struct.pack('<HQ', number, offset) for number, offset in offsets.items())
            + struct.pack('<Q', size)
            + _string(compression)
            + struct.pack('<QQ', compressed, len(part.records))
        )

    def add_attachment(self, head: bytes, offset: int, length: int) -> None:
        _, begin = records.read_string(head, 16)
        _, end = records.read_string(head, begin)
        size = head[end : end + 8]
        self._attachments.append(struct.pack('<QQ', offset, length) + head[:16] + size + head[16:end])

    def add_metadata(self, body: bytes, offset: int) -> None:
        name, _ = records.read_string(body, 0)
        self._metadata.append(struct.pack('<QQ', offset, RECORD.size + len(body)) + _string(name))

    def end(self, position: int, channels: Mapping[int, Channel], schemas: Mapping[int, Schema]) -> bytes:
        """Return the bytes that follow a data section that ends at `position`."""
        data_end = _record(records.DATA_END, bytes(4))
        groups = {
            records.SCHEMA: [schema_body(number, item) for number, item in schemas.items()],
            records.CHANNEL: [channel_body(number, item) for number, item in channels.items()],
            records.STATISTICS: [self._statistics(len(channels), len(schemas))],
            records.CHUNK_INDEX: self._chunks,
            records.ATTACHMENT_INDEX: self._attachments,
            records.METADATA_INDEX: self._metadata,
        }
        start, summary, offsets = position + len(data_end), b'', b''
        for code, bodies in groups.items():
            group = b''.join(_record(code, body) for body in bodies)
            if group:
                place = struct.pack('<BQQ', code, start + len(summary), len(group))
                offsets += _record(records.SUMMARY_OFFSET, place)
            summary += group
        footer = _FOOTER_START.pack(records.FOOTER, 20, start, start + len(summary))
        checksum = zlib.crc32(summary + offsets + footer)
        return data_end + summary + offsets + footer + struct.pack('<I', checksum) + records.MAGIC

    def _statistics(self, channels: int, schemas: int) -> bytes:
        first, last = self.span or (0, 0)
        others = (schemas, channels, len(self._attachments), len(self._metadata), len(self._chunks))
        counts = b''.join(struct.pack('<HQ', *item) for item in self.counts.items())
        return struct.pack('<QHIIIIQQI', sum(self.counts.values()), *others, first, last, len(counts)) + counts


def message_index(part: Part) -> dict[int, bytes]:
    """Return the message index of a chunk: one record for each channel."""
    rows: dict[int, list[np.ndarray]] = {}
    for run in part.runs:
        for number in run.numbers:
            mine = run.channels == number
            places = np.stack([run.stamps[mine], run.offsets[mine] - 31], axis=1)
            rows.setdefault(number, []).append(places.astype('<u8'))
    found = {}
    for number, parts in rows.items():
        data = np.concatenate(parts).tobytes()
        found[number] = _record(records.MESSAGE_INDEX, struct.pack('<HI', number, len(data)) + data)
    return found


def scan(path: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Read a file completely and find its sound parts; arguments and errors as for `copy`."""
    return _passed_through(path, None, progress, unverified=unverified)[0]


def copy(path: Path, target: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Write a complete file of all sound parts of another, which is left unchanged.

    MCAP chunks, attachments, metadata and records of unknown kinds keep their bytes. Messages outside chunks are packed
    into chunks. The index is rebuilt.

    Parameters
    ----------
    path, target
        The file to read, and the file to write.
    progress
        Called repeatedly with the completed share, in [0, 1].
    unverified
        Whether to include readable messages of chunks with a wrong checksum.

    Raises
    ------
    BagError
        The file is not an MCAP.
    OSError
        The target cannot be written.

    """
    with target.open('xb') as file:
        found, _ = _passed_through(path, file, progress, unverified=unverified)
        file.flush()
        os.fsync(file.fileno())
    return found


def finish(path: Path, kept: Path | None = None) -> FileScan:
    """Complete a truncated file in place: remove the partial record at its end and write the index.

    If interrupted, it can be repeated.

    Parameters
    ----------
    path
        A file that `scan` reports as truncated, without other damage.
    kept
        File to which removed bytes are appended; None discards them.

    Raises
    ------
    OSError
        A file cannot be written.

    """
    found, index = _passed_through(path, None, None)
    end = found.torn_at
    if found.complete or end is None:
        return found
    with path.open('r+b') as file:
        file.seek(end)
        cut = file.read()
        if cut and kept is not None:
            with kept.open('ab') as aside:
                aside.write(cut)
                aside.flush()
                os.fsync(aside.fileno())
        file.truncate(end)
        file.seek(end)
        file.write(index)
        file.flush()
        os.fsync(file.fileno())
    return found


def _passed_through(
    path: Path, target: BinaryIO | None, progress: Progress | None, *, unverified: bool = False
) -> tuple[FileScan, bytes]:
    """Read a file part by part, and write the parts to `target`, if given; also return the missing end of the file."""
    found = FileScan(path)
    try:
        file = McapFile(path, ConversionReport(), damaged=True, unverified=unverified)
    except BagError as error:
        found.damages.append(DamagedPart(0, path.stat().st_size, f'no MCAP: {error.found}'))
        return found, b''
    try:
        return _followed(file, found, target, progress)
    finally:
        file.close()


def _followed(
    file: McapFile, found: FileScan, target: BinaryIO | None, progress: Progress | None
) -> tuple[FileScan, bytes]:
    if not file.is_complete:
        file.survey()
    writer = _Writer(file, target) if target is not None else None
    follower = _Follower(file)
    for part in file.parts():
        if writer is not None:
            writer.take(part)
        follower.take(part)
        if progress is not None:
            progress(part.end / file.size)
    if writer is not None:
        writer.close()
    last = follower.close()
    found.channels, found.schemas = file.channels, file.schemas
    found.counts, found.span, found.chunks = follower.index.counts, follower.index.span, follower.chunks
    found.damages, found.closed = file.damages, file.closed
    indexed = list(file.indexed) in ([], [begin for begin, _ in found.chunks])
    counted = file.counts is None or Counter(file.counts) == found.counts
    found.complete = file.closed and not file.damages and indexed and counted
    broken = [item for item in file.damages if item.offset < follower.end or item.offset + item.size < file.size]
    end = b''
    if not found.complete and not broken and follower.can_be_indexed:
        found.torn_at = follower.end
        end = last + follower.index.end(found.torn_at + len(last), found.channels, found.schemas)
    if not found.complete and not file.damages:
        why = 'a wrong index' if file.closed else 'a truncated or wrong end'
        found.damages.append(DamagedPart(follower.end, max(file.size - follower.end, 0), why))
    return found, end


class _Follower:
    """Follows the parts of a file in place, to build an end that completes it."""

    def __init__(self, file: McapFile) -> None:
        self._file = file
        self.index = _Index()
        self.chunks: list[tuple[int, int]] = []
        self.can_be_indexed = True
        """Whether a new end of the file can index all messages: all are in MCAP chunks, and all chunks except the last
        have an index."""
        self.end = len(records.MAGIC)
        """End of the data that can be kept [byte]."""
        self._chunk: Part | None = None
        self._offsets: dict[int, int] = {}
        self._missing: dict[int, int] = {}

    def take(self, part: Part) -> None:
        if part.code == records.MESSAGE_INDEX:
            self._take_index(part)
            return
        last = self._settle()
        self.can_be_indexed &= not last and part.code != records.MESSAGE and part.sound
        self.end = part.end
        if part.code == records.MESSAGE:
            for run in part.runs:
                self.index.add_messages(run)
        elif part.chunk is not None:
            self.chunks.append((part.offset, part.end))
            self._chunk, self._offsets, self._missing = part, {}, Counter()
            for run in part.runs:
                self._missing.update(run.channels.tolist())
        elif part.code == records.ATTACHMENT:
            self.index.add_attachment(_beginning(self._file, part), part.offset, part.end - part.offset)
        elif part.code == records.METADATA:
            self.index.add_metadata(b''.join(self._file.content(part.offset + 9, part.end)), part.offset)

    def close(self) -> bytes:
        """Return the message index of the last chunk if the file lacks a part of it."""
        return self._settle()

    def _take_index(self, part: Part) -> None:
        number, length = struct.unpack('<HI', b''.join(self._file.content(part.offset + 9, part.offset + 15)))
        if self._missing.get(number) == length // 16:
            self._offsets[number] = part.offset
            del self._missing[number]
        if not self._missing:
            self.end = part.end

    def _settle(self) -> bytes:
        """Add the newest chunk, whose index must now be complete; return the index if it is not."""
        part, index, offsets = self._chunk, b'', self._offsets
        if part is None:
            return b''
        if self._missing:
            offsets = {}
            for number, record in message_index(part).items():
                offsets[number] = part.end + len(index)
                index += record
            self.end = part.end
        head = part.chunk
        self.index.add_chunk(part, (part.offset, part.end - part.offset), head.length, head.compression, offsets)
        self._chunk, self._missing = None, {}
        return index


class _Writer:
    """Writes the parts of one file to another."""

    def __init__(self, file: McapFile, target: BinaryIO | None) -> None:
        self._file = file
        self._target = target
        self._index = _Index()
        self._position = 0
        self._loose: list[Part] = []
        self._loose_size = 0
        self._defined: set[tuple[int, int]] = set()
        self._begun = False

    def take(self, part: Part) -> None:
        if not self._begun:
            self._begin(part)
        if part.code == records.MESSAGE:
            self._loose.append(part)
            self._loose_size += part.end - part.offset
            if self._loose_size >= _NEW_CHUNK:
                self._write_loose()
            return
        self._write_loose()
        if part.code == records.CHUNK:
            self._write_chunk(part)
        elif part.code == records.ATTACHMENT:
            self._index.add_attachment(_beginning(self._file, part), self._position, part.end - part.offset)
            self._write_all(self._file.content(part.offset, part.end))
        elif part.code == records.METADATA:
            body = b''.join(self._file.content(part.offset + RECORD.size, part.end))
            self._index.add_metadata(body, self._position)
            self._write(_record(records.METADATA, body))
        elif part.code in (records.SCHEMA, records.CHANNEL):
            for code, body in part.definitions:
                self._write(_record(code, body))
                self._defined.add((code, struct.unpack_from('<H', body)[0]))
        elif part.code == records.HEADER or part.code > records.DATA_END:
            self._write_all(self._file.content(part.offset, part.end))

    def close(self) -> None:
        if not self._begun:
            self._begin(None)
        self._write_loose()
        self._write(self._index.end(self._position, self._file.channels, self._file.schemas))

    def _begin(self, part: Part | None) -> None:
        self._begun = True
        self._write(records.MAGIC)
        if part is None or part.code != records.HEADER:
            profile = 'ros2' if all(item.encoding == 'cdr' for item in self._file.channels.values()) else ''
            self._write(_record(records.HEADER, _string(profile) + _string('vdd_ros')))

    def _define(self, numbers: set[int], given: set[tuple[int, int]]) -> None:
        """Write the definitions that a chunk needs and that are missing in the copy because the original is damaged."""
        for number in sorted(numbers):
            channel = self._file.channels[number]
            inside = (records.CHANNEL, number) in given
            known = self._defined | (given if inside else set())
            if channel.schema and channel.schema not in self._file.schemas:
                self._file.schemas[channel.schema] = Schema('', '', b'')  # lost; readers require one
            schema = self._file.schemas.get(channel.schema)
            if schema is not None and (records.SCHEMA, channel.schema) not in known:
                self._write(_record(records.SCHEMA, schema_body(channel.schema, schema)))
                self._defined.add((records.SCHEMA, channel.schema))
            if not inside and (records.CHANNEL, number) not in known:
                self._write(_record(records.CHANNEL, channel_body(number, channel)))
                self._defined.add((records.CHANNEL, number))
        self._defined |= given

    def _write_chunk(self, part: Part) -> None:
        head = part.chunk
        numbers = {number for run in part.runs for number in run.numbers}
        given = {(code, struct.unpack_from('<H', body)[0]) for code, body in part.definitions}
        self._define(numbers, given)
        offset = self._position
        if part.sound and (head.start, head.end) == _times(part.runs):
            self._write_all(self._file.content(part.offset, part.end))
            compressed = head.length
        else:
            part = _rebuilt(part)
            content = _compressed(part.records, head.compression)
            compressed = len(content)
            words = struct.pack('<QQQI', *_times(part.runs), len(part.records), zlib.crc32(part.records))
            self._write(
                _record(records.CHUNK, words + _string(head.compression) + struct.pack('<Q', compressed) + content)
            )
        length, offsets = self._position - offset, {}
        for number, record in message_index(part).items():
            offsets[number] = self._position
            self._write(record)
        self._index.add_chunk(part, (offset, length), compressed, head.compression, offsets)

    def _write_loose(self) -> None:
        if not self._loose:
            return
        runs = tuple(run for part in self._loose for run in part.runs)
        self._loose, self._loose_size = [], 0
        if not runs:
            return
        head = records.ChunkHead(*_times(runs), 0, 0, '', 0, 0)
        self._write_chunk(Part(records.CHUNK, 0, 0, runs, head, b'', (), sound=False))

    def _write_all(self, pieces: Iterator[bytes]) -> None:
        for piece in pieces:
            self._write(piece)

    def _write(self, data: bytes) -> None:
        self._target.write(data)
        self._position += len(data)


def _rebuilt(part: Part) -> Part:
    """Return a chunk of the sound records of a damaged one: its definitions and its messages."""
    data = bytearray().join(_record(code, body) for code, body in part.definitions)
    runs = []
    for run in part.runs:
        begin = len(data)
        data += run.records
        offsets = begin + 31 + np.cumsum(run.sizes + 31) - (run.sizes + 31)
        runs.append(Run(b'', 0, begin, len(data), run.channels, offsets, run.sizes, run.stamps))
    return Part(part.code, part.offset, part.end, tuple(runs), part.chunk, bytes(data), part.definitions, part.sound)


def _times(runs: tuple[Run, ...]) -> tuple[int, int]:
    if not runs:
        return 0, 0
    return min(int(run.stamps.min()) for run in runs), max(int(run.stamps.max()) for run in runs)


def _compressed(data: bytes, compression: str) -> bytes:
    if compression == 'zstd':
        return zstandard.ZstdCompressor(write_content_size=True).compress(data)
    return lz4.frame.compress(data) if compression == 'lz4' else data


def _beginning(file: McapFile, part: Part) -> bytes:
    begin = part.offset + RECORD.size
    return b''.join(file.content(begin, min(part.end, begin + (1 << 16))))


def schema_body(number: int, schema: Schema) -> bytes:
    """Return the body of a schema record."""
    head = struct.pack('<H', number) + _string(schema.name) + _string(schema.encoding)
    return head + struct.pack('<I', len(schema.text)) + schema.text


def channel_body(number: int, channel: Channel) -> bytes:
    """Return the body of a channel record."""
    words = b''.join(_string(word) for pair in channel.metadata for word in pair)
    head = struct.pack('<HH', number, channel.schema) + _string(channel.topic) + _string(channel.encoding)
    return head + struct.pack('<I', len(words)) + words


def _record(code: int, body: bytes) -> bytes:
    return RECORD.pack(code, len(body)) + body


def _string(text: str) -> bytes:
    data = text.encode()
    return struct.pack('<I', len(data)) + data
