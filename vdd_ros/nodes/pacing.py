"""A thread that calls a function at absolute deadlines: timers lose ticks at the rates of control."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable

_NAP = 0.05
"""The longest sleep that nothing interrupts [s]; shorter ones end more precisely than a wait for an event."""
_REMEMBERED = 2000


def prioritise(priority: int) -> str:
    """Put the calling thread under the real-time scheduler SCHED_FIFO, from 1 to 99; return why not, if it may not be.

    0 leaves it under the ordinary one.
    """
    if not priority:
        return ''
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (AttributeError, OSError) as error:
        return str(error)
    return ''


class Pacer:
    """Calls a function once per period of the wall clock, without drift, until stopped.

    A call that comes late is made at once, and those after it catch up; after more than ``patience`` the lost time is
    given up, so that nothing runs wild after a machine has slept.
    """

    def __init__(
        self, period: float, tick: Callable[[], None], *, patience: float = 1.0, priority: int = 0, name: str = 'pacer'
    ) -> None:
        """Prepare to call ``tick`` every ``period`` [s].

        Parameters
        ----------
        period
            Between two calls [s].
        tick
            What to call.
        patience
            How much lost time is caught up [s].
        priority
            Of the thread under the real-time scheduler SCHED_FIFO, from 1 to 99; 0 for the ordinary scheduler.
        name
            Of the thread.

        """
        self._period = period
        self._tick = tick
        self._patience = patience
        self._priority = priority
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._error: Exception | None = None
        self.late = 0
        """Deadlines missed by more than a period."""
        self.lateness: deque[float] = deque(maxlen=_REMEMBERED)
        """By how much the newest calls came after their deadlines [s]."""
        self.refused: str = ''
        """Why the thread does not have the priority that was asked for; empty where it does."""

    def start(self) -> None:
        """Begin to call."""
        self._thread.start()

    def stop(self) -> None:
        """Make no more calls, and wait for the one under way; that one itself may ask for it."""
        self._stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def check(self) -> None:
        """Raise what the function raised, if it did; the calls have ended then."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        self.refused = prioritise(self._priority)
        deadline = time.monotonic()
        while not self._stopping.is_set():
            self.lateness.append(time.monotonic() - deadline)
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001 - raised again by the thread that checks
                self._error = error
                return
            deadline += self._period
            wait = deadline - time.monotonic()
            if wait > _NAP:
                self._stopping.wait(wait)
            elif wait > 0:
                time.sleep(wait)
            elif wait < -self._patience:
                deadline = time.monotonic()
            self.late += wait < -self._period
