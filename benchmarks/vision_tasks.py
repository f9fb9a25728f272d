"""Tasks with cameras of `benchmarks.vision`: demonstrations, a teacher, a student and EM, and rollouts as deployed."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.harness import Bar, seconds_of_run
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.distillation.rounds import Simulator
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.learning.runs import run_path
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.disturbances import Disturbances, SensorDisturbances
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.latency import plan_durations
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Timing, Trial, rollout_all

TASKS = {'avoiding': 'avoiding_seen', 'placing': 'placing_seen'}
"""The task of each part of the benchmark."""
_ROUND = 24
"""Demonstrations of one process: every mode once, or twice."""
_RATE = 250.0
"""Commands of a deployment [Hz]."""

Row = dict[str, Any]


def _demonstrated(name: str, first: int, count: int, seed: int) -> list[Episode]:
    task = load_task(name)
    return demonstrate(task, load_contract(task.contract), count, seed + first, first=first)


def demonstrations(task: Task, contract: Contract, count: int, seed: int, processes: int) -> Demonstrations:
    """Demonstrate a task in so many processes, and keep what succeeds."""
    parts = [(task.name, first, min(_ROUND, count - first), seed) for first in range(0, count, _ROUND)]
    if processes == 1:
        shown = [_demonstrated(*part) for part in parts]
    else:
        with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as executor:
            shown = list(executor.map(_demonstrated, *zip(*parts)))
    kept = [episode for part in shown for episode in part if episode.success]
    return Demonstrations.from_episodes(kept, contract)


def learned(
    shown: Demonstrations,
    folder: Path,
    settings: LearningSettings,
    progress: Progress,
    simulator: Simulator | None = None,
) -> dict[str, float]:
    """Learn a teacher, a student and EM in a folder, in rounds with a simulator, and return how long each took [s].

    What the folder has is kept, and a run that was interrupted goes on.
    """
    teacher = folder / 'teacher'

    def learn(name: str) -> object:
        path = folder / name
        options = {'resume': run_path(path).exists()}
        if name == 'teacher':
            return learning.train_teacher(shown, path, settings, progress, **options)
        if name == 'student':
            return learning.distill(shown, teacher, path, settings, progress, simulator=simulator, **options)
        given = load_artifact(teacher, kind='teacher')
        return learning.fit_em(shown, path, settings, progress, teacher=given, **options)

    for name in ('teacher', 'student', 'em'):
        if not (folder / name).exists():
            learn(name)
    return {name: seconds_of_run(folder / name) for name in ('teacher', 'student', 'em')}


def seen(
    part: str,
    folder: Path,
    settings: LearningSettings,
    shown: int,
    episodes: int,
    seeds: int,
    processes: int,
    progress: Progress,
) -> list[Row]:
    """Learn and act by the cameras of a task, deployed at 250 Hz; the student also with covered lenses."""
    task = load_task(TASKS[part])
    contract, rows = load_contract(task.contract), []
    for seed in range(seeds):
        begin = time.perf_counter()
        data = demonstrations(task, contract, shown, seed, processes)
        made = time.perf_counter() - begin
        place = folder / f'{task.name}_{seed}'
        seconds = learned(data, place, settings.model_copy(update={'seed': seed}), progress)
        deployment = Deployment(control_rate=_RATE)
        start = task.simulation(contract.robot.joints).position
        durations = plan_durations(load_artifact(place / 'student', kind='student'), deployment, start, plans=50)
        trials = _trials(place, episodes, Timing(round(NANOSECONDS / _RATE), latency=durations), task)
        for name, found in rollout_all(
            task, contract, trials, seed, processes, partial(tell, progress), deployment
        ).items():
            summary = summarise(found)
            rows.append(
                {
                    'part': part,
                    'method': name,
                    'seed': seed,
                    'success': summary.success,
                    'entropy': summary.entropy,
                    'modes': summary.modes,
                    'episodes': episodes,
                    'demonstrations': shown,
                    'learned_s': seconds.get(name.partition(',')[0]),
                    'demonstrated_s': made,
                    'plan_p50_ms': 1e3 * float(np.median(durations)),
                }
            )
    return rows


def _trials(place: Path, episodes: int, timing: Timing, task: Task) -> dict[str, Trial]:
    covered = Disturbances(sensors=dict.fromkeys(task.settings.cameras, SensorDisturbances(covered=True)))
    student = partial(DistilledPolicy.load, place / 'student')
    return {
        'teacher': Trial(partial(TeacherPolicy.load, place / 'teacher'), episodes, timing=timing),
        'student': Trial(student, episodes, timing=timing),
        'em': Trial(partial(DistilledPolicy.load, place / 'em'), episodes, timing=timing),
        'student, covered lens': Trial(student, episodes, covered, timing=timing),
    }


def seen_bars(rows: list[Row]) -> list[Bar]:
    """Return the bars of the tasks that were measured, of means over seeds."""
    found = []
    for part in dict.fromkeys(row['part'] for row in rows if row['part'] in TASKS):
        mine = [row for row in rows if row['part'] == part]
        mean = {
            (name, figure): float(np.mean([row[figure] for row in mine if row['method'] == name]))
            for name in {row['method'] for row in mine}
            for figure in ('success', 'entropy')
        }
        teacher, student = mean['teacher', 'success'], mean['student', 'success']
        if part == 'avoiding':
            found += [
                Bar('avoiding_seen, success of the teacher', teacher, 0.93),
                Bar('avoiding_seen, success of the student', student, 0.90),
                Bar('avoiding_seen, entropy of the student', mean['student', 'entropy'], 0.80),
                Bar('avoiding_seen, student over EM', student - mean['em', 'success'], 0.0),
                Bar('avoiding_seen, covered lens', mean['student, covered lens', 'success'], 0.35, at_most=True),
            ]
        else:
            found += [
                Bar('placing_seen, success of the student', student, 0.85),
                Bar('placing_seen, success of the student under its teacher', teacher - student, 0.03, at_most=True),
            ]
    return found


def tell(progress: Progress, name: str, done: int, total: int) -> None:
    """Report how many rollouts are done."""
    progress(f'{name} rollouts', done, total, {})
