"""Routing: the choice of the acting expert, based on the gating, parameters and rules."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.policy.experts import choose_one

ACTION_NOISE_SCALE = 0.7
"""Default action noise scale: 0 is the mean of the expert, 1 the density of the student.

On the Avoiding task (docs/experiments.md), means alone have the highest success, but lose entropy of the behaviour
modes: some experts cover more than one mode. At this scale, success is as high and nearly all entropy is kept. The
floor of the covariances is excluded (`vdd_ros.policy.experts.ActionNoise`)."""


class Mixture(Protocol):
    """Interface to a student's output, as far as routing uses it; implemented by `vdd_ros.policy.experts.Experts`."""

    log_gating: np.ndarray
    mean: np.ndarray


@dataclass(frozen=True)
class Situation:
    """Quantities that rules on experts refer to, at the time of a plan."""

    observation: np.ndarray
    """The latest observation, shape (observation,), in the units of the contract."""
    time: float = 0.0
    """Time since the policy was started or resumed [s]."""
    acting: int | None = None
    """Expert of the previous plan; None at the first plan."""
    likeliest: int = 0
    """Likeliest expert by the gating, without rules."""
    tool_pose: Callable[[], Sequence[float]] | None = None
    """Returns x, y, z [m], roll, pitch, yaw [rad] of the measured tool pose. Called at each plan if a rule refers to
    the tool. None without kinematics."""
    tool_paths: Callable[[], np.ndarray] | None = None
    """Returns the tool path of the mean chunk of each expert, shape (expert, step, 3) [m]. Called at each plan at which
    a rule with zones to avoid applies. None without kinematics."""


@dataclass(frozen=True)
class Applied:
    """The routing for one situation, and the rules that apply to it."""

    routing: Routing
    rules: tuple[str, ...] = ()
    """Names of the applying rules, in the order of the file."""
    effects: tuple[str, ...] = ()
    """Effect of each applying rule, in words."""
    speed: float = 1.0
    """Factor on the speed of the plan, at most 1."""
    stop: str = ''
    """Why the arm must stop; empty if it need not stop."""

    def refusal(self, experts: int) -> str:
        """Return why none of ``experts`` experts may act, and the rules responsible; empty if at least one may act."""
        if self.stop:
            return self.stop
        try:
            self.routing.log_factors(experts)
        except ConfigurationError as error:
            return f'the rules leave no expert: {", ".join(self.rules) or error}'
        return ''


@dataclass(frozen=True)
class Routing:
    """Choice of an expert. The probabilities of the permitted experts are renormalised exactly.

    By default a new expert is drawn for every plan, as in training and validation. `expert_hysteresis` and
    `direction_hysteresis` keep the acting expert to stop the arm from alternating between two modes. Hysteresis reduces
    the variety. If plans are single steps, it also reduces success: an expert is accurate only where its probability is
    high, not along a whole mode (docs/control.md).
    """

    mode: str = 'sample'
    """`sample`: drawn from the gating, which keeps all modes. `likeliest`: always the likeliest."""
    forbidden: frozenset[int] = frozenset()
    """Experts that must not act."""
    preferred: Mapping[int, float] = field(default_factory=dict)
    """Factors on the odds of experts: 10 makes an expert ten times as likely relative to the others."""
    pinned: int | None = None
    """The only expert that may act."""
    temperature: float = 1.0
    """Temperature of the gating; below 1 likely experts become more likely, above 1 less."""
    expert_hysteresis: float | None = None
    """The acting expert continues while its probability is at least this fraction of the highest; None: off."""
    direction_hysteresis: float | None = None
    """The acting expert also continues while the cosine between its directions of motion at the previous plan and now
    is at least this; None: off."""

    def __post_init__(self) -> None:
        """Refuse invalid values."""
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
                remedy='correct the parameters',
            )

    def check(self, experts: int) -> None:
        """Refuse rules that name experts beyond the ``experts`` of a mixture, and rules that leave no expert.

        Raises
        ------
        ConfigurationError
            A rule names an expert that does not exist, or no expert may act.

        """
        self.check_names(experts)
        self.probabilities(np.zeros(experts))

    def check_names(self, experts: int) -> None:
        """Raise a `ConfigurationError` for rules that name experts beyond the ``experts`` of a mixture."""
        named = {*self.forbidden, *self.preferred, *(() if self.pinned is None else (self.pinned,))}
        if absent := sorted(expert for expert in named if not 0 <= expert < experts):
            raise ConfigurationError(
                expected=f'experts from 0 to {experts - 1}, which the student has',
                found=f'a rule on {", ".join(map(str, absent))}',
                remedy='name experts of this student (~/expert_paths and /diagnostics number them)',
            )

    def at(self, situation: Situation) -> Applied:
        """Return the routing for a situation: always this routing.

        `vdd_ros.control.rules.Rules` adds conditions.
        """
        return Applied(self)

    @property
    def base(self) -> Routing:
        """The routing without conditional rules, which is this routing."""
        return self

    @cached_property
    def _log_factors(self) -> dict[int, np.ndarray]:
        """Cached results of `log_factors`, by the number of experts."""
        return {}

    def log_factors(self, experts: int) -> np.ndarray:
        """Return the terms that are added to the logits, shape (expert,): minus infinity for experts that may not act.

        Raises
        ------
        ConfigurationError
            No expert is left that may act.

        """
        if (known := self._log_factors.get(experts)) is not None:
            return known
        factors = np.zeros(experts)
        for expert, factor in self.preferred.items():
            if 0 <= expert < experts:
                factors[expert] += np.log(factor)
        if self.pinned is not None:
            factors[np.arange(experts) != self.pinned] = -np.inf
        factors[[expert for expert in self.forbidden if 0 <= expert < experts]] = -np.inf
        if np.isneginf(factors).all():
            raise ConfigurationError(
                expected=f'at least one of {experts} experts that may act',
                found='all forbidden' if self.pinned is None else f'expert {self.pinned} pinned',
                remedy='allow one',
            )
        self._log_factors[experts] = factors
        return factors

    def probabilities(self, log_gating: np.ndarray) -> np.ndarray:
        """Return the probabilities of the experts under these rules, shape (expert,), from their log-probabilities.

        Raises
        ------
        ConfigurationError
            No expert is left that may act.

        """
        factors = self.log_factors(len(log_gating))
        logits = log_gating.astype(np.float64)
        if self.temperature != 1:
            logits /= self.temperature
        logits += factors
        # Reductions of ufuncs: the methods of arrays take twice as long for as few values as experts.
        top = np.maximum.reduce(logits)
        # If no permitted expert has probability left, all of them are equally likely.
        probability = np.exp(logits - top) if math.isfinite(top) else np.isfinite(factors).astype(np.float64)
        return probability / np.add.reduce(probability)

    def choose(
        self, log_gating: np.ndarray, uniform: float, present: int | None = None, cosine: float | None = None
    ) -> int:
        """Choose an expert.

        Parameters
        ----------
        log_gating
            Shape (expert,), log-probabilities.
        uniform
            Random number in [0, 1) that selects the expert.
        present
            The acting expert, if any.
        cosine
            Cosine between the acting expert's directions of motion at the previous plan and now; None if unknown.

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
        # Plain numbers: for as few values as experts, numpy takes three times as long.
        reached, chosen, shares = 0.0, -1, probability.tolist()
        for expert, share in enumerate(shares):
            if share > 0:
                reached, chosen = reached + share, expert
                if reached > uniform:
                    break
        return chosen


@dataclass(frozen=True)
class Choice:
    """The choice of the expert for a plan, with all inputs of the choice."""

    expert: int
    """The chosen expert; -1 if the rules leave none or stop the arm."""
    log_gating: np.ndarray
    """Logits of the choice, shape (expert,), including coherence with the current chunk."""
    uniform: float
    """The random number in [0, 1) that selected the expert."""
    present: int | None
    """The previous expert."""
    cosine: float | None
    """The argument ``cosine`` of `Routing.choose`."""
    applied: Applied
    """The applied routing and rules."""
    base: Routing
    """The routing without conditional rules."""

    @property
    def probabilities(self) -> np.ndarray:
        """Probabilities of the experts under the rules, shape (expert,); `ConfigurationError` if no expert may act."""
        return self.applied.routing.probabilities(self.log_gating)

    @property
    def without_rules(self) -> tuple[int, float]:
        """The expert that the same random number selects without conditional rules, and its probability then."""
        expert = self.base.choose(self.log_gating, self.uniform, self.present, self.cosine)
        return expert, float(self.base.probabilities(self.log_gating)[expert])

    def explain(self, text: Callable[[int], str] = str) -> str:
        """Return one line: the acting expert, its probability, the rules that apply, and the choice without them.

        ``text`` returns number and name of an expert.
        """
        applied = self.applied
        if self.expert < 0:
            acts = applied.stop
        else:
            acts = f'expert {text(self.expert)} acts, probability {self.probabilities[self.expert]:.3f}'
        rules = ', '.join(f'{name} ({effect})' for name, effect in zip(applied.rules, applied.effects)) or 'none'
        other, probability = self.without_rules
        same = 'the same' if other == self.expert else f'expert {text(other)}'
        return f'{acts}; rules: {rules}; without rules: {same}, probability {probability:.3f}'
