"""Measures learning itself: `python -m benchmarks.training [--device cuda] [--check]`.

    steps      an update of teacher and student, beside the same by an eager loop that waits for the device in each
    demo       the same with the demo's settings and its numbers of updates, on two cores
    reaching   few demonstrations that are never alike: what is kept of students by each objective and of EM, and what
               their regions hold
    killed     a training that is killed again and again and resumed, beside one that was left alone
    avoiding   arrays to a student's artifact, and rollouts of it
    scaling    with --devices 2: windows per second of one and of two devices, and their ratio (`benchmarks.scaling`)

`benchmarks.pusht` measures learning from human demonstrations, `benchmarks.avoiding` all methods on the other tasks.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from torch import Tensor, nn

from benchmarks.harness import FOLDER, Bar, finish
from benchmarks.objectives import with_objective
from benchmarks.reaching import demonstrations as reaching_demonstrations
from benchmarks.scaling import bars_of as scaling_bars
from benchmarks.scaling import scaling_rows
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller, DistillerSettings
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.processor import keep_freed_memory
from vdd_ros.learning.training import Descent, Ema, Learner, SingleLoss, Windows, fit
from vdd_ros.policy.artifact import Artifact, load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import rollout

Part = Literal['steps', 'demo', 'reaching', 'killed', 'avoiding']
PARTS: tuple[Part, ...] = ('steps', 'demo', 'reaching', 'killed', 'avoiding')
WORK = FOLDER / 'training'
_BATCH, _WINDOWS = 1024, 20_000
_TIMED = {('cuda', False): (50, 300), ('cuda', True): (10, 50), ('cpu', False): (5, 20), ('cpu', True): (5, 20)}
"""Steps that warm up, and steps that are timed, by device and whether the loop is eager."""
_SIZES: Mapping[str, tuple[PolicyShape, TrunkSettings, StudentSettings]] = {
    'mlp': (
        PolicyShape(2, 4, 2),
        TrunkSettings(width=256, depth=3),
        StudentSettings(experts=16, trunk=TrunkSettings(width=256, depth=3)),
    ),
    'kitchen': (
        PolicyShape(6, 30, 9),
        TrunkSettings(kind='transformer', width=240, depth=6, heads=12),
        StudentSettings(experts=4, trunk=TrunkSettings(kind='transformer', width=240, depth=6, heads=12)),
    ),
    'chunk': (
        PolicyShape(2, 14, 112, steps=16),
        TrunkSettings(width=1024, depth=3),
        StudentSettings(experts=32, covariance='diagonal', trunk=TrunkSettings(width=1024, depth=3)),
    ),
}
_METHODS: Mapping[str, tuple[bool, bool, bool]] = {
    'eager': (True, False, False),
    'full': (False, False, False),
    'mixed': (False, True, False),
    'compiled': (False, True, True),
}
"""Whether a loop is eager, networks compute in bfloat16, and `torch.compile` fuses them."""
_WORTH_COMPILING = ('mlp', 'kitchen')
"""Sizes with many small operations between products."""
_ASKED = {('mlp', 'teacher'): 0.35, ('mlp', 'student'): 0.8, ('kitchen', 'teacher'): 6.0, ('kitchen', 'student'): 8.0}
"""Most milliseconds of a step on one H200."""


class EagerDescent(Descent):
    """A descent that asks the device in every step whether it went well, and for the step size of the next."""

    def step(self, loss: Tensor | Iterable[Tensor], progress: Tensor) -> Tensor:
        """Descend once."""
        self.optimizer.zero_grad(set_to_none=True)
        if not isinstance(loss, Tensor):
            loss = sum(loss, torch.zeros_like(self._rate))
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.settings.clip)
        if not (torch.isfinite(norm) and torch.isfinite(loss)):
            raise ArithmeticError(f'loss {loss.item():g}, gradient norm {norm.item():g}')
        self._rate.fill_(self.settings.rate(progress).item())
        self.optimizer.step()
        return norm


def run_eagerly(
    learner: Learner, ema: Ema, iterations: int, generator: torch.Generator, after: Callable[[], bool]
) -> None:
    """Train as `fit` does, with everything decided by the host."""
    for descent in learner.descents.values():
        descent.__class__ = EagerDescent
    live = list(learner.module.parameters())
    for done in range(iterations):
        learner.step(torch.tensor(done / iterations, device=generator.device), generator)
        decay = min(ema.decay, (1 + done) / (10 + done))
        with torch.no_grad():
            for average, parameter in zip(ema.average, live):
                average.lerp_(parameter, 1 - decay)
        after()


def seconds_of_step(learner: Learner, device: torch.device, eager: bool, warmup: int, timed: int) -> float:
    """Return how long a step takes [s], the mean of `timed` ones after a warm-up: a captured graph is not counted."""
    ema, generator = Ema(learner.module, 0.999), torch.Generator(device).manual_seed(0)
    steps, clock = itertools.count(1), []

    def after() -> bool:
        if next(steps) in (warmup, warmup + timed):
            clock.append(_clock(device))
        return False

    count = warmup + timed + 1  # what is cancelled is not asked after the last one
    if eager:
        run_eagerly(learner, ema, count, generator, after)
    else:
        fit(learner, iterations=count, generator=generator, ema=ema, cancelled=after)
    return (clock[1] - clock[0]) / timed


def _clock(device: torch.device) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    return time.perf_counter()


def make_learner(
    kind: str,
    shape: PolicyShape,
    settings: LearningSettings,
    batch: int,
    device: torch.device,
    *,
    mixed: bool,
    compiled: bool,
) -> Learner:
    """Return what learns a teacher or a student of some sizes from random windows."""
    torch.manual_seed(0)
    generator = torch.Generator(device).manual_seed(0)
    options = {'generator': generator, 'device': device}
    windows = Windows(
        torch.randn(_WINDOWS, shape.observation_horizon, shape.observation_size, **options),
        torch.randn(_WINDOWS, shape.action_size, **options),
    )
    model = Teacher(settings.teacher, shape).to(device)
    model.denoiser.mixed = mixed
    if compiled:
        model.denoiser.compile(dynamic=False)
    if kind == 'teacher':
        return SingleLoss(model, model.loss, windows, batch=batch, descent=settings.teacher_training.descent)
    model.requires_grad_(False)
    learned = Student(settings.student, shape, torch.Generator().manual_seed(0)).to(device)
    learned.mixed = mixed
    if compiled:
        learned.trunk.compile(dynamic=False)
    distillation = settings.distillation.model_copy(update={'batch': batch})
    return Distiller(learned, model.score, windows, distillation)


def step_rows(device: torch.device, quick: bool) -> Iterator[dict[str, Any]]:
    """Measure an update of each size, kind and method to compute it."""
    batch = 32 if quick else _BATCH
    sizes = {'mlp': _SIZES['mlp']} if quick else _SIZES
    for (size, parts), kind, method in itertools.product(sizes.items(), ('teacher', 'student'), _METHODS):
        eager, mixed, compiled = _METHODS[method]
        if compiled and (size not in _WORTH_COMPILING or device.type != 'cuda'):
            continue
        make = partial(_sized, size, parts, kind, batch, device, mixed, compiled)
        counts = (1, 1) if quick else _TIMED[device.type, eager]
        row = {'part': 'steps', 'size': size, 'kind': kind, 'method': method}
        yield {**row, 'milliseconds': 1e3 * seconds_of_step(make(), device, eager, *counts)}


def _sized(
    size: str,
    parts: tuple[PolicyShape, TrunkSettings, StudentSettings],
    kind: str,
    batch: int,
    device: torch.device,
    mixed: bool,
    compiled: bool,
) -> Learner:
    shape, trunk, student = parts
    distillation = DistillerSettings(samples=2 if size == 'kitchen' else 4, unused_below=0.0)
    settings = LearningSettings(teacher=TeacherSettings(trunk=trunk), student=student, distillation=distillation)
    return make_learner(kind, shape, settings, batch, device, mixed=mixed, compiled=compiled)


def demo_rows(quick: bool) -> Iterator[dict[str, Any]]:
    """Measure all updates of the demo's teacher and student on two cores, with its settings."""
    settings, contract = load_settings('learning_chunked'), load_contract('avoiding_cartesian')
    device, shape = torch.device('cpu'), learning.shape_of(contract)
    mixed = learning.mixed_precision(settings, device)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    parts = {
        'teacher': (settings.teacher_training.iterations, settings.teacher_training.batch),
        'student': (settings.distillation.iterations, settings.distillation.batch),
    }
    for method in ('eager', 'shipped'):
        if method == 'shipped':
            keep_freed_memory()
        for kind, (iterations, batch) in parts.items():
            make = partial(
                make_learner,
                kind,
                shape,
                settings,
                16 if quick else batch,
                device,
                mixed=mixed and method == 'shipped',
                compiled=False,
            )
            # The fastest of some runs: what else the cores do only adds.
            runs = [
                seconds_of_step(make(), device, method == 'eager', *((1, 1) if quick else (5, 25))) for _ in range(3)
            ]
            spent = min(runs)
            yield {
                'part': 'demo',
                'kind': kind,
                'method': method,
                'milliseconds': 1e3 * spent,
                'seconds': spent * iterations,
            }
    torch.set_num_threads(before)


def reaching_rows(device: str, quick: bool) -> Iterator[dict[str, Any]]:
    """Learn from few demonstrations by each objective and by EM, and measure what of the student is kept."""
    data = reaching_demonstrations(seed=0)
    settings = load_settings('learning_chunked')
    small = settings.teacher.trunk.model_copy(update={'width': 32 if quick else 256})
    settings = _budget(settings, 20, 20, 64) if quick else _budget(settings, 2000, 3000, 256)
    settings = settings.model_copy(
        update={
            'device': device,
            'teacher': settings.teacher.model_copy(update={'trunk': small}),
            'student': settings.student.model_copy(update={'trunk': small}),
        }
    )
    folder = WORK / 'reaching'
    shutil.rmtree(folder, ignore_errors=True)
    teacher = learning.train_teacher(data, folder / 'teacher', settings, silent)
    for name in ('vdd', 'labels', 'vdd and labels'):
        chosen = with_objective(settings, name)
        made = learning.distill(data, folder / 'teacher', folder / name.replace(' ', '-'), chosen, silent)
        yield _reached(name, made)
    yield _reached('EM', learning.fit_em(data, folder / 'em', settings, silent, teacher=teacher))


def _reached(method: str, made: Artifact) -> dict[str, Any]:
    curve, metrics = made.manifest.history['held_out_log_likelihood'], made.manifest.metrics
    names = ('held_out_log_likelihood', 'calibration_50', 'calibration_90', 'energy_score')
    return {
        'part': 'reaching',
        'method': method,
        'best_log_likelihood': max(curve),
        'last_log_likelihood': curve[-1],
        **{name: metrics[name] for name in names},
        'teacher_energy_score': metrics.get('teacher_energy_score'),
        'verdict': ' '.join(made.manifest.verdict),
    }


def killed_row(quick: bool) -> dict[str, Any]:
    """Kill a training by SIGKILL at random times, and resume it until it is done; compare with one left alone."""
    folder = WORK / 'killed'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    iterations = 40 if quick else 2000
    _learn_small(folder / 'whole', iterations, False)
    context, random, kills = multiprocessing.get_context('spawn'), np.random.default_rng(0), 0
    while not (folder / 'killed').exists():
        resume = learning.run_path(folder / 'killed').exists()
        process = context.Process(target=_learn_small, args=(folder / 'killed', iterations, resume))
        process.start()
        # The process takes some seconds to import what it needs; then it is killed anywhere in its training.
        process.join(float(random.uniform(3.0, 12.0)))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            kills += 1
        process.join()
    whole, killed = (load_artifact(folder / name).weights for name in ('whole', 'killed'))
    equal = all(np.array_equal(value, killed[name]) for name, value in whole.items())
    return {'part': 'killed', 'kills': kills, 'equal': equal}


def _learn_small(output: Path, iterations: int, resume: bool) -> None:
    torch.set_num_threads(1)
    settings = _budget(load_settings('learning_chunked'), iterations, iterations, 64)
    trunk = TrunkSettings(width=32, depth=2)
    settings = settings.model_copy(
        update={'device': 'cpu', 'threads': 1, 'teacher': settings.teacher.model_copy(update={'trunk': trunk})}
    )
    learning.train_teacher(reaching_demonstrations(seed=0, count=20), output, settings, silent, resume=resume)


def avoiding_row(device: str, seed: int, quick: bool) -> dict[str, Any]:
    """Learn Avoiding from arrays, and roll the student out in lockstep."""
    contract, settings = load_contract('avoiding_cartesian'), load_settings('learning_chunked')
    settings = settings.model_copy(update={'device': device, 'seed': seed})
    if quick:
        settings = _budget(settings, 10, 10, 32)
    episodes, rollouts = (12, 4) if quick else (288, 480)
    data = _avoiding(contract, episodes, seed)
    folder = WORK / f'avoiding-{device}-{seed}'
    shutil.rmtree(folder, ignore_errors=True)
    began = time.perf_counter()
    learning.train_teacher(data, folder / 'teacher', settings, silent)
    learning.distill(data, folder / 'teacher', folder / 'student', settings, silent)
    spent = time.perf_counter() - began
    planner = partial(DistilledPolicy.load, folder / 'student')
    cores = 1 if quick else len(os.sched_getaffinity(0))
    summary = summarise(rollout(load_task('avoiding'), contract, planner, rollouts, seed, cores))
    return {
        'part': 'avoiding',
        'seed': seed,
        'seconds': spent,
        'success': summary.success,
        'entropy': summary.entropy,
    }


def _avoiding(contract: Contract, episodes: int, seed: int) -> Demonstrations:
    """Return demonstrations, made once and then kept: on a computer with few cores they take minutes."""
    file = WORK / f'avoiding-{contract.name}-{episodes}-{seed}.npz'
    if not file.exists():
        shown = [episode for episode in demonstrate(load_task('avoiding'), contract, episodes, seed) if episode.success]
        parts = {
            f'{kind}-{number}': getattr(episode, kind)
            for number, episode in enumerate(shown)
            for kind in ('observation', 'action')
        }
        np.savez_compressed(file, **parts)
    with np.load(file) as data:
        count = len(data.files) // 2
        shown = [Episode(*(data[f'{kind}-{number}'] for kind in ('observation', 'action'))) for number in range(count)]
    return Demonstrations.from_episodes(shown, contract, seed=seed)


def _budget(settings: LearningSettings, teacher: int, student: int, batch: int) -> LearningSettings:
    training = settings.teacher_training.model_copy(update={'iterations': teacher, 'batch': batch})
    distillation = settings.distillation.model_copy(update={'iterations': student, 'batch': batch})
    return settings.model_copy(update={'teacher_training': training, 'distillation': distillation})


def bars_of(rows: list[dict[str, Any]], device: str) -> list[Bar]:
    """Return the bars that these rows can tell of."""
    found = []
    for (size, kind), most in _ASKED.items():
        fastest = [
            row['milliseconds']
            for row in rows
            if (row['part'], row.get('size'), row.get('kind')) == ('steps', size, kind) and row['method'] != 'eager'
        ]
        if fastest and device == 'cuda':
            found.append(Bar(f'{size}: step of the {kind} [ms]', min(fastest), most, at_most=True))
    spent = {
        method: sum(row['seconds'] for row in rows if row['part'] == 'demo' and row['method'] == method)
        for method in ('eager', 'shipped')
    }
    if spent['shipped']:
        found.append(Bar("the demo's updates: times as fast as eagerly", spent['eager'] / spent['shipped'], 1.5))
    for row in rows:
        if row['part'] == 'reaching' and row['method'] == 'vdd':
            behind = row['best_log_likelihood'] - row['held_out_log_likelihood']
            found.append(Bar('reaching: kept student under its best [nat]', behind, 0.5, at_most=True))
            for percent, least, most in ((50, 0.4, 0.6), (90, 0.8, 0.97)):
                held = row[f'calibration_{percent}']
                found.append(Bar(f'reaching: least that {percent} % regions hold', held, least))
                found.append(Bar(f'reaching: most that {percent} % regions hold', held, most, at_most=True))
        if row['part'] == 'killed':
            found.append(Bar('killed: weights equal', float(row['equal']), 1.0))
            found.append(Bar('killed: times', row['kills'], 1.0))
        if row['part'] == 'avoiding':
            if device == 'cuda':
                found.append(Bar('avoiding: arrays to student [s]', row['seconds'], 60.0, at_most=True))
            found.append(Bar('avoiding: success', row['success'], 0.97))
            found.append(Bar('avoiding: entropy', row['entropy'], 0.93))
    return found


def main(
    parts: tuple[Part, ...] = PARTS,
    device: Literal['cpu', 'cuda'] = 'cpu',
    devices: int = 1,
    seed: int = 0,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Measure learning itself.

    Parameters
    ----------
    parts
        What to measure.
    device
        Where networks are trained.
    devices
        Number of devices; with several, their training is compared with that on one.
    seed
        Of Avoiding.
    quick
        A small version that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.

    """
    WORK.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    if 'steps' in parts:
        rows += step_rows(torch.device(device), quick)
    if 'demo' in parts:
        rows += demo_rows(quick)
    if 'reaching' in parts:
        rows += reaching_rows(device, quick)
    if 'killed' in parts:
        rows.append(killed_row(quick))
    if 'avoiding' in parts:
        rows.append(avoiding_row(device, seed, quick))
    if devices > 1:
        rows += scaling_rows(devices, device, quick)
    return finish('training', rows, [*bars_of(rows, device), *scaling_bars(rows, device)], check=check, by='part')


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
