"""The records of an MCAP file: their content, and the search for the next record after damage."""

from __future__ import annotations

import functools
import struct
import threading
import zlib
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import lz4.frame
import numpy as np
import zstandard

MAGIC = b'\x89MCAP0\r\n'
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)
RECORD = struct.Struct('<BQ')
"""Header of each record: opcode, length."""
MESSAGE_HEAD = struct.Struct('<BQHIQQ')
"""Header of a message: opcode, length, channel, sequence, log time, publish time."""
MAX_STAMP = 1 << 63
FOOTER_SIZE = 29 + len(MAGIC)
MALFORMED = (struct.error, UnicodeDecodeError, IndexError, OverflowError)
"""Exceptions raised on malformed records, besides `Damage`."""

MAX_CHUNK = 1 << 31
_MAX_DEFINITION = 1 << 24
_WINDOW = 1 << 20
_NAMES = 1 << 16
_CHAIN = 4
"""Number of consecutive valid records required to continue after damage."""
_FIRST_PRIVATE = 0x80
COMPRESSIONS = ('zstd', 'lz4', '')


class Damage(ValueError):
    """Bytes are damaged; the message states how."""


@dataclass(frozen=True)
class Schema:
    """The definition of a message type as stored in the file."""

    name: str
    encoding: str
    text: bytes


@dataclass(frozen=True)
class Channel:
    """A channel of an MCAP file: a topic, and the number of the schema of its messages."""

    topic: str
    schema: int
    """Number of the schema; 0 without a schema."""
    encoding: str
    metadata: tuple[tuple[str, str], ...] = ()
    """Data added by the writer, such as the offered quality of service."""


@dataclass(frozen=True)
class ChunkHead:
    """The header of a chunk."""

    start: int
    end: int
    size: int
    """Size of the records in the chunk [byte]."""
    checksum: int
    """CRC32 of the records; 0 without a checksum."""
    compression: str
    begin: int
    """Offset of the content in the body [byte]."""
    length: int
    """Compressed size of the content [byte]."""


@dataclass(frozen=True)
class Run:
    """Consecutive messages in a buffer."""

    buffer: bytes
    base: int
    """Offset of the buffer in the file, or in the records of a chunk [byte]."""
    begin: int
    """Offset of the first record in the buffer."""
    end: int
    """End of the last record in the buffer."""
    channels: np.ndarray
    """Channel of each message, shape (message,)."""
    offsets: np.ndarray
    """Shape (message,), int64: offset of each payload in the buffer."""
    sizes: np.ndarray
    """Shape (message,), int64: size of each payload [byte]."""
    stamps: np.ndarray
    """Shape (message,), int64: log times [ns]."""

    @functools.cached_property
    def counts(self) -> dict[int, int]:
        """Number of messages by channel."""
        counts = np.bincount(self.channels)
        numbers = np.flatnonzero(counts)
        return dict(zip(numbers.tolist(), counts[numbers].tolist()))

    @property
    def numbers(self) -> list[int]:
        """The channels of the messages, ascending."""
        return [*self.counts]

    def only(self, mine: np.ndarray) -> Run:
        """Return the messages selected by a mask of shape (message,)."""
        arrays = (item[mine] for item in (self.channels, self.offsets, self.sizes, self.stamps))
        return Run(self.buffer, self.base, self.begin, self.end, *arrays)

    @property
    def records(self) -> bytes:
        """The records of the messages as bytes."""
        if int((self.sizes + 31).sum()) == self.end - self.begin:
            return self.buffer[self.begin : self.end]
        ends = self.offsets + self.sizes
        return b''.join(self.buffer[begin - 31 : end] for begin, end in zip(self.offsets.tolist(), ends.tolist()))


def read_run(buffer: bytes, begin: int, base: int = 0) -> Run:
    """Read consecutive message records, up to the first other record.

    Raises
    ------
    Damage
        There is no message, or one of them is invalid.

    """
    channels, offsets, sizes, stamps = [], [], [], []
    unpack, end, place = MESSAGE_HEAD.unpack_from, len(buffer), begin
    while place + 31 <= end:
        code, length, channel, _, stamp, _ = unpack(buffer, place)
        following = place + 9 + length
        if code != MESSAGE or following > end or length < 22 or stamp >= MAX_STAMP:
            break
        channels.append(channel)
        offsets.append(place + 31)
        sizes.append(length - 22)
        stamps.append(stamp)
        place = following
    if not channels:
        raise Damage('a truncated or invalid message')
    arrays = (np.array(item, dtype=np.int64) for item in (channels, offsets, sizes, stamps))
    return Run(buffer, base, begin, place, *arrays)


def shortened(run: Run) -> Run | None:
    """Return a run without its last message."""
    if len(run.channels) < 2:
        return None
    arrays = (item[:-1] for item in (run.channels, run.offsets, run.sizes, run.stamps))
    return Run(run.buffer, run.base, run.begin, int(run.offsets[-1]) - 31, *arrays)


@dataclass
class Area:
    """Consecutive records: the data section of a file, or the content of a chunk."""

    read: Callable[[int, int], bytes]
    """Returns `size` bytes at an offset, or fewer at the end."""
    end: int
    channels: Collection[int]
    """The known channels."""
    inner: bool = False
    """Whether the area is the content of a chunk."""
    chunks: Sequence[int] = ()
    """Offsets of chunks according to the index, ascending."""

    def plausible(self, position: int, *, torn: bool = False) -> bool:
        """Return whether a record may begin at an offset, judged by its first bytes.

        With ``torn``, a record that reaches past the end is accepted too.
        """
        return self._after(position, torn=torn) is not None

    def definition_end(self, code: int, position: int, length: int) -> tuple[int, bool]:
        """Return where a schema or channel of a given length ends, and whether its inner lengths agree.

        Raises
        ------
        Damage
            The inner lengths do not agree, and no record follows at the end that they give.

        """
        body = self.read(position + 9, min(max(length, _NAMES), _MAX_DEFINITION))
        end = position + 9 + definition_length(code, body)
        if end == position + 9 + length and end <= self.end:
            return end, True
        if end < self.end and self._chained(end):
            return end, False
        raise Damage('a definition of wrong length')

    def next(self, position: int) -> int | None:
        """Return the first offset from `position` on at which several valid records follow each other, or None."""
        codes = np.zeros(256, dtype=bool)
        codes[[SCHEMA, CHANNEL, MESSAGE]] = True
        codes[[CHUNK, MESSAGE_INDEX, ATTACHMENT, METADATA, DATA_END]] = not self.inner
        while position < self.end:
            window = np.frombuffer(self.read(position, min(_WINDOW, self.end - position)), dtype=np.uint8)
            if len(window) < 9:
                return None
            found = codes[window[:-8]] & (window[5:-3] == 0) & (window[6:-2] == 0) & (window[7:-1] == 0)
            candidates = np.flatnonzero(found & (window[8:] == 0)).tolist()
            first, last = (bisect_left(self.chunks, place) for place in (position, position + len(window) - 8))
            indexed = {chunk - position for chunk in self.chunks[first:last]}
            for candidate in sorted({*candidates, *indexed}):
                if candidate in indexed or self._chained(position + candidate):
                    return position + candidate
            position += max(len(window) - 8, 1)
        return None

    def _chained(self, position: int) -> bool:
        for number in range(_CHAIN):
            if position == self.end and number:
                return True
            following = self._after(position, torn=number > 0)
            if following is None:
                return False
            if following >= self.end:
                return True
            position = following
        return True

    def _after(self, position: int, *, torn: bool) -> int | None:
        """Return the end of the record at an offset; None if there is none."""
        if position == self.end:
            return position
        if position + 9 > self.end:
            return self.end if torn else None
        code, length = RECORD.unpack(self.read(position, 9))
        end = position + 9 + length
        if end > self.end:
            return self.end if torn and code in (MESSAGE, CHUNK) and length <= MAX_CHUNK else None
        try:
            return end if self._consistent(code, position, length) else None
        except (Damage, *MALFORMED):
            return None

    def _consistent(self, code: int, position: int, length: int) -> bool:
        body = position + 9
        if code == MESSAGE:
            if length < 22:
                return False
            _, _, channel, _, stamp, _ = MESSAGE_HEAD.unpack(self.read(position, 31))
            return channel in self.channels and stamp < MAX_STAMP
        if code in (SCHEMA, CHANNEL):
            return length <= _MAX_DEFINITION and definition_length(code, self.read(body, length)) == length
        if self.inner:
            return False
        if code == CHUNK:
            head = read_chunk_head(self.read(body, min(length, 64)))
            return head.begin + head.length == length and head.compression in COMPRESSIONS
        if code == MESSAGE_INDEX:
            return length >= 6 and struct.unpack_from('<I', self.read(body, 6), 2)[0] == length - 6
        if code == ATTACHMENT:
            return attachment_length(self.read(body, min(length, _NAMES))) == length
        if code == METADATA:
            return length <= _MAX_DEFINITION and metadata_length(self.read(body, length)) == length
        if code == DATA_END:
            return length == 4 and self._is_summary(body + 4)
        return code in (HEADER, CHUNK_INDEX, STATISTICS) or code >= _FIRST_PRIVATE or code > SUMMARY_OFFSET

    def _is_summary(self, position: int) -> bool:
        head = self.read(position, 9)
        allowed = (FOOTER, SCHEMA, CHANNEL, CHUNK_INDEX, ATTACHMENT_INDEX, STATISTICS, METADATA_INDEX, SUMMARY_OFFSET)
        return not head or (len(head) == 9 and head[0] in allowed)


def records_of(data: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Yield opcode, offset and body of the records that fill a buffer.

    Raises
    ------
    Damage
        The records do not fill the buffer.

    """
    begin = 0
    while begin < len(data):
        if begin + 9 > len(data):
            raise Damage('it ends within a record')
        code, length = RECORD.unpack_from(data, begin)
        if begin + 9 + length > len(data):
            raise Damage('it ends within a record')
        yield code, begin, data[begin + 9 : begin + 9 + length]
        begin += 9 + length


def read_chunk_head(body: bytes) -> ChunkHead:
    """Read the header of a chunk; raises `Damage` or one of `MALFORMED`."""
    start, end, size, checksum = struct.unpack_from('<QQQI', body)
    compression, begin = read_string(body, 28)
    (length,) = struct.unpack_from('<Q', body, begin)
    return ChunkHead(start, end, size, checksum, compression, begin + 8, length)


def opened(content: bytes, compression: str, size: int, checksum: int) -> bytes:
    """Return the records of a chunk, decompressed and verified.

    Raises
    ------
    Damage
        The bytes cannot be decompressed, or size or checksum differ.

    """
    if size > MAX_CHUNK:
        raise Damage(f'a chunk of {size} bytes')
    records = decompressed(content, compression, size)
    if len(records) != size:
        raise Damage(f'a chunk of {len(records)} bytes with a stated size of {size}')
    if checksum and zlib.crc32(records) != checksum:
        raise Damage('a chunk with a wrong checksum')
    return records


def readings(body: bytes, outer: int, index: tuple[str, int, int, int] | None) -> Iterator[tuple[str, int, int, int]]:
    """Yield possible readings of a chunk with a damaged length or field: compression, size, begin and length.

    Parameters
    ----------
    body
        The body of the record and the bytes after it.
    outer
        The length stated by the record.
    index
        Compression, size, compressed size and record length according to the index of the file.

    """
    _, _, size, _, stated = struct.unpack_from('<QQQII', body)
    word = body[32 : 32 + min(stated, 8)].decode(errors='replace')
    for compression in dict.fromkeys([*([index[0]] if index else []), word, *COMPRESSIONS]):
        begin = 32 + len(compression) + 8
        if compression not in COMPRESSIONS or begin > len(body):
            continue
        lengths = [struct.unpack_from('<Q', body, begin - 8)[0], outer - begin]
        lengths += [index[2], index[3] - begin] if index else []
        for length in dict.fromkeys(lengths):
            if not 0 < length <= len(body) - begin:
                continue
            sizes = [size, *([index[1]] if index else []), *([length] if not compression else [])]
            if compression == 'zstd':
                sizes.append(_frame_size(body[begin : begin + length]))
            for one in dict.fromkeys(sizes):
                if 0 < one <= MAX_CHUNK:
                    yield compression, one, begin, length


def _frame_size(content: bytes) -> int:
    try:
        return max(zstandard.get_frame_parameters(content).content_size, 0)
    except zstandard.ZstdError:
        return 0


def decompressed(data: bytes, compression: str, size: int) -> bytes:
    """Decompress `zstd`, `lz4` or uncompressed data, to at most ``size`` bytes.

    Raises
    ------
    Damage
        The bytes cannot be decompressed, or the compression is unknown.

    """
    try:
        if compression == 'zstd':
            stated = zstandard.get_frame_parameters(data).content_size
            if stated not in (zstandard.CONTENTSIZE_UNKNOWN, size) and stated > size:
                raise Damage(f'{stated} bytes where {size} are stated')
            return _zstd().decompress(data, max_output_size=max(size, 1))
        if compression == 'lz4':
            return lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    except (zstandard.ZstdError, RuntimeError, MemoryError) as error:
        raise Damage(f'the data cannot be decompressed ({error})') from error
    if compression:
        raise Damage(f'unknown compression {compression!r}')
    return data


def beginning(data: bytes, compression: str) -> bytes:
    """Return the readable beginning of damaged compressed data."""
    if not compression:
        return data
    found = b''
    try:
        opener = zstandard.ZstdDecompressor().decompressobj() if compression == 'zstd' else None
        opener = opener or lz4.frame.LZ4FrameDecompressor()
        for begin in range(0, len(data), 256):
            found += opener.decompress(data[begin : begin + 256])
            if len(found) > _MAX_DEFINITION:
                break
    except (zstandard.ZstdError, RuntimeError, MemoryError, EOFError):
        pass
    return found


_local = threading.local()


def _zstd() -> zstandard.ZstdDecompressor:
    """Return the decompressor of this thread. Creating one costs more than decompressing a message."""
    if not hasattr(_local, 'zstd'):
        _local.zstd = zstandard.ZstdDecompressor()
    return _local.zstd


def read_schema(data: bytes) -> Schema:
    """Read a schema record."""
    name, begin = read_string(data, 2)
    encoding, begin = read_string(data, begin)
    (length,) = struct.unpack_from('<I', data, begin)
    if begin + 4 + length > len(data):
        raise Damage('a definition that is longer than its record')
    return Schema(name, encoding, data[begin + 4 : begin + 4 + length])


def read_channel(data: bytes) -> Channel:
    """Read a channel record."""
    topic, begin = read_string(data, 4)
    encoding, begin = read_string(data, begin)
    metadata, _ = _read_map(data, begin)
    return Channel(topic, struct.unpack_from('<H', data, 2)[0], encoding, metadata)


def definition_length(code: int, data: bytes) -> int:
    """Return the length of a schema or channel record according to its inner lengths."""
    if code == SCHEMA:
        _, begin = read_string(data, 2)
        _, begin = read_string(data, begin)
        return begin + 4 + struct.unpack_from('<I', data, begin)[0]
    _, begin = read_string(data, 4)
    _, begin = read_string(data, begin)
    return _read_map(data, begin)[1]


def read_attachment(data: bytes) -> tuple[int, int, str, str, bytes]:
    """Return creation time and log time [ns], name, media type and content of an attachment."""
    logged, created = struct.unpack_from('<QQ', data)
    name, begin = read_string(data, 16)
    media, begin = read_string(data, begin)
    (length,) = struct.unpack_from('<Q', data, begin)
    return created, logged, name, media, data[begin + 8 : begin + 8 + length]


def read_metadata(data: bytes) -> tuple[str, dict[str, str]]:
    """Return name and entries of a metadata record."""
    name, begin = read_string(data, 0)
    return name, dict(_read_map(data, begin)[0])


def metadata_length(data: bytes) -> int:
    """Return the length of a metadata record according to its inner lengths."""
    return _read_map(data, read_string(data, 0)[1])[1]


def attachment_length(data: bytes) -> int:
    """Return the length of an attachment according to its first fields."""
    _, begin = read_string(data, 16)
    _, begin = read_string(data, begin)
    return begin + 8 + struct.unpack_from('<Q', data, begin)[0] + 4


def _read_map(data: bytes, begin: int) -> tuple[tuple[tuple[str, str], ...], int]:
    (length,) = struct.unpack_from('<I', data, begin)
    begin, end = begin + 4, begin + 4 + length
    if end > len(data):
        raise Damage('entries that are longer than their record')
    found = []
    while begin < end:
        key, begin = read_string(data, begin)
        value, begin = read_string(data, begin)
        found.append((key, value))
    if begin != end:
        raise Damage('entries that are longer than their record')
    return tuple(found), end


def read_string(data: bytes, begin: int) -> tuple[str, int]:
    """Read a string; also return its end.

    Raises
    ------
    Damage
        The string reaches beyond the end.

    """
    (length,) = struct.unpack_from('<I', data, begin)
    if begin + 4 + length > len(data):
        raise Damage('a string that is longer than its record')
    return data[begin + 4 : begin + 4 + length].decode(), begin + 4 + length
