"""Write a complete sqlite3 bag from the readable rows of a damaged one, read page by page."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from vdd_ros.data.bag.file_scan import DamagedPart, FileScan
from vdd_ros.data.bag.mcap_records import Channel, Schema
from vdd_ros.data.bag.sqlite_pages import Pages, Rows

Progress = Callable[[float], None]

_TABLES = """
CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL);
CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);
CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL,
  offered_qos_profiles TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE message_definitions(id INTEGER PRIMARY KEY, topic_type TEXT NOT NULL, encoding TEXT NOT NULL,
  encoded_message_definition TEXT NOT NULL, type_description_hash TEXT NOT NULL);
CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL,
  data BLOB NOT NULL);
"""
_VERSION = 4
_INDEX = 'CREATE INDEX timestamp_idx ON messages (timestamp ASC)'


def scan(path: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Read a database completely and find its sound rows; `unverified` has no effect."""
    return _passed_through(path, None, progress)


def copy(path: Path, target: Path, progress: Progress | None = None, *, unverified: bool = False) -> FileScan:
    """Write a database of all readable rows of another, which is left unchanged.

    Raises
    ------
    OSError
        The target cannot be written.

    """
    try:
        return _passed_through(path, target, progress)
    except sqlite3.Error as error:
        raise OSError(None, str(error)) from error


def _passed_through(path: Path, target: Path | None, progress: Progress | None) -> FileScan:
    with TemporaryDirectory(prefix='.vdd_ros_bag_', dir=target.parent if target is not None else None) as folder:
        merged = _merged(path, Path(folder))
        found = FileScan(path, closed=merged is None)
        source = merged or path
        whole = _is_sound(source)
        with source.open('rb') as file:
            rows = Pages(file, found.damages).rows(progress)
            found.channels, found.schemas = _described(rows)
            counts: Counter[int] = Counter()
            span: list[int] = []
            base = sqlite3.connect(target) if target is not None else None
            pages = Pages(file, [])
            try:
                if base is not None:
                    _begin(base, rows)
                for number, (topic, stamp, data) in pages.messages(rows):
                    if topic not in rows.topics:
                        continue
                    counts[topic] += 1
                    span = [min(span[0], stamp), max(span[1], stamp)] if span else [stamp, stamp]
                    if base is not None:
                        base.execute('INSERT INTO messages VALUES (?, ?, ?, ?)', (number, topic, stamp, data))
                if base is not None:
                    base.execute(_INDEX)
                    base.commit()
            finally:
                if base is not None:
                    base.close()
    _note_unknown(rows, found, pages.unknown)
    found.counts, found.span = counts, tuple(span) if span else None
    found.complete = whole and found.closed and not found.damages
    if not found.complete and not found.damages:
        why = 'damage according to sqlite' if not whole else 'not closed: its journal had not been merged'
        found.damages.append(DamagedPart(0, 0, why))
    return found


def _merged(path: Path, folder: Path) -> Path | None:
    """Return a copy with the journal of a killed recorder merged; None if there is no journal."""
    journals = [path.with_name(f'{path.name}-{kind}') for kind in ('wal', 'journal')]
    journals = [item for item in journals if item.exists() and item.stat().st_size]
    if not journals:
        return None
    copied = Path(shutil.copy(path, folder / path.name))
    for item in journals:
        shutil.copy(item, folder / item.name)
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(copied)) as base:
        base.execute('SELECT count(*) FROM sqlite_master').fetchall()  # rolls a journal back
        base.execute('PRAGMA wal_checkpoint(TRUNCATE)').fetchall()
    return copied


def _is_sound(path: Path) -> bool:
    try:
        uri = f'{path.resolve().as_uri()}?mode=ro&immutable=1'
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as base:
            return base.execute('PRAGMA integrity_check(1)').fetchone() == ('ok',)
    except sqlite3.Error:
        return False


def _described(rows: Rows) -> tuple[dict[int, Channel], dict[int, Schema]]:
    channels, schemas = {}, {}
    for number, (name, kind, encoding, qos, mark) in rows.topics.items():
        words = (('offered_qos_profiles', qos), ('topic_type_hash', mark))
        channels[number] = Channel(name, number, encoding, tuple(word for word in words if word[1]))
        schema, text, _ = rows.definitions.get(kind, ('', '', ''))
        schemas[number] = Schema(kind, schema, text.encode())
    return channels, schemas


def _begin(base: sqlite3.Connection, rows: Rows) -> None:
    base.executescript(_TABLES)
    base.execute('INSERT INTO schema VALUES (?, ?)', (_VERSION, 'rosbags'))
    base.executemany(
        'INSERT INTO topics VALUES (?, ?, ?, ?, ?, ?)',
        [(number, *row) for number, row in sorted(rows.topics.items())],
    )
    base.executemany(
        'INSERT INTO message_definitions VALUES (?, ?, ?, ?, ?)',
        [(number, kind, *row) for number, (kind, row) in enumerate(rows.definitions.items(), 1)],
    )


def _note_unknown(rows: Rows, found: FileScan, unknown: Counter[int]) -> None:
    for topic, count in sorted(unknown.items()):
        why = f'messages of topic {topic}, whose name is lost'
        found.damages.append(DamagedPart(0, 0, why, count))
