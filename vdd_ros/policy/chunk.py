"""Action chunks: what a policy plans at once, and how far it has been consumed."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Plan(NamedTuple):
    """Action chunks for a batch of windows."""

    action: np.ndarray
    """Shape (batch, prediction_horizon, action), in the units of the contract."""
    expert: np.ndarray
    """Shape (batch,) int: which expert each chunk is of; -1 where there are no experts."""


class Chunk:
    """The part of a plan that is still to be done."""

    def __init__(self, horizon: int) -> None:
        """Execute `horizon` steps of every plan (the contract's `action_horizon`)."""
        self._horizon = horizon
        self._steps: list[np.ndarray] = []
        self.expert = 0
        """Which expert the present chunk is of."""

    @property
    def is_spent(self) -> bool:
        """Whether it is time to plan."""
        return not self._steps

    def load(self, action: np.ndarray, expert: int) -> None:
        """Take in a new chunk, shape (prediction_horizon, action)."""
        self._steps = list(action[: self._horizon])
        self.expert = expert

    def next(self) -> np.ndarray:
        """Consume one step, shape (action,)."""
        return self._steps.pop(0)

    def drop(self) -> None:
        """Forget what is left."""
        self._steps = []
