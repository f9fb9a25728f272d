"""The validation report: JSON for programs, HTML with verdict, tables and pictures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from vdd_ros.common.environment import environment
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.labels import Labels, load_labels
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import Task
from vdd_ros.validation import pictures
from vdd_ros.validation.cost import CORE_PRICE, cost_sheet
from vdd_ros.validation.judgement import judge
from vdd_ros.validation.latency import Latency
from vdd_ros.validation.metrics import summarise, wilson_interval
from vdd_ros.validation.report_file import FORMAT, OVER_ROS, REPORT, sealed
from vdd_ros.validation.scenarios import EVERYTHING, NOMINAL, SLOW, described
from vdd_ros.validation.thresholds import Gate
from vdd_ros.validation.trial import Rollouts, Timing

PAPER = (
    'Zhou et al., NeurIPS 2024, report for Avoiding, with human demonstrations and other servos (comparable protocol): '
    'teachers .94 and .96, VDD .92 and .95, EM .65, consistency distillation .82, one-step teacher .84.'
)


@dataclass(frozen=True)
class Findings:
    """All results of a validation, from which the report is written."""

    task: Task
    contract: Contract
    student: Artifact | None
    teacher: Artifact | None
    scenarios: Mapping[str, Disturbances]
    rollouts: Mapping[str, Mapping[str, Rollouts]]
    """Rollouts by scenario, then by policy: `student`, `teacher`, `recorded`."""
    over_ros: Mapping[str, Rollouts]
    """Rollouts of the student over ROS in lockstep, by scenario."""
    latency: Mapping[str, Latency]
    """`teacher_eager`, `teacher_same_runtime` and `student`, if measured."""
    gate: Gate
    """The requirements."""
    deployment: Deployment
    """The deployment parameters."""
    seconds: Mapping[str, float | None] = field(default_factory=dict)
    """Duration of each step [s]."""
    films: Mapping[str, Path] = field(default_factory=dict)
    """Video files by scenario."""
    timings: Mapping[str, Timing] = field(default_factory=dict)
    """Timing of the scenarios in which the student ran as deployed."""
    core_price: float = CORE_PRICE
    """Price of one core for one hour, for the cost sheet."""
    known_scenarios: Sequence[str] = ()
    """Names of all scenarios of the task, including those without rollouts."""
    failures: Mapping[str, str] = field(default_factory=dict)
    """Failed parts of the validation, with the reason."""


def numbers(findings: Findings) -> dict[str, Any]:
    """Return the report as plain values: the content of `report.json` without its digest."""
    student, teacher, latency = findings.student, findings.teacher, findings.latency
    values: dict[str, Any] = {
        'report_version': FORMAT,
        'subject': _subject(findings),
        'mode_names': list(findings.task.mode_names),
        'scenarios': [_scenario(findings, name) for name in findings.scenarios],
        'latency_us': {name: asdict(each) for name, each in latency.items()},
        'ros': _of_ros(list(findings.over_ros.values())),
        'contract': {'name': findings.contract.name, 'hash': findings.contract.hash},
        'deployment': findings.deployment.model_dump(mode='json'),
        'seconds': dict(findings.seconds),
        'failures': dict(findings.failures),
        **environment(),
    }
    nominal = findings.rollouts.get(NOMINAL, next(iter(findings.rollouts.values())))
    if teacher is not None:
        values['teacher'] = {
            **_summary(nominal['teacher']),
            'artifact': teacher.hash,
            'network_calls': len(teacher.manifest.training['sigmas']) - 1,
            'latency_us': asdict(latency['teacher_eager']),
            'latency_same_runtime_us': asdict(latency['teacher_same_runtime']),
        }
    if student is not None:
        values['student'] = {
            **_summary(nominal['student'], _experts(student)),
            'artifact': student.hash,
            'latency_us': asdict(latency['student']),
            'plan_us': asdict(latency['student_plan']),
            **student.manifest.metrics,
        }
        values['data'] = student.manifest.data.model_dump(mode='json')
    if student is not None and teacher is not None:
        values['speedup'] = latency['teacher_eager'].p50 / latency['student'].p50
        values['speedup_same_runtime'] = latency['teacher_same_runtime'].p50 / latency['student'].p50
    if student is not None:
        values['gate'] = _gate(values, findings.gate)
        values['cost'] = _cost(values, findings, student)
    return values


def _subject(findings: Findings) -> dict[str, Any]:
    """Return what has to agree between two reports that are compared, and between a report and a promotion."""
    return {
        'artifact': None if findings.student is None else findings.student.hash,
        'contract': findings.contract.hash,
        'contract_name': findings.contract.name,
        'period': findings.contract.period / NANOSECONDS,
        'task': findings.task.name,
        'scene': findings.task.scene_hash,
        'obstacles': bool(findings.task.moving and findings.task.obstacles),
        'deployment': findings.deployment.fingerprint,
    }


def _gate(values: Mapping[str, Any], gate: Gate) -> dict[str, Any]:
    """Return the verdict on the values of a report, with the thresholds."""
    verdict = judge(values, gate)
    return {
        'passes': verdict.passes,
        'text': verdict.text,
        'checks': [check.values() for check in verdict.checks],
        'thresholds': gate.model_dump(mode='json', exclude_none=True),
    }


def _cost(values: Mapping[str, Any], findings: Findings, student: Artifact) -> dict[str, Any]:
    artifacts = {'student': student}
    if findings.teacher is not None:
        artifacts['teacher'] = findings.teacher
    return cost_sheet(
        values,
        findings.contract,
        artifacts,
        findings.latency,
        findings.deployment,
        core_price=findings.core_price,
        shipped=findings.known_scenarios,
    ).values()


def write_report(findings: Findings, folder: Path) -> dict[str, Any]:
    """Write `report.html`, `report.json` and `paths.png` into a folder; return the values."""
    values = numbers(findings)
    paths = pictures.drawn(
        pictures.paths_picture(findings.task, _panels(findings), _labels(findings.student)), vector=False
    )
    figures = {'paths': pictures.data_url(paths, 'image/png')}
    nominal = findings.rollouts.get(NOMINAL, next(iter(findings.rollouts.values())))
    figures['frequency'] = pictures.embedded(pictures.frequency_picture(nominal))
    if findings.latency:
        figures['latency'] = pictures.embedded(pictures.latency_picture(findings.latency))
    histories = {
        who: artifact.manifest.history
        for who, artifact in (('teacher', findings.teacher), ('student', findings.student))
        if artifact is not None
    }
    if any(histories.values()):
        figures['learning'] = pictures.embedded(pictures.learning_picture(histories))
    loader = jinja2.FileSystemLoader(Path(__file__).parent)
    templates = jinja2.Environment(loader=loader, autoescape=True, undefined=jinja2.StrictUndefined)
    templates.filters.update(percent=_percent, number=_number, words=lambda name: name.replace('_', ' '))
    page = templates.get_template('report.html').render(
        report=values,
        figures=figures,
        films={name: pictures.data_url(path.read_bytes(), 'video/mp4') for name, path in findings.films.items()},
        paper=PAPER if findings.task.reference.startswith('avoiding') else '',
        required={name: _required(findings.gate, name) for name in findings.scenarios},
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'paths.png').write_bytes(paths)
    _write(folder / 'report.html', page)
    _write(folder / REPORT, sealed(values))
    return values


def _scenario(findings: Findings, name: str) -> dict[str, Any]:
    disturbances, student = findings.scenarios[name], findings.student
    values: dict[str, Any] = {
        'name': name,
        'description': _description(findings, name),
        'disturbances': disturbances.model_dump(mode='json', exclude_defaults=True),
        **dict.fromkeys(('student', 'teacher', 'recorded', 'ros')),
    }
    for who, rollouts in findings.rollouts[name].items():
        experts = _experts(student) if who == 'student' and student is not None else 0
        values[who] = {
            **_summary(rollouts, experts),
            'outcomes': rollouts.outcomes.values(),
            'causes': dict(Counter(cause for cause in rollouts.causes if cause).most_common()),
            'limited_seconds': _limited(rollouts, findings.contract.joints),
        }
    if name in findings.over_ros:
        values['ros'] = _of_ros([findings.over_ros[name]])
    return values


def _description(findings: Findings, name: str) -> str:
    if name in findings.timings:
        return _as_deployed(findings, name)
    world = described(findings.scenarios[name])
    if not name.startswith(OVER_ROS):
        return world
    rate = NANOSECONDS / findings.deployment.control_period(findings.contract, simulated=False)
    return f'as deployed, over ROS in real time: commands at {rate:g} Hz under all limits; scenario: {world}'


def _as_deployed(findings: Findings, name: str) -> str:
    timing = findings.timings[name]
    latency = 1e3 * np.median(timing.latency) * timing.latency_scale
    return (
        f'as deployed: commands at {NANOSECONDS / timing.control_period:g} Hz under all limits, asynchronous planning '
        f'in {latency:.1f} ms, joint states at {NANOSECONDS / timing.state_period:g} Hz and '
        f'{timing.state_delay / 1e6:g} ms delay' + (', slow mode' if name == SLOW else '')
    )


def _limited(rollouts: Rollouts, joints: Sequence[str]) -> dict[str, dict[str, float]]:
    """Return for each kind of limit how long it changed the command of each joint, averaged over episodes [s]."""
    return {
        kind: {joint: float(value) / len(rollouts) for joint, value in zip(joints, seconds) if value}
        for kind, seconds in rollouts.limited.items()
        if np.any(seconds)
    }


def _summary(rollouts: Rollouts, experts: int = 0) -> dict[str, Any]:
    summary = asdict(summarise(rollouts, experts))
    known = {name: None if isinstance(value, float) and math.isnan(value) else value for name, value in summary.items()}
    return {**known, 'times_real_time': rollouts.simulated_seconds / rollouts.seconds}


def _labels(student: Artifact | None) -> Labels:
    return Labels() if student is None else load_labels(student.path, student.hash, _experts(student))


def _experts(student: Artifact) -> int:
    return int(student.manifest.metrics.get('experts', student.manifest.network.get('experts', 0)))


def _of_ros(rollouts: Sequence[Rollouts]) -> dict[str, Any]:
    if not rollouts:
        return {'episodes': 0, 'success': None}
    successes, episodes = sum(int(each.success.sum()) for each in rollouts), sum(map(len, rollouts))
    interval = wilson_interval(successes, episodes)
    causes = Counter(cause for each in rollouts for cause in each.causes if cause)
    return {
        'episodes': episodes,
        'success': successes / episodes,
        'success_interval': interval,
        'causes': dict(causes.most_common()),
    }


def _panels(findings: Findings) -> dict[str, Rollouts]:
    """Return the rollouts to be drawn: all policies in the nominal scenario, the first policy in the last one."""
    first, *others = findings.rollouts
    panels = dict(reversed(findings.rollouts[first].items()))
    if others:
        worst = EVERYTHING if EVERYTHING in others else others[-1]
        who, rollouts = next(iter(findings.rollouts[worst].items()))
        panels[f'{who}, {worst.replace("_", " ")}'] = rollouts
    return panels


def _required(gate: Gate, scenario: str) -> float | None:
    threshold = gate.threshold(scenario)
    return None if threshold is None else threshold.success


def _percent(value: float | None) -> str:
    return 'none' if value is None else f'{100 * value:.1f} %'


def _number(value: float | None, digits: int = 2, unit: str = '') -> str:
    return 'none' if value is None else f'{value:.{digits}f}{unit}'


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f'.{path.name}.partial')
    aside.write_text(text, encoding='utf-8')
    aside.replace(path)
