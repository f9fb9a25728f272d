"""An episode: one demonstration, resampled at the policy rate."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.data.decode.frames import Rows


@dataclass(frozen=True)
class Episode:
    """One recorded execution: at every tick, what was observed and what was then done."""

    observation: np.ndarray | Rows
    """Shape (time, observation); with pictures in it held compactly, and read as an array."""
    action: np.ndarray
    """Shape (time, action): the action taken after the observation of the same row."""
    success: bool | None = None
    """What the recording says of the outcome, if it says anything."""
    labels: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """Anything else that the recording says of the episode: way, seed, language."""

    stamps: np.ndarray = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    """Shape (time,) [ns]: the ticks; empty where it was not recorded."""
    bag: str = ''
    """The bag that it is of."""
    index: int = 0
    """Its number among the episodes of the bag, from 0; the parts of one that was split share it."""

    def __post_init__(self) -> None:
        """Refuse arrays that do not belong together."""
        if self.observation.ndim != 2 or self.action.ndim != 2 or len(self.observation) != len(self.action):
            raise ContractError(
                expected='observation and action of shape (time, size) and equal time',
                found=f'shapes {self.observation.shape} and {self.action.shape}',
                remedy='resample both to the ticks of the policy',
            )

    def __len__(self) -> int:
        """Return the number of ticks."""
        return len(self.observation)
