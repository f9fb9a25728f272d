"""MCAP files as they lie on disk, whole or torn: the sound records of one, and a new index for one without."""

from __future__ import annotations

import os
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard
from mcap.data_stream import ReadDataStream, RecordBuilder
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, DataEnd, Footer, MessageIndex, Schema, Statistics
from mcap.stream_reader import get_chunk_data_stream

MAGIC = b'\x89MCAP0\r\n'
_HEAD = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
_FOOTER_START = struct.Struct('<BQQQ')
# What decoders of a library and of compressions raise on bytes that are not theirs.
_MALFORMED = (McapError, zstandard.ZstdError, struct.error, ValueError, RuntimeError, EOFError, MemoryError)
_LARGEST_CHUNK = 1 << 32


class RawMessage(NamedTuple):
    """A message as it lies in a file."""

    channel: int
    stamp: int
    """When it was logged [ns]."""
    data: bytes


@dataclass
class Damage:
    """A part of a file that cannot be read."""

    offset: int
    """Where it begins [byte]."""
    size: int
    """How much it is [byte]."""
    reason: str
    messages: int = 0
    """How many messages are known to be lost with it."""


@dataclass
class McapScan:
    """What a file holds, found by reading all of it."""

    path: Path
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunks: list[ChunkIndex] = field(default_factory=list)
    """Sound chunks, in the order of the file."""
    counts: Counter[int] = field(default_factory=Counter)
    """Sound messages by channel."""
    span: tuple[int, int] | None = None
    """Least and greatest stamp [ns]."""
    damages: list[Damage] = field(default_factory=list)
    end: int = 0
    """Where the sound records end [byte]."""
    complete: bool = False
    """Whether the file was closed as it should be."""
    loose: int = 0
    """Sound messages outside of chunks: no index can lead to them."""
    last_index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Of the newest chunk: stamp and place of its messages by channel."""

    @property
    def count(self) -> int:
        """Sound messages."""
        return sum(self.counts.values())

    @property
    def can_be_finished(self) -> bool:
        """Whether an index at its end would make a whole file of it: all messages are in indexed chunks."""
        return not self.loose and all(chunk.message_index_offsets for chunk in self.chunks[:-1])


def scan(
    path: Path,
    *,
    take: Callable[[RawMessage], None] | None = None,
    progress: Callable[[float], None] | None = None,
) -> McapScan:
    """Read a file from its beginning, as far as records can be told apart.

    A chunk whose checksum, compression or content is wrong is left out, and told of.

    Parameters
    ----------
    path
        The file.
    take
        Told every sound message, in the order of the file.
    progress
        Told the share of the bytes read, in [0, 1].

    """
    found = McapScan(path)
    size = path.stat().st_size
    with path.open('rb') as file:
        for opcode, offset, body in _records(file, size, found):
            try:
                if opcode == Opcode.CHUNK:
                    _take_chunk(found, offset, body, take)
                elif opcode == Opcode.MESSAGE_INDEX:
                    _take_index(found, offset, body)
                elif opcode == Opcode.MESSAGE:
                    _tally(found, _message(found, body), take)
                    found.loose += 1
                else:
                    _define(found, opcode, body)
            except _MALFORMED as error:
                reason = ' '.join(str(error).split())[:120] or type(error).__name__
                found.damages.append(Damage(offset, _HEAD.size + len(body), reason))
            found.end = offset + _HEAD.size + len(body)
            if progress is not None:
                progress(found.end / size)
    return found


def finish(found: McapScan) -> None:
    """Make a torn file whole, in place: cut what is torn off its end, and write the index that leads to the rest.

    Interrupted, it can be done again.

    Raises
    ------
    OSError
        The file cannot be written.

    """
    builder = RecordBuilder()
    end = found.end
    if found.chunks and found.last_index:
        chunk = found.chunks[-1]
        if set(chunk.message_index_offsets) != set(found.last_index):
            end = chunk.chunk_start_offset + chunk.chunk_length
            chunk.message_index_offsets = {}
            for channel, places in found.last_index.items():
                chunk.message_index_offsets[channel] = end + builder.count
                MessageIndex(channel, places).write(builder)
            chunk.message_index_length = builder.count
    DataEnd(0).write(builder)
    start = end + builder.count
    data = builder.end()
    for record in (*found.schemas.values(), *found.channels.values(), _statistics(found), *found.chunks):
        record.write(builder)
    summary = builder.end()
    checksum = zlib.crc32(_FOOTER_START.pack(Opcode.FOOTER, 20, start, 0), zlib.crc32(summary))
    Footer(start, 0, checksum).write(builder)
    with found.path.open('r+b') as file:
        file.truncate(end)
        file.seek(end)
        file.write(data + summary + builder.end() + MAGIC)
        file.flush()
        os.fsync(file.fileno())


def _records(file: BinaryIO, size: int, found: McapScan) -> Iterator[tuple[int, int, bytes]]:
    """Yield opcode, offset and body of the records of the data section; what ends it early is told of."""
    reason = 'not an MCAP file'
    if file.read(len(MAGIC)) == MAGIC:
        found.end = len(MAGIC)
        while True:
            offset = found.end
            file.seek(offset)
            head = file.read(_HEAD.size)
            if len(head) < _HEAD.size:
                reason = 'a record that breaks off'
                break
            opcode, length = _HEAD.unpack(head)
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                file.seek(max(size - len(MAGIC), 0))
                found.complete = file.read() == MAGIC
                reason = 'an index that breaks off'
                break
            if not Opcode.HEADER <= opcode <= Opcode.DATA_END:
                reason = f'bytes that are no record (opcode {opcode})'
                break
            if offset + _HEAD.size + length > size:
                reason = 'a record that breaks off'
                break
            yield opcode, offset, file.read(length)
    if not found.complete and found.end < size:
        found.damages.append(Damage(found.end, size - found.end, reason))


def _take_chunk(found: McapScan, offset: int, body: bytes, take: Callable[[RawMessage], None] | None) -> None:
    found.last_index = {}
    chunk = Chunk.read(ReadDataStream(BytesIO(body)))
    if chunk.uncompressed_size > _LARGEST_CHUNK:
        raise ValueError(f'a chunk of {chunk.uncompressed_size} bytes')
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    data = stream.read(length)
    index: dict[int, list[tuple[int, int]]] = {}
    messages = []
    for opcode, place, record in _inner(data):
        if opcode == Opcode.MESSAGE:
            message = _message(found, record)
            index.setdefault(message.channel, []).append((message.stamp, place))
            messages.append(message)
        else:
            _define(found, opcode, record)
    # Not before all of the chunk has proved to be sound.
    for message in messages:
        _tally(found, message, take)
    found.last_index = index
    found.chunks.append(
        ChunkIndex(
            chunk_start_offset=offset,
            chunk_length=_HEAD.size + len(body),
            message_start_time=chunk.message_start_time,
            message_end_time=chunk.message_end_time,
            message_index_offsets={},
            message_index_length=0,
            compression=chunk.compression,
            compressed_size=len(chunk.data),
            uncompressed_size=chunk.uncompressed_size,
        )
    )


def _inner(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    place = 0
    while place < len(data):
        opcode, length = _HEAD.unpack_from(data, place)
        begin = place + _HEAD.size
        if begin + length > len(data):
            raise ValueError('a message that reaches past its chunk')
        yield opcode, place, data[begin : begin + length]
        place = begin + length


def _take_index(found: McapScan, offset: int, body: bytes) -> None:
    channel, length = struct.unpack_from('<HI', body)
    if found.last_index.get(channel) and len(found.last_index[channel]) == length // 16:
        chunk = found.chunks[-1]
        chunk.message_index_offsets[channel] = offset
        chunk.message_index_length += _HEAD.size + len(body)
    elif not found.last_index and found.damages:
        found.damages[-1].messages += length // 16  # the index of a damaged chunk says how much is lost with it


def _define(found: McapScan, opcode: int, body: bytes) -> None:
    stream = ReadDataStream(BytesIO(body))
    if opcode == Opcode.SCHEMA:
        schema = Schema.read(stream)
        found.schemas[schema.id] = schema
    elif opcode == Opcode.CHANNEL:
        channel = Channel.read(stream)
        found.channels[channel.id] = channel


def _message(found: McapScan, body: bytes) -> RawMessage:
    channel, _, stamp, _ = _MESSAGE.unpack_from(body)
    if channel not in found.channels:
        raise ValueError(f'a message of the unknown channel {channel}')
    return RawMessage(channel, stamp, body[_MESSAGE.size :])


def _tally(found: McapScan, message: RawMessage, take: Callable[[RawMessage], None] | None) -> None:
    found.counts[message.channel] += 1
    first, last = found.span or (message.stamp, message.stamp)
    found.span = (min(first, message.stamp), max(last, message.stamp))
    if take is not None:
        take(message)


def _statistics(found: McapScan) -> Statistics:
    first, last = found.span or (0, 0)
    return Statistics(
        attachment_count=0,
        channel_count=len(found.channels),
        channel_message_counts=dict(found.counts),
        chunk_count=len(found.chunks),
        message_count=found.count,
        message_end_time=last,
        message_start_time=first,
        metadata_count=0,
        schema_count=len(found.schemas),
    )
