"""Write rosbag2 as MCAP. MCAP chunks are flushed regularly, so a crash loses at most a fraction of a second."""

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
from vdd_ros.data.bag.bag_metadata import BagFile, Topic, claim_bag, partial_path, write_metadata, write_metadata_of
from vdd_ros.data.bag.mcap_copy import finish

_NONE: Mapping[str, Definition] = MappingProxyType({})


@dataclass(frozen=True)
class Definition:
    """The definition of a message type as stored in a bag: text, format and hash."""

    text: str
    """The definition, followed by those of nested types."""
    encoding: str = 'ros2msg'
    """`ros2msg` or `ros2idl`."""
    type_hash: str = ''
    """RIHS01 hash; empty if unknown."""


def definition_of(kind: str) -> Definition:
    """Return the definition of a type that comes with ROS.

    Raises
    ------
    OutputError
        The type does not come with ROS.

    """
    typestore = get_typestore(Stores.ROS2_HUMBLE)
    try:
        return Definition(typestore.generate_msgdef(kind, ros_version=2)[0], type_hash=typestore.hash_rihs01(kind))
    except (TypesysError, KeyError) as error:
        raise OutputError(
            expected=f'the definition of {kind}',
            found='none in this package',
            remedy='pass the definition to the writer',
        ) from error


class BagWriter:
    """Writes one rosbag2 (MCAP, zstd chunks with checksums) that appears under its name only when it is complete.

    The bag grows in ``.NAME.partial`` and is moved to its path by `close`. A bag at the path is therefore complete.
    Flushed data survive a crash of the process: `vdd_ros.data.bag.recovery` converts them to a bag.
    """

    def __init__(
        self, path: str | Path, topics: Mapping[str, str], definitions: Mapping[str, Definition] = _NONE
    ) -> None:
        """Prepare a bag without writing.

        Parameters
        ----------
        path
            The folder of the new bag.
        topics
            Message type by topic name, such as ``{'/joint_states': 'sensor_msgs/msg/JointState'}``.
        definitions
            Definitions by type; required for types that do not come with ROS.

        """
        self.path = Path(path)
        self.topics = dict(topics)
        self.count = 0
        """Number of messages written."""
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
        """Reserve the path, and start writing to the temporary folder.

        Raises
        ------
        OutputError
            The path or the temporary folder exists or cannot be written, or the definition of a type is unknown.

        """
        claim_bag(self.path)
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
        """Add a topic while the bag is open.

        A type that does not come with ROS needs its ``definition``.

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
            The disk is full; `close` still completes a bag of all messages written before.

        """
        with self._rescued():
            self._writer.add_message(self._channels[topic], stamp, data, stamp)
        first, last = self._span or (stamp, stamp)
        self._span = (min(first, stamp), max(last, stamp))
        self._counts[topic] += 1
        self.count += 1

    def flush(self) -> None:
        """Flush everything to the disk, including system caches; errors as for `write`."""
        with self._rescued():
            self._writer.flush()
            self._sink.sync()

    def close(self) -> bool:
        """Finish the bag and move it to its path. Calling it twice has no effect.

        Returns whether there is a bag. A bag without messages is removed.

        Raises
        ------
        OutputError
            The index does not fit on the disk. The written data stay in the temporary folder, and can be recovered.

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
        """Make a bag of a file whose writing failed, for example because the disk was full."""
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
                expected=f'disk space for the bag {self.path}',
                found=error.strerror,
                remedy='free disk space; `vdd recover` makes a bag of unclosed files',
            ) from error

    def __enter__(self) -> BagWriter:
        """Open the bag."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, also after an error: recorded data are kept."""
        self.close()


class _Sink:
    """A file that is locked while it grows and has no buffer of its own."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = path.open('xb', buffering=0)
        # The system releases the lock when this process dies. Others can thus detect the bag of a dead recorder.
        fcntl.flock(self._file, fcntl.LOCK_EX)

    def write(self, data: bytes) -> int:
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        return len(data)

    def tell(self) -> int:
        return self._file.tell()

    def flush(self) -> None:
        """Do nothing: no data are buffered."""

    def sync(self) -> None:
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
