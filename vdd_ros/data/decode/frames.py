"""Pictures as they are held in memory: one or two bytes a number, and dense only where rows are asked for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np


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


class Frames:
    """Pictures of one stream, an array for each; one that stands at several ticks is held once."""

    def __init__(self, rows: Sequence[np.ndarray], width: int) -> None:
        """Hold arrays of shape (``width``,): unsigned integers as shares of their greatest value, or floats."""
        self.rows = list(rows)
        """The arrays, in order."""
        self.shape = (len(self.rows), width)
        """Number of pictures, and numbers in each."""

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.rows)

    def pick(self, index: np.ndarray) -> Frames:
        """Return the pictures at places, shape (tick,); where the place is negative, one of zeros."""
        none = np.zeros(self.shape[1], dtype=np.uint8)
        return Frames([self.rows[place] if place >= 0 else none for place in index.tolist()], self.shape[1])

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
            places = np.arange(len(self))[key]
            return Rows([part[key] if isinstance(part, np.ndarray) else part.pick(places) for part in self.parts])
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


def side_by_side(parts: Sequence[Part]) -> np.ndarray | Rows:
    """Return parts of shape (..., width) next to each other: an array, or `Rows` where some are pictures."""
    if any(isinstance(part, Frames) for part in parts):
        return Rows(parts)
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)


def _run(places: np.ndarray) -> np.ndarray | slice:
    """Return ascending neighbours as a slice, which is not copied."""
    first, last = int(places[0]), int(places[-1])
    return slice(first, last + 1) if last - first + 1 == len(places) and (np.diff(places) == 1).all() else places
