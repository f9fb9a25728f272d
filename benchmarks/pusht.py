"""Learns PushT from human demonstrations and plays it in gym-pusht: `python -m benchmarks.pusht DATA`.

DATA is an .npz of demonstrations (`state`, `action`, `episode_ends`), such as the diffusion policy's authors published.
The whole pipeline runs on them, each stage from the files of the one before:

    bag        the demonstrations as a rosbag, as a robot with a pose tracker would have recorded them
    teacher    a diffusion policy from the bag, through the contract
    student    distilled from the teacher
    em         the same mixture by likelihood alone, without a teacher
    rollouts   all three in gym-pusht, from equal starts: mean of the largest overlap of each episode

Learning takes hours on two cores. `--minutes` stops in time, with everything kept, and `--resume` goes on.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import tyro
from rich.console import Console

from benchmarks.harness import Bar, finish
from benchmarks.pusht_task.data import HERE, contract, write_bag
from benchmarks.pusht_task.rollout import STEPS, Overlaps, rollout
from vdd_ros.commands.pipeline import load
from vdd_ros.common.console import Bars
from vdd_ros.common.output import claim_output
from vdd_ros.common.progress import Progress
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.jobs import checkpoint_path
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy
from vdd_ros.policy.routing import ACTION_NOISE_SCALE

_console = Console()
_QUICK = {'teacher': 20, 'student': 10, 'episodes': 12, 'rollouts': 4, 'steps': 24}


class Stages:
    """The stages that learn, in one folder."""

    def __init__(
        self, folder: Path, settings: LearningSettings, progress: Progress, cancelled: Callable[[], bool]
    ) -> None:
        """Learn in a folder that holds the bag; ``cancelled`` stops, with a checkpoint to go on from."""
        self._folder, self._settings, self._progress, self._cancelled = folder, settings, progress, cancelled
        self._demonstrations: Demonstrations | None = None

    def stage(self, name: str) -> bool:
        """Learn what is not learned yet; return whether it is finished."""
        path = self._folder / name
        if path.exists():
            return True
        if self._demonstrations is None:
            bound = contract(self._folder)
            self._demonstrations = load([self._folder / 'bag'], bound, self._settings, self._progress)
        learn = {'teacher': self._teacher, 'student': self._student, 'em': self._em}[name]
        return learn(path, checkpoint_path(path).exists())

    def _teacher(self, path: Path, resume: bool) -> bool:
        made = learning.train_teacher(
            self._demonstrations, path, self._settings, self._progress, resume=resume, cancelled=self._cancelled
        )
        return made is not None

    def _student(self, path: Path, resume: bool) -> bool:
        made = learning.distill(
            self._demonstrations,
            self._folder / 'teacher',
            path,
            self._settings,
            self._progress,
            resume=resume,
            cancelled=self._cancelled,
        )
        return made is not None

    def _em(self, path: Path, resume: bool) -> bool:
        made = learning.fit_em(
            self._demonstrations,
            path,
            self._settings,
            self._progress,
            teacher=load_artifact(self._folder / 'teacher', kind='teacher'),
            resume=resume,
            cancelled=self._cancelled,
        )
        return made is not None


def _rows(folder: Path, episodes: int, steps: int, processes: int, progress: Progress) -> list[dict[str, Any]]:
    bound = contract(folder)
    planners = {
        'teacher': partial(TeacherPolicy.load, folder / 'teacher'),
        # As the paper acts, by the mean of the expert that was drawn; and as the node does, with some of its spread.
        'student': partial(DistilledPolicy.load, folder / 'student', action_noise_scale=0.0),
        f'student, spread {ACTION_NOISE_SCALE:g}': partial(
            DistilledPolicy.load, folder / 'student', action_noise_scale=ACTION_NOISE_SCALE
        ),
        'em': partial(DistilledPolicy.load, folder / 'em', action_noise_scale=0.0),
    }
    rows = []
    for name, planner in planners.items():
        began = time.perf_counter()
        tell = partial(_tell, progress, f'{name} rollouts')
        found = rollout(bound, planner, episodes, steps=steps, processes=processes, progress=tell)
        rows.append(_row(name, found, time.perf_counter() - began))
    return rows


def _row(name: str, found: Overlaps, seconds: float) -> dict[str, Any]:
    return {
        'method': name,
        'mean_max_overlap': found.mean,
        'standard_error': found.standard_error,
        'success': found.success,
        'mean_steps': float(found.steps.mean()),
        'episodes': len(found.overlap),
        'seconds': seconds,
    }


def _tell(progress: Progress, step: str, done: int, total: int) -> None:
    progress(step, done, total, {})


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars: the student keeps up with its teacher."""
    overlap = {row['method']: row['mean_max_overlap'] for row in rows}
    return [
        Bar('overlap of the student under its teacher', overlap['teacher'] - overlap['student'], 0.03, at_most=True)
    ]


def quickened(settings: LearningSettings) -> LearningSettings:
    """Return settings that learn nothing much, quickly."""
    training = settings.teacher_training.model_copy(update={'iterations': _QUICK['teacher'], 'batch': 64})
    distillation = settings.distillation.model_copy(update={'iterations': _QUICK['student'], 'batch': 64})
    small = settings.teacher.trunk.model_copy(update={'width': 32, 'depth': 1})
    return settings.model_copy(
        update={
            'teacher': settings.teacher.model_copy(update={'trunk': small, 'calls': 4}),
            'teacher_training': training,
            'student': settings.student.model_copy(update={'trunk': small, 'experts': 4}),
            'distillation': distillation,
            'threads': 1,
        }
    )


def main(
    data: Annotated[Path, tyro.conf.Positional],
    output: Path = Path('runs/pusht'),
    settings: Path = HERE / 'learning.yaml',
    episodes: int = 480,
    processes: int = os.cpu_count() or 1,
    minutes: float | None = None,
    resume: bool = False,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Learn PushT from human demonstrations and play it in gym-pusht.

    Parameters
    ----------
    data
        The demonstrations (.npz).
    output
        Folder of the stages; must not exist, unless to resume.
    settings
        How to learn: a YAML file.
    episodes
        Rollouts of each method.
    processes
        Batches of rollouts side by side.
    minutes
        Stop learning after so long, and keep what is learned.
    resume
        Go on from what an earlier run left in the output.
    quick
        A small version that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.

    """
    if not resume:
        claim_output(output)
    output.mkdir(parents=True, exist_ok=True)
    chosen, steps = load_settings(settings), STEPS
    if quick:
        chosen, episodes, steps, processes = quickened(chosen), _QUICK['rollouts'], _QUICK['steps'], 1
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    with Bars(_console) as progress:
        if not (output / 'bag').exists():
            write_bag(data, output / 'bag', _QUICK['episodes'] if quick else None)
        stages = Stages(output, chosen, progress, lambda: deadline is not None and time.monotonic() > deadline)
        if not all(stages.stage(name) for name in ('teacher', 'student', 'em')):
            _console.print('stopped in time; go on with the same command and --resume')
            return 0
        rows = _rows(output, episodes, steps, processes, progress)
    return finish('pusht', rows, bars(rows), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
