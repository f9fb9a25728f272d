"""Offline jobs as functions: record, train a teacher, distill a student, validate.

Each function reads the files of the previous one.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import json
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vdd_ros.common.console import Interruption
from vdd_ros.common.errors import InterfaceError
from vdd_ros.common.output import claim_output
from vdd_ros.common.processes import NodeGraph
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.data.demonstrations import load_demonstrations
from vdd_ros.data.quality.completeness import lapses_of, summary
from vdd_ros.data.quality.survey import survey
from vdd_ros.data.spans import spans_of
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.policy.artifact import Artifact
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.bag_demonstration import record_in_process
from vdd_ros.sim.demonstration import CONTROL_PERIOD
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.report_file import REPORT
from vdd_ros.validation.validate import Plan, validate

train_teacher, distill = learning.train_teacher, learning.distill

_DISTURBANCE_SHARE = 4
"""Divisor of the number of rollouts of a demo, for scenarios other than the nominal one."""
_DEPLOYED_SHARE = 2
"""Divisor of the number of rollouts of a demo, for scenarios as deployed."""


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

    If the contract has images, demonstrations are recorded in this process, and the simulation waits for each image.

    Parameters
    ----------
    output
        The bag to write.
    contract, task
        The contract whose topics are recorded (default: that of the task), and the task.
    episodes
        Number of successful demonstrations.
    seed
        Random seed of the demonstrations.
    logs
        Folder for the logs of the nodes.
    progress
        Called with the number of successes.

    Raises
    ------
    OutputError
        The output exists.
    InterfaceError
        A node failed, or the bag is incomplete; the message gives the reason. The bag is renamed to NAME.incomplete.

    """
    output = claim_output(output)
    contract = contract or load_task(task).contract
    if (bound := load_contract(contract)).images:

        def report(successes: int, failures: int, modes: int) -> None:
            progress('record', successes, episodes, {'failures': failures, 'modes': modes})

        record_in_process(output, load_task(task), bound, episodes=episodes, seed=seed, progress=report)
        return output

    def listen(line: str) -> None:
        if (match := re.search(r'demonstrations: successes=(\d+) .*failures=(\d+) modes=(\d+)', line)) is not None:
            done, failures, modes = map(float, match.groups())
            progress('record', done, episodes, {'failures': failures, 'modes': modes})

    try:
        _record_over_ros(output, contract, task, episodes, seed, logs, listen)
    except InterfaceError:
        if output.exists():
            require_complete(output, bound, 0, logs)
        raise
    require_complete(output, bound, episodes, logs)
    return output


def _record_over_ros(
    output: Path, contract: str, task: str, episodes: int, seed: int, logs: Path, listen: Callable[[str], None]
) -> None:
    with NodeGraph(logs) as graph:
        bridge = {'task': task, 'contract': contract, 'mode': 'lockstep', 'command_rate': NANOSECONDS / CONTROL_PERIOD}
        graph.start('mujoco_bridge', bridge)
        how = {'lockstep': True, 'use_sim_time': True}
        graph.start('recorder', {'output': str(output.absolute()), 'contract': contract, **how})
        settings = {'task': task, 'contract': contract, 'episodes': episodes, 'seed': seed, 'recorder': 'recorder'}
        graph.start('demonstrator', {**settings, 'use_sim_time': True}, listen=listen)
        graph.wait('demonstrator')


def require_complete(output: Path, contract: Contract, episodes: int, logs: Path) -> None:
    """Compare a bag with what was demonstrated: successes, and the commands of each episode that the bridge took.

    An incomplete bag is renamed to NAME.incomplete.

    Raises
    ------
    InterfaceError
        There is no bag, or it is incomplete.

    """
    if not output.exists():
        raise InterfaceError(expected=f'a bag at {output}', found='none', remedy=f'see the logs in {logs}')
    found = survey(output, contract, tolerant=True)
    recording = found.recording
    spans = spans_of(recording, contract, found.report) if recording else []
    successes = sum(span.labels.get('outcome') == 'success' for span in spans)
    lapses = lapses_of(recording, contract, spans) if recording else ()
    if lapses or successes < episodes:
        raise InterfaceError(
            expected=f'{episodes} successful demonstrations, each with all commands that the simulation took',
            found=summary(lapses) if lapses else f'{successes}',
            remedy=f'record again, with less load on the machine; see the logs in {logs}; what was recorded is kept in '
            f'{_set_aside(output)}',
        )


def _set_aside(bag: Path) -> Path:
    """Rename an incomplete bag, and return its new path."""
    numbers = itertools.count(1)
    names = itertools.chain(['incomplete'], (f'incomplete.{number}' for number in numbers))
    kept = next(path for name in names if not (path := bag.with_name(f'{bag.name}.{name}')).exists())
    return bag.rename(kept)


def load(
    bags: Sequence[str | Path], contract: str | Path | Contract, settings: LearningSettings, progress: Progress
) -> Demonstrations:
    """Read the demonstrations of bags; errors as for `load_contract` and `load_demonstrations`."""
    contract = contract if isinstance(contract, Contract) else load_contract(contract)
    kinematics = functools.partial(Kinematics.from_contract, contract)
    return load_demonstrations(bags, contract, kinematics, progress, held_out=settings.held_out, seed=settings.seed)


def teacher_of_continued(output: str | Path) -> Path:
    """Return the path of the teacher that is trained further together with a student."""
    output = Path(output)
    return output.with_name(f'{output.name}.teacher')


def learn_on(
    demonstrations: Demonstrations,
    teacher: str | Path,
    student: str | Path,
    output: str | Path,
    settings: LearningSettings,
    progress: Progress,
    *,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
    **how: Any,
) -> Artifact | None:
    """Continue the training of a teacher and a student with further demonstrations; None if cancelled.

    The teacher is written to `teacher_of_continued`. Its training must be continued, too: a teacher that has not seen a
    new mode would train the student to suppress this mode.

    Parameters
    ----------
    demonstrations
        The earlier and the further demonstrations.
    teacher, student
        The artifacts to continue from.
    output
        The student to write.
    settings, progress, resume, cancelled, how
        As for `distill`.

    """
    made = teacher_of_continued(output)
    if not (resume and made.exists()):
        resumed = resume and _checkpoint(made)
        learned = train_teacher(
            demonstrations, made, settings, progress, start=teacher, resume=resumed, cancelled=cancelled
        )
        if learned is None:
            return None
    resumed = resume and _checkpoint(Path(output))
    return distill(
        demonstrations, made, output, settings, progress, start=student, resume=resumed, cancelled=cancelled, **how
    )


@dataclass(frozen=True)
class DemoPlan:
    """Task, number of demonstrations and number of rollouts of a demo."""

    contract: str = ''
    """Name or file of the contract; default: that of the task."""
    task: str = 'avoiding'
    episodes: int = 288
    """Number of successful demonstrations."""
    rollouts: int = 480
    """Number of nominal rollouts of each policy; other scenarios have a share of this number."""
    ros_episodes: int = 20
    """Number of rollouts of the student over ROS."""
    seed: int = 0
    """Seed of demonstrations and rollouts."""

    @property
    def validation(self) -> Plan:
        """The configuration of the validation."""
        return Plan(
            task=self.task,
            episodes=self.rollouts,
            disturbance_episodes=max(1, self.rollouts // _DISTURBANCE_SHARE),
            deployed_episodes=max(1, self.rollouts // _DEPLOYED_SHARE),
            ros_episodes=self.ros_episodes,
            seed=self.seed,
        )


def demo(
    output: str | Path,
    plan: DemoPlan,
    settings: LearningSettings,
    progress: Progress,
    *,
    resume: bool,
    interruption: Interruption,
) -> dict[str, Any]:
    """Run all steps in one folder; with ``resume``, only those whose results are missing.

    Raises
    ------
    OutputError
        The folder exists and ``resume`` is false.

    """
    output, contract = Path(output), plan.contract or load_task(plan.task).contract
    if not resume:
        claim_output(output)
    output.mkdir(parents=True, exist_ok=True)
    bag, teacher, student = output / 'demonstrations', output / 'teacher', output / 'student'
    clock, logs = _StepClock(output / 'seconds.json'), output / 'logs'
    if not bag.exists():
        shown = {'contract': contract, 'task': plan.task, 'episodes': plan.episodes, 'seed': plan.seed}
        with clock('record'):
            record(bag, **shown, logs=logs, progress=progress)
    if not (teacher.exists() and student.exists()):
        demonstrations = load([bag], contract, settings, progress)
        common = (settings, progress)
        if not teacher.exists():
            with clock('teacher'), interruption:
                resumed = _checkpoint(teacher)
                train_teacher(demonstrations, teacher, *common, resume=resumed, cancelled=interruption)
        with clock('distill'), interruption:
            resumed = _checkpoint(student)
            distill(demonstrations, teacher, student, *common, resume=resumed, cancelled=interruption)
    (output / REPORT).unlink(missing_ok=True)
    seconds = {'install': _install_seconds(), **clock.seconds}
    return validate(output, plan.validation, student=student, teacher=teacher, progress=progress, seconds=seconds)


class _StepClock:
    """Durations of the steps, stored on disk for a resumed demo."""

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
    """Return the duration of the installation by the Makefile, if known."""
    file = Path(sys.prefix) / 'install_seconds'
    return float(file.read_text(encoding='utf-8')) if file.exists() else None
