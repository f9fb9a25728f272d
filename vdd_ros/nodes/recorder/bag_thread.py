"""A thread that writes a bag; a slow disk then does not delay subscriptions."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from vdd_ros.common.errors import VddError
from vdd_ros.data.bag.bag_writer import BagWriter, Definition


class BagThread:
    """Writes messages in order, and flushes them to the disk regularly."""

    def __init__(self, bag: BagWriter, flush_period: float) -> None:
        """Take ownership of an open bag; flush every ``flush_period`` [s]."""
        self._bag = bag
        self._flush_period = flush_period
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: VddError | None = None
        self._thread = threading.Thread(target=self._run, name='bag', daemon=True)
        self.taken = 0
        """Bytes of messages received."""

    @property
    def backlog(self) -> int:
        """Number of messages to be written."""
        return self._queue.qsize()

    def start(self) -> None:
        """Start writing."""
        self._thread.start()

    def put(self, topic: str, stamp: int, data: bytes) -> None:
        """Queue a message. Messages after an error are lost; see `check`."""
        self._queue.put(partial(self._bag.write, topic, stamp, data))
        self.taken += len(data)

    def add_topic(self, topic: str, kind: str, definition: Definition | None) -> None:
        """Add a topic before its first message."""
        self._queue.put(partial(self._bag.add_topic, topic, kind, definition))

    def check(self) -> None:
        """Raise the error of the writer, if any."""
        if self._error is not None:
            raise self._error

    def close(self) -> bool:
        """Write the remaining messages and close the bag; result and errors as for `BagWriter.close`."""
        self._queue.put(None)
        self._thread.join()
        return self._bag.close()

    def _run(self) -> None:
        due = None
        while True:
            try:
                item = self._queue.get(timeout=None if due is None else max(due - time.monotonic(), 0))
                if item is None:
                    return
                if self._error is None:
                    item()
                    due = due or time.monotonic() + self._flush_period
            except queue.Empty:
                pass
            except VddError as error:
                self._error = error
            if due is not None and time.monotonic() >= due:
                due = None
                try:
                    self._bag.flush()
                except VddError as error:
                    self._error = error
