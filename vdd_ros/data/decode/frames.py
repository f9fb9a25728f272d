"""Pictures as they are held in memory: one or two bytes a number, and dense only where rows are asked for."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from vdd_ros.data.decode.serialized import Undecodable


def real(values: np.ndarray) -> np.ndarray:
    """Return what is held as float64: unsigned integers are shares of their greatest value, in [0, 1]."""
    if values.dtype.kind == 'u':
        return values / np.iinfo(values.dtype).max
    return values.astype(np.float64, copy=False)


def joined(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Join arrays along their first axis; of shares of eight and of sixteen bits, those of eight are widened."""
    if {part.dtype for part in parts} == {np.dtype('u1'), np.dtype('u2')}:
        parts = [part * np.uint16(257) if part.dtype == np.uint8 else part for part in parts]
    return np.concatenate(parts)


class Picture:
    """A picture that is held as the bytes of its message until its numbers are needed."""

    __slots__ = ('_read', '_refuse', 'size', 'values')

    def __init__(self, read: Callable[[], np.ndarray], size: int, refuse: Callable[[str], None]) -> None:
        """Hold a message.

        Parameters
        ----------
        read
            Decodes it, shape (width,); raises `Undecodable`. Called once, in any thread.
        size
            Its bytes.
        refuse
            Called with the reason where it cannot be decoded, in the thread that asked for it.

        """
        self._read: Callable[[], np.ndarray] | None = read
        self._refuse = refuse
        self.size = size
        """Bytes held."""
        self.values: np.ndarray | None = None
        """Shape (width,); None until `decode`, and where the message is no picture."""

    @property
    def waits(self) -> bool:
        """Whether it is not decoded yet."""
        return self._read is not None

    def _settle(self, found: np.ndarray | Undecodable) -> None:
        self._read = None
        if isinstance(found, Undecodable):
            self.size = 0
            self._refuse(str(found))
        else:
            self.values, self.size = found, found.nbytes

    @staticmethod
    def decode(pictures: Iterable[Picture]) -> None:
        """Decode those pictures that wait, on all cores."""
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
    """Return the threads that decode: Pillow and numpy let go of the interpreter's lock; None on a single core."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    return ThreadPoolExecutor(cores, 'pictures') if cores > 1 else None


if hasattr(os, 'register_at_fork'):
    os.register_at_fork(after_in_child=_pool.cache_clear)  # a child has none of its parent's threads


class Frames:
    """Pictures of one stream, an array for each; one that stands at several ticks is held once."""

    def __init__(self, rows: Sequence[np.ndarray | Picture], width: int) -> None:
        """Hold arrays of shape (``width``,): unsigned integers as shares of their greatest value, or floats."""
        self.rows = list(rows)
        """The arrays, in order; of a stream that is being read, also pictures that may not be decoded yet."""
        self.shape = (len(self.rows), width)
        """Number of pictures, and numbers in each."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.rows)

    def pick(self, index: np.ndarray) -> Frames:
        """Return the pictures at places, shape (tick,); where the place is negative, one of zeros."""
        none = np.zeros(self.shape[1], dtype=np.uint8)
        return Frames([self.rows[place] if place >= 0 else none for place in index.tolist()], self.shape[1])

    def decoded(self, index: np.ndarray) -> tuple[Frames, np.ndarray]:
        """Decode the pictures at places, shape (tick,).

        Returns
        -------
        The arrays, of zeros where the place is negative; and the places of those that are no pictures, ascending.

        """
        found = self.pick(index)
        pictures = {place: self.rows[place] for place in index.tolist() if place >= 0}
        pictures = {place: row for place, row in pictures.items() if isinstance(row, Picture)}
        Picture.decode(pictures.values())
        found.rows = [row.values if isinstance(row, Picture) else row for row in found.rows]
        refused = sorted(place for place, row in pictures.items() if row.values is None)
        return found, np.array(refused, dtype=np.intp)

    def dense(self, places: np.ndarray, columns: np.ndarray | slice) -> np.ndarray:
        """Return the numbers of pictures at places in some columns as float64, shape (place, column)."""
        return np.array([real(self.rows[place][columns]) for place in places.tolist()])


Part = np.ndarray | Frames


class Rows:
    """Numbers and pictures side by side, shape (time, column): read as an array, held compactly.

    A slice of rows is another of these; any other index gives float64 as an array of that shape would. Rows and columns
    are chosen independently of each other. ``numpy.asarray`` makes all of it dense.
    """

    ndim = 2
    dtype = np.dtype(np.float64)

    def __init__(self, parts: Sequence[Part]) -> None:
        """Put parts of equal length side by side, arrays of shape (time, width) or `Frames`."""
        self.parts = tuple(parts)
        """The parts, from left to right."""
        self._begins = np.cumsum([0, *(part.shape[1] for part in self.parts)])
        self.shape = (len(self.parts[0]), int(self._begins[-1]))
        """Rows and columns."""

    @property
    def size(self) -> int:
        """Numbers in all rows."""
        return self.shape[0] * self.shape[1]

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.shape[0]

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield one dense row after the other."""
        return (self[place] for place in range(len(self)))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all of it."""
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
            raise IndexError('choose the rows, then the columns')
        return self._dense(rows.ravel(), columns.ravel()).reshape((*rows.shape, *columns.shape))

    def pick(self, places: np.ndarray) -> Rows:
        """Return the rows at places, shape (row,), as another of these."""
        return Rows([part[places] if isinstance(part, np.ndarray) else part.pick(places) for part in self.parts])

    @classmethod
    def joined(cls, several: Sequence[Rows]) -> Rows:
        """Return the rows of several, one after the other; the parts of all have the same widths."""
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
        """Return the bytes of all of it, as an array gives them."""
        return np.asarray(self).tobytes()

    def strange(self) -> tuple[int, int] | None:
        """Return row and column of a number that is not finite; None if all are."""
        for part, begin in zip(self.parts, self._begins):
            rows = [part] if isinstance(part, np.ndarray) else part.rows
            for number, values in enumerate(rows):
                if values.dtype.kind == 'f' and not np.isfinite(values).all():
                    place = np.argwhere(~np.isfinite(values))[0].tolist()
                    row, column = place if isinstance(part, np.ndarray) else (number, *place)
                    return row, int(begin) + column
        return None


class RowWindows:
    """Windows of rows, shape (window, horizon, column): held as places in these rows, dense only where asked for.

    A slice or a list of windows is another of these, one place of all windows (``[:, -1]``) are `Rows`; any other index
    gives float64 as an array of that shape would. ``numpy.asarray`` makes all of it dense.
    """

    ndim = 3
    dtype = np.dtype(np.float64)

    def __init__(self, rows: Rows, places: np.ndarray) -> None:
        """Put rows at places, shape (window, horizon), into windows."""
        self.rows = rows
        """The rows."""
        self.places = places
        """Shape (window, horizon): which of them."""
        self.shape = (*places.shape, rows.shape[1])
        """Windows, horizon and columns."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.places)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        """Return all of it."""
        dense = self.rows[self.places]
        return dense if dtype is None else dense.astype(dtype, copy=False)

    def __getitem__(self, key: Any) -> Any:
        """Return some windows, one place of all of them, or numbers."""
        key = key if isinstance(key, tuple) else (key,)
        places = self.places[key[:2]]
        if len(key) == 3:
            return self.rows[places, key[2]]
        if len(key) == 2 and places.ndim == 1 and isinstance(key[0], slice):
            return self.rows.pick(places)
        return RowWindows(self.rows, places) if len(key) == 1 and places.ndim == 2 else self.rows[places]

    @classmethod
    def joined(cls, parts: Sequence[RowWindows]) -> RowWindows:
        """Return the windows of several, one after the other."""
        begins = np.cumsum([0, *(len(part.rows) for part in parts)])
        places = np.concatenate([part.places + begin for part, begin in zip(parts, begins)])
        return cls(Rows.joined([part.rows for part in parts]), places)


def side_by_side(parts: Sequence[Part]) -> np.ndarray | Rows:
    """Return parts of shape (..., width) next to each other: an array, or `Rows` where some are pictures."""
    if any(isinstance(part, Frames) for part in parts):
        return Rows(parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _run(places: np.ndarray) -> np.ndarray | slice:
    """Return ascending neighbours as a slice, which is not copied."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) and (np.diff(places) == 1).all() else places
