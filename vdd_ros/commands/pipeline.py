"""Offline jobs as functions: record, train a teacher, distil a student, validate. Each reads the last one's files."""

from __future__ import annotations

import contextlib
import functools
import json
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from vdd_ros.common.console import Interruption
from vdd_ros.common.errors import InterfaceError
from vdd_ros.common.output import claim_output
from vdd_ros.common.processes import NodeGraph
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.data.demonstrations import load_demonstrations
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.report_file import REPORT
from vdd_ros.validation.validate import Plan, validate

train_teacher, distill = learning.train_teacher, learning.distill

_DISTURBANCE_SHARE = 4
"""Every scenario but the nominal one gets that part of a demo's rollouts."""
_DEPLOYED_SHARE = 2
"""The rollouts as deployed are that part of them."""


def record(
    output: str | Path,
    *,
    contract: str = '',
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
        Whose topics to record (by default those of the task's own contract), and what to demonstrate.
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
    contract = contract or load_task(task).contract
    load_contract(contract)

    def listen(line: str) -> None:
        if (match := re.search(r'demonstrations: successes=(\d+) .*failures=(\d+) ways=(\d+)', line)) is not None:
            done, failures, ways = map(float, match.groups())
            progress('record', done, episodes, {'failures': failures, 'ways': ways})

    with NodeGraph(logs) as graph:
        bridge = {
            'task': task,
            'contract': contract,
            'mode': 'lockstep',
            'command_rate': NANOSECONDS / CONTROL_PERIOD,
        }
        graph.start('mujoco_bridge', bridge)
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


def demo(
    output: str | Path,
    *,
    contract: str = '',
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
    output, contract = Path(output), contract or load_task(task).contract
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
    (output / REPORT).unlink(missing_ok=True)
    return validate(
        output,
        Plan(
            task=task,
            episodes=rollouts,
            disturbance_episodes=max(1, rollouts // _DISTURBANCE_SHARE),
            deployed_episodes=max(1, rollouts // _DEPLOYED_SHARE),
            ros_episodes=ros_episodes,
            seed=seed,
        ),
        student=student,
        teacher=teacher,
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
