"""The report of a validation: numbers for programs in JSON, numbers and pictures for people in HTML."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jinja2

from vdd_ros.artifact import Artifact
from vdd_ros.sim.tasks import Task
from vdd_ros.validation import pictures
from vdd_ros.validation.environment import environment
from vdd_ros.validation.latency import Latency
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Rollouts

PAPER = (
    'Zhou et al., NeurIPS 2024, report for Avoiding, with human demonstrations and other servos (comparable protocol): '
    'teachers .94 and .96, VDD .92 and .95, EM .65, consistency distillation .82, one-step teacher .84.'
)


@dataclass(frozen=True)
class Findings:
    """What a validation found."""

    teacher: Artifact
    student: Artifact
    teacher_rollouts: Rollouts
    student_rollouts: Rollouts
    ros_outcomes: tuple[Mapping[str, object], ...]
    """Episodes over ROS; empty if there were none."""
    latency: Mapping[str, Latency]
    """`teacher_eager`, `teacher_same_runtime` and `student`."""
    seconds: Mapping[str, float]
    """How long each step took [s]."""


def numbers(findings: Findings) -> dict[str, Any]:
    """Return the report as plain values: what `report.json` holds."""
    latency = findings.latency
    eager, same, student = (latency[name].p50 for name in ('teacher_eager', 'teacher_same_runtime', 'student'))
    outcomes = findings.ros_outcomes
    successes = sum(item['outcome'] == 'success' for item in outcomes)
    return {
        'teacher': {
            **_of_rollouts(findings.teacher_rollouts),
            'artifact': findings.teacher.hash,
            'network_calls': len(findings.teacher.manifest.training['sigmas']) - 1,
            'latency_us': asdict(latency['teacher_eager']),
            'latency_same_runtime_us': asdict(latency['teacher_same_runtime']),
        },
        'student': {
            **_of_rollouts(findings.student_rollouts, int(findings.student.manifest.metrics['experts'])),
            'artifact': findings.student.hash,
            'latency_us': asdict(latency['student']),
            **findings.student.manifest.metrics,
        },
        'ros': {'episodes': len(outcomes), 'success': successes / len(outcomes) if outcomes else None},
        'speedup': eager / student,
        'speedup_same_runtime': same / student,
        'contract': {'name': findings.student.manifest.contract.name, 'hash': findings.student.manifest.contract_hash},
        'data': findings.student.manifest.data.model_dump(mode='json'),
        'seconds': dict(findings.seconds),
        **environment(),
    }


def write_report(findings: Findings, task: Task, folder: Path) -> dict[str, Any]:
    """Write `report.html`, `report.json` and `ways.png` into a folder; return the numbers."""
    values = numbers(findings)
    rollouts = {'teacher': findings.teacher_rollouts, 'student': findings.student_rollouts}
    ways = pictures.ways_picture(task, rollouts)
    figures = {
        'ways': pictures.embedded(ways, vector=False),
        'frequency': pictures.embedded(pictures.frequency_picture(rollouts)),
        'learning': pictures.embedded(
            pictures.learning_picture(findings.teacher.manifest.history, findings.student.manifest.history)
        ),
        'latency': pictures.embedded(pictures.latency_picture(findings.latency)),
    }
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=jinja2.StrictUndefined
    )
    page = environment.get_template('report.html').render(
        report=values, figures=figures, task=task.name, ways=len(task.way_names), paper=PAPER
    )
    folder.mkdir(parents=True, exist_ok=True)
    ways.savefig(folder / 'ways.png', dpi=110)
    _write(folder / 'report.html', page)
    _write(folder / 'report.json', json.dumps(values, indent=1))
    return values


def _of_rollouts(rollouts: Rollouts, experts: int = 0) -> dict[str, Any]:
    summary = asdict(summarise(rollouts, experts))
    summary['mean_steps'] = None if math.isnan(summary['mean_steps']) else summary['mean_steps']
    return {**summary, 'times_real_time': rollouts.simulated_seconds / rollouts.seconds}


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f'.{path.name}.partial')
    aside.write_text(text, encoding='utf-8')
    aside.replace(path)
