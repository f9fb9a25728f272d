"""Action chunks: the actions that a policy plans together, and their consumption step by step."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """Action chunks for a batch of windows."""

    action: np.ndarray
    """Shape (batch, prediction_horizon, action), in the units of the contract."""
    expert: np.ndarray
    """Expert of each chunk, shape (batch,) int; -1 without experts."""


class Chunk:
    """The current action chunk, whose steps `next` returns one after the other."""

    def __init__(self, horizon: int) -> None:
        """Execute `horizon` steps of every plan (the contract's `action_horizon`)."""
        self._horizon = horizon
        self._steps: list[np.ndarray] = []
        self.expert = 0
        """Expert of the present chunk."""

    @property
    def is_spent(self) -> bool:
        """Whether all steps are consumed, so a new plan is due."""
        return not self._steps

    def load(self, action: np.ndarray, expert: int) -> None:
        """Store a new chunk, shape (prediction_horizon, action)."""
        self._steps = list(action[: self._horizon])
        self.expert = expert

    def next(self) -> np.ndarray:
        """Consume one step, shape (action,)."""
        return self._steps.pop(0)

    def drop(self) -> None:
        """Discard the remaining steps."""
        self._steps = []
