"""Learns PushT from human demonstrations and plays it in gym-pusht: `python -m benchmarks.pusht DATA --device cuda`.

DATA is an .npz of demonstrations (`state`, `action`, `episode_ends`), such as the diffusion policy's authors published.
The whole pipeline runs on them, each stage from the files of the one before, for each seed in a folder of its own:

    bag             the demonstrations as a rosbag, as a robot with a pose tracker would have recorded them
    teacher         a diffusion policy from the bag, through the contract
    student         distilled: it fits what the teacher does at demonstrated, displaced and visited windows, where the
                    teacher and, in rounds, the student visit them in gym-pusht
    em              the same mixture by likelihood of the demonstrations alone, with the same network and budget
    em selected     the same again, with the weights kept that foretell held-out demonstrations best
    games           all of them from equal starts: mean of the largest overlap of each game, and share of games solved
    inference       the student and its teacher on one thread

`--minutes` stops in time, with everything kept, and `--resume` goes on.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro
from rich.console import Console

from benchmarks.harness import Bar, finish, seconds_of_run
from benchmarks.pusht_task.data import HERE, contract, write_bag
from benchmarks.pusht_task.players import teacher_on
from benchmarks.pusht_task.rollout import STEPS, Act, Arena, Played
from vdd_ros.commands.pipeline import load
from vdd_ros.common.console import Bars
from vdd_ros.common.output import claim_output
from vdd_ros.common.progress import Progress
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.jobs import run_path
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.selection import SelectionSettings
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import ACTION_NOISE_SCALE
from vdd_ros.validation.latency import STUDENT, compare

STAGES = ('teacher', 'student', 'em', 'em_selected')
NOISY = f'student, noise {ACTION_NOISE_SCALE:g}'
"""As the node acts by default. Else students act by the mean of the expert that was drawn, as the paper's do."""
_console = Console()
_QUICK = {'teacher': 20, 'student': 12, 'episodes': 12, 'games': 4, 'steps': 24}
_CALLS = {'rounds': 8, 'calls': 10}
Method = Literal['teacher', 'student', 'em', 'em_selected']


class Stages:
    """The stages of one seed that learn, in one folder."""

    def __init__(
        self,
        folder: Path,
        bag: Path,
        settings: LearningSettings,
        arena: Arena,
        progress: Progress,
        cancelled: Callable[[], bool],
    ) -> None:
        """Learn from a bag, in a folder; policies act in the arena; ``cancelled`` stops, to go on later."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._bag, self._settings, self._arena = folder, bag, settings, arena
        self._progress, self._cancelled = progress, cancelled
        self._demonstrations: Demonstrations | None = None

    def stage(self, name: Method) -> bool:
        """Learn what is not learned yet; return whether it is finished."""
        path = self._folder / name
        if path.exists():
            return True
        if self._demonstrations is None:
            bound = contract(self._folder)
            self._demonstrations = load([self._bag], bound, self._settings, self._progress)
        options = {'resume': run_path(path).exists(), 'cancelled': self._cancelled}
        return self._learn(name, path, options) is not None

    def _learn(self, name: Method, path: Path, options: dict[str, Any]) -> object:
        teacher, data = self._folder / 'teacher', self._demonstrations
        if name == 'teacher':
            return learning.train_teacher(data, path, self._settings, self._progress, **options)
        if name == 'student':
            options = {**options, 'simulator': self._arena}
            return learning.distill(data, teacher, path, self._settings, self._progress, **options)
        settings = self._settings
        if name == 'em_selected':
            settings = settings.model_copy(update={'selection': SelectionSettings()})
        artifact = load_artifact(teacher, kind='teacher')
        return learning.fit_em(data, path, settings, self._progress, teacher=artifact, **options)

    def seconds(self, name: Method) -> float:
        """Return how long a stage took, with labelling and simulation [s]."""
        return seconds_of_run(self._folder / name)

    def players(self) -> dict[str, tuple[Method, Callable[[], Act]]]:
        """Return what plays, and which stage learned it."""
        students = {
            name: (stage, partial(self._student, stage, noise))
            for name, stage, noise in (
                ('student', 'student', 0.0),
                (NOISY, 'student', ACTION_NOISE_SCALE),
                ('em', 'em', 0.0),
                ('em_selected', 'em_selected', 0.0),
            )
        }
        return {'teacher': ('teacher', self._teacher), **students}

    def _teacher(self) -> Act:
        return teacher_on(learning.device_of(self._settings), self._folder / 'teacher')

    def _student(self, stage: Method, noise: float) -> Act:
        threads = len(os.sched_getaffinity(0))
        return DistilledPolicy.load(self._folder / stage, threads=threads, action_noise_scale=noise).act


class Rows:
    """What was measured, in a file, so that nothing is measured twice."""

    def __init__(self, file: Path) -> None:
        """Take up what the file holds."""
        self._file = file
        self.all: list[dict[str, Any]] = json.loads(file.read_text(encoding='utf-8')) if file.exists() else []

    def __contains__(self, key: tuple[int, str]) -> bool:
        """Tell whether there is a row of a seed and a method."""
        return any((row['seed'], row['method']) == key for row in self.all)

    def add(self, row: dict[str, Any]) -> None:
        """Keep a row."""
        self.all.append(row)
        aside = self._file.with_suffix('.part')
        aside.write_text(json.dumps(self.all, indent=1), encoding='utf-8')
        aside.replace(self._file)
        _console.print(
            ' '.join(
                f'{key} {value:.4g}' if isinstance(value, float) else f'{key} {value}' for key, value in row.items()
            ),
            highlight=False,
        )


def run_seed(stages: Stages, arena: Arena, rows: Rows, seed: int, games: int, progress: Progress) -> bool:
    """Learn and play with one seed, as far as that is not done yet; return whether all of it is."""
    for name, (stage, make) in stages.players().items():
        if (seed, name) in rows:
            continue
        if not stages.stage(stage):
            return False
        began = time.perf_counter()
        found = arena.test(
            make(), games, progress=lambda done, total, of=name: progress(f'{of} plays', done, total, {})
        )
        rows.add(
            {
                'seed': seed,
                'method': name,
                **_figures(found),
                'learning [s]': stages.seconds(stage),
                'playing [s]': time.perf_counter() - began,
            }
        )
    return True


def _figures(found: Played) -> dict[str, Any]:
    return {
        'overlap': found.mean,
        'standard error': found.standard_error,
        'solved': found.success,
        'steps': float(found.steps.mean()),
        'games': len(found.overlap),
    }


def inference_row(folder: Path, seed: int, progress: Progress) -> dict[str, Any]:
    """Measure student and teacher on one thread, in turn."""
    artifacts = (load_artifact(folder / kind, kind=kind) for kind in ('teacher', 'student'))
    found = compare(*artifacts, lambda done, total: progress('inference', done, total, {}), whole_plans=False, **_CALLS)
    return {
        'seed': seed,
        'method': 'inference',
        'student p50 [us]': found[STUDENT].p50,
        'student p99 [us]': found[STUDENT].p99,
        'teacher p50 [us]': found['teacher_same_runtime'].p50,
    }


def bars(rows: list[dict[str, Any]], device: str) -> list[Bar]:
    """Return the bars of the means over the seeds that are done; on a processor, those of an hour on two cores."""
    names = dict.fromkeys(row['method'] for row in rows if 'overlap' in row)
    overlap, solved, spent = (
        {name: [row[key] for row in rows if row['method'] == name] for name in names}
        for key in ('overlap', 'solved', 'learning [s]')
    )
    mean = {name: float(np.mean(values)) for name, values in overlap.items()}
    share = {name: float(np.mean(values)) for name, values in solved.items()}
    minutes = max(sum(pair) for pair in zip(spent['teacher'], spent['student'])) / 60
    rival = max(mean['em'], mean['em_selected'])
    found = [Bar('student: overlap ahead of the better EM', mean['student'] - rival, 0.02)]
    if device == 'cuda':
        found += [
            Bar('teacher: overlap', mean['teacher'], 0.96),
            Bar('teacher: solved', share['teacher'], 0.62),
            Bar('student: overlap', mean['student'], 0.96),
            Bar('student: solved', share['student'], 0.60),
            Bar('teacher and student of one seed [min]', minutes, 10, at_most=True),
        ]
    else:
        found += [
            Bar('student: overlap', mean['student'], 0.93),
            Bar('student: overlap under its teacher', mean['teacher'] - mean['student'], 0.02, at_most=True),
            Bar('teacher and student of one seed [min]', minutes, 60, at_most=True),
        ]
    for row in rows:
        if row['method'] == 'inference':
            found.append(Bar('student: p50 on one thread [us]', row['student p50 [us]'], 150, at_most=True))
            times = row['teacher p50 [us]'] / row['student p50 [us]']
            found.append(Bar('student: times as fast as its teacher in the same runtime', times, 50))
    return found


def quickened(settings: LearningSettings) -> LearningSettings:
    """Return settings that learn nothing much, quickly."""
    training = settings.teacher_training.model_copy(update={'iterations': _QUICK['teacher'], 'batch': 64})
    few = settings.distillation.simulation.model_copy(update={'episodes': 3, 'rounds': 1})
    distillation = settings.distillation.model_copy(
        update={'iterations': _QUICK['student'], 'batch': 64, 'simulation': few}
    )
    teacher = settings.teacher.model_copy(
        update={'trunk': settings.teacher.trunk.model_copy(update={'width': 8, 'depth': 2}), 'calls': 4}
    )
    small = settings.student.trunk.model_copy(update={'width': 32, 'depth': 1})
    return settings.model_copy(
        update={
            'teacher': teacher,
            'teacher_training': training,
            'student': settings.student.model_copy(update={'trunk': small, 'experts': 4}),
            'distillation': distillation,
        }
    )


def main(
    data: Annotated[Path, tyro.conf.Positional],
    output: Path = Path('runs/pusht'),
    settings: Path | None = None,
    device: Literal['cpu', 'cuda'] = 'cpu',
    seeds: tuple[int, ...] = (0,),
    games: int = 480,
    processes: int = len(os.sched_getaffinity(0)),
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
        How to learn: a YAML file. Default: the one in `benchmarks/pusht_task` that suits the device.
    device
        Where networks are trained, and the teacher plays.
    seeds
        Of learning; all are tested from equal starts.
    games
        Of each method and seed.
    processes
        That games run in.
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
    default = HERE / ('learning.yaml' if device == 'cuda' else 'learning_two_cores.yaml')
    chosen, steps = load_settings(settings or default).model_copy(update={'device': device}), STEPS
    if quick:
        chosen, games, steps = quickened(chosen), _QUICK['games'], _QUICK['steps']
    deadline = None if minutes is None else time.monotonic() + 60 * minutes
    rows = Rows(output / 'rows.json')
    with Bars(_console) as progress:
        if not (output / 'bag').exists():
            write_bag(data, output / 'bag', _QUICK['episodes'] if quick else None)
        with Arena(contract(output), processes, steps=steps) as arena:
            for seed in seeds:
                stages = Stages(
                    output / f'seed-{seed}',
                    output / 'bag',
                    chosen.model_copy(update={'seed': seed}),
                    arena,
                    progress,
                    lambda: deadline is not None and time.monotonic() > deadline,
                )
                if not run_seed(stages, arena, rows, seed, games, progress):
                    _console.print('stopped in time; go on with the same command and --resume')
                    return 0
        if (seeds[0], 'inference') not in rows:
            rows.add(inference_row(output / f'seed-{seeds[0]}', seeds[0], progress))
    return finish('pusht', rows.all, bars(rows.all, device), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
