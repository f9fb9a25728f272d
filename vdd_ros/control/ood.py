"""Out-of-distribution (OOD) monitoring: signals of the policy, compared with their values on the demonstrations."""

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
    """Thresholds of one signal. Lower values are further out of distribution."""

    warn: float
    """Below this value a warning is raised."""
    slow: float
    """Below this value the arm slows down."""
    stop: float
    """Below this value the arm stops. Between `slow` and `stop` the speed decreases to `OodRules.least_speed`."""


_LEAST_SEPARATION = 0.75
"""Minimum share of pairs that a signal must order correctly. A signal with a lower share is not used."""


class Calibration(Protocol):
    """Quantiles of the signals over the demonstrations; `vdd_ros.policy.artifact.Calibration` implements it."""

    quantiles: Mapping[str, Mapping[str, tuple[float, ...]]]
    separation: Mapping[str, float]
    """Share of pairs of a demonstrated and a displaced window that each signal orders correctly; empty if unknown."""

    def threshold(self, signal: str, share: float) -> float:
        """Return the quantile of a signal at the level `share`."""
        ...


@dataclass(frozen=True)
class OodRules:
    """Parameters of out-of-distribution monitoring: thresholds, averaging, and the response of the arm."""

    thresholds: Mapping[str, Threshold]
    """Thresholds by signal; a signal without thresholds is not monitored."""
    plans: float = 5.0
    """Number of plans in the exponential average of the signals."""
    hysteresis: float = 0.1
    """Improvement that is required to leave a level, as a share of the distance from `stop` to `warn`."""
    least_speed: float = 0.2
    """Minimum speed before the arm stops, as a share of the speed of the plan."""
    acts: bool = True
    """Whether the arm slows down and stops; if not, levels are only reported."""

    def __post_init__(self) -> None:
        """Refuse thresholds out of order."""
        ordered = all(inf > each.warn >= each.slow >= each.stop > -inf for each in self.thresholds.values())
        if not (ordered and self.plans > 0 and self.hysteresis >= 0 and 0 < self.least_speed <= 1):
            raise ConfigurationError(
                expected='finite thresholds that fall from warn over slow to stop, plans above 0, hysteresis from 0, '
                'least_speed above 0 and at most 1',
                found=f'{self}',
                remedy='correct the parameters, or distill again',
            )


def thresholds(calibration: Calibration, *, warn: float = 0.01, reach: float = 1.0) -> dict[str, Threshold]:
    """Compute thresholds for every signal that separates demonstrated from out-of-distribution windows.

    Parameters
    ----------
    calibration
        Quantiles of the signals on the demonstrations.
    warn
        Share of demonstrated windows below the warning threshold.
    reach
        Distance from the slow to the stop threshold, in multiples of the distance from the median to the lowest value
        on the demonstrations. The slow threshold is that lowest value.

    """
    found = {}
    for signal in calibration.quantiles:
        if calibration.separation.get(signal, 1.0) < _LEAST_SEPARATION:
            continue
        median, least = (calibration.threshold(signal, share) for share in (0.5, 0.0))
        below = max(median - least, 1e-3)  # a constant signal gives no scale
        found[signal] = Threshold(max(calibration.threshold(signal, warn), least), least, least - reach * below)
    return found


class Monitor:
    """Out-of-distribution monitoring: averages the signals of plans, and determines level and speed."""

    def __init__(self, rules: OodRules) -> None:
        """Start at the level `fine`."""
        self._rules = rules
        self._gain = 1 - exp(-1 / rules.plans)
        self.reset()

    def reset(self) -> None:
        """Discard the averages."""
        self.values: dict[str, float] = {}
        """The averaged signals, by name."""
        self.level: Level = 'fine'
        """The worst level of all signals."""
        self.speed = 1.0
        """Permitted speed of the arm, as a share of the speed of the plan."""
        self._ranks: dict[str, int] = {}

    def update(self, signals: Mapping[str, float]) -> Level:
        """Process the signals of a plan. A signal that is not finite requires a stop."""
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
    def thresholds(self) -> Mapping[str, Threshold]:
        """Thresholds of the monitored signals, by name."""
        return self._rules.thresholds

    @property
    def stops(self) -> bool:
        """Whether the arm must stop."""
        return self._rules.acts and self.level == 'stop'

    def complaint(self) -> str:
        """Return a text with the signals whose level is not `fine`, and their values."""
        parts = [
            f'{name} {self.values[name]:.3g} (in distribution above {self._rules.thresholds[name].warn:.3g})'
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
