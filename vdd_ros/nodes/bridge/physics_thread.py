"""The thread that physics runs in when it does not wait for commands: paced by the wall clock, or as fast as it can."""

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


class PhysicsThread:
    """Calls ``advance`` again and again, at absolute deadlines, and in between whatever others want done there.

    What comes late is made up for; after more than a second the lost time is given up, so that nothing runs wild after
    a machine has slept.
    """

    def __init__(self, chunk: float, speed: float | None, advance: Callable[[], None]) -> None:
        """Prepare to simulate.

        Parameters
        ----------
        chunk
            Simulated time in one call of ``advance`` [s].
        speed
            Simulated seconds per second; None: as many as there can be.
        advance
            Simulates one chunk.

        """
        self._chunk = chunk
        self.speed = speed
        """Simulated seconds per second; None: as many as there can be. May be set at any time."""
        self._advance = advance
        self._orders: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._guard, name='physics')
        self._error: Exception | None = None
        self.paused = False
        """Whether time stands still."""
        self.late = 0
        """Deadlines missed by more than a chunk."""
        self.behind = 0.0
        """How much later than it should the last chunk was done [s]."""
        self.given_up = 0.0
        """Time that was lost and will not be made up for [s]."""
        self._done = 0
        self._marks: list[tuple[float, int]] = []

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after what is under way."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    def check(self) -> None:
        """Raise what went wrong in the thread, if something did; it has ended then."""
        if self._error:
            raise self._error

    def post(self, action: Callable[[], Any]) -> None:
        """Let something be done in the thread, before the next chunk."""
        self._orders.put(action)

    def do(self, action: Callable[[], Result]) -> Result:
        """Let something be done in the thread, and return what comes of it or raise what it raised."""
        answer: queue.SimpleQueue[tuple[Result | None, Exception | None]] = queue.SimpleQueue()

        def order() -> None:
            try:
                answer.put((action(), None))
            except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
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
        """Simulated seconds per second, over the last few seconds; 0 while nothing is known."""
        now = time.monotonic()
        self._marks = [mark for mark in self._marks if now - mark[0] < _WINDOW] + [(now, self._done)]
        (since, before), (until, after) = self._marks[0], self._marks[-1]
        return (after - before) * self._chunk / (until - since) if until - since > 0.1 else 0.0

    def _guard(self) -> None:
        try:
            self._run()
        except Exception as error:  # noqa: BLE001 - raised again by the thread that checks
            self._error = error

    def _run(self) -> None:
        deadline = time.monotonic()
        while not self._stopping.is_set():
            self._obey()
            if self.paused:
                self._wait_for_order()
                deadline = time.monotonic()
                continue
            self._advance()
            self._done += 1
            speed = self.speed
            if speed is None:
                # Lets go of the interpreter, or commands would hardly ever be heard.
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
