"""Has the policy seen this? Signals of how much it is at home, against what they were on the demonstrations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, inf, isfinite
from typing import Literal, Protocol

from vdd_ros.common.errors import ConfigurationError

Level = Literal['fine', 'warn', 'slow', 'stop']
LEVELS: tuple[Level, ...] = ('fine', 'warn', 'slow', 'stop')


@dataclass(frozen=True)
class Threshold:
    """Of one signal; the more at home the policy is, the greater it is."""

    warn: float
    """Below this it is unusual."""
    slow: float
    """Below this the arm slows down."""
    stop: float
    """Below this it stops; until there it has slowed down to `OodRules.least_speed`."""


_LEAST_SEPARATION = 0.75
"""A signal that is higher at home in a smaller share of pairs is noise, and would slow the arm at random."""


class Calibration(Protocol):
    """What signals are over the demonstrations; `vdd_ros.policy.artifact.Calibration` is one."""

    quantiles: Mapping[str, Mapping[str, tuple[float, ...]]]
    separation: Mapping[str, float]
    """How well a signal tells what is like the demonstrations from what is not; empty if that was not measured."""

    def threshold(self, signal: str, share: float) -> float:
        """Return what no more than a share of the windows is below."""
        ...


@dataclass(frozen=True)
class OodRules:
    """The rules of `Monitor`."""

    thresholds: Mapping[str, Threshold]
    """By signal; one that has none is not watched."""
    plans: float = 5.0
    """Over how many plans signals are averaged, exponentially."""
    hysteresis: float = 0.1
    """By how much a signal must be better to leave a level again, as a share of the way from `stop` to `warn`."""
    least_speed: float = 0.2
    """How slow the arm gets before it stops, as a share of the plan's speed."""
    acts: bool = True
    """Whether the arm slows down and stops; if not, levels are only told."""

    def __post_init__(self) -> None:
        """Refuse thresholds out of order."""
        ordered = all(inf > each.warn >= each.slow >= each.stop > -inf for each in self.thresholds.values())
        if not (ordered and self.plans > 0 and self.hysteresis >= 0 and 0 < self.least_speed <= 1):
            raise ConfigurationError(
                expected='finite thresholds that fall from warn over slow to stop, plans above 0, hysteresis from 0, '
                'least_speed above 0 and at most 1',
                found=f'{self}',
                remedy='mend the parameters, or distil anew',
            )


def thresholds(calibration: Calibration, *, warn: float = 0.01, reach: float = 1.0) -> dict[str, Threshold]:
    """Take thresholds from the demonstrations, of every signal that tells what is unlike them.

    Parameters
    ----------
    calibration
        What is usual.
    warn
        Share of the demonstrated windows that are unusual enough to warn.
    reach
        The arm slows down where a signal is below all of the demonstrations. It stops still farther below, by this many
        times the distance from their median to the lowest.

    """
    found = {}
    for signal in calibration.quantiles:
        if calibration.separation.get(signal, 1.0) < _LEAST_SEPARATION:
            continue
        median, least = (calibration.threshold(signal, share) for share in (0.5, 0.0))
        below = max(median - least, 1e-3)  # a signal that never varies says nothing of how far is far
        found[signal] = Threshold(max(calibration.threshold(signal, warn), least), least, least - reach * below)
    return found


class Monitor:
    """Watches the signals of one plan after the other."""

    def __init__(self, rules: OodRules) -> None:
        """Begin as if everything were fine."""
        self._rules = rules
        self._gain = 1 - exp(-1 / rules.plans)
        self.reset()

    def reset(self) -> None:
        """Forget what was seen."""
        self.values: dict[str, float] = {}
        """The averaged signals, by name."""
        self.level: Level = 'fine'
        """The worst of them all."""
        self.speed = 1.0
        """How fast the arm may go, as a share of the plan's speed."""
        self._ranks: dict[str, int] = {}

    def update(self, signals: Mapping[str, float]) -> Level:
        """Take in the signals that a plan came with; one that is not finite counts as one that calls for a stop."""
        speed = 1.0
        for name, threshold in self._rules.thresholds.items():
            if name in signals:
                worst = threshold.stop - (threshold.warn - threshold.stop) - 1.0
                value = max(signals[name], worst) if isfinite(signals[name]) else worst
                before = self.values.get(name, value)
                self.values[name] = before + self._gain * (value - before)
            if name in self.values:
                self._ranks[name] = rank = self._rank(self._ranks.get(name, 0), self.values[name], threshold)
                if rank >= 2:
                    speed = min(speed, self._speed(self.values[name], threshold))
        self.speed = speed if self._rules.acts else 1.0
        self.level = LEVELS[max(self._ranks.values(), default=0)]
        return self.level

    @property
    def stops(self) -> bool:
        """Whether the arm should stop."""
        return self._rules.acts and self.level == 'stop'

    def complaint(self) -> str:
        """Say which signals are not fine."""
        parts = [
            f'{name} {self.values[name]:.3g} (usual above {self._rules.thresholds[name].warn:.3g})'
            for name, rank in self._ranks.items()
            if rank > 0
        ]
        return ', '.join(parts)

    def _rank(self, rank: int, value: float, threshold: Threshold) -> int:
        bounds = (threshold.warn, threshold.slow, threshold.stop)
        ease = self._rules.hysteresis * (threshold.warn - threshold.stop)
        while rank < 3 and value < bounds[rank]:
            rank += 1
        while rank > 0 and value >= bounds[rank - 1] + ease:
            rank -= 1
        return rank

    def _speed(self, value: float, threshold: Threshold) -> float:
        depth = (threshold.slow - value) / max(threshold.slow - threshold.stop, 1e-300)
        return 1.0 - (1.0 - self._rules.least_speed) * min(max(depth, 0.0), 1.0)
