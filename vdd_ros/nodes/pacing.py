"""A thread that calls a function at absolute deadlines, because timers lose ticks at control rates."""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

_NAP = 0.05
"""Maximum uninterruptible sleep [s]; sleeping is more precise than waiting for an event."""
_REMEMBERED = 2000


def prioritise(priority: int) -> str:
    """Set the SCHED_FIFO priority of this thread, from 1 to 99; return the reason for a failure, or an empty text.

    0 keeps the default scheduler.
    """
    if not priority:
        return ''
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(priority))
    except (AttributeError, OSError) as error:
        return str(error)
    return ''


@dataclass
class Deadlines:
    """The times at which a function is to be called, whenever its calls end. All times are in seconds."""

    period: float
    """From one deadline to the next."""
    next: float
    """The next deadline."""
    spacing: float = 0.0
    """Least time from one call to the next, less than the period; 0 to catch up on all deadlines."""
    patience: float = 1.0
    """Greatest delay to catch up."""
    late: int = 0
    """Number of deadlines missed by more than a period."""

    def after(self, began: float, now: float) -> float:
        """Return when to call next, after a call from ``began`` to ``now``; a time before ``now`` means at once."""
        self.next += self.period
        late = now - self.next
        self.late += late > self.period
        if late > self.patience:
            self.next = now
        elif late > self.period and self.spacing:
            self.next += late // self.period * self.period
        return max(self.next, began + self.spacing)


class Pacer:
    """Calls a function once per period of the wall clock, without drift, until stopped.

    Late calls are made immediately, and the following calls catch up. With ``spacing``, following calls return to their
    deadlines, and deadlines that are missed by a period or more are skipped. After a delay of more than ``patience``,
    for example a suspend of the computer, the lost time is skipped.
    """

    def __init__(
        self,
        period: float,
        tick: Callable[[], None],
        *,
        spacing: float = 0.0,
        patience: float = 1.0,
        priority: int = 0,
        name: str = 'pacer',
    ) -> None:
        """Prepare to call ``tick`` every ``period`` [s].

        Parameters
        ----------
        period
            Period of the calls [s].
        tick
            Called once per period, in the thread of the pacer.
        spacing
            Minimum time between two calls [s], less than the period; 0 to catch up.
        patience
            Maximum delay to catch up [s].
        priority
            Priority of the thread in the real-time scheduler SCHED_FIFO, from 1 to 99; 0 for the default scheduler.
        name
            Name of the thread.

        """
        self._deadlines = Deadlines(period, 0.0, spacing, patience)
        self._tick = tick
        self._priority = priority
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name)
        self._error: Exception | None = None
        self.lateness: deque[float] = deque(maxlen=_REMEMBERED)
        """Delays of the last calls after their deadlines [s]."""
        self.refused: str = ''
        """Why the thread lacks the requested priority; empty if it has it."""

    @property
    def late(self) -> int:
        """Number of deadlines missed by more than a period."""
        return self._deadlines.late

    def start(self) -> None:
        """Start calling."""
        self._thread.start()

    def stop(self) -> None:
        """Stop calling, and wait for a running call; may be called from within the function."""
        self._stopping.set()
        if self._thread.is_alive() and threading.current_thread() is not self._thread:
            self._thread.join()

    def check(self) -> None:
        """Raise the exception of the function that has ended the calls, if any."""
        if self._error:
            raise self._error

    def _run(self) -> None:
        self.refused = prioritise(self._priority)
        deadlines = self._deadlines
        deadlines.next = time.monotonic()
        while not self._stopping.is_set():
            began = time.monotonic()
            self.lateness.append(began - deadlines.next)
            try:
                self._tick()
            except Exception as error:  # noqa: BLE001 - raised again by the thread that checks
                self._error = error
                return
            now = time.monotonic()
            wait = deadlines.after(began, now) - now
            if wait > _NAP:
                self._stopping.wait(wait)
            elif wait > 0:
                time.sleep(wait)
