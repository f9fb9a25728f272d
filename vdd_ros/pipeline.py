"""The offline jobs as functions: record, train a teacher, distil a student, validate them; each from the files of the
one before."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from vdd_ros import learning
from vdd_ros.artifact import claim_output, load_artifact
from vdd_ros.console import Interruption
from vdd_ros.contract import Contract, load_contract
from vdd_ros.data.demonstrations import Demonstrations, load_demonstrations
from vdd_ros.errors import InterfaceError
from vdd_ros.kinematics import Kinematics
from vdd_ros.learning_settings import LearningSettings
from vdd_ros.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.processes import NodeGraph
from vdd_ros.progress import Progress
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.latency import compare
from vdd_ros.validation.report import Findings, write_report
from vdd_ros.validation.rollout import rollout

train_teacher, distill = learning.train_teacher, learning.distill

_PROCESSES = os.cpu_count() or 1


def record(
    output: str | Path,
    *,
    contract: str = 'avoiding_cartesian',
    task: str = 'avoiding',
    episodes: int = 288,
    seed: int = 0,
    logs: Path,
    progress: Progress,
) -> Path:
    """Record scripted demonstrations of a task over ROS: bridge, demonstrator and recorder as processes.

    Parameters
    ----------
    output
        The bag to write.
    contract, task
        Whose topics to record, and what to demonstrate.
    episodes
        How many successful demonstrations to stop after.
    seed
        Draws the demonstrations.
    logs
        Folder for what the nodes say.
    progress
        Told the successes so far.

    Raises
    ------
    OutputError
        The output is occupied.
    InterfaceError
        A node failed; the message says why.

    """
    output = claim_output(output)
    load_contract(contract)

    def listen(line: str) -> None:
        if (match := re.search(r'demonstrations: successes=(\d+) .*failures=(\d+) ways=(\d+)', line)) is not None:
            done, failures, ways = map(float, match.groups())
            progress('record', done, episodes, {'failures': failures, 'ways': ways})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {'task': task, 'mode': 'lockstep'})
        graph.start('recorder', {'output': str(output.absolute()), 'contract': contract, 'use_sim_time': True})
        settings = {'task': task, 'contract': contract, 'episodes': episodes, 'seed': seed, 'recorder': 'recorder'}
        graph.start('demonstrator', {**settings, 'use_sim_time': True}, listen=listen)
        graph.wait('demonstrator')
    if not output.exists():
        raise InterfaceError(expected=f'a bag at {output}', found='none', remedy=f'read the logs in {logs}')
    return output


def load(
    bags: Sequence[str | Path], contract: str | Path | Contract, settings: LearningSettings, progress: Progress
) -> Demonstrations:
    """Read the demonstrations of some bags; errors as those of `load_contract` and `load_demonstrations`."""
    contract = contract if isinstance(contract, Contract) else load_contract(contract)
    kinematics = functools.partial(Kinematics.from_contract, contract)
    return load_demonstrations(bags, contract, kinematics, progress, held_out=settings.held_out, seed=settings.seed)


def rollout_over_ros(
    student: str | Path, *, task: str = 'avoiding', episodes: int = 20, seed: int = 0, logs: Path, progress: Progress
) -> tuple[Mapping[str, object], ...]:
    """Let a student drive the simulated arm through ROS: bridge, policy node and validator as processes.

    Returns for each episode its ``outcome``, ``way``, ``steps`` and ``index``.

    Raises
    ------
    ArtifactError
        The student is absent or damaged.
    InterfaceError
        A node failed; the message says why.

    """
    artifact = load_artifact(student, kind='student')
    logs.mkdir(parents=True, exist_ok=True)
    contract, outcomes = logs / 'contract.yaml', logs / f'outcomes_{time.time_ns()}.json'
    contract.write_text(json.dumps(artifact.manifest.contract.model_dump(mode='json')), encoding='utf-8')

    def listen(line: str) -> None:
        if (match := re.search(r'rollouts: done=(\d+) of=\d+ successes=(\d+)', line)) is not None:
            progress('ros', float(match[1]), episodes, {'successes': float(match[2])})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {'task': task, 'mode': 'lockstep'})
        graph.start('policy_node', {'artifact': str(Path(student).absolute()), 'seed': seed, 'use_sim_time': True})
        settings = {'contract': str(contract), 'episodes': episodes, 'output': str(outcomes)}
        graph.start('validator', settings, listen=listen)
        graph.wait('validator')
    return tuple(json.loads(outcomes.read_text(encoding='utf-8')))


def validate(
    student: str | Path,
    teacher: str | Path,
    output: str | Path,
    *,
    task: str = 'avoiding',
    episodes: int = 480,
    ros_episodes: int = 20,
    seed: int = 0,
    progress: Progress,
    seconds: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Roll teacher and student out, measure their latency, and write the report; return what `report.json` holds.

    Parameters
    ----------
    student, teacher
        The artifacts.
    output
        Folder for the report.
    task, episodes, ros_episodes, seed
        What to roll out in, how often in process, how often over ROS, and what draws the chance.
    progress
        Told how far each part is.
    seconds
        How long earlier steps took, for the report [s].

    Raises
    ------
    OutputError
        The folder holds a report already.
    ArtifactError
        An artifact is absent, damaged, of the wrong kind, or the two are not of one contract.

    """
    began = time.perf_counter()
    output = Path(output)
    pupil = load_artifact(student, kind='student')
    contract = pupil.manifest.contract
    master = load_artifact(teacher, kind='teacher', contract=contract)
    place, rollouts = load_task(task), {}
    claim_output(output / 'report.json')
    for name, planner in (('teacher', TeacherPolicy), ('student', DistilledPolicy)):
        path = teacher if name == 'teacher' else student
        rollouts[name] = rollout(
            place,
            contract,
            partial(planner.load, path),
            episodes,
            seed,
            processes=_PROCESSES,
            progress=partial(_told, progress, f'{name} rollouts'),
        )
    outcomes: tuple[Mapping[str, object], ...] = ()
    if ros_episodes:
        outcomes = rollout_over_ros(
            student, task=task, episodes=ros_episodes, seed=seed, logs=output / 'logs', progress=progress
        )
    latency = compare(master, pupil, partial(_told, progress, 'latency'))
    spent = dict(seconds or {})
    spent['validate'] = time.perf_counter() - began
    spent['total'] = sum(value for value in spent.values() if value is not None)
    findings = Findings(master, pupil, rollouts['teacher'], rollouts['student'], outcomes, latency, spent)
    progress('report', 0, 1, {})
    values = write_report(findings, place, output)
    progress('report', 1, 1, {})
    return values


def demo(
    output: str | Path,
    *,
    contract: str,
    task: str = 'avoiding',
    episodes: int,
    rollouts: int,
    ros_episodes: int,
    settings: LearningSettings,
    seed: int,
    resume: bool,
    progress: Progress,
    interruption: Interruption,
) -> dict[str, Any]:
    """Do all steps in a row in one folder; with ``resume``, only those whose files are not there yet.

    Raises
    ------
    OutputError
        The folder is there and ``resume`` is not asked for.

    """
    output = Path(output)
    if not resume:
        claim_output(output)
    output.mkdir(parents=True, exist_ok=True)
    bag, teacher, student = output / 'demonstrations', output / 'teacher', output / 'student'
    clock = _StepClock(output / 'seconds.json')
    if not bag.exists():
        with clock('record'):
            record(
                bag, contract=contract, task=task, episodes=episodes, seed=seed, logs=output / 'logs', progress=progress
            )
    if not (teacher.exists() and student.exists()):
        demonstrations = load([bag], contract, settings, progress)
        if not teacher.exists():
            with clock('teacher'), interruption:
                train_teacher(
                    demonstrations, teacher, settings, progress, resume=_checkpoint(teacher), cancelled=interruption
                )
        with clock('distill'), interruption:
            distill(
                demonstrations,
                teacher,
                student,
                settings,
                progress,
                resume=_checkpoint(student),
                cancelled=interruption,
            )
    (output / 'report.json').unlink(missing_ok=True)
    return validate(
        student,
        teacher,
        output,
        task=task,
        episodes=rollouts,
        ros_episodes=ros_episodes,
        seed=seed,
        progress=progress,
        seconds={'install': _install_seconds(), **clock.seconds},
    )


class _StepClock:
    """How long each step took, kept on disk, so that a resumed demo still knows."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.seconds: dict[str, float] = json.loads(file.read_text(encoding='utf-8')) if file.exists() else {}

    @contextlib.contextmanager
    def __call__(self, step: str) -> Iterator[None]:
        began = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[step] = self.seconds.get(step, 0.0) + time.perf_counter() - began
            self._file.write_text(json.dumps(self.seconds), encoding='utf-8')


def _checkpoint(artifact: Path) -> bool:
    return learning.checkpoint_path(artifact).exists()


def _install_seconds() -> float | None:
    """Return how long the Makefile took to set this environment up, where it did."""
    file = Path(sys.prefix) / 'install_seconds'
    return float(file.read_text(encoding='utf-8')) if file.exists() else None


def _told(progress: Progress, step: str, done: int, total: int) -> None:
    progress(step, done, total, {})
