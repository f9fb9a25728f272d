"""Read the sqlite3 storage of rosbag2 and ROS 1 bags in blocks, and report damage."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.rosbag1 import ReaderError as Ros1Error

from vdd_ros.common.errors import BagError
from vdd_ros.data.bag.file_scan import DamagedPart
from vdd_ros.data.bag.mcap_reader import Block, KeyOf
from vdd_ros.data.bag.mcap_records import Channel, Schema
from vdd_ros.data.bag.sqlite_pages import Pages
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.serialized import Messages

_ROWS = 4096
_BYTES = 1 << 23


@dataclass(frozen=True)
class _Row:
    place: int
    stamp: int
    data: bytes


class SqliteFile:
    """Reads the messages of one sqlite3 file of a rosbag2."""

    def __init__(self, path: Path, report: ConversionReport, name: str = '') -> None:
        """Open a file and read its topics.

        Raises
        ------
        BagError
            The file is not the database of a bag.

        """
        self.name = name or path.name
        self.counts: dict[int, int] | None = None
        self._report = report
        self._stack = contextlib.ExitStack()
        try:
            self._connection = self._connect(path)
            rows = self._connection.execute('SELECT id, name, type, serialization_format FROM topics').fetchall()
            self.schemas = {number: Schema(*item) for number, item in self._definitions(rows).items()}
            self.channels = {number: Channel(str(topic), number, str(encoding)) for number, topic, _, encoding in rows}
        except (sqlite3.Error, OSError, TypeError) as error:
            self.close()
            raise BagError(
                expected=f'the sqlite3 database of a bag in {self.name}',
                found=str(error),
                remedy='copy the bag again, or run `vdd recover`, which writes a new bag from the readable parts',
            ) from error

    def close(self) -> None:
        """Close the file."""
        self._stack.close()

    def blocks(self, key_of: KeyOf) -> Iterator[Block]:
        """Yield blocks of a few thousand messages, in the order of writing."""
        keys = {number: key_of(channel) for number, channel in self.channels.items()}
        wanted = [number for number, key in keys.items() if key is not None]
        marks = ', '.join('?' * len(wanted))
        query = f'SELECT id, topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) ORDER BY id'
        last = 0
        try:
            cursor = iter(self._connection.execute(query, wanted)) if not self._torn else self._left(set(wanted))
            while rows := _some(cursor):
                groups: dict = {}
                for place, topic, stamp, data in rows:
                    last = place
                    if isinstance(data, bytes) and isinstance(stamp, int) and stamp >= 0:
                        groups.setdefault(keys[topic], []).append(_Row(place, stamp, data))
                    else:
                        self._report.add('message', self.name, 'a row without a message', 1, f'row {place}')
                yield {key: _messages(group, self.name, 'row') for key, group in groups.items()}
        except (sqlite3.Error, OverflowError) as error:
            self._report.add('part', self.name, f'{error}; the rows after it cannot be read', 1, f'row {last}')

    def _left(self, wanted: set[int]) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield the rows of a file that ends within a page. sqlite would read zeros for the missing bytes."""
        damages: list[DamagedPart] = []
        with self._path.open('rb') as file:
            pages = Pages(file, damages)
            for number, (topic, stamp, data) in pages.messages(pages.rows(None)):
                if topic in wanted:
                    yield number, topic, stamp, data
        for damage in damages:
            self._report.add('part', self.name, damage.reason, 1, f'byte {damage.offset}')

    def _connect(self, path: Path) -> sqlite3.Connection:
        journal = path.with_name(f'{path.name}-wal')
        if journal.exists() and journal.stat().st_size:
            # The journal has the last writes of a killed recorder. Merging would change the bag, so a copy is used.
            folder = Path(self._stack.enter_context(TemporaryDirectory(prefix='vdd_ros_bag_')))
            shutil.copy(journal, folder / journal.name)
            path = Path(shutil.copy(path, folder / path.name))
            self._report.add('note', self.name, 'not closed: its journal had not been merged')
            target = f'file:{path}'
        else:
            target = f'{path.resolve().as_uri()}?mode=ro&immutable=1'
        self._path = path
        with path.open('rb') as file:
            self._torn = Pages(file, []).torn
        connection = sqlite3.connect(target, uri=True)
        self._stack.callback(connection.close)
        return connection

    def _definitions(self, topics: Sequence[tuple]) -> dict[int, tuple[str, str, bytes]]:
        try:
            rows = self._connection.execute(
                'SELECT topic_type, encoding, encoded_message_definition FROM message_definitions'
            ).fetchall()
        except sqlite3.Error:
            rows = []  # older bags lack this table
        known = {str(kind): (str(encoding), str(text).encode()) for kind, encoding, text in rows}
        return {number: (str(kind), *known.get(str(kind), ('', b''))) for number, _, kind, _ in topics}


class Ros1File:
    """Reads the messages of one ROS 1 bag file."""

    def __init__(self, path: Path, report: ConversionReport, name: str = '') -> None:
        """Open a file and read its index.

        Raises
        ------
        BagError
            The file is not a ROS 1 bag, or was not closed.

        """
        self.name = name or path.name
        self._report = report
        self._reader = Ros1Reader(path)
        try:
            self._reader.open()
        except _ROS1_ERRORS as error:
            raise BagError(
                expected=f'a ROS 1 bag in {self.name}',
                found=' '.join(str(error).split()) or type(error).__name__,
                remedy='copy it again, or run `vdd recover` if it is damaged or was not closed',
            ) from error
        connections = self._reader.connections
        self.channels = {item.id: Channel(item.topic, item.id, 'ros1') for item in connections}
        self.schemas = {item.id: Schema(item.msgtype, 'ros1msg', item.msgdef.data.encode()) for item in connections}
        self.counts: dict[int, int] | None = {item.id: item.msgcount for item in connections}

    def close(self) -> None:
        """Close the file."""
        if self._reader.bio:
            self._reader.close()

    def blocks(self, key_of: KeyOf) -> Iterator[Block]:
        """Yield blocks of a few thousand messages, in the order of reception."""
        keys = {item.id: key_of(self.channels[item.id]) for item in self._reader.connections}
        wanted = [item for item in self._reader.connections if keys[item.id] is not None]
        groups: dict = {}
        count = size = 0
        try:
            for place, (connection, stamp, data) in enumerate(self._reader.messages(wanted) if wanted else ()):
                groups.setdefault(keys[connection.id], []).append(_Row(place, stamp, bytes(data)))
                count, size = place + 1, size + len(data)
                if size > _BYTES or count % _ROWS == 0:
                    yield {key: _messages(group, self.name, 'message') for key, group in groups.items()}
                    groups, size = {}, 0
        except _ROS1_ERRORS as error:
            why = f'{" ".join(str(error).split())[:100] or type(error).__name__}; the rest cannot be read'
            self._report.add('part', self.name, why, 1, f'message {count}')
        yield {key: _messages(group, self.name, 'message') for key, group in groups.items()}


# Exceptions of the library on malformed bytes.
_ROS1_ERRORS = (
    *(Ros1Error, OSError, ValueError, KeyError, IndexError, AttributeError, TypeError, AssertionError),
    *(EOFError, RuntimeError, MemoryError, OverflowError, struct.error),
)


def _some(cursor: Iterator[tuple]) -> list[tuple]:
    """Fetch rows up to a number or a size."""
    rows, size = [], 0
    while len(rows) < _ROWS and size < _BYTES:
        row = next(cursor, None)
        if row is None:
            break
        rows.append(row)
        size += len(row[3]) if isinstance(row[3], bytes) else 0
    return rows


def _messages(rows: Sequence[_Row], where: str, unit: str) -> Messages:
    joined = Messages.of([row.data for row in rows], [row.stamp for row in rows])
    places = np.array([row.place for row in rows], dtype=np.int64)
    return Messages(joined.buffer, joined.offsets, joined.sizes, joined.received, where, places, unit)
