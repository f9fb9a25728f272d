"""The physics thread, paced by the wall clock or at maximum speed."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

Result = TypeVar('Result')

_PATIENCE = 1.0
_POLL = 0.05
_WINDOW = 5.0
_TRIES, _TOGETHER = 10, 2e-5
"""Number of attempts to read two clocks, and maximum time between the two readings [s]."""


class PhysicsThread:
    """Calls ``advance`` at absolute deadlines, and executes actions of other threads in between.

    Delays are caught up. After a delay of more than a second, for example a suspend of the computer, the lost time is
    skipped.
    """

    def __init__(self, chunk: float, speed: float | None, advance: Callable[[], None]) -> None:
        """Prepare the thread.

        Parameters
        ----------
        chunk
            Simulated time per call of ``advance`` [s].
        speed
            Simulated seconds per second; None: maximum.
        advance
            Called in the thread while time is not paused, at every deadline or, without a speed, as fast as possible:
            simulates one chunk.

        """
        self._chunk = chunk
        self.speed = speed
        """Simulated seconds per second; None: maximum. Can be changed at any time."""
        self._advance = advance
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guard, name='physics')
        self._error: Exception | None = None
        self.paused = False
        """Whether time is paused."""
        self.late = 0
        """Number of deadlines missed by more than a chunk."""
        self.behind = 0.0
        """Delay of the last chunk [s]."""
        self.given_up = 0.0
        """Skipped time [s]."""
        self._deadline: float | None = None
        self._done = 0
        self._marks: list[tuple[float, int]] = []

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current chunk."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise the exception that has ended the thread, if any."""
        if self._error:
            raise self._error

    def post(self, action: Callable[[], Any]) -> None:
        """Execute an action in the thread before the next chunk."""
        self._orders.put(action)

    def do(self, action: Callable[[], Result]) -> Result:
        """Execute an action in the thread, and return its result or raise its exception."""
        answer: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

        def order() -> None:
            try:
                answer.put((action(), None))
            except Exception as error:  # noqa: BLE001 - raised again in the caller
                answer.put((None, error))

        self._orders.put(order)
        while True:
            try:
                result, error = answer.get(timeout=_POLL)
            except queue.Empty:
                self.check()
                if not self._thread.is_alive():
                    raise RuntimeError('the physics has ended') from None
                continue
            if error is not None:
                raise error
            return result

    @property
    def factor(self) -> float:
        """Simulated seconds per second over the last seconds; 0 if unknown."""
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] < _WINDOW] + [(now, self._done)]
        (since, before), (until, after) = self._marks[0], self._marks[-1]
        return (after - before) * self._chunk / (until - since) if until - since > 0.1 else 0.0

    @property
    def due(self) -> int:
        """Wall time at which the present chunk was due [ns].

        A chunk that is caught up is simulated late and quickly. Its due time still advances by the simulated time, so
        stamps derived from due times give the velocities of the simulation.
        """
        for _ in range(_TRIES):  # another process may run between the two clocks
            before, wall, after = time.monotonic(), time.time_ns(), time.monotonic()
            if after - before < _TOGETHER:
                break
        return wall if self._deadline is None else wall - round((before - self._deadline) * 1e9)

    def _guard(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised again by the thread that checks
            self._error = error

    def _run(self) -> None:
        deadline = time.monotonic()
        while not self._stopping.is_set():
            self._deadline = deadline
            self._obey()
            if self.paused:
                self._wait_for_order()
                deadline = time.monotonic()
                continue
            self._advance()
            self._done += 1
            speed = self.speed
            if speed is None:
                # Releases the interpreter, so that commands are received.
                time.sleep(0)
                deadline = time.monotonic()
                continue
            deadline += self._chunk / speed
            behind = time.monotonic() - deadline
            self.behind = max(0.0, behind)
            if behind < 0:
                time.sleep(-behind)
            elif behind > _PATIENCE:
                self.given_up += behind
                deadline = time.monotonic()
            self.late += behind > self._chunk / speed

    def _obey(self) -> None:
        while True:
            try:
                order = self._orders.get_nowait()
            except queue.Empty:
                return
            order()

    def _wait_for_order(self) -> None:
        try:
            order = self._orders.get(timeout=_POLL)
        except queue.Empty:
            return
        order()
