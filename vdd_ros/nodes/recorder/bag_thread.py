"""A thread that writes a bag, so that a slow disk delays nobody who listens."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from functools import partial

from vdd_ros.common.errors import VddError
from vdd_ros.data.bag.bag_writer import BagWriter, Definition


class BagThread:
    """Writes what it is given, in order, and flushes it to the disk every so often."""

    def __init__(self, bag: BagWriter, flush_period: float) -> None:
        """Take over an open bag; flush every ``flush_period`` [s]."""
        self._bag = bag
        self._flush_period = flush_period
        self._queue: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._error: VddError | None = None
        self._thread = threading.Thread(target=self._run, name='bag', daemon=True)
        self.taken = 0
        """Bytes of messages that were taken in."""

    @property
    def backlog(self) -> int:
        """Messages that wait to be written."""
        return self._queue.qsize()

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def put(self, topic: str, stamp: int, data: bytes) -> None:
        """Hand over a message; what comes after an error is lost, and `check` tells."""
        self._queue.put(partial(self._bag.write, topic, stamp, data))
        self.taken += len(data)

    def add_topic(self, topic: str, kind: str, definition: Definition | None) -> None:
        """Prepare for one more topic before its first message."""
        self._queue.put(partial(self._bag.add_topic, topic, kind, definition))

    def check(self) -> None:
        """Raise what went wrong with the writing, if anything did."""
        if self._error is not None:
            raise self._error

    def close(self) -> bool:
        """Write what is left and close the bag; return whether there is one. Errors as those of `BagWriter.close`."""
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
