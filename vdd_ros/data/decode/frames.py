"""Images in memory: one or two bytes per number, expanded to dense arrays only for requested rows."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vdd_ros.data.decode.serialized import Undecodable


def real(values: np.ndarray) -> np.ndarray:
    """Return stored values as float64: unsigned integers are scaled to [0, 1] by their maximum."""
    if values.dtype.kind == 'u':
        return values / np.iinfo(values.dtype).max
    return values.astype(np.float64, copy=False)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays along the first axis; 8 bit integers are widened if joined with 16 bit ones."""
    if {part.dtype for part in parts} == {np.dtype('u1'), np.dtype('u2')}:
        parts = [part * np.uint16(257) if part.dtype == np.uint8 else part for part in parts]
    return np.concatenate(parts)


class Picture:
    """An image that is stored as message bytes until its values are needed."""

    __slots__ = ('_read', '_refuse', 'size', 'values')

    def __init__(self, read: Callable[[], np.ndarray], size: int, refuse: Callable[[str], None]) -> None:
        """Keep a message.

        Parameters
        ----------
        read
            Decodes the image to shape (width,); raises `Undecodable`. Called once, in any thread.
        size
            Size of the message [byte].
        refuse
            Called with the reason if decoding fails, in the thread that calls `decode`.

        """
        self._read: Callable[[], np.ndarray] | None = read
        self._refuse = refuse
        self.size = size
        """Size of the stored message [byte]."""
        self.values: np.ndarray | None = None
        """Shape (width,); None before `decode`, and if decoding failed."""

    @property
    def waits(self) -> bool:
        """Whether the image is not decoded yet."""
        return self._read is not None

    def _settle(self, found: np.ndarray | Undecodable) -> None:
        self._read = None
        if isinstance(found, Undecodable):
            self.size = 0
            self._refuse(str(found))
        else:
            self.values, self.size = found, found.nbytes

    def array(self) -> np.ndarray | None:
        """Return the values, shape (width,), and decode the image if necessary; None if decoding fails."""
        Picture.decode([self])
        return self.values

    @staticmethod
    def decode(pictures: Iterable[Picture]) -> None:
        """Decode the pending images, on all cores."""
        waiting = [picture for picture in pictures if picture.waits]
        pool = _pool() if len(waiting) > 1 else None
        found = (pool.map if pool is not None else map)(_read, [picture._read for picture in waiting])
        for picture, values in zip(waiting, found):
            picture._settle(values)


def _read(read: Callable[[], np.ndarray]) -> np.ndarray | Undecodable:
    try:
        return read()
    except Undecodable as error:
        return error


@functools.lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor | None:
    """Return the decoding threads, or None on a single core. Pillow and numpy release the interpreter lock."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, 'pictures') if cores > 1 else None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # threads do not survive a fork


class Frames:
    """The images of one stream; an image that is valid at several ticks is stored once."""

    def __init__(self, rows: Sequence[np.ndarray | Picture], width: int) -> None:
        """Store arrays of shape (``width``,): floats, or unsigned integers as shares of their maximum."""
        self.rows = list(rows)
        """The arrays in order. While a stream is being read, also images that are not decoded yet."""
        self.shape = (len(self.rows), width)
        """Number of images, and of values per image."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.rows)

    def pick(self, index: np.ndarray | slice) -> Frames:
        """Return the images with the given indices, shape (tick,); a negative index selects an image of zeros."""
        if isinstance(index, slice):
            return Frames(self.rows[index], self.shape[1])
        none = np.zeros(self.shape[1], dtype=np.uint8)
        return Frames([self.rows[place] if place >= 0 else none for place in index.tolist()], self.shape[1])

    def decoded(self, index: np.ndarray) -> tuple[Frames, np.ndarray]:
        """Decode the images with the given indices, shape (tick,).

        Returns
        -------
        The images, with zeros for negative indices; and the ascending indices of images that could not be decoded.

        """
        found = self.pick(index)
        pictures = {place: self.rows[place] for place in index.tolist() if place >= 0}
        pictures = {place: row for place, row in pictures.items() if isinstance(row, Picture)}
        Picture.decode(pictures.values())
        found.rows = [row.values if isinstance(row, Picture) else row for row in found.rows]
        refused = sorted(place for place, row in pictures.items() if row.values is None)
        return found, np.array(refused, dtype=np.intp)

    def dense(self, places: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        """Return some columns of the images with the given indices as float64, shape (image, column)."""
        return np.array([real(self.rows[place][columns]) for place in places.tolist()])


Part = np.ndarray | Frames


class Rows:
    """Vectors and images, concatenated along the columns, shape (time, column): read as an array, stored compactly.

    A slice of rows is again a `Rows`. Any other index returns float64, as for an array of that shape. Rows and columns
    are selected independently of each other. ``numpy.asarray`` expands everything.
    """

    ndim = 2
    dtype = np.dtype(np.float64)

    def __init__(self, parts: Sequence[Part]) -> None:
        """Concatenate parts of equal length along the columns: arrays of shape (time, width) or `Frames`."""
        self.parts = tuple(parts)
        """The parts from left to right."""
        self._begins = np.cumsum([0, *(part.shape[1] for part in self.parts)])
        self.shape = (len(self.parts[0]), int(self._begins[-1]))
        """Number of rows and columns."""

    @property
    def size(self) -> int:
        """Total number of values."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield dense rows."""
        return (self[place] for place in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return everything as a dense array."""
        dense = self[np.arange(len(self))]
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Return some rows, or some columns of some rows."""
        if isinstance(key, slice):
            return self.pick(np.arange(len(self))[key])
        key = key if isinstance(key, tuple) else (key,)
        if key[0] is Ellipsis:
            key = (slice(None), *key[1:])
        if len(key) > 2 or key[-1] is Ellipsis:
            raise IndexError(f'{len(key)} indices for rows and columns')
        chosen = key[1] if len(key) == 2 else slice(None)
        rows, columns = np.arange(len(self))[key[0]], np.arange(self.shape[1])[chosen]
        if rows.ndim and columns.ndim and not isinstance(key[0], slice) and not isinstance(chosen, slice):
            raise IndexError('select the rows, then the columns')
        return self._dense(rows.ravel(), columns.ravel()).reshape((*rows.shape, *columns.shape))

    def pick(self, places: np.ndarray) -> Rows:
        """Return the rows with the given indices, shape (row,), as `Rows`."""
        return Rows([part[places] if isinstance(part, np.ndarray) else part.pick(places) for part in self.parts])

    @classmethod
    def joined(cls, several: Sequence[Rows]) -> Rows:
        """Concatenate several `Rows`; their parts have equal widths."""
        return cls([
            np.concatenate(parts)
            if isinstance(parts[0], np.ndarray)
            else Frames([row for part in parts for row in part.rows], parts[0].shape[1])
            for parts in zip(*(rows.parts for rows in several), strict=True)
        ])  # fmt: skip

    def _dense(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        found = np.empty((len(rows), len(columns)))
        for part, begin, end in zip(self.parts, self._begins, self._begins[1:]):
            to = np.flatnonzero((columns >= begin) & (columns < end))
            if not len(to) or not len(rows):
                continue
            taken = columns[to] - begin
            taken, to = _run(taken), _run(to)
            found[:, to] = part[rows][:, taken] if isinstance(part, np.ndarray) else part.dense(rows, taken)
        return found

    def tobytes(self) -> bytes:
        """Return the bytes of the dense array."""
        return np.asarray(self).tobytes()

    def strange(self) -> tuple[int, int] | None:
        """Return row and column of the first value that is not finite; None if all values are finite."""
        for part, begin in zip(self.parts, self._begins):
            rows = [part] if isinstance(part, np.ndarray) else part.rows
            for number, values in enumerate(rows):
                if values.dtype.kind == 'f' and not np.isfinite(values).all():
                    place = np.argwhere(~np.isfinite(values))[0].tolist()
                    row, column = place if isinstance(part, np.ndarray) else (number, *place)
                    return row, int(begin) + column
        return None


class RowWindows:
    """Windows of rows, shape (window, horizon, column): stored as row indices, dense only where requested.

    A slice or a list of windows is again a `RowWindows`. One step of all windows (``[:, -1]``) is a `Rows`. Any other
    index returns float64, as for an array of that shape. ``numpy.asarray`` expands everything.
    """

    ndim = 3
    dtype = np.dtype(np.float64)

    def __init__(self, rows: Rows, places: np.ndarray) -> None:
        """Build windows from the rows with the given indices, shape (window, horizon)."""
        self.rows = rows
        """The rows."""
        self.places = places
        """Shape (window, horizon): row indices."""
        self.shape = (*places.shape, rows.shape[1])
        """Number of windows, horizon and columns."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return everything as a dense array."""
        dense = self.rows[self.places]
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Return some windows, one step of all windows, or values."""
        key = key if isinstance(key, tuple) else (key,)
        places = self.places[key[:2]]
        if len(key) == 3:
            return self.rows[places, key[2]]
        if len(key) == 2 and places.ndim == 1 and isinstance(key[0], slice):
            return self.rows.pick(places)
        return RowWindows(self.rows, places) if len(key) == 1 and places.ndim == 2 else self.rows[places]

    @classmethod
    def joined(cls, parts: Sequence[RowWindows]) -> RowWindows:
        """Concatenate several `RowWindows`."""
        begins = np.cumsum([0, *(len(part.rows) for part in parts)])
        places = np.concatenate([part.places + begin for part, begin in zip(parts, begins)])
        return cls(Rows.joined([part.rows for part in parts]), places)


def side_by_side(parts: Sequence[Part]) -> np.ndarray | Rows:
    """Concatenate parts of shape (..., width): an array, or `Rows` if some are images."""
    if any(isinstance(part, Frames) for part in parts):
        return Rows(parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _run(places: np.ndarray) -> np.ndarray | slice:
    """Return consecutive indices as a slice, which avoids a copy."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) and (np.diff(places) == 1).all() else places
