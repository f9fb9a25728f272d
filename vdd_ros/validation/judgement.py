"""The verdict of a validation: metrics computed from its episodes, compared with thresholds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from vdd_ros.common.errors import GateError
from vdd_ros.validation.metrics import Summary, summarise_outcomes
from vdd_ros.validation.outcomes import outcomes_of
from vdd_ros.validation.thresholds import Gate, Threshold

# Name of the threshold, metric, and whether the threshold is a maximum.
_REQUIRED = (
    ('episodes', 'episodes', False),
    ('success', 'success', False),
    ('entropy', 'entropy', False),
    ('seconds', 'mean_seconds', True),
    ('jerk', 'jerk', True),
    ('clamped', 'clamped', True),
    ('near_miss', 'near_miss', False),
)


@dataclass(frozen=True)
class Check:
    """The comparison of one metric with its threshold."""

    scenario: str
    """Scenario; empty for metrics of the whole report."""
    figure: str
    """Name of the metric."""
    found: float | None
    """Measured value; None if it was not measured, which fails the check."""
    required: float
    """The threshold."""
    at_most: bool
    """Whether the threshold is a maximum."""

    @property
    def holds(self) -> bool:
        """Whether the check passes."""
        if self.found is None:
            return False
        return self.found <= self.required if self.at_most else self.found >= self.required

    @property
    def text(self) -> str:
        """Description in one sentence."""
        where = f'{self.scenario}: ' if self.scenario else ''
        found = 'was not measured' if self.found is None else f'is {self.found:.4g}'
        return f'{where}{self.figure} {found}, required: {"at most" if self.at_most else "at least"} {self.required:g}'

    def values(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), 'holds': self.holds}


@dataclass(frozen=True)
class Verdict:
    """The result of all checks of the gate: whether a policy may be deployed."""

    checks: tuple[Check, ...]

    @property
    def passes(self) -> bool:
        """Whether all checks pass; without checks, the verdict is negative."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def text(self) -> str:
        """Description in one line."""
        failed = [check for check in self.checks if not check.holds]
        if failed:
            return '; '.join(check.text for check in failed)
        return f'all {len(self.checks)} checks pass' if self.checks else 'no checks defined'


def judge(report: Mapping[str, Any], gate: Gate) -> Verdict:
    """Compute the verdict for a report.

    Raises
    ------
    GateError
        The report lacks required values.

    """
    try:
        scenarios = {item['name']: item for item in report['scenarios']}
        modes = len(report['mode_names'])
        summaries = {
            name: {who: summarise_outcomes(outcomes_of(values['outcomes']), modes) for who, values in of_policies(item)}
            for name, item in scenarios.items()
        }
        latency, period = report['latency_us'], float(report['subject']['period'])
        # Reports of earlier versions only have the latency of a call.
        p99 = float(latency.get('student_plan', latency['student'])['p99']) * 1e-6
        # Metrics that the task does not have are not required.
        absent = {'entropy'} if modes < 2 else set()
        absent |= set() if report['subject'].get('obstacles', True) else {'near_miss'}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise GateError(
            expected='a report with scenarios, outcomes and latency',
            found=f'{type(error).__name__}: {error}',
            remedy='validate again with this version',
        ) from error
    checks: list[Check] = []
    for name in (*gate.scenarios, *(name for name in scenarios if name not in gate.scenarios)):
        threshold = gate.threshold(name)
        if threshold is not None:
            checks += _checks(name, threshold, summaries.get(name, {}), absent)
    if gate.latency is not None:
        checks.append(Check('', 'latency / policy period', p99 / period, gate.latency, at_most=True))
    return Verdict(tuple(checks))


def of_policies(scenario: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return the policies of a scenario in a report, with their results."""
    return [(who, scenario[who]) for who in ('student', 'teacher', 'recorded') if scenario.get(who) is not None]


def _checks(name: str, threshold: Threshold, summaries: Mapping[str, Summary], absent: Collection[str]) -> list[Check]:
    student, teacher = summaries.get('student'), summaries.get('teacher')
    checks = []
    for threshold_name, figure, at_most in _REQUIRED:
        value = getattr(threshold, threshold_name)
        if value is not None and threshold_name not in absent:
            found = None if student is None else _known(getattr(student, figure))
            checks.append(Check(name, threshold_name.replace('_', ' '), found, value, at_most))
    if threshold.success_low is not None:
        low = None if student is None else student.success_interval[0]
        checks.append(Check(name, 'lower end of the success interval', low, threshold.success_low, at_most=False))
    if threshold.behind_teacher is not None and student is not None and teacher is not None:
        behind = teacher.success - student.success
        checks.append(Check(name, 'success below the teacher', behind, threshold.behind_teacher, at_most=True))
    return checks


def _known(value: float) -> float | None:
    return float(value) if value == value else None
