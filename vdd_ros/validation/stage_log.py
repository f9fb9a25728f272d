"""An append-only log of JSON lines in a hash chain, which detects every edit. `vdd_ros.validation.stages` uses it.

Each line contains the hash of the previous line and its own hash. A copy of the last line is stored in ``LOG.head``.
This copy is replaced before the log grows. A truncated log is therefore detected, and a line whose writing was
interrupted is completed. Anyone who can write to both files can still replace the whole log. To detect this, store the
hash of the last line elsewhere: the policy node reports it in its diagnostics, and `read_log` can check it.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdd_ros.common.errors import GateError

_FIELDS = ('hash', 'kind', 'number', 'previous', 'time', 'values', 'who', 'why')
_BEGIN = '0' * 64
"""Hash of the previous line in the first line."""


@dataclass(frozen=True)
class Entry:
    """One line of a stage log: who wrote it when and why, its values, and its hash."""

    number: int
    """Number of the entry, from 0."""
    time: str
    """Time of writing in UTC, such as ``2026-11-29T18:00:00Z``."""
    kind: str
    """Kind of the entry."""
    who: str
    """The person or the node that wrote it."""
    why: str
    """The reason."""
    values: Mapping[str, Any]
    """Values that depend on the kind of entry, as JSON types."""
    hash: str
    """SHA-256 over all other fields and the hash of the previous line."""


def read_log(path: str | Path, anchor: str = '') -> tuple[Entry, ...]:
    """Read a log, and check that it was not edited.

    Parameters
    ----------
    path
        The log. A file that does not exist has no entries.
    anchor
        Hash of an entry, or the first characters of the hash, stored elsewhere. The log must contain this entry.

    Raises
    ------
    GateError
        The log was edited or truncated, does not contain the anchor, or cannot be read.

    """
    file = Path(path)
    try:
        with _locked(file, fcntl.LOCK_SH, os.O_RDONLY) as descriptor:
            entries, _ = _read(file, descriptor)
    except FileNotFoundError:
        if _head_of(file).exists():
            raise _damage(file, 'no log, but its head') from None
        entries = ()
    except OSError as error:
        raise GateError(
            expected=f'a log at {file}', found=str(error.strerror), remedy='name a file that can be read'
        ) from error
    if anchor and not any(entry.hash.startswith(anchor) for entry in entries):
        raise _damage(file, f'no entry with the hash {anchor}')
    return entries


def append(path: str | Path, kind: str, who: str, why: str, values: Mapping[str, Any]) -> Entry:
    """Append an entry, and wait until it is on the disk.

    Parameters
    ----------
    path
        The log; it is created if it does not exist.
    kind, who, why, values
        Fields of the `Entry`.

    Raises
    ------
    GateError
        ``who`` or ``why`` is empty, or the log was edited or cannot be written.

    """
    if not (who.strip() and why.strip()):
        raise GateError(expected='who and why', found=f'who {who!r}, why {why!r}', remedy='give both; they are kept')
    file = Path(path)
    try:
        with _locked(file, fcntl.LOCK_EX, os.O_RDWR | os.O_CREAT | os.O_APPEND) as descriptor:
            entries, pending = _read(file, descriptor)
            content = {
                'kind': kind,
                'number': len(entries),
                'previous': entries[-1].hash if entries else _BEGIN,
                'time': time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime()),
                'values': dict(values),
                'who': who,
                'why': why,
            }
            line = _line({**content, 'hash': _digest(content)})
            _write(descriptor, pending)  # what an interrupted writer has left
            _replace(_head_of(file), line)
            _write(descriptor, line)
            return _entry(file, line, entries)
    except OSError as error:
        raise GateError(
            expected=f'to write to the log {file}', found=str(error.strerror), remedy='name a file that can be written'
        ) from error


def _read(file: Path, descriptor: int) -> tuple[tuple[Entry, ...], bytes]:
    """Return the entries, and what is still missing in the file of the newest one."""
    text = _content(descriptor)
    try:
        head = _head_of(file).read_bytes()
    except FileNotFoundError:
        if text:
            raise _damage(file, 'no head beside it') from None
        return (), b''
    entries: list[Entry] = []
    lines = text.splitlines(keepends=True)
    for line in lines[:-1]:
        entries.append(_entry(file, line, entries))
    last = lines[-1] if lines else b''
    if last == head:
        pending = b''
    elif last.endswith(b'\n'):
        entries.append(_entry(file, last, entries))
        pending = head
    elif head.startswith(last):
        pending = head[len(last) :]
    else:
        raise _damage(file, f'another line {len(lines)} than its head')
    entries.append(_entry(file, head, entries))
    return tuple(entries), pending


def _entry(file: Path, line: bytes, before: list[Entry] | tuple[Entry, ...]) -> Entry:
    number = len(before)
    try:
        found = json.loads(line)
        sound = isinstance(found, dict) and tuple(sorted(found)) == _FIELDS and _line(found) == line
        content = {name: value for name, value in found.items() if name != 'hash'} if sound else {}
    except (ValueError, RecursionError):
        sound, found, content = False, {}, {}
    previous = before[-1].hash if before else _BEGIN
    if not sound or found['number'] != number or found['previous'] != previous or found['hash'] != _digest(content):
        raise _damage(file, f'another line {number + 1} than was written')
    del content['previous']
    return Entry(**content, hash=found['hash'])


def _damage(file: Path, found: str) -> GateError:
    return GateError(
        expected=f'the log {file} as it was written',
        found=found,
        remedy='restore log and head from a backup, or begin another log in stage shadow',
    )


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_line(content)).hexdigest()


def _line(values: Mapping[str, Any]) -> bytes:
    return (json.dumps(values, sort_keys=True, separators=(',', ':'), allow_nan=False) + '\n').encode()


def _head_of(file: Path) -> Path:
    return file.with_name(f'{file.name}.head')


@contextmanager
def _locked(file: Path, kind: int, flags: int) -> Iterator[int]:
    descriptor = os.open(file, flags, 0o644)
    try:
        fcntl.flock(descriptor, kind)
        yield descriptor
    finally:
        os.close(descriptor)


def _content(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    parts = []
    while part := os.read(descriptor, 1 << 20):
        parts.append(part)
    return b''.join(parts)


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
    os.fsync(descriptor)


def _replace(file: Path, data: bytes) -> None:
    aside = file.with_name(f'{file.name}.partial')
    descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    try:
        _write(descriptor, data)
    finally:
        os.close(descriptor)
    aside.replace(file)
    folder = os.open(file.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
