"""Windows with images on a device: images as decoded, normalised only for the windows of a batch."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vdd_ros.data.decode.frames import Frames, RowWindows, joined
from vdd_ros.policy.normalization import Normalizer

_SIGNED = {np.dtype('u2'): (np.dtype('i2'), 0xFFFF), np.dtype('u1'): (np.dtype('u1'), 0xFF)}
"""Storage types of unsigned integers, since torch does not index `uint16` on all devices, and their bit masks."""


@dataclass(frozen=True)
class _Part:
    """Some columns of the rows."""

    values: Tensor
    """Shape (value, width): distinct images, or normalised rows of numbers."""
    place: Tensor
    """Shape (row,): index of the value of each row."""
    bits: int
    """Maximum of image values that are shares of it; 0 for values stored normalised."""
    offset: Tensor
    """Shape (width,), offset of the normalizer."""
    scale: Tensor
    """Shape (width,), scale of the normalizer."""

    def rows(self, index: Tensor) -> Tensor:
        """Return some rows, normalised, float32."""
        values = self.values[self.place[index]]
        if not self.bits:
            return values
        return ((values.to(torch.int32) & self.bits).to(torch.float32) / self.bits - self.offset) / self.scale


class NormalizedRowWindows:
    """Normalised `RowWindows`, indexed as a tensor of shape (window, horizon, column)."""

    def __init__(self, windows: RowWindows, normalizer: Normalizer, device: torch.device | None = None) -> None:
        """Store the rows in the memory of a device, each image once."""
        self.shape = windows.shape
        self._places = torch.as_tensor(windows.places, device=device)
        self._parts, begin = [], 0
        for part in windows.rows.parts:
            columns = slice(begin, begin + part.shape[1])
            begin = columns.stop
            narrowed = Normalizer(normalizer.offset[columns], normalizer.scale[columns])
            self._parts.append(_part(part, narrowed, device))

    def __len__(self) -> int:
        """Return the number of windows."""
        return self.shape[0]

    def __getitem__(self, index: Tensor | slice) -> Tensor:
        """Return some windows, float32."""
        places = self._places[index]
        return torch.cat([part.rows(places) for part in self._parts], dim=-1)


def _part(part: np.ndarray | Frames, normalizer: Normalizer, device: torch.device | None) -> _Part:
    offset, scale = (_tensor(item, device) for item in (normalizer.offset, normalizer.scale))
    if isinstance(part, np.ndarray):
        values, place, bits = _tensor(normalizer.normalize(part), device), np.arange(len(part)), 0
        return _Part(values, torch.as_tensor(place, device=device), bits, offset, scale)
    distinct = {id(row): row for row in part.rows}
    number = {key: place for place, key in enumerate(distinct)}
    place = torch.as_tensor([number[id(row)] for row in part.rows], device=device)
    rows = [row[None] for row in distinct.values()]
    kinds = {row.dtype for row in rows}
    if not kinds <= set(_SIGNED):  # depth, or partly interpolated images
        values = np.stack([normalizer.normalize(part.dense(np.array([at]), slice(None))[0]) for at in _first(part)])
        return _Part(_tensor(values, device), place, 0, offset, scale)
    held = joined(rows)
    kind, bits = _SIGNED[held.dtype]
    return _Part(torch.as_tensor(held.view(kind), device=device), place, bits, offset, scale)


def _first(frames: Frames) -> list[int]:
    """Return the first index of each distinct image."""
    places: dict[int, int] = {}
    for place, row in enumerate(frames.rows):
        places.setdefault(id(row), place)
    return [*places.values()]


def _tensor(values: np.ndarray, device: torch.device | None) -> Tensor:
    return torch.as_tensor(values, dtype=torch.float32, device=device)
