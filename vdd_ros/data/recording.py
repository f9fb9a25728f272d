"""What the topics of a contract hold in one bag, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vdd_ros.contract import NANOSECONDS
from vdd_ros.data.account import Account
from vdd_ros.data.decoders import Decoded

Word = tuple[int, int, 'str | float']
"""One value of a signal: stamp [ns], time of reception [ns], and what it says."""

_COLUMNS = ('stamps', 'received', 'values')
_NEVER = -(1 << 62)
_NOTHING: Mapping = MappingProxyType({})


@dataclass(frozen=True)
class Stream:
    """The messages of one stream, in the order of their stamps; of equal stamps, in that of their arrival."""

    stamps: np.ndarray
    """Shape (message,) [ns], ascending: header stamps where the type has them, else those of the bag."""
    values: np.ndarray
    """Shape (message, width); of joints [rad], in the order of the contract's joints."""
    received: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Shape (message,) [ns]: when each was received; empty where that is not known."""


@dataclass(frozen=True)
class EpisodeMark:
    """The start or the end of a demonstration, or what was said of it later, as the recording tells it."""

    stamp: int
    event: str
    labels: Mapping[str, str]
    received: int = 0
    """When it was received [ns]."""


@dataclass(frozen=True)
class Recording:
    """What the topics of a contract hold in one bag, or in a part of it."""

    measured: Stream
    commanded: Stream
    marks: tuple[EpisodeMark, ...]
    streams: Mapping[str, Stream] = field(default_factory=lambda: _NOTHING)
    """What features with a topic of their own are made of, by the names that `sources.sources` gives."""
    words: Mapping[str, tuple[Word, ...]] = field(default_factory=lambda: _NOTHING)
    """By role, what `signal`, `discard`, `outcome` and `language` of `episodes` say, in the order of their stamps."""


class Track:
    """Gathers the messages of one stream as they are read."""

    def __init__(self, name: str, width: int) -> None:
        """Start empty; the name is what complaints call it."""
        self.name = name
        self._width = width
        self._parts: list[Decoded] = []
        self._cut: int | None = None
        self._newest: int | None = None

    def add(self, part: Decoded, account: Account) -> None:
        """Take in messages in the order of their arrival, and note those that are not in the order of their stamps."""
        stamps = part.stamps
        if not len(stamps):
            return
        if self._cut is not None and (late := stamps < self._cut).any():
            why = 'they came seconds after others of their time, when that episode was cut already'
            account.add('message', self.name, why, int(late.sum()), f'stamp {stamps[late][0]}')
            part = Decoded(stamps[~late], part.received[~late], part.values[~late])
            stamps = part.stamps
        before = np.maximum.accumulate(np.append(_NEVER if self.empty else self._newest, stamps))
        for wrong, why in (
            (stamps < before[:-1], 'stamps that go back: sorted'),
            (stamps == before[:-1], 'stamps that come again: of each, the last message counts'),
        ):
            if wrong.any():
                account.add('note', self.name, why, int(wrong.sum()), f'{stamps[wrong][0] / NANOSECONDS:.6f} s')
        self._newest = int(before[-1])
        self._parts.append(part)

    @property
    def empty(self) -> bool:
        """Whether there has never been a message."""
        return self._newest is None

    @property
    def size(self) -> int:
        """Bytes held."""
        return sum(part.values.nbytes + 16 * len(part.stamps) for part in self._parts)

    def stream(self) -> Stream:
        """Return all that is held, in order."""
        if len(self._parts) > 1:
            self._parts = [
                Decoded(*(np.concatenate([getattr(part, name) for part in self._parts]) for name in _COLUMNS))
            ]
        if not self._parts:
            empty = np.zeros(0, dtype=np.int64)
            return Stream(empty, np.zeros((0, self._width)), empty)
        (part,) = self._parts
        order = np.lexsort((part.received, part.stamps))
        return Stream(part.stamps[order], part.values[order], part.received[order])

    def forget(self, until: int) -> None:
        """Let go of what is older than a stamp [ns], but for the newest before it, which may still be held."""
        stream = self.stream()
        first = max(int(np.searchsorted(stream.stamps, until, side='left')) - 1, 0)
        self._parts = [Decoded(stream.stamps[first:], stream.received[first:], stream.values[first:])]
        self._cut = until
