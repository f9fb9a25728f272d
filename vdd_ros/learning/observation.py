"""Observations on a device: normalised vectors, and decoded images that an encoder has not yet processed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor


@dataclass(frozen=True, eq=False)
class SeenWindows:
    """Windows of vectors and images; windows without images are plain tensors instead."""

    vector: Float[Tensor, 'batch horizon obs']
    """Normalised observation vectors."""
    images: Mapping[str, Shaped[Tensor, 'batch horizon height width channel']]
    """Images by name: uint8 for colour, int16 [mm] for depth; whole or already cropped."""

    @property
    def dtype(self) -> torch.dtype:
        """Data type of the vectors."""
        return self.vector.dtype

    @property
    def device(self) -> torch.device:
        """Device of the vectors."""
        return self.vector.device

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.vector)

    def __getitem__(self, key: Any) -> SeenWindows:
        """Return the windows at some indices."""
        return SeenWindows(self.vector[key], {name: image[key] for name, image in self.images.items()})


AnyWindows = Tensor | SeenWindows
