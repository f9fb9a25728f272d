"""What the topics of a contract hold in one bag, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded
from vdd_ros.data.decode.frames import Frames, real

Word = tuple[int, int, 'str | float']
"""One value of a signal: stamp [ns], time of reception [ns], and what it says."""

_NEVER = -(1 << 62)
_NOTHING: Mapping = MappingProxyType({})


@dataclass(frozen=True)
class Stream:
    """The messages of one stream, in the order of their stamps; of equal stamps, in that of their arrival."""

    stamps: np.ndarray
    """Shape (message,) [ns], ascending: header stamps where the type has them, else those of the bag."""
    values: np.ndarray | Frames
    """Shape (message, width); of joints [rad], in the order of the contract's joints; of images, the pictures."""
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

    def __init__(self, name: str, width: int, *, pictures: bool = False) -> None:
        """Start empty; the name is what complaints call it, and pictures are held as they were decoded."""
        self.name = name
        self._width = width
        self._pictures = pictures
        self._new: list[Decoded] = []
        self._cut: int | None = None
        self._newest: int | None = None
        self._bytes = 0
        empty = np.zeros(0, dtype=np.int64)
        self._held = Stream(empty, Frames([], width) if pictures else np.zeros((0, width)), empty)

    def add(self, part: Decoded, report: ConversionReport) -> None:
        """Take in messages in the order of their arrival, and note those that are not in the order of their stamps."""
        stamps = part.stamps
        if not len(stamps):
            return
        if self._cut is not None and (late := stamps < self._cut).any():
            why = 'they came seconds after others of their time, when that episode was cut already'
            report.add('message', self.name, why, int(late.sum()), f'stamp {stamps[late][0]}')
            part = Decoded(stamps[~late], part.received[~late], part.values[~late])
            stamps = part.stamps
        before = np.maximum.accumulate(np.append(_NEVER if self.empty else self._newest, stamps))
        for wrong, why in (
            (stamps < before[:-1], 'stamps that go back: sorted'),
            (stamps == before[:-1], 'stamps that come again: of each, the last message counts'),
        ):
            if wrong.any():
                report.add('note', self.name, why, int(wrong.sum()), f'{stamps[wrong][0] / NANOSECONDS:.6f} s')
        self._newest = int(before[-1])
        if not self._pictures:
            part = Decoded(stamps, part.received, real(part.values))
        self._new.append(part)
        self._bytes += part.values.nbytes + 16 * len(stamps)

    @property
    def empty(self) -> bool:
        """Whether there has never been a message."""
        return self._newest is None

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._bytes

    def stream(self) -> Stream:
        """Return all that is held, in order."""
        if not self._new:
            return self._held
        parts, self._new = [self._held, *self._new], []
        stamps, received = (np.concatenate([getattr(part, name) for part in parts]) for name in ('stamps', 'received'))
        if self._pictures:
            values = Frames([*self._held.values.rows, *(row for part in parts[1:] for row in part.values)], self._width)
        else:
            values = np.concatenate([part.values for part in parts])
        step, later = np.diff(stamps), np.diff(received)
        if ((step < 0) | ((step == 0) & (later < 0))).any():
            order = np.lexsort((received, stamps))
            values = values.pick(order) if self._pictures else values[order]
            stamps, received = stamps[order], received[order]
        self._held = Stream(stamps, values, received)
        return self._held

    def forget(self, until: int) -> None:
        """Let go of what is older than a stamp [ns], but for the newest before it, which may still be held."""
        stream = self.stream()
        first = max(int(np.searchsorted(stream.stamps, until, side='left')) - 1, 0)
        self._cut = until
        if not first:
            return
        if self._pictures:
            values: np.ndarray | Frames = Frames(stream.values.rows[first:], self._width)
            self._bytes = sum(row.nbytes for row in values.rows)
        else:
            values = stream.values[first:].copy()
            self._bytes = values.nbytes
        self._held = Stream(stream.stamps[first:].copy(), values, stream.received[first:].copy())
        self._bytes += 16 * len(values)
