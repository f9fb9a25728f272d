"""What the records of an MCAP file hold."""

from __future__ import annotations

import struct
import threading
from dataclasses import dataclass

import lz4.frame
import zstandard


@dataclass(frozen=True)
class Schema:
    """The definition of a message type, as the file has it."""

    name: str
    encoding: str
    text: bytes


@dataclass(frozen=True)
class Channel:
    """A topic with its type."""

    topic: str
    schema: int
    encoding: str


class Damage(ValueError):
    """Bytes that are not what they should be."""


def decompressed(data: bytes, compression: str, size: int) -> bytes:
    """Undo a compression: `zstd`, `lz4` or none; never more than ``size`` bytes.

    Raises
    ------
    Damage
        The bytes are not compressed like that, or the compression is not known.

    """
    try:
        if compression == 'zstd':
            told = zstandard.get_frame_parameters(data).content_size
            if told not in (zstandard.CONTENTSIZE_UNKNOWN, size) and told > size:
                raise Damage(f'{told} bytes where {size} are told')
            return _zstd().decompress(data, max_output_size=max(size, 1))
        if compression == 'lz4':
            return lz4.frame.LZ4FrameDecompressor().decompress(data, max_length=size + 1)
    except (zstandard.ZstdError, RuntimeError, MemoryError) as error:
        raise Damage(f'what is compressed cannot be opened ({error})') from error
    if compression:
        raise Damage(f'the compression {compression!r} is not known')
    return data


_local = threading.local()


def _zstd() -> zstandard.ZstdDecompressor:
    """Return a decompressor of this thread: making one costs more than a message."""
    if not hasattr(_local, 'zstd'):
        _local.zstd = zstandard.ZstdDecompressor()
    return _local.zstd


def read_schema(data: bytes) -> Schema:
    """Read a schema record."""
    name, begin = read_string(data, 2)
    encoding, begin = read_string(data, begin)
    (length,) = struct.unpack_from('<I', data, begin)
    return Schema(name, encoding, data[begin + 4 : begin + 4 + length])


def read_channel(data: bytes) -> Channel:
    """Read a channel record."""
    topic, begin = read_string(data, 4)
    return Channel(topic, struct.unpack_from('<H', data, 2)[0], read_string(data, begin)[0])


def read_string(data: bytes, begin: int) -> tuple[str, int]:
    """Read a string; also return where it ends.

    Raises
    ------
    Damage
        It reaches beyond the end.

    """
    (length,) = struct.unpack_from('<I', data, begin)
    if begin + 4 + length > len(data):
        raise Damage('a string that is longer than what holds it')
    return data[begin + 4 : begin + 4 + length].decode(), begin + 4 + length
