"""Data of one node for the dashboard: its diagnostics, converted to plain data for the page."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

Point = dict[str, Any]
"""One entry of the history: age [s], probabilities by expert, acting expert, OOD score, lateness [ms], and level."""

LIMITS = ('position', 'velocity', 'acceleration', 'jerk', 'lag')
"""Kinds of limits, as in the counts `clamped_KIND` of the diagnostics."""
LEVELS = ('ok', 'warn', 'error')
_LATENCIES = (
    ('lateness', 'us', 'command after its deadline'),
    ('decide', 'us', 'computing a command'),
    ('plan', 'us', 'computing a plan'),
    ('age', 'ms', 'age of the joint state behind a command'),
)
_COUNTS = ('plans', 'missed_plans', 'rejected_plans', 'late_steps', 'late_ticks', 'hold', 'stop')
_REMEMBERED = 600
"""Maximum number of points in the history."""
_SPAN = 180.0
"""Span of the history [s]."""


class Watch:
    """The last diagnostics of one node, and a short history; safe to use from several threads."""

    def __init__(self, node: str, stale_after: float) -> None:
        """Set the full name of the node; its values are stale after ``stale_after`` [s] without diagnostics."""
        self.node = node
        self._stale_after = stale_after
        self._lock = threading.Lock()
        self._received: float | None = None
        self._shown: dict[str, Any] = {}
        self._clamped: dict[str, list[int]] = {}
        self._points: deque[tuple[float, Point]] = deque(maxlen=_REMEMBERED)
        self._taken = 0
        self._others: set[str] = set()

    def take(self, now: float, level: int, message: str, values: Mapping[str, str]) -> None:
        """Process a status of the node, received at ``now`` on a monotonic clock [s]."""
        with self._lock:
            limits = self._limits(values)
            self._shown = {
                'level': LEVELS[level] if level < len(LEVELS) else 'error',
                'message': message,
                # Without a log of stages there is none, and the operating mode is what limits the arm.
                'stage': next(filter(_is_set, map(values.get, ('stage', 'operating_mode'))), ''),
                'device': values.get('enabling_device', ''),
                'outcome': values.get('outcome', ''),
                'speed': _number(values.get('speed')),
                'rate': _number(values.get('rate')),
                **_experts(values),
                'rules': [name for name in values.get('rules', '').split(', ') if _is_set(name)],
                'explanation': values.get('explanation', ''),
                'ood': _ood(values),
                'limits': limits,
                'latency': _latency(values),
                'counts': {name: int(values[name]) for name in _COUNTS if values.get(name, '').isdecimal()},
                'details': dict(values),
            }
            self._received = now
            self._points.append((now, _point(self._shown)))
            self._taken += 1

    def note(self, name: str) -> None:
        """Store the name of another node that publishes the status of a policy."""
        with self._lock:
            self._others.add(name)

    def state(self, now: float) -> dict[str, Any]:
        """Return the data for the page at ``now`` on the same clock [s]."""
        with self._lock:
            age = None if self._received is None else max(now - self._received, 0.0)
            return {
                **self._shown,
                'node': self.node,
                'others': sorted(self._others),
                'serial': self._taken,
                'point': self._points[-1][1] if self._points else None,
                'age': age,
                'stale': age is None or age > self._stale_after,
            }

    def history(self, now: float) -> list[Point]:
        """Return the points of the last three minutes, oldest first, with their ages [s]."""
        with self._lock:
            return [{**point, 'age': now - taken} for taken, point in self._points if now - taken <= _SPAN]

    def _limits(self, values: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return the limits that have changed commands, and the joints that they changed since the last status."""
        found, names = [], values.get('joints', '').split()
        for kind in LIMITS:
            counts = [int(word) for word in values.get(f'clamped_{kind}', '').split()]
            before = self._clamped.get(kind, counts)
            self._clamped[kind] = counts
            if not any(counts):
                continue
            pairs = zip(counts, before) if len(counts) == len(before) else ((count, 0) for count in counts)
            acting = [place for place, (count, former) in enumerate(pairs) if count > former]
            joints = [names[place] if place < len(names) else f'joint {place + 1}' for place in acting]
            found.append({'kind': kind, 'joints': joints, 'total': sum(counts)})
        return found


def _is_set(text: str | None) -> bool:
    return text not in (None, '', 'none')


def _number(text: str | None) -> float | None:
    """Return a number that is finite; None where there is none."""
    try:
        value = float(text) if text else None
    except ValueError:
        return None
    return value if value is not None and abs(value) < float('inf') else None


def _experts(values: Mapping[str, str]) -> dict[str, Any]:
    names = values.get('expert_names', '').split(', ') if values.get('expert_names') else []
    colours, gating = values.get('expert_colours', '').split(), values.get('gating', '').split()
    shares = [_number(word) for word in gating] if len(gating) == len(names) else [None] * len(names)
    experts = [
        {'number': number, 'name': name, 'colour': colour, 'probability': share}
        for number, (name, colour, share) in enumerate(zip(names, colours, shares))
    ]
    number = _number(values.get('expert'))
    acting = None if number is None or not 0 <= number < len(experts) else experts[int(number)]
    return {'experts': experts, 'expert': acting}


def _ood(values: Mapping[str, str]) -> dict[str, Any]:
    """Return level, score and signals; a score of 0 is the threshold of a warning, 1 that of a stop."""
    signals = []
    for key in values:
        name = key.removesuffix('_thresholds')
        numbers = [_number(word) for word in values[key].split()]
        value, bounds = _number(values.get(name)), [number for number in numbers if number is not None]
        if name == key or value is None or len(numbers) != 3 or len(bounds) != 3:
            continue
        warn, slow, stop = bounds
        depth = max(warn - stop, 1e-9)
        scores = {'score': (warn - value) / depth, 'slow': (warn - slow) / depth}
        signals.append({'name': name, 'value': value, **scores})
    score = max((signal['score'] for signal in signals), default=None)
    return {'level': values.get('ood_level', ''), 'score': score, 'signals': signals}


def _latency(values: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return percentiles of durations [ms]."""
    found = []
    for name, unit, text in _LATENCIES:
        row = {share: _number(values.get(f'{name}_{share}_{unit}')) for share in ('p50', 'p95', 'p99')}
        if row['p99'] is not None:
            scale = 1e-3 if unit == 'us' else 1.0
            row = {share: None if value is None else value * scale for share, value in row.items()}
            found.append({'name': name, 'text': text, **row})
    return found


def _point(shown: Mapping[str, Any]) -> Point:
    lateness = next((row['p99'] for row in shown['latency'] if row['name'] == 'lateness'), None)
    return {
        'gating': [expert['probability'] for expert in shown['experts']],
        'expert': None if shown['expert'] is None else shown['expert']['number'],
        'score': shown['ood']['score'],
        'lateness': lateness,
        'level': shown['level'],
    }
