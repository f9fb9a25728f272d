"""Read the pages of a sqlite3 database without sqlite: rows of every undamaged leaf.

A database is a tree of pages (https://www.sqlite.org/fileformat2.html). The leaves contain the rows and describe them
completely. They can be read even if the tree above them is damaged.
"""

from __future__ import annotations

import os
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from vdd_ros.data.bag.file_scan import DamagedPart

Progress = Callable[[float], None]

_HEADER = b'SQLite format 3\0'
_LEAF = 0x0D
_INTERIOR = 0x05
_SIZES = (0, 1, 2, 3, 4, 6, 8, 8, 0, 0)
"""Size of a value by its serial type [byte]."""
_MOST_STAMP = 1 << 63


@dataclass
class Rows:
    """The rows of topics, message definitions and messages, found in the pages of a database."""

    topics: dict[int, tuple[str, str, str, str, str]] = field(default_factory=dict)
    """Name, type, serialisation, quality of service and type hash of each topic, by topic number."""
    definitions: dict[str, tuple[str, str, str]] = field(default_factory=dict)
    """Encoding, text and hash of each definition, by message type."""
    messages: dict[int, tuple[int, int]] = field(default_factory=dict)
    """Page, and index of the cell in the page, by message number."""
    damages: list[DamagedPart] = field(default_factory=list)


class Pages:
    """Reads the rows in the pages of a sqlite3 file directly, which works for damaged files."""

    def __init__(self, file: BinaryIO, damages: list[DamagedPart]) -> None:
        self._file, self._damages = file, damages
        self._length = os.fstat(file.fileno()).st_size
        head = os.pread(file.fileno(), 100, 0)
        self._size = _page_size(head, file, self._length)
        self.torn = bool(self._length % self._size)
        """Whether the last page is truncated: sqlite would read zeros for the missing bytes."""
        self._usable = self._size - (head[20] if head[:16] == _HEADER and head[20] < 64 else 0)
        self.unknown: Counter[int] = Counter()
        """Number of messages by topic, for topics without a row."""
        stated = struct.unpack_from('>I', head, 28)[0] if head[:16] == _HEADER else 0
        if head[:16] != _HEADER:
            damages.append(DamagedPart(0, 100, 'the first bytes are not those of a sqlite3 database'))
        elif stated * self._size > self._length:
            missing = stated * self._size - self._length
            damages.append(DamagedPart(self._length, 0, f'the file ends {missing} bytes too early'))

    def rows(self, progress: Progress | None) -> Rows:
        """Find all rows of topics, definitions and messages."""
        found = Rows()
        count = -(-self._length // self._size)
        for number in range(1, count + 1):
            for place, row in enumerate(self._leaf(number)):
                if isinstance(row, str):
                    self._damages.append(DamagedPart((number - 1) * self._size, 0, row, 1))
                    continue
                self._take(found, row, number, place)
            if progress is not None and number % 256 == 0:
                progress(number / count)
        return found

    def messages(self, rows: Rows) -> Iterator[tuple[int, tuple[int, int, bytes]]]:
        """Yield number, topic, stamp and bytes of all messages, sorted by number."""
        newest, page = [], 0
        for number, (where, place) in sorted(rows.messages.items()):
            if where != page:
                newest, page = list(self._leaf(where)), where
            _, values = newest[place]
            topic, stamp, data = values[1:4]
            if topic not in rows.topics:
                self.unknown[topic] += 1
            yield number, (topic, stamp, data)

    @staticmethod
    def _take(found: Rows, row: tuple[int, list[Any]], page: int, place: int) -> None:
        number, values = row
        kinds = [type(value) for value in values]
        if kinds == [type(None), int, int, bytes] and 0 <= values[2] < _MOST_STAMP:
            found.messages.setdefault(number, (page, place))
        elif kinds[:5] == [type(None), str, str, str, str] and len(kinds) in (5, 6):
            if values[1].startswith('/'):
                mark = values[5] if len(kinds) == 6 and isinstance(values[5], str) else ''
                found.topics.setdefault(number, (*values[1:5], mark))
            elif '/' in values[1] and len(kinds) == 5:
                found.definitions.setdefault(values[1], (values[2], values[3], values[4]))

    def _leaf(self, number: int) -> Iterator[tuple[int, list[Any]] | str]:
        """Yield number and values of each row of a leaf page, or why a row cannot be read; nothing for other pages."""
        page = os.pread(self._file.fileno(), self._size, (number - 1) * self._size)
        begin = 100 if number == 1 else 0
        if len(page) < begin + 8 or page[begin] != _LEAF:
            return
        count = struct.unpack_from('>H', page, begin + 3)[0]
        if not count or begin + 8 + 2 * count > len(page):
            return
        for pointer in struct.unpack_from(f'>{count}H', page, begin + 8):
            try:
                yield self._row(page, pointer)
            except (IndexError, ValueError, struct.error, UnicodeDecodeError) as error:
                yield f'a row that cannot be read ({" ".join(str(error).split())[:60]})'

    def _row(self, page: bytes, place: int) -> tuple[int, list[Any]]:
        length, place = _varint(page, place)
        number, place = _varint(page, place)
        if not 0 < length <= 1 << 30:
            raise ValueError(f'{length} bytes')
        payload = self._payload(page, place, length)
        head, at = _varint(payload, 0)
        kinds = []
        while at < head:
            kind, at = _varint(payload, at)
            kinds.append(kind)
        if at != head or not 1 <= len(kinds) <= 8:
            raise ValueError('an invalid header')
        values = []
        for kind in kinds:
            size = (kind - 12) // 2 if kind >= 12 else _SIZES[kind]
            data = payload[at : at + size]
            if len(data) < size:
                raise ValueError('truncated')
            values.append(_value(kind, data))
            at += size
        return number, values

    def _payload(self, page: bytes, place: int, length: int) -> bytes:
        """Return the bytes of a row, including those on overflow pages."""
        most = self._usable - 35
        if length <= most:
            data = page[place : place + length]
            if len(data) < length:
                raise ValueError('it reaches beyond its page')
            return data
        least = (self._usable - 12) * 32 // 255 - 23
        local = least + (length - least) % (self._usable - 4)
        local = local if local <= most else least
        data = bytearray(page[place : place + local])
        following = struct.unpack_from('>I', page, place + local)[0]
        while len(data) < length:
            more = os.pread(self._file.fileno(), self._usable, (following - 1) * self._size) if following else b''
            if len(more) < 5:
                raise ValueError('its overflow page does not exist')
            following = struct.unpack_from('>I', more)[0]
            data += more[4 : 4 + length - len(data)]
        return bytes(data)


def _page_size(head: bytes, file: BinaryIO, length: int) -> int:
    """Return the page size: as stated by the file, or else the size for which most pages have a valid first byte."""
    stated = struct.unpack_from('>H', head, 16)[0] if len(head) >= 100 else 0
    stated = 65536 if stated == 1 else stated
    if head[:16] == _HEADER and 512 <= stated <= 65536 and not stated & (stated - 1):
        return stated
    sizes = [1 << power for power in range(9, 17)]
    sample = {
        size: sum(
            os.pread(file.fileno(), 1, begin)[:1] in (bytes([_LEAF]), bytes([_INTERIOR]))
            for begin in range(size, min(length, size * 200), size)
        )
        / max(1, min(length // size, 199))
        for size in sizes
    }
    return max(sizes, key=lambda size: (sample[size], size == 4096))


def _varint(data: bytes, place: int) -> tuple[int, int]:
    """Read a number of one to nine bytes; also return its end."""
    value = 0
    for count in range(9):
        byte = data[place + count]
        if count == 8:
            return value << 8 | byte, place + 9
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + count + 1
    raise ValueError('not a number')


def _value(kind: int, data: bytes) -> Any:
    if kind >= 12:
        return data.decode() if kind % 2 else bytes(data)
    if kind == 0:
        return None
    if kind == 7:
        return struct.unpack('>d', data)[0]
    if kind in (8, 9):
        return kind - 8
    if kind in (10, 11):
        raise ValueError('a value of unknown type')
    return int.from_bytes(data, 'big', signed=True)
