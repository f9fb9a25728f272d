"""Read rosbags: rosbag2 as MCAP or sqlite3 (plain, compressed or split), and ROS 1 bags."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any

import zstandard

from vdd_ros.common.errors import BagError
from vdd_ros.data.bag.bag_definitions import definitions_of
from vdd_ros.data.bag.bag_files import decompress, is_compressed, plain_name, storage
from vdd_ros.data.bag.bag_metadata import METADATA, parsed_metadata, partial_path
from vdd_ros.data.bag.bag_sqlite import Ros1File, SqliteFile
from vdd_ros.data.bag.mcap_reader import McapFile
from vdd_ros.data.bag.mcap_records import Channel, Damage, decompressed
from vdd_ros.data.bag.recovery import is_growing
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.serialized import Definitions, Messages

_STORAGES = {'.mcap': McapFile, '.db3': SqliteFile, '.bag': Ros1File}
_MAGIC = {b'\x28\xb5\x2f\xfd': 'zstd', b'\x04\x22\x4d\x18': 'lz4'}
_ENCODINGS = {'json': 'JSON', 'cbor': 'CBOR', 'msgpack': 'MessagePack', 'flatbuffer': 'FlatBuffers'}
_MAX_MESSAGE = 1 << 30
_File = McapFile | SqliteFile | Ros1File


@dataclass(frozen=True)
class TopicInfo:
    """Name, type, serialisation and number of messages of a topic of a bag."""

    name: str
    type: str
    count: int | None
    """Number of messages according to the bag; None if the bag does not state it."""
    encoding: str = 'cdr'
    """Serialisation format."""

    @property
    def ros1(self) -> bool:
        """Whether the messages have the ROS 1 serialisation."""
        return self.encoding == 'ros1'

    @property
    def decodable(self) -> bool:
        """Whether this package can decode the serialisation."""
        return self.encoding in ('cdr', 'ros1', '')

    @property
    def foreign(self) -> str:
        """The serialisation if this package cannot decode it, else empty."""
        return '' if self.decodable else _ENCODINGS.get(self.encoding, self.encoding)


class Bag:
    """A bag that is read from front to end in blocks, with bounded memory.

    Use it as a context manager. Damaged parts are skipped and recorded in `report`.
    """

    def __init__(self, path: str | Path, report: ConversionReport | None = None) -> None:
        """Open a bag: a rosbag2 folder, one of its files, or a ROS 1 bag file.

        Raises
        ------
        BagError
            There is no bag, nothing in the bag can be read, or the bag is being recorded.

        """
        self.path = Path(path)
        self.report = ConversionReport() if report is None else report
        self._root = located(self.path)
        self._stack = contextlib.ExitStack()
        try:
            self._information = self._metadata()
            self._files = [file for file in map(self._opened, self._paths()) if file is not None]
            if not self._files:
                raise BagError(expected=f'a bag at {self.path}', found='no readable file', remedy='copy it again')
            if self._root.is_dir() and not (self._root / METADATA).exists():
                closed = all(isinstance(file, McapFile) and file.closed for file in self._files)
                why = 'no metadata.yaml: ' + ('`vdd recover` writes it' if closed else 'it was not closed')
                self.report.add('note', self.path.name, why)
            self.topics = self._found_topics()
            """Topics by name."""
        except BaseException:
            self._stack.close()
            raise

    def __enter__(self) -> Bag:
        """Return the open bag."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the files."""
        self._stack.close()

    def definitions(self, topic: str) -> Definitions:
        """Return the definitions of the type of a topic and of all types within it."""
        info = self.topics[topic]
        for file in self._files:
            for channel in file.channels.values():
                schema = file.schemas.get(channel.schema)
                if channel.topic == topic and schema is not None and schema.text and _type(file, channel) == info.type:
                    text = schema.text.decode(errors='replace')
                    return definitions_of(info.type, schema.encoding, text, self.report, ros1=info.ros1)
        return definitions_of(info.type, '', '', self.report, ros1=info.ros1)

    def blocks(
        self, topics: Collection[str], progress: Callable[[float], None] | None = None
    ) -> Iterator[dict[str, Messages]]:
        """Yield the messages of some topics, one block at a time, in file order: a dict from topic to messages.

        Messages that the metadata counts but the files lack are recorded in `report` at the end.
        """
        seen = dict.fromkeys(topics, 0)
        total = sum(self.topics[topic].count or 0 for topic in topics)
        for file in self._files:

            def key_of(channel: Channel, file: _File = file) -> tuple[str, str] | None:
                return (channel.topic, _type(file, channel)) if channel.topic in seen else None

            for block in file.blocks(key_of):
                chosen = {}
                for (topic, kind), messages in block.items():
                    seen[topic] += len(messages)
                    if kind == self.topics[topic].type:
                        chosen[topic] = self._expanded(messages, topic)
                    else:
                        why = f'their type is {kind or "unknown"}, not {self.topics[topic].type}'
                        self.report.add('message', topic, why, len(messages), messages.place(0))
                if chosen:
                    yield chosen
                if progress is not None and total:
                    progress(min(sum(seen.values()) / total, 1.0))
        for topic, count in seen.items():
            stated = self.topics[topic].count
            if stated is None:
                self.report.add('note', topic, 'the bag does not state its number of messages')
            elif stated > count:
                self.report.add('message', topic, 'counted in the metadata but missing', stated - count)
            elif stated < count:
                self.report.add('note', topic, f'the metadata states {stated} messages, the bag has {count}')

    def _expanded(self, messages: Messages, topic: str) -> Messages:
        """Decompress messages that are compressed one by one."""
        mode = str(self._information.get('compression_mode') or '').lower()
        head = messages.data(0)[:4] if len(messages) else b''
        if mode != 'message' and (self._information or head not in _MAGIC):
            return messages
        data, kept = [], []
        for index in range(len(messages)):
            item = messages.data(index)
            try:
                size = zstandard.get_frame_parameters(item).content_size if item[:4] in _MAGIC else 0
                size = min(size, _MAX_MESSAGE)
                data.append(decompressed(item, _MAGIC.get(item[:4], 'unknown'), size))
                kept.append(index)
            except (Damage, zstandard.ZstdError) as error:
                self.report.add('message', topic, str(error), 1, messages.place(index))
        joined = Messages.of(data, messages.received[kept])
        places = messages.places[kept] if messages.places is not None else None
        return replace(joined, where=messages.where, places=places, unit=messages.unit)

    def _metadata(self) -> dict[str, Any]:
        file = self._root / METADATA
        if not file.exists():
            return {}
        try:
            return parsed_metadata(file)
        except BagError as error:
            self.report.add('note', self.path.name, f'its metadata.yaml cannot be read: {error.found}')
            return {}

    def _paths(self) -> list[Path]:
        if self._root.is_file():
            return [self._root]
        listed = [self._root / Path(name).name for name in self._information.get('relative_file_paths', [])]
        there = {path for path in self._root.iterdir() if storage(path)}
        for path in listed:
            if path not in there:
                self.report.add('part', self.path.name, f'{path.name} is listed in metadata.yaml but missing')
        for path in sorted(there - set(listed)) if listed else ():
            self.report.add('note', self.path.name, f'{path.name} is not listed in metadata.yaml and not read')
        found = [path for path in listed if path in there] or sorted(there)
        if not found:
            inside = ', '.join(sorted(path.name for path in self._root.iterdir())[:5]) or 'nothing'
            bags = sum(any(map(storage, folder.iterdir())) for folder in self._root.iterdir() if folder.is_dir())
            raise BagError(
                expected=f'a rosbag2 at {self.path} with files {", ".join(_STORAGES)}',
                found=f'{bags} folders of bags ({inside})' if bags else f'{inside} in it',
                remedy=f'give the bags: {self.path}/*' if bags else 'give the folder with metadata.yaml',
            )
        return found

    def _opened(self, path: Path) -> _File | None:
        name = path.name
        try:
            kind = storage(path)
            if not kind:
                raise BagError(
                    expected=f'a bag at {path}: a folder of rosbag2, or a file {", ".join(_STORAGES)}',
                    found='another file type',
                    remedy='give the folder with metadata.yaml, or one of its files',
                )
            path = self._decompressed_file(path) if is_compressed(path) else path
            file = _STORAGES[kind](path, self.report, name)
        except OSError as error:
            raise BagError(
                expected=f'a readable file {path}', found=str(error.strerror or error), remedy='check its permissions'
            ) from error
        except BagError as error:
            if len(self._information.get('relative_file_paths', [])) < 2:
                whole = f'{error.expected}, of the bag {self.path}'
                raise BagError(expected=whole, found=error.found, remedy=error.remedy) from error
            self.report.add('part', name, f'it cannot be read: expected {error.expected}; found {error.found}')
            return None
        self._stack.callback(file.close)
        return file

    def _decompressed_file(self, path: Path) -> Path:
        folder = Path(self._stack.enter_context(TemporaryDirectory(prefix='vdd_ros_bag_')))
        plain = folder / plain_name(path)
        if why := decompress(path, plain):
            self.report.add('part', path.name, f'only partly decompressed ({why})')
        return plain

    def _found_topics(self) -> dict[str, TopicInfo]:
        stated = {}
        for item in self._information.get('topics_with_message_count') or []:
            with contextlib.suppress(KeyError, TypeError):
                stated[item['topic_metadata']['name']] = int(item['message_count'])
        found: dict[str, dict[tuple[str, str], int]] = {}
        counted = True
        for file in self._files:
            if isinstance(file, McapFile) and not file.is_complete:
                file.survey()
            counts = file.counts if file.counts is not None else getattr(file, 'surveyed', {})
            counted &= file.counts is not None
            for number, channel in file.channels.items():
                kinds = found.setdefault(channel.topic, {})
                kind = (_type(file, channel), channel.encoding)
                kinds[kind] = kinds.get(kind, 0) + counts.get(number, 0)
        topics = {}
        for name, kinds in found.items():
            # If several types share a topic, the type of most messages is used: a misconfigured node sent the rest.
            kind, encoding = max(kinds, key=lambda item: kinds[item])
            topics[name] = TopicInfo(name, kind, sum(kinds.values()) if counted else stated.get(name), encoding)
        return topics


def _type(file: _File, channel: Channel) -> str:
    schema = file.schemas.get(channel.schema)
    name = schema.name if schema is not None else ''
    return name.replace('/', '/msg/') if name.count('/') == 1 else name  # ROS 1 omits the middle part


def located(path: Path) -> Path:
    """Return the location of a bag: its path, or the temporary folder in which a killed recorder left the bag.

    Raises
    ------
    BagError
        There is no bag, or the bag is being recorded.

    """
    if path.exists():
        return path
    partial = partial_path(path)
    if not partial.is_dir():
        raise BagError(expected=f'a rosbag2 at {path}', found='nothing there', remedy='record one, or correct the path')
    if is_growing(partial):
        raise BagError(
            expected=f'a finished bag at {path}', found='one that is being recorded', remedy='stop the recorder first'
        )
    return partial


def fingerprint(path: str | Path) -> str:
    """Return the SHA-256 of the files of a bag, which artifacts store as the source of their training data."""
    digest = hashlib.sha256()
    path = located(Path(path))
    files = [path] if path.is_file() else sorted(item for item in path.rglob('*') if item.is_file())
    for file in files:
        digest.update(file.name.encode())
        with file.open('rb') as opened:
            for block in iter(lambda: opened.read(1 << 20), b''):
                digest.update(block)
    return digest.hexdigest()
