"""Routing: which expert acts, by the gating and by what a person allows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from vdd_ros.errors import ConfigurationError

SPREAD = 0.7
"""How much of its own spread an expert acts with, unless told otherwise: 0 is its mean, 1 the student's very density.

Measured on Avoiding (docs/method.md): means alone succeed most and lose variety, since the small choices that lead to
one way or another are made within experts, too; at this share success is as high and nearly all variety is kept.
"""


class Mixture(Protocol):
    """What routing reads of a student's answer; `vdd_ros.policy.Experts` is one."""

    log_gating: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class Routing:
    """How an expert is chosen; forbidden ones have no say, and the rest are renormalised exactly."""

    mode: str = 'sample'
    """`sample`: drawn from the gating, which keeps the variety. `likeliest`: always the likeliest."""
    forbidden: frozenset[int] = frozenset()
    """Experts that must not act."""

    def __post_init__(self) -> None:
        """Refuse a mode that there is not."""
        if self.mode not in ('sample', 'likeliest'):
            raise ConfigurationError(
                expected='routing mode sample or likeliest', found=repr(self.mode), remedy='choose one of them'
            )

    def choose(self, log_gating: np.ndarray, uniform: float) -> int:
        """Choose an expert.

        Parameters
        ----------
        log_gating
            Shape (expert,), log-probabilities.
        uniform
            A number in [0, 1); draws the expert.

        Raises
        ------
        ConfigurationError
            All experts are forbidden.

        """
        probability = np.exp(log_gating - log_gating.max())
        probability[[expert for expert in self.forbidden if expert < len(probability)]] = 0
        if not probability.any():
            raise ConfigurationError(
                expected='at least one expert that may act', found='all forbidden', remedy='allow one'
            )
        if self.mode == 'likeliest':
            return int(probability.argmax())
        cumulative = np.cumsum(probability)
        return int(np.searchsorted(cumulative, uniform * cumulative[-1], side='right').clip(max=len(cumulative) - 1))
