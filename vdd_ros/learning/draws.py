"""Random numbers for a batch whose rows are divided among several processes (ranks).

Every rank draws the numbers of the whole batch from a generator in the same state, and keeps those of its rows. The
numbers for a window therefore depend neither on the number of ranks nor on the number of parts in which a rank
processes its rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Draws:
    """Random numbers for the rows of one rank, one part of these rows after the other."""

    def __init__(self, generator: torch.Generator, *, rank: int = 0, ranks: int = 1, parts: int = 1) -> None:
        """Draw for rank `rank` of `ranks`, which processes its rows in ``parts`` parts."""
        self.generator = generator
        self._rank, self._ranks, self._parts = rank, ranks, parts
        self._part, self._next = 0, 0
        self._drawn: list[Tensor] = []

    @classmethod
    def of(cls, source: torch.Generator | Draws) -> Draws:
        """Return draws for a whole batch from a generator; draws are returned as they are."""
        return source if isinstance(source, Draws) else cls(source)

    def parts(self) -> Iterator[int]:
        """Yield the index of each part; the same numbers must be drawn in the same order in every part."""
        for part in range(self._parts):
            self._part, self._next = part, 0
            yield part

    def normal(self, *shape: int, rows: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, '...']:
        """Draw standard normal numbers for a part; `shape` is the shape for the part, and `rows` its batch axis."""
        return self._rows(rows, lambda: torch.randn(self._whole(shape, rows), **self._options(dtype)))

    def uniform(self, *shape: int, rows: int = 0, dtype: torch.dtype = torch.float32) -> Float[Tensor, '...']:
        """Draw numbers uniform in [0, 1); arguments as for `normal`."""
        return self._rows(rows, lambda: torch.rand(self._whole(shape, rows), **self._options(dtype)))

    def integers(self, high: int, count: int) -> Int[Tensor, 'count']:
        """Draw integers in [0, high) for `count` rows of a part."""
        return self._rows(0, lambda: torch.randint(high, self._whole((count,), 0), **self._options(torch.int64)))

    def stratified(self, count: int, dtype: torch.dtype = torch.float32) -> Float[Tensor, 'count']:
        """Draw uniform numbers for `count` rows of a part, stratified over the whole batch.

        Each row has its own stratum of equal size. This reduces variance, and adds no bias.
        """
        (whole,) = self._whole((count,), 0)

        def strata() -> Tensor:
            jitter = torch.rand(whole, **self._options(dtype))
            return (torch.randperm(whole, **self._options(torch.int64)) + jitter) / whole

        return self._rows(0, strata)

    def _options(self, dtype: torch.dtype) -> dict:
        return {'generator': self.generator, 'dtype': dtype, 'device': self.generator.device}

    def _whole(self, shape: tuple[int, ...], rows: int) -> tuple[int, ...]:
        """Return the shape for the whole batch."""
        return (*shape[:rows], shape[rows] * self._ranks * self._parts, *shape[rows + 1 :])

    def _rows(self, axis: int, draw: Callable[[], Tensor]) -> Tensor:
        """Return the rows of this part of what is drawn once for the whole batch."""
        if self._next == len(self._drawn):
            self._drawn.append(draw())
        whole = self._drawn[self._next]
        self._next += 1
        count = whole.shape[axis] // (self._ranks * self._parts)
        return whole.narrow(axis, (self._rank * self._parts + self._part) * count, count)
