"""What the topics of a contract hold in one bag, decoded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded
from vdd_ros.data.decode.frames import Frames, Picture, real

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
        """Start empty; the name is what complaints call it, and pictures are held as they were decoded, or as bytes."""
        self.name = name
        self._width = width
        self._pictures = pictures
        self._new: list[Decoded] = []
        self._cut: int | None = None
        self._newest: int | None = None
        self._bytes = 0
        self._waiting: list[tuple[int, Picture]] = []
        self._count = 0
        self._stamps, self._received = (np.zeros(0, dtype=np.int64) for _ in range(2))
        self._numbers = np.zeros((0, 0 if pictures else width))
        self._rows: list[np.ndarray | Picture] = []

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
        if self._pictures:
            rows = _rows(part.values)
            self._bytes += sum(map(_size, rows))
            self._waiting += [item for item in zip(stamps.tolist(), rows) if isinstance(item[1], Picture)]
        else:
            part = Decoded(stamps, part.received, real(part.values))
            self._bytes += part.values.nbytes
        self._new.append(part)
        self._bytes += 16 * len(stamps)

    @property
    def empty(self) -> bool:
        """Whether there has never been a message."""
        return self._newest is None

    @property
    def size(self) -> int:
        """Bytes held; of pictures, by the newest count."""
        return self._bytes

    def count(self) -> None:
        """Count the bytes anew after pictures were decoded."""
        self.stream()
        held = sum(map(_size, self._rows)) if self._pictures else self._numbers[: self._count].nbytes
        self._bytes = held + 16 * self._count

    @property
    def waiting(self) -> list[tuple[int, Picture]]:
        """Stamps [ns] and pictures that are not decoded, in the order of their arrival."""
        self._waiting = [item for item in self._waiting if item[1].waits]
        return self._waiting

    def stream(self) -> Stream:
        """Return all that is held, in order; what is added later changes nothing of it."""
        parts, self._new = self._new, []
        for part in parts:
            count, end = self._count, self._count + len(part.stamps)
            self._stamps = _with_room(self._stamps, end)
            self._received = _with_room(self._received, end)
            self._stamps[count:end], self._received[count:end] = part.stamps, part.received
            if self._pictures:
                self._rows += _rows(part.values)
            else:
                self._numbers = _with_room(self._numbers, end)
                self._numbers[count:end] = part.values
            self._count = end
        if parts:
            self._sort(self._count - sum(len(part.stamps) for part in parts))
        stamps, received = self._stamps[: self._count], self._received[: self._count]
        values = Frames(self._rows, self._width) if self._pictures else self._numbers[: self._count]
        return Stream(stamps, values, received)

    def _sort(self, first: int) -> None:
        """Bring what is held in order, where messages from a place on were added."""
        new = slice(max(first - 1, 0), self._count)
        step, later = np.diff(self._stamps[new]), np.diff(self._received[new])
        if not ((step < 0) | ((step == 0) & (later < 0))).any():
            return
        order = np.lexsort((self._received[: self._count], self._stamps[: self._count]))
        self._keep(order)

    def _keep(self, places: np.ndarray) -> None:
        """Hold some of the messages alone, in another memory than that of the streams that were given out."""
        self._stamps, self._received = self._stamps[places], self._received[places]
        if self._pictures:
            self._rows = [self._rows[place] for place in places.tolist()]
        else:
            self._numbers = self._numbers[places]
        self._count = len(places)

    def forget(self, until: int) -> None:
        """Let go of what is older than a stamp [ns], but for the newest before it, which may still be held."""
        stream = self.stream()
        first = max(int(np.searchsorted(stream.stamps, until, side='left')) - 1, 0)
        self._cut = until
        while first and self._pictures and len(stream.values.decoded(np.array([first]))[1]):
            first -= 1  # that one is no picture: an older one still stands
        if first:
            self._keep(np.arange(first, self._count))
        self.count()


def _rows(values: np.ndarray) -> list[np.ndarray | Picture]:
    """Return pictures one by one, as `decoders.Decoded` has them."""
    return values[:, 0].tolist() if values.dtype == object else [*values]


def _size(row: np.ndarray | Picture) -> int:
    return row.size if isinstance(row, Picture) else row.nbytes


def _with_room(array: np.ndarray, count: int) -> np.ndarray:
    """Return an array for so many rows at least: the same, or one twice as long that begins like it."""
    if count <= len(array):
        return array
    longer = np.empty((max(count, 2 * len(array), 64), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
