"""An episode: one demonstration, resampled at the policy rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.data.decode.frames import Frames, Rows


@dataclass(frozen=True)
class Episode:
    """One recorded execution: the observation at each policy tick, and the action taken at that tick."""

    observation: np.ndarray | Rows
    """Shape (time, observation). Episodes with images use a compact form that reads as an array."""
    action: np.ndarray
    """Shape (time, action): the action taken after the observation of the same row."""
    success: bool | None = None
    """Recorded outcome; None if it was not recorded."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Other recorded labels of the episode: mode, seed, language instruction."""

    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Stamps of the ticks, shape (time,) [ns]; empty if they were not recorded."""
    bag: str = ''
    """Name of the source bag."""
    index: int = 0
    """Index among the episodes of the bag, from 0. Parts of a split episode have the same index."""
    images: Mapping[str, Frames] = field(default_factory=lambda: MappingProxyType({}))
    """Images and point clouds at the ticks by name, flat, for contracts of version 3 (`Contract.arrays`)."""

    def __post_init__(self) -> None:
        """Check that observation and action have the same length."""
        if self.observation.ndim != 2 or self.action.ndim != 2 or len(self.observation) != len(self.action):
            raise ContractError(
                expected='observation and action of shape (time, size) and equal time',
                found=f'shapes {self.observation.shape} and {self.action.shape}',
                remedy='resample both at the policy ticks',
            )
        for name, frames in self.images.items():
            if len(frames) != len(self.observation):
                raise ContractError(
                    expected=f'an image {name} for each of {len(self.observation)} ticks',
                    found=f'{len(frames)}',
                    remedy='resample it to the ticks of the policy',
                )

    def __getstate__(self) -> dict[str, Any]:
        """Make episodes picklable for other processes, which views of a dictionary are not."""
        return {**vars(self), 'labels': dict(self.labels), 'images': dict(self.images)}

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.observation)
