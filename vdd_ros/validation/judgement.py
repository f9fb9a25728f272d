"""The verdict over a validation: figures computed from its episodes, held against thresholds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vdd_ros.common.errors import GateError
from vdd_ros.validation.metrics import Summary, summarise_outcomes
from vdd_ros.validation.outcomes import outcomes_of

if TYPE_CHECKING:
    from vdd_ros.validation.gate import Gate, Threshold

# What is asked: the name of the threshold, the figure, whether it must not be exceeded.
_ASKED = (
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
    """One thing that was asked."""

    scenario: str
    """Where; empty for what belongs to none."""
    figure: str
    """What."""
    found: float | None
    """What it is; None where it was not measured, and then the check fails."""
    asked: float
    """What it must reach."""
    at_most: bool
    """Whether less is better."""

    @property
    def holds(self) -> bool:
        """Whether it is reached."""
        if self.found is None:
            return False
        return self.found <= self.asked if self.at_most else self.found >= self.asked

    @property
    def text(self) -> str:
        """In words."""
        where = f'{self.scenario}: ' if self.scenario else ''
        found = 'was not measured' if self.found is None else f'is {self.found:.4g}'
        return f'{where}{self.figure} {found}, {"at most" if self.at_most else "at least"} {self.asked:g} is asked'

    def values(self) -> dict[str, Any]:
        """Return plain values."""
        return {**asdict(self), 'holds': self.holds}


@dataclass(frozen=True)
class Verdict:
    """Whether a policy may be deployed."""

    checks: tuple[Check, ...]

    @property
    def passes(self) -> bool:
        """Whether everything that was asked holds; where nothing was, nothing passes."""
        return bool(self.checks) and all(check.holds for check in self.checks)

    @property
    def text(self) -> str:
        """In a line."""
        failed = [check for check in self.checks if not check.holds]
        if failed:
            return '; '.join(check.text for check in failed)
        return f'all {len(self.checks)} figures are as asked' if self.checks else 'nothing was asked'


def judge(report: Mapping[str, Any], gate: Gate) -> Verdict:
    """Compute the verdict over the values of a report.

    Raises
    ------
    GateError
        The report lacks what a verdict needs.

    """
    try:
        scenarios = {item['name']: item for item in report['scenarios']}
        ways = len(report['way_names'])
        summaries = {
            name: {who: summarise_outcomes(outcomes_of(values['outcomes']), ways) for who, values in of_policies(item)}
            for name, item in scenarios.items()
        }
        latency, period = report['latency_us'], float(report['subject']['period'])
        # Reports of earlier versions have the answer alone.
        p99 = float(latency.get('student_plan', latency['student'])['p99']) * 1e-6
        # A figure that the task does not have is not required.
        absent = {'entropy'} if ways < 2 else set()
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
        checks.append(Check('', 'latency, of the policy period', p99 / period, gate.latency, at_most=True))
    return Verdict(tuple(checks))


def of_policies(scenario: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    """Return who was tried in a scenario of a report, and what came of it."""
    return [(who, scenario[who]) for who in ('student', 'teacher', 'recorded') if scenario.get(who) is not None]


def _checks(name: str, threshold: Threshold, summaries: Mapping[str, Summary], absent: Collection[str]) -> list[Check]:
    student, teacher = summaries.get('student'), summaries.get('teacher')
    checks = []
    for asked, figure, at_most in _ASKED:
        value = getattr(threshold, asked)
        if value is not None and asked not in absent:
            found = None if student is None else _known(getattr(student, figure))
            checks.append(Check(name, asked.replace('_', ' '), found, value, at_most))
    if threshold.success_low is not None:
        low = None if student is None else student.success_interval[0]
        checks.append(Check(name, 'lower end of the interval of success', low, threshold.success_low, at_most=False))
    if threshold.behind_teacher is not None and student is not None and teacher is not None:
        behind = teacher.success - student.success
        checks.append(Check(name, 'success behind the teacher', behind, threshold.behind_teacher, at_most=True))
    return checks


def _known(value: float) -> float | None:
    return float(value) if value == value else None
