"""Routing: which expert acts, by the gating and by what a person allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.policy.experts import choose_one

ACTION_NOISE_SCALE = 0.7
"""How much of its own spread an expert acts with, unless told otherwise: 0 is its mean, 1 the student's very density.

Measured on Avoiding (docs/method.md): means alone succeed most and lose variety, since the small choices that lead to
one way or another are made within experts, too; at this share success is as high and nearly all variety is kept.
The floor of the covariances is no part of it (`vdd_ros.policy.experts.ActionNoise`).
"""


class Mixture(Protocol):
    """What routing reads of a student's answer; `vdd_ros.policy.policy.Experts` is one."""

    log_gating: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class Routing:
    """How an expert is chosen; forbidden ones have no say, and the rest are renormalised exactly.

    By default every plan draws anew, as the student was trained and measured. `expert_hysteresis` and
    `direction_hysteresis` keep the acting expert, so that the arm does not alternate between two modes. They reduce the
    variety and, where plans are single steps, the success: an expert is accurate where it is likely, not along a whole
    mode (docs/control.md).
    """

    mode: str = 'sample'
    """`sample`: drawn from the gating, which keeps the variety. `likeliest`: always the likeliest."""
    forbidden: frozenset[int] = frozenset()
    """Experts that must not act."""
    preferred: Mapping[int, float] = field(default_factory=dict)
    """Factors on the odds of some experts: 10 makes an expert ten times as likely beside the others."""
    pinned: int | None = None
    """The only expert that may act."""
    temperature: float = 1.0
    """Of the gating: below 1 the likely get likelier; above 1 all get more alike."""
    expert_hysteresis: float | None = None
    """The expert that acts goes on while it is at least so likely as this share of the likeliest; None: no rule."""
    direction_hysteresis: float | None = None
    """It also goes on while its mean leads the same way as its last plan: least cosine of the two; None: no rule."""

    def __post_init__(self) -> None:
        """Refuse rules that make no sense."""
        if self.mode not in ('sample', 'likeliest'):
            raise ConfigurationError(
                expected='routing mode sample or likeliest', found=repr(self.mode), remedy='choose one of them'
            )
        shares = [share for share in (self.expert_hysteresis,) if share is not None]
        cosines = [cosine for cosine in (self.direction_hysteresis,) if cosine is not None]
        fine = (
            0 < self.temperature < np.inf
            and all(0 < factor < np.inf for factor in self.preferred.values())
            and all(0 <= share <= 1 for share in shares)
            and all(-1 <= cosine <= 1 for cosine in cosines)
        )
        if not fine:
            raise ConfigurationError(
                expected='temperature and factors above 0, expert_hysteresis from 0 to 1, '
                'direction_hysteresis from -1 to 1',
                found=f'{self}',
                remedy='mend the parameters',
            )

    def check(self, experts: int) -> None:
        """Refuse rules on experts that a mixture of so many does not have, and rules that leave none.

        Raises
        ------
        ConfigurationError
            An expert is named that does not exist, or none is left that may act.

        """
        self.check_names(experts)
        self.probabilities(np.zeros(experts))

    def check_names(self, experts: int) -> None:
        """Refuse rules on experts that a mixture of so many does not have, with a `ConfigurationError`."""
        named = {*self.forbidden, *self.preferred} | ({self.pinned} - {None})
        if absent := sorted(expert for expert in named if not 0 <= expert < experts):
            raise ConfigurationError(
                expected=f'experts from 0 to {experts - 1}, which the student has',
                found=f'a rule on {", ".join(map(str, absent))}',
                remedy='name experts of this student (~/ways and /diagnostics number them)',
            )

    def at(self, window: np.ndarray) -> Routing:
        """Return what holds in a window of shape (observation_horizon, observation): these rules, everywhere.

        `vdd_ros.control.rules.Rules` has some that hold in places.
        """
        return self

    def probabilities(self, log_gating: np.ndarray) -> np.ndarray:
        """Return the probabilities of the experts under these rules, shape (expert,), from their log-probabilities.

        Raises
        ------
        ConfigurationError
            No expert is left that may act.

        """
        logits = log_gating.astype(np.float64) / self.temperature
        experts = len(logits)
        for expert, factor in self.preferred.items():
            if 0 <= expert < experts:
                logits[expert] += np.log(factor)
        allowed = np.ones(experts, dtype=bool)
        if self.pinned is not None:
            allowed[:] = np.arange(experts) == self.pinned
        allowed[[expert for expert in self.forbidden if 0 <= expert < experts]] = False
        if not allowed.any():
            raise ConfigurationError(
                expected=f'at least one of {experts} experts that may act',
                found='all forbidden' if self.pinned is None else f'expert {self.pinned} pinned',
                remedy='allow one',
            )
        logits[~allowed] = -np.inf
        top = logits.max()
        # Those that are allowed may have no probability left at all: then they are alike.
        probability = np.exp(logits - top) if np.isfinite(top) else allowed.astype(np.float64)
        return probability / probability.sum()

    def choose(
        self, log_gating: np.ndarray, uniform: float, present: int | None = None, cosine: float | None = None
    ) -> int:
        """Choose an expert.

        Parameters
        ----------
        log_gating
            Shape (expert,), log-probabilities.
        uniform
            A number in [0, 1); draws the expert.
        present
            The expert that acts, if any.
        cosine
            Between what it does and what it would do next; None if unknown.

        Raises
        ------
        ConfigurationError
            No expert is left that may act.

        """
        kept = self.expert_hysteresis is not None or self.direction_hysteresis is not None
        weighed = self.forbidden or self.preferred or self.pinned is not None or self.temperature != 1
        if self.mode == 'sample' and not kept and not weighed:
            return choose_one(log_gating, uniform)
        probability = self.probabilities(log_gating)
        if present is not None and present < len(probability) and probability[present] > 0:
            if (
                self.expert_hysteresis is not None
                and probability[present] >= self.expert_hysteresis * probability.max()
            ):
                return present
            if self.direction_hysteresis is not None and cosine is not None and cosine >= self.direction_hysteresis:
                return present
        if self.mode == 'likeliest':
            return int(probability.argmax())
        cumulative = np.cumsum(probability)
        chosen = np.searchsorted(cumulative, uniform * cumulative[-1], side='right')
        return int(min(chosen, np.flatnonzero(probability)[-1]))
