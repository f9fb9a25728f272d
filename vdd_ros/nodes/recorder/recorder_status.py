"""How a recording stands: what a person at the terminal and a monitor on the wire are told."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

_SPAN = 5.0


@dataclass(frozen=True)
class Status:
    """What a person wants to know while recording."""

    running: bool
    """Whether an episode runs."""
    index: int
    """Number of the episode that runs or ran last, -1 before the first."""
    seconds: float
    """How long it runs already [s]."""
    outcomes: Mapping[str, int]
    """How many episodes ended in which way."""
    language: str
    """The instruction that holds."""
    rates: Mapping[str, float]
    """Messages per second by topic [Hz]."""
    silent: Sequence[str]
    """Topics of which nothing has come yet."""
    free: int
    """Room on the disk [byte]."""
    growth: float
    """How fast the bag grows [byte/s]."""
    problem: str = ''
    """What should not be, such as late messages or a slow disk."""


class Rates:
    """How fast messages and bytes come, over the last few seconds."""

    def __init__(self) -> None:
        """Know nothing yet."""
        self._past: deque[tuple[float, Mapping[str, int], int]] = deque()
        self.rates: Mapping[str, float] = {}
        """Messages per second by topic [Hz]."""
        self.growth = 0.0
        """[byte/s]"""

    def note(self, counts: Mapping[str, int], size: int) -> None:
        """Take in how many messages of each topic, and how many bytes, have come so far."""
        now = time.monotonic()
        self._past.append((now, counts, size))
        while len(self._past) > 2 and now - self._past[0][0] > _SPAN:
            self._past.popleft()
        then, before, smaller = self._past[0]
        if now > then:
            self.rates = {topic: (count - before.get(topic, 0)) / (now - then) for topic, count in counts.items()}
            self.growth = (size - smaller) / (now - then)
