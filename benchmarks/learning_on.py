"""A 25th mode on Avoiding from 20 new episodes, after the student is in operation: `python -m benchmarks.learning_on`.

A teacher and a student learn the 24 modes. Then 20 demonstrations come that pass the first row in a wide arc on its
right, where nobody went before, and both learn on (`vdd distill --add NEW --from STUDENT`). The student of before and
the one of afterwards act in simulation.

The first ones are those of `make demo`, with their recording. Eight minutes of learning on a core, one of rollouts.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
import tyro

from benchmarks.harness import FOLDER, Bar, finish
from vdd_ros.commands.pipeline import learn_on
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations, windows_of
from vdd_ros.learning.jobs import distill, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.policy.artifact import Artifact, DataRecord, load_artifact
from vdd_ros.policy.labels import Label, Labels, load_labels, save_labels
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.sim.tasks.avoiding.demonstrator import AvoidingDemonstrator
from vdd_ros.sim.tasks.avoiding.layout import MODES, ROWS
from vdd_ros.validation.metrics import mode_counts, normalised_entropy
from vdd_ros.validation.rollout import Rollouts, rollout

WORK = FOLDER / 'learning_on'
WIDE = (0.640, 0.660)
"""Where the new demonstrations pass the first row, x [m]; the old ones pass up to 0.600."""
_BORDER = 0.620
_NEW_MODE = MODES.index((1, 2, 3))


class WideDemonstrator(AvoidingDemonstrator):
    """Passes the first row in a wide arc on its right, then the others on their right."""

    def choose(self) -> int:
        """Return that mode."""
        return _NEW_MODE

    def _plan(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        points, clearance = super()._plan(start)
        x, y = points.T
        # The arc is widest at the first row and ends before the second one.
        shift = self._generator.uniform(*WIDE) - np.interp(ROWS[0].y, y, x)
        points[:, 0] += shift * np.exp(-0.5 * ((y - ROWS[0].y) / 0.06) ** 2)
        return points, clearance


def is_new(path: np.ndarray) -> bool:
    """Return whether a path of the tool, shape (time, 3) [m], passes the first row in the wide arc."""
    return bool(np.interp(ROWS[0].y, path[:, 1], path[:, 0]) > _BORDER)


def learned_from(shown: list[Episode], contract: Contract) -> Demonstrations:
    """Return demonstrations of which every tenth is held out."""
    held_out, train = shown[::10], [episode for number, episode in enumerate(shown) if number % 10]
    arrays = windows_of(train, contract)
    record = DataRecord(bags={}, episodes=len(shown), windows=len(arrays.action))
    return Demonstrations(contract, arrays, windows_of(held_out, contract), record)


def figures(name: str, student: Path, contract: Contract, episodes: int, seconds: float) -> dict[str, Any]:
    """Let a student act, and return what came of it on the old scene and in the new mode."""

    def planner() -> DistilledPolicy:
        return DistilledPolicy.load(student)

    found: Rollouts = rollout(load_task('avoiding'), contract, planner, episodes, seed=7)
    new = np.array([is_new(path) for path in found.paths])
    old_modes = mode_counts(found.mode[~new], found.success[~new], len(MODES))
    return {
        'student': name,
        'success': float(found.success.mean()),
        'success_old': float(found.success[~new].mean()) if (~new).any() else 0.0,
        'entropy_old': normalised_entropy(old_modes),
        'new_share': float((new & found.success).sum() / max(found.success.sum(), 1)),
        'experts': DistilledPolicy.load(student).expert_count,
        'seconds': seconds,
    }


def first_student(shown: list[Episode], contract: Contract, settings: LearningSettings) -> tuple[Artifact, float]:
    """Learn the 24 modes, and name the experts; return the student, and how long it took [s]."""
    began = time.perf_counter()
    demonstrations = learned_from(shown, contract)
    train_teacher(demonstrations, WORK / 'teacher', settings, silent)
    student = distill(demonstrations, WORK / 'teacher', WORK / 'student', settings, silent)
    return named(student), time.perf_counter() - began


def first_artifacts(
    folder: Path | None, demonstrations: int, settings: LearningSettings, *, resume: bool
) -> tuple[list[Episode], Path, Artifact, float]:
    """Return the demonstrations of the 24 modes, teacher and student of them, and how long the two learned [s]."""
    if folder is not None:
        student = load_artifact(folder / 'student', kind='student')
        contract = student.manifest.contract
        bag, kinematics = folder / 'demonstrations', Kinematics.from_contract(contract)
        shown = [each for each in convert(bag, contract, kinematics, ConversionReport()) if each.success is not False]
        copy = WORK / 'student'
        shutil.copytree(student.path, copy)
        return shown, folder / 'teacher', named(load_artifact(copy, kind='student')), 0.0
    change = {'prediction_horizon': 1, 'action_horizon': 1}
    contract = Contract.model_validate({**load_contract('avoiding_cartesian').model_dump(mode='json'), **change})
    task = load_task('avoiding')
    shown = [each for each in demonstrate(task, contract, demonstrations, settings.seed) if each.success]
    if resume and (WORK / 'student').exists():
        return shown, WORK / 'teacher', load_artifact(WORK / 'student', kind='student'), 0.0
    return shown, WORK / 'teacher', *first_student(shown, contract, settings)


def named(student: Artifact) -> Artifact:
    """Name the experts of a student, to see whether they keep their names."""
    count = DistilledPolicy.load(student.path).expert_count or 0
    names = {expert: Label(name=f'old {expert}') for expert in range(count)}
    save_labels(student.path, student.hash, Labels(MappingProxyType(names)))
    return student


def bars_of(before: Mapping[str, Any], after: Mapping[str, Any], made: Artifact, share: float) -> list[Bar]:
    """Return the bars of the rows of both students; ``share`` is that of the new mode in the demonstrations."""
    names = load_labels(made.path, made.hash, after['experts'])
    kept = sum(names.name(expert) == f'old {expert}' for expert in range(before['experts']))
    return [
        Bar('share of the new mode, as a share of that of its demonstrations', after['new_share'] / share, 0.8),
        Bar('success lost on the old scene', before['success_old'] - after['success_old'], 0.02, at_most=True),
        Bar('entropy lost on the old scene', before['entropy_old'] - after['entropy_old'], 0.02, at_most=True),
        Bar('new experts that the report names', float(after['changes'].count('appeared')), 1.0),
        Bar('experts that keep their names', kept / before['experts'], 1.0),
    ]


def main(
    folder: Path | None = Path('runs/demo'),
    demonstrations: int = 288,
    new: int = 20,
    rollouts: int = 480,
    seed: int = 0,
    threads: int = 1,
    resume: bool = False,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Learn the 24 modes, then a 25th mode from few new episodes.

    Parameters
    ----------
    folder
        The folder of `make demo`, whose student learns on; None: a student of single steps that is made here.
    demonstrations, new
        How many the demonstrators attempt.
    rollouts
        How many for each student.
    seed, threads
        Of the learning.
    resume
        Keep the first student in `runs/benchmarks/learning_on/`.
    quick
        A small version with single steps that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.

    """
    torch.set_num_threads(threads)
    folder = None if quick else folder
    preset = 'learning' if folder is None else 'learning_chunked'
    settings = load_settings(preset).model_copy(update={'seed': seed, 'threads': threads})
    if quick:
        demonstrations, new, rollouts = 12, 3, 2
        settings = settings.changed(['teacher_training.iterations=20', 'distillation.iterations=20'])
    if not resume or folder is not None:
        shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True, exist_ok=True)
    old, teacher, student, spent = first_artifacts(folder, demonstrations, settings, resume=resume)
    contract = student.manifest.contract
    wide = WideDemonstrator(np.random.default_rng(seed))
    shown = demonstrate(load_task('avoiding'), contract, new, seed, demonstrator=wide)
    added = [each for each in shown if each.success]
    shutil.rmtree(WORK / 'next', ignore_errors=True)
    shutil.rmtree(WORK / 'next.teacher', ignore_errors=True)
    for run in WORK.glob('next*.run'):
        shutil.rmtree(run)
    began = time.perf_counter()
    made = learn_on(learned_from([*old, *added], contract), teacher, student.path, WORK / 'next', settings, silent)
    seconds = time.perf_counter() - began
    rows = [
        {**figures(name, path, contract, rollouts, time_spent), 'changes': ' '.join(changes)}
        for name, path, time_spent, changes in (
            ('before', student.path, spent, ()),
            ('learned on', made.path, seconds, made.manifest.verdict),
        )
    ]
    bars = bars_of(*rows, made, len(added) / (len(old) + len(added)))
    return finish('learning_on', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
