"""Writes rosbag2: MCAP in chunks that reach the disk as they are written, so that a crash costs a moment only."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType, TracebackType

from mcap.writer import CompressionType, Writer
from rosbags.typesys import Stores, TypesysError, get_typestore

from vdd_ros.common.errors import OutputError
from vdd_ros.data.bag.bag_metadata import BagFile, Topic, partial_path, write_metadata, write_metadata_of
from vdd_ros.data.bag.mcap_copy import finish

_NONE: Mapping[str, Definition] = MappingProxyType({})


@dataclass(frozen=True)
class Definition:
    """How a message type is laid out."""

    text: str
    """The definition, and those of all types in it."""
    encoding: str = 'ros2msg'
    """`ros2msg` or `ros2idl`."""
    type_hash: str = ''
    """RIHS01; empty where it is not known."""


def definition_of(kind: str) -> Definition:
    """Return the definition of a type of ROS itself.

    Raises
    ------
    OutputError
        It is another type.

    """
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    try:
        return Definition(typestore.generate_msgdef(kind, ros_version=2)[0], type_hash=typestore.hash_rihs01(kind))
    except (TypesysError, KeyError) as error:
        raise OutputError(
            expected=f'the definition of {kind}', found='none that ships', remedy='hand it to the writer'
        ) from error


class BagWriter:
    """Writes one rosbag2 (MCAP, zstd chunks with checksums), visible under its name only when it is whole.

    The bag grows beside its place, in ``.NAME.partial``, and is moved there by `close`. Whoever finds a bag at the
    path finds a whole one. What was flushed outlives the process: `vdd_ros.data.bag.recovery` makes a bag of it.
    """

    def __init__(
        self, path: str | Path, topics: Mapping[str, str], definitions: Mapping[str, Definition] = _NONE
    ) -> None:
        """Plan a bag.

        Parameters
        ----------
        path
            The folder that will be the bag.
        topics
            Message type by topic name, such as ``{'/joint_states': 'sensor_msgs/msg/JointState'}``.
        definitions
            By type; needed for types that are not of ROS itself.

        """
        self.path = Path(path)
        self.topics = dict(topics)
        self.count = 0
        """Messages written so far."""
        self._given = definitions
        self._partial = partial_path(self.path)
        self._sink: _Sink | None = None
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._topics: dict[str, Topic] = {}
        self._counts: dict[str, int] = {}
        self._span: tuple[int, int] | None = None
        self._torn = False

    def open(self) -> None:
        """Claim the path and start writing beside it.

        Raises
        ------
        OutputError
            The path, or the place beside it, is occupied, or cannot be written, or the definition of a type is unknown.

        """
        for occupied in (self.path, self._partial):
            if occupied.exists():
                raise OutputError(
                    expected=f'a free place for the bag at {self.path}',
                    found=f'{occupied} already there',
                    remedy='choose another path or remove it',
                )
        try:
            self._partial.mkdir(parents=True)
            self._sink = _Sink(self._partial / f'{self.path.name}_0.mcap')
            self._writer = Writer(self._sink, compression=CompressionType.ZSTD)
            self._writer.start('ros2', 'vdd_ros')
            for topic, kind in self.topics.items():
                self.add_topic(topic, kind)
        except (OSError, OutputError) as error:
            shutil.rmtree(self._partial, ignore_errors=True)
            self._sink = None
            if isinstance(error, OutputError):
                raise
            raise OutputError(
                expected=f'a place for the bag at {self.path}', found=error.strerror, remedy='choose another path'
            ) from error

    def add_topic(self, topic: str, kind: str, definition: Definition | None = None) -> None:
        """Prepare for the messages of one more topic, at any time while the bag is open.

        A type that is not of ROS itself needs its ``definition``.

        Raises
        ------
        OutputError
            The definition of the type is unknown.

        """
        definition = definition or self._define(kind)
        if kind not in self._schemas:
            self._schemas[kind] = self._writer.register_schema(kind, definition.encoding, definition.text.encode())
        metadata = {'offered_qos_profiles': '', 'topic_type_hash': definition.type_hash}
        self._channels[topic] = self._writer.register_channel(topic, 'cdr', self._schemas[kind], metadata)
        self._topics[topic] = Topic(topic, kind, definition.type_hash)
        self._counts[topic] = 0

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Append a serialised message of a topic with its stamp [ns]; equal stamps keep the order of writing.

        Raises
        ------
        OutputError
            The disk takes no more; `close` still makes a bag of what it took.

        """
        with self._rescued():
            self._writer.add_message(self._channels[topic], stamp, data, stamp)
        first, last = self._span or (stamp, stamp)
        self._span = (min(first, stamp), max(last, stamp))
        self._counts[topic] += 1
        self.count += 1

    def flush(self) -> None:
        """Bring everything that is written to the disk, past the caches of the system; errors as those of `write`."""
        with self._rescued():
            self._writer.flush()
            self._sink.sync()

    def close(self) -> bool:
        """Finish the bag and move it to its path; closing twice does nothing.

        Returns whether there is a bag: one without a message is of no use and leaves nothing behind.

        Raises
        ------
        OutputError
            The disk does not even take the index: what it took stays beside the path and can be recovered.

        """
        if self._sink is None:
            return self.count > 0
        try:
            if not self._torn:
                with contextlib.suppress(OutputError), self._rescued():
                    self._finish()
            if self._torn:
                with self._rescued():
                    self._salvage()
        finally:
            self._sink.close()
            self._sink = None
        if self.count:
            self._partial.rename(self.path)
        else:
            shutil.rmtree(self._partial)
        return self.count > 0

    def _finish(self) -> None:
        if self.count:
            self._writer.finish()
            self._sink.sync()
            topics = [replace(topic, count=self._counts[topic.name]) for topic in self._topics.values()]
            write_metadata(self._partial, [BagFile(self._sink.path.name, *self._span, self.count)], topics)

    def _salvage(self) -> None:
        """Make a bag of a file in which a write broke off: the disk was full, say."""
        found = finish(self._sink.path)
        write_metadata_of(self._partial, [found])
        self.count = found.count

    def _define(self, kind: str) -> Definition:
        return self._given[kind] if kind in self._given else definition_of(kind)

    @contextlib.contextmanager
    def _rescued(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._torn = True
            raise OutputError(
                expected=f'room for the bag {self.path}',
                found=error.strerror,
                remedy='make room; `vdd recover` makes a bag of what was not closed',
            ) from error

    def __enter__(self) -> BagWriter:
        """Open the bag."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, whatever happened: what was recorded is worth keeping."""
        self.close()


class _Sink:
    """A file that is locked while it grows, and keeps nothing back: what is written has left this process."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open('xb', buffering=0)
        # Released by the system when this process dies, however it does: so others can tell a dead recorder's bag.
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Nothing is kept back."""

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
