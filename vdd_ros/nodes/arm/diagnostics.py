"""Diagnostics of a policy node, once per second."""

from __future__ import annotations

import time
from collections.abc import Iterable

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus

from vdd_ros.control.control_output import Command, ControlOutput, Counters, Stop
from vdd_ros.nodes.arm.commander import Commander

_PERCENTILES = (50, 95, 99)


class Diagnostics:
    """Collects the values of a status, and its level."""

    def __init__(self) -> None:
        """Start the measurement of the command rate."""
        self._ticked, self._since = 0, time.monotonic()

    def status(self, commander: Commander) -> tuple[bytes, str, dict[str, object]]:
        """Return the current level, message and values."""
        counters, ticks = commander.loop.counters(), sum(commander.counts.values())
        outcome = commander.outcome if commander.active else None
        now = time.monotonic()
        rate = (ticks - self._ticked) / max(now - self._since, 1e-9)
        self._ticked, self._since = ticks, now
        pacer = commander.pacer
        values: dict[str, object] = {
            'rate': f'{rate:.1f}',
            'outcome': 'inactive' if outcome is None else type(outcome).__name__.lower(),
            'reason': '' if outcome is None else outcome.reason,
            'sent': commander.sent,
            **{name: commander.counts[name] for name in ('command', 'hold', 'stop')},
            'late_ticks': pacer.late if pacer else 0,
            **_quantiles('decide', commander.durations['decide'], 1e6, 'us'),
            **_quantiles('plan', commander.durations['plan'], 1e6, 'us'),
            **_quantiles('age', commander.durations['age'], 1e3, 'ms'),
            **_quantiles('lateness', pacer.lateness if pacer else (), 1e6, 'us'),
            **_counted(counters),
        }
        if pacer and pacer.refused:
            values['realtime_priority'] = f'refused: {pacer.refused}'
        if commander.fault:
            values['fault'] = commander.fault.strip().splitlines()[-1]
        return *_verdict(outcome, commander.advice, counters), values


def _verdict(outcome: ControlOutput | None, advice: str, counters: Counters) -> tuple[bytes, str]:
    if outcome is None:
        return DiagnosticStatus.OK, 'inactive'
    if isinstance(outcome, Stop):
        return DiagnosticStatus.ERROR, f'stopped: {outcome.reason}; {advice}'
    if not isinstance(outcome, Command):
        return DiagnosticStatus.WARN, f'holding: {outcome.reason}'
    if counters.level != 'fine' or outcome.reason:
        return DiagnosticStatus.WARN, outcome.reason or f'out of distribution: {counters.level}'
    return DiagnosticStatus.OK, 'commanding'


def _counted(counters: Counters) -> dict[str, object]:
    values: dict[str, object] = {
        'plans': counters.plans,
        'missed_plans': counters.missed,
        'late_steps': counters.late_steps,
        'rejected_plans': counters.rejected,
        'resets': counters.resets,
        'out_of_order': counters.out_of_order,
        'not_finite': counters.not_finite,
        **{f'clamped_{kind}': ' '.join(map(str, joints)) for kind, joints in counters.clamps.items()},
        'clamped': sum(sum(joints) for joints in counters.clamps.values()),
        **{f'age_of_{stream}_s': f'{max(age, 0.0):.3f}' for stream, age in counters.ages.items()},
        'expert': counters.expert,
        **{name: f'{value:.3f}' for name, value in counters.signals.items()},
        **{
            f'{name}_thresholds': f'{each.warn:.4g} {each.slow:.4g} {each.stop:.4g}'
            for name, each in counters.thresholds.items()
        },
        'ood_level': counters.level,
        'speed': f'{counters.speed:.2f}',
    }
    return values


def _quantiles(name: str, values: Iterable[float], scale: float, unit: str) -> dict[str, str]:
    """Return percentiles by name; empty without values."""
    found = list(values)
    if not found:
        return {}
    return {
        f'{name}_p{percentile}_{unit}': f'{value * scale:.0f}' if unit == 'us' else f'{value * scale:.2f}'
        for percentile, value in zip(_PERCENTILES, np.percentile(found, _PERCENTILES))
    }
