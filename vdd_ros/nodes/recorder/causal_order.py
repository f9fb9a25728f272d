"""The order in which messages of several topics were published, and the time that unstamped ones belong to."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator
from typing import Any, NamedTuple


class Stamped(NamedTuple):
    """A message with the stamp that it gets in the bag."""

    topic: str
    stamp: int
    """[ns]"""
    data: Any
    """Serialised, or whatever else was put in its place."""


class CausalOrder:
    """Reorders messages by when they were published, and stamps them in the time of the robot.

    Readers of different topics deliver in any order, and commands carry no stamp. What counts is when each message left
    its publisher: a command belongs to the newest state that was out by then. Holding messages back for a short while
    puts late deliveries in their place.
    """

    def __init__(self, window: int, *, header_time: bool, lasting: Container[str] = ()) -> None:
        """Set the rules.

        Parameters
        ----------
        window
            How long a message is held back [ns].
        header_time
            Whether time is what the headers say (simulation) or the wall clock of the publishers (a real robot).
        lasting
            Topics whose messages hold for ever: they wait until time is known.

        """
        self._window = window
        self._header_time = header_time
        self._lasting = lasting
        self._waiting: list[tuple[str, Any]] = []
        self._held: list[tuple[int, int, str, int | None, Any]] = []
        self._arrivals = 0
        self._newest: int | None = None
        self._released_until = 0
        self.late = 0
        """Messages that came after the window had closed; their place may be wrong."""
        self.timeless = 0
        """Unstamped messages before the first stamped one; dropped, since no time is known for them."""

    def add(self, published: int, topic: str, header: int | None, data: Any) -> None:
        """Take in a message: when it left its publisher [ns, wall clock], and its header's stamp [ns] if it has one."""
        self.late += published < self._released_until
        heapq.heappush(self._held, (published, self._arrivals, topic, header, data))
        self._arrivals += 1

    def release(self, now: int | None) -> Iterator[Stamped]:
        """Yield, in order, what is older than the window at ``now`` [ns, wall clock]; everything if that is None."""
        until = None if now is None else now - self._window
        while self._held and (until is None or self._held[0][0] <= until):
            published, _, topic, header, data = heapq.heappop(self._held)
            self._released_until = max(self._released_until, published)
            if not self._header_time:
                yield Stamped(topic, published, data)
                continue
            if header is not None:
                self._newest = header
            if self._newest is None:
                if topic in self._lasting:
                    self._waiting.append((topic, data))
                else:
                    self.timeless += 1
                continue
            while self._waiting:
                yield Stamped(self._waiting[0][0], self._newest, self._waiting.pop(0)[1])
            yield Stamped(topic, self._newest, data)
