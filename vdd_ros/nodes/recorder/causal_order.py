"""Order of publication of messages of several topics, and stamps of unstamped messages."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterator
from typing import Any, NamedTuple


class Stamped(NamedTuple):
    """A message of a topic, with the stamp under which it is written to the bag."""

    topic: str
    stamp: int
    """Stamp [ns]."""
    data: Any
    """Serialised message, or another value."""


class CausalOrder:
    """Sorts messages by publication time, and stamps them in the time of the robot.

    Subscriptions of different topics deliver in any order, and commands have no stamp. A command belongs to the last
    state that was published before the command. Messages are delayed by a short window, which permits sorting late
    deliveries.
    """

    def __init__(self, window: int, *, header_time: bool, lasting: Container[str] = ()) -> None:
        """Configure the order.

        Parameters
        ----------
        window
            Delay of messages [ns].
        header_time
            Whether time is given by headers (simulation) or by the wall clock of the publishers (robot).
        lasting
            Topics with permanently valid messages, which are kept until time is known.

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
        """Number of messages that arrived after the window; their order may be wrong."""
        self.timeless = 0
        """Number of unstamped messages before the first stamped one; dropped, because their time is unknown."""

    def add(self, published: int, topic: str, header: int | None, data: Any) -> None:
        """Add a message with its publication time [ns, wall clock], and its header stamp [ns] if it has one."""
        self.late += published < self._released_until
        heapq.heappush(self._held, (published, self._arrivals, topic, header, data))
        self._arrivals += 1

    def release(self, now: int | None) -> Iterator[Stamped]:
        """Yield messages older than the window at ``now`` [ns, wall clock], in order; all if ``now`` is None."""
        yield from self.release_until(None if now is None else now - self._window)

    def release_until(self, until: int | None) -> Iterator[Stamped]:
        """Yield messages published until a time [ns, wall clock], in order; all if ``until`` is None."""
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
