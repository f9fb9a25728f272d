"""Until when all messages of a simulation in lockstep have arrived, by the counts in its marks."""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from vdd_ros.nodes.messages import EpisodeEvent


class _Bounds(NamedTuple):
    """An episode that has ended."""

    start: int
    """Publication time of the start mark [ns]."""
    end: int
    """Publication time of the end mark [ns]."""
    event: EpisodeEvent


class EpisodeGate:
    """Compares the messages that have arrived with the number of messages that the end mark of an episode states.

    A bridge in lockstep counts the states that it has published and the commands that it has accepted in an episode.
    All of them were published between the start mark and the end mark. No message of the episode is missing once the
    numbers agree.
    """

    def __init__(self, topics: Iterable[str]) -> None:
        """Count the messages of these topics."""
        self._published: dict[str, list[int]] = {topic: [] for topic in topics}
        self._start: int | None = None
        self._ended: deque[_Bounds] = deque()
        self.running = False
        """Whether an episode has started and not ended."""

    def add(self, published: int, topic: str) -> None:
        """Count a message by its publication time [ns]."""
        if topic in self._published:
            insort(self._published[topic], published)

    def on_mark(self, published: int, event: EpisodeEvent) -> None:
        """Process a mark with its publication time [ns]."""
        self.running = event.kind == 'start'
        if event.kind == 'start':
            self._start = published
        elif self._start is not None:
            self._ended.append(_Bounds(self._start, published, event))
            self._start = None

    @property
    def missing(self) -> Mapping[str, tuple[int, int]]:
        """Expected and received number of messages by topic, of the first episode that has ended incompletely."""
        if not self._ended:
            return {}
        start, end, event = self._ended[0]
        counted = {
            topic: (count, bisect_right(self._published[topic], end) - bisect_left(self._published[topic], start))
            for topic, count in event.counts.items()
            if topic in self._published
        }
        return {topic: (count, found) for topic, (count, found) in counted.items() if found < count}

    @property
    def first(self) -> int:
        """Number of the first episode that has ended incompletely, -1 if there is none."""
        return self._ended[0].event.index if self._ended else -1

    def take_complete(self) -> int | None:
        """Return the publication time of the newest end mark whose episode is complete.

        None if no further episode has become complete since the last call.
        """
        until = None
        while self._ended and not self.missing:
            until = self._ended.popleft().end
            for times in self._published.values():
                del times[: bisect_right(times, until)]
        return until
