"""Comparison of two validations of students: success by scenario, and the share of each mode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from vdd_ros.common.errors import GateError
from vdd_ros.validation.metrics import mode_counts, wilson_interval
from vdd_ros.validation.outcomes import Outcomes, outcomes_of


@dataclass(frozen=True)
class Change:
    """A success rate, or the share of a mode, in two validations."""

    name: str
    """Scenario, or mode."""
    before: float
    after: float
    episodes: tuple[int, int]
    """Numbers of episodes to which the two shares refer."""

    @property
    def verdict(self) -> str:
        """`lower` or `higher` if the 95 % intervals of both shares do not overlap; otherwise empty."""
        one, other = (
            wilson_interval(round(share * count), count)
            for share, count in zip((self.before, self.after), self.episodes)
        )
        if one[1] < other[0]:
            return 'higher'
        return 'lower' if other[1] < one[0] else ''


@dataclass(frozen=True)
class Comparison:
    """The differences between two validations."""

    scenarios: tuple[Change, ...]
    """Success rate in each scenario that both validations contain."""
    modes: Mapping[str, tuple[Change, ...]]
    """Share of each mode among the successes, by scenario; empty if the task has one mode."""
    missing: tuple[str, ...]
    """Scenarios that only the first validation contains."""


def compare_reports(before: Mapping[str, Any], after: Mapping[str, Any]) -> Comparison:
    """Compare the students of two reports, as `vdd_ros.validation.report_file.read_report` returns them.

    Raises
    ------
    GateError
        The reports belong to different tasks, or have no scenario with a student in common.

    """
    if before['mode_names'] != after['mode_names']:
        raise GateError(
            expected='two reports of the same task',
            found='other modes in the second one',
            remedy='validate both students on one task',
        )
    one, other = (
        {item['name']: outcomes_of(item['student']['outcomes']) for item in report['scenarios'] if item.get('student')}
        for report in (before, after)
    )
    common = [name for name in one if name in other]
    if not common:
        raise GateError(
            expected='a scenario that both reports hold', found='none', remedy='validate both students alike'
        )
    scenarios = tuple(
        Change(
            name,
            *(float(each[name].success.mean()) for each in (one, other)),
            (len(one[name].success), len(other[name].success)),
        )
        for name in common
    )
    names = before['mode_names']
    modes = {name: _modes(names, one[name], other[name]) for name in common} if len(names) > 1 else {}
    return Comparison(scenarios, modes, tuple(name for name in one if name not in other))


def _modes(names: list[str], before: Outcomes, after: Outcomes) -> tuple[Change, ...]:
    counts = [mode_counts(each.mode, each.success, len(names)) for each in (before, after)]
    totals = tuple(int(count.sum()) for count in counts)
    shares = [count / max(total, 1) for count, total in zip(counts, totals)]
    return tuple(
        Change(name, float(shares[0][mode]), float(shares[1][mode]), (totals[0], totals[1]))
        for mode, name in enumerate(names)
        if np.any([counts[0][mode], counts[1][mode]])
    )
