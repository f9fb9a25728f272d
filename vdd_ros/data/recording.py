"""The decoded messages of the topics of a contract in one bag."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded
from vdd_ros.data.decode.frames import Frames, Picture, real

SignalValue = tuple[int, int, 'str | float']
"""One value of a signal: stamp [ns], reception time [ns], value."""

_NEVER = -(1 << 62)
_NOTHING: Mapping = MappingProxyType({})


@dataclass(frozen=True)
class Stream:
    """The messages of one stream, sorted by stamp; equal stamps keep the order of arrival."""

    stamps: np.ndarray
    """Shape (message,) [ns], ascending: header stamps if the type has them, else the log times of the bag."""
    values: np.ndarray | Frames
    """Shape (message, width). Joints are in [rad] and in the order of the contract. Image streams hold `Frames`."""
    received: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Shape (message,) [ns]: reception times; empty if they are unknown."""


@dataclass(frozen=True)
class EpisodeMark:
    """A recorded event of the episode topic: start, end, label or discard."""

    stamp: int
    event: str
    labels: Mapping[str, str]
    received: int = 0
    """Reception time [ns]."""


@dataclass(frozen=True)
class Recording:
    """The decoded topics of a contract in one bag, or in a part of it."""

    measured: Stream
    commanded: Stream
    marks: tuple[EpisodeMark, ...]
    streams: Mapping[str, Stream] = field(default_factory=lambda: _NOTHING)
    """Streams of the topic features, by the names given by `sources.sources`."""
    signals: Mapping[str, tuple[SignalValue, ...]] = field(default_factory=lambda: _NOTHING)
    """Values of the `signal`, `discard`, `outcome` and `language` topics of `episodes`, by role, sorted by stamp."""


class Track:
    """Collects the messages of one stream while they are read."""

    def __init__(self, name: str, width: int, *, pictures: bool = False) -> None:
        """Start empty. Reports use the name. Image tracks keep images decoded or as bytes."""
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
        """Add messages in the order of arrival, and report those that are not in the order of their stamps."""
        stamps = part.stamps
        if not len(stamps):
            return
        if self._cut is not None and (late := stamps < self._cut).any():
            why = 'they arrived after their episode had been cut'
            report.add('message', self.name, why, int(late.sum()), f'stamp {stamps[late][0]}')
            part = Decoded(stamps[~late], part.received[~late], part.values[~late])
            stamps = part.stamps
        before = np.maximum.accumulate(np.append(_NEVER if self.empty else self._newest, stamps))
        for wrong, why in (
            (stamps < before[:-1], 'stamps not in order: sorted'),
            (stamps == before[:-1], 'repeated stamps: the last message of each is used'),
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
        """Whether no message was ever added."""
        return self._newest is None

    @property
    def size(self) -> int:
        """Size of the stored messages [byte]. The size of images is as of the last `count`."""
        return self._bytes

    def count(self) -> None:
        """Update the size after images were decoded."""
        self.stream()
        held = sum(map(_size, self._rows)) if self._pictures else self._numbers[: self._count].nbytes
        self._bytes = held + 16 * self._count

    @property
    def waiting(self) -> list[tuple[int, Picture]]:
        """Stamps [ns] and images that are not decoded yet, in the order of arrival."""
        self._waiting = [item for item in self._waiting if item[1].waits]
        return self._waiting

    def stream(self) -> Stream:
        """Return all stored messages, sorted. Later additions do not change the result."""
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
        """Sort what is held after messages were added from index `first` on."""
        new = slice(max(first - 1, 0), self._count)
        step, later = np.diff(self._stamps[new]), np.diff(self._received[new])
        if not ((step < 0) | ((step == 0) & (later < 0))).any():
            return
        order = np.lexsort((self._received[: self._count], self._stamps[: self._count]))
        self._keep(order)

    def _keep(self, places: np.ndarray) -> None:
        """Keep some of the messages, in new memory: earlier results of `stream` stay unchanged."""
        self._stamps, self._received = self._stamps[places], self._received[places]
        if self._pictures:
            self._rows = [self._rows[place] for place in places.tolist()]
        else:
            self._numbers = self._numbers[places]
        self._count = len(places)

    def forget(self, until: int) -> None:
        """Drop messages older than a stamp [ns], except the last message before the stamp, which may still be valid."""
        stream = self.stream()
        first = max(int(np.searchsorted(stream.stamps, until, side='left')) - 1, 0)
        self._cut = until
        while first and self._pictures and len(stream.values.decoded(np.array([first]))[1]):
            first -= 1  # it is no valid image: an older image is still in use
        if first:
            self._keep(np.arange(first, self._count))
        self.count()


def _rows(values: np.ndarray) -> list[np.ndarray | Picture]:
    """Return images as a list, in the form of `decoders.Decoded`."""
    return values[:, 0].tolist() if values.dtype == object else [*values]


def _size(row: np.ndarray | Picture) -> int:
    return row.size if isinstance(row, Picture) else row.nbytes


def _with_room(array: np.ndarray, count: int) -> np.ndarray:
    """Return an array with at least `count` rows: the same one, or one of twice the size with the same content."""
    if count <= len(array):
        return array
    longer = np.empty((max(count, 2 * len(array), 64), *array.shape[1:]), array.dtype)
    longer[: len(array)] = array
    return longer
