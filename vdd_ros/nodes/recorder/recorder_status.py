"""The status of a recording, for the terminal and for diagnostics."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SPAN = 5.0


@dataclass(frozen=True)
class Status:
    """The status of a recording."""

    running: bool
    """Whether an episode runs."""
    index: int
    """Number of the running or last episode, -1 before the first."""
    seconds: float
    """Duration of the running episode [s]."""
    outcomes: Mapping[str, int]
    """Number of episodes by outcome."""
    language: str
    """Current language instruction."""
    rates: Mapping[str, float]
    """Messages per second by topic [Hz]."""
    silent: Sequence[str]
    """Topics without a message."""
    free: int
    """Free disk space [byte]."""
    growth: float
    """Growth of the bag [byte/s]."""
    problem: str = ''
    """A problem such as late messages or a slow disk."""


class Rates:
    """Rates of messages and bytes over the last few seconds."""

    def __init__(self) -> None:
        """Start without data."""
        self._past: deque[tuple[float, Mapping[str, int], int]] = deque()
        self.rates: Mapping[str, float] = {}
        """Messages per second by topic [Hz]."""
        self.growth = 0.0
        """Growth of the bag [byte/s]."""

    def note(self, counts: Mapping[str, int], size: int) -> None:
        """Update with the total number of messages of each topic, and of bytes."""
        now = time.monotonic()
        self._past.append((now, counts, size))
        while len(self._past) > 2 and now - self._past[0][0] > _SPAN:
            self._past.popleft()
        then, before, smaller = self._past[0]
        if now > then:
            self.rates = {topic: (count - before.get(topic, 0)) / (now - then) for topic, count in counts.items()}
            self.growth = (size - smaller) / (now - then)
