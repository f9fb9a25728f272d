"""A thread that calls a function at absolute deadlines: timers lose ticks at the rates of control."""

from __future__ import annotations

import threading
import time
from typing import Callable


class Pacer:
    """Calls a function once per period of the wall clock, without drift, until stopped.

    A call that comes late is made at once, and those after it catch up; after more than ``patience`` the lost time is
    given up, so that nothing runs wild after a machine has slept.
    """

    def __init__(self, period: float, tick: Callable[[], None], *, patience: float = 1.0) -> None:
        """Prepare to call ``tick`` every ``period`` [s]."""
        self._period = period
        self._tick = tick
        self._patience = patience
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name='pacer')
        self._error: Exception | None = None
        self.late = 0
        """Deadlines missed by more than a period."""

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more calls, and wait for the one under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what the function raised, if it did; the calls have ended then."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        deadline = time.monotonic()
        while not self._stopping.is_set():
            try:
                self._tick()
            except Exception as error:  # whatever it is, it belongs to the thread that checks, not to this one
                self._error = error
                return
            deadline += self._period
            wait = deadline - time.monotonic()
            if wait > 0:
                self._stopping.wait(wait)
            elif wait < -self._patience:
                deadline = time.monotonic()
            self.late += wait < -self._period
