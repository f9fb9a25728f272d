"""MCAP files as they lie on disk, whole or torn: the sound records of one, and what cannot be read."""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, Header, Schema
from mcap.stream_reader import get_chunk_data_stream

MAGIC = b'\x89MCAP0\r\n'
_HEAD = struct.Struct('<BQ')
_MESSAGE = struct.Struct('<HIQQ')
# What decoders of a library and of compressions raise on bytes that are not theirs.
_MALFORMED = (
    *(McapError, zstandard.ZstdError, struct.error),
    *(ValueError, OverflowError, RuntimeError, EOFError, MemoryError),
)
_LARGEST_CHUNK = 1 << 32
_FOOTER_SIZE = _HEAD.size + 20 + len(MAGIC)


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
    unindexed: int = 0
    """Sound chunks but the last whose messages have no whole index."""
    last_index: dict[int, list[tuple[int, int]]] = field(default_factory=dict)
    """Of the newest chunk: stamp and place of its messages by channel."""

    @property
    def count(self) -> int:
        """Sound messages."""
        return sum(self.counts.values())

    @property
    def can_be_finished(self) -> bool:
        """Whether an index at its end would make a whole file of it: all messages are in indexed chunks."""
        return not self.loose and not self.unindexed


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
                found.complete = _is_index(file, offset, size, found.chunks)
                reason = 'an index that breaks off, or is wrong'
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


def _is_index(file: BinaryIO, offset: int, size: int, chunks: list[ChunkIndex]) -> bool:
    """Tell whether what follows the data section leads to its chunks, as readers will believe it to."""
    end = size - _FOOTER_SIZE
    if end < offset:
        return False
    file.seek(offset)
    tail = file.read()
    footer = tail[end - offset :]
    if not footer.endswith(MAGIC) or _HEAD.unpack_from(footer) != (Opcode.FOOTER, 20):
        return False
    start, _, checksum = struct.unpack_from('<QQI', footer, _HEAD.size)
    if not start:
        return True  # there is no index, and readers know
    if not offset <= start <= end:
        return False
    summary = tail[start - offset : end - offset]
    if checksum and zlib.crc32(summary + footer[: _HEAD.size + 16]) != checksum:
        return False
    try:
        records = [(opcode, body) for opcode, _, body in _inner(summary)]
        indexed = [ChunkIndex.read(ReadDataStream(BytesIO(body))) for op, body in records if op == Opcode.CHUNK_INDEX]
    except _MALFORMED:
        return False
    return sorted(map(_place, indexed)) == sorted(map(_place, chunks))


def _place(index: ChunkIndex) -> tuple[int, str, int, int]:
    return index.chunk_start_offset, index.compression, index.compressed_size, index.uncompressed_size


def _take_chunk(found: McapScan, offset: int, body: bytes, take: Callable[[RawMessage], None] | None) -> None:
    if found.chunks and set(found.chunks[-1].message_index_offsets) != set(found.last_index):
        found.unindexed += bool(found.last_index)
    found.last_index = {}
    chunk = Chunk.read(ReadDataStream(BytesIO(body)))
    if chunk.uncompressed_size > _LARGEST_CHUNK:
        raise ValueError(f'a chunk of {chunk.uncompressed_size} bytes')
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    data = stream.read(length)
    if length != chunk.uncompressed_size:
        raise ValueError(f'a chunk of {length} bytes that says it has {chunk.uncompressed_size}')
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
            # Its own words are under no checksum.
            message_start_time=min((message.stamp for message in messages), default=0),
            message_end_time=max((message.stamp for message in messages), default=0),
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
    elif opcode == Opcode.HEADER and (profile := Header.read(stream).profile) not in ('ros2', ''):
        raise ValueError(f'profile {profile!r}, which is not that of ROS 2')


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
