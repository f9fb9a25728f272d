"""Rosbag2 on disk: the only file that knows bag libraries."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import TracebackType
from typing import Mapping

from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from vdd_ros.errors import OutputError


class BagWriter:
    """Writes one rosbag2 (MCAP, zstd chunks), valid when closed and visible under its name only then.

    The bag grows beside its place, in ``.NAME.partial``, and is moved there by `close`. Whoever finds a bag at the
    path finds a whole one.
    """

    def __init__(self, path: str | Path, topics: Mapping[str, str]) -> None:
        """Plan a bag.

        Parameters
        ----------
        path
            The folder that will be the bag.
        topics
            Message type by topic name, such as ``{'/joint_states': 'sensor_msgs/msg/JointState'}``.

        """
        self.path = Path(path)
        self.topics = dict(topics)
        self.count = 0
        """Messages written so far."""
        self._partial = self.path.parent / f'.{self.path.name}.partial'
        self._writer: Writer | None = None

    def open(self) -> None:
        """Claim the path and start writing beside it.

        Raises
        ------
        OutputError
            The path, or the place beside it, is occupied, or cannot be written.

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
            writer = Writer(self._partial / self.path.name, version=8, storage_plugin=StoragePlugin.MCAP)
            writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
            writer.open()
        except OSError as error:
            shutil.rmtree(self._partial, ignore_errors=True)
            raise OutputError(
                expected=f'a place for the bag at {self.path}', found=error.strerror, remedy='choose another path'
            ) from error
        typestore = get_typestore(Stores.ROS2_HUMBLE)
        self._connections = {
            topic: writer.add_connection(topic, message_type, typestore=typestore)
            for topic, message_type in self.topics.items()
        }
        self._writer = writer

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Append a serialised message of a topic with its stamp [ns]; equal stamps keep the order of writing."""
        self._writer.write(self._connections[topic], stamp, data)
        self.count += 1

    def close(self) -> bool:
        """Finish the bag and move it to its path; closing twice does nothing.

        Returns whether there is a bag: one without a message is of no use and leaves nothing behind.
        """
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()
            if self.count:
                (self._partial / self.path.name).rename(self.path)
            shutil.rmtree(self._partial)
        return self.count > 0

    def __enter__(self) -> BagWriter:
        """Open the bag."""
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, whatever happened: what was recorded is worth keeping."""
        self.close()
