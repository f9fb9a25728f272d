"""Measures training and rollouts on several devices: `python -m benchmarks.scaling --device cuda [--check]`.

training   weak scaling: every device computes 1024 windows of each update, whatever their number. Measured are the
           windows per second of all devices, and of one. The teacher is a U-Net over chunks of sixteen steps
           (channels 128, 256, 512: 19 million parameters), the student has the sizes of PushT.
           `benchmarks.training --devices 2` includes these rows
rollouts   the trials of a validation on a local Ray cluster of two workers, and by two local processes, in turn:
           equal rollouts, and the ratio of the speeds (extra `ray`)
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro

from benchmarks.harness import Bar, finish
from benchmarks.random_student import save_random_student
from vdd_ros.contract.contract import load_contract
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller, DistillerSettings
from vdd_ros.learning.learning_settings import load_settings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.ranks import Ranks, Sharing, joined
from vdd_ros.learning.training import DescentSettings, Ema, Learner, SingleLoss, Windows, fit
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.rollout import Rollouts, rollout_all
from vdd_ros.validation.trial import Timing, Trial

Device = Literal['cpu', 'cuda']
_BATCH, _WINDOWS = 1024, 20_000
_TIMED = {'cuda': (60, 360), 'cpu': (1, 3)}
"""Steps of two trainings whose difference is timed: what a training begins with, a captured graph say, drops out."""
_SHAPE = PolicyShape(2, 14, 32, steps=16)
_TEACHER = TeacherSettings(trunk=TrunkSettings(kind='unet', width=128, depth=3))
_STUDENT = StudentSettings(
    experts=32, covariance='diagonal', trunk=TrunkSettings(kind='residual', width=512, depth=3, window='difference')
)
_ASKED = 1.9
"""Windows in a second by two devices, as a multiple of those by one."""
_PATIENCE = 600
_AS_FAST = 0.9
"""Speed of a Ray cluster, as a multiple of that of as many local processes."""
_EPISODES, _TURNS = 480, 3
Part = Literal['training', 'rollouts']


def make_learner(kind: str, batch: int, device: torch.device, mixed: bool, sharing: Sharing) -> Learner:
    """Return what learns a teacher or a student from random windows, the same on every rank."""
    torch.manual_seed(0)
    options = {'generator': torch.Generator(device).manual_seed(0), 'device': device}
    windows = Windows(
        torch.randn(_WINDOWS, _SHAPE.observation_horizon, _SHAPE.observation_size, **options),
        torch.randn(_WINDOWS, _SHAPE.action_size, **options),
    )
    teacher = Teacher(_TEACHER, _SHAPE).to(device)
    teacher.denoiser.mixed = mixed
    if kind == 'teacher':
        return SingleLoss(teacher, teacher.loss, windows, batch=batch, descent=DescentSettings(), sharing=sharing)
    teacher.requires_grad_(False)
    student = Student(_STUDENT, _SHAPE, torch.Generator().manual_seed(0)).to(device)
    student.mixed = mixed
    settings = DistillerSettings(batch=batch, unused_below=0.0)
    return Distiller(student, teacher.score, windows, settings, sharing=sharing)


def seconds_of_step(make: Callable[[], Learner], device: torch.device, ranks: Ranks, counts: tuple[int, int]) -> float:
    """Return how long an update takes [s], by the difference of two trainings."""
    spent = []
    for count in counts:
        learner = make()
        ema, generator = Ema(learner.module, 0.999), torch.Generator(device).manual_seed(0)
        began = _clock(device, ranks)
        fit(learner, iterations=count, generator=generator, ema=ema)
        spent.append(_clock(device, ranks) - began)
    return (spent[1] - spent[0]) / (counts[1] - counts[0])


def _clock(device: torch.device, ranks: Ranks) -> float:
    if device.type == 'cuda':
        torch.cuda.synchronize(device)
    ranks.wait()
    return time.perf_counter()


def measure(device: Device, batch: int, counts: tuple[int, int]) -> list[dict[str, Any]]:
    """Measure updates with `batch` windows on each of the devices that this process belongs to."""
    ranks = joined(device)
    place = ranks.device or torch.device(device)
    rows = []
    for kind in ('teacher', 'student'):
        for mixed in (False, True) if device == 'cuda' else (False,):
            make = partial(make_learner, kind, batch * ranks.count, place, mixed, Sharing(ranks))
            spent = seconds_of_step(make, place, ranks, counts)
            precision = 'mixed' if mixed else 'full'
            rows.append({'kind': kind, 'precision': precision, 'milliseconds': 1e3 * spent, 'leads': ranks.leads})
    return rows


def scaling_rows(devices: int, device: Device, quick: bool = False) -> Iterator[dict[str, Any]]:
    """Yield windows in a second by one device and by several, and their ratio, for teacher and student."""
    batch, counts = (16, (1, 2)) if quick else (_BATCH, _TIMED[device])
    found = [_measured(count, device, batch, counts) for count in (1, devices)]
    for single, several in zip(*found):
        one, all_ = (1e3 * batch * count / row['milliseconds'] for count, row in zip((1, devices), (single, several)))
        yield {
            'part': 'scaling',
            'kind': single['kind'],
            'precision': single['precision'],
            'devices': devices,
            'single [windows/s]': one,
            'several [windows/s]': all_,
            'ratio': all_ / one,
            'single [ms]': single['milliseconds'],
            'several [ms]': several['milliseconds'],
        }


def _measured(devices: int, device: Device, batch: int, counts: tuple[int, int]) -> list[dict[str, Any]]:
    """Measure by processes that torchrun begins, one alone too, so that both have as many cores each."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / 'rows.json'
        words = ['--worker', str(file), '--device', device, '--batch', str(batch), '--counts', *map(str, counts)]
        launcher = [
            'torch.distributed.run',
            '--standalone',
            '--nproc-per-node',
            str(devices),
            '-m',
            'benchmarks.scaling',
        ]
        environment = {'OMP_NUM_THREADS': '1', **os.environ}
        command = [sys.executable, '-m', *launcher, *words]
        subprocess.run(command, check=True, timeout=_PATIENCE, env=environment)
        return json.loads(file.read_text(encoding='utf-8'))


def rollout_row(quick: bool) -> dict[str, Any]:
    """Roll out a student by two local processes and on a local Ray cluster of two workers, in turn."""
    from ray.cluster_utils import Cluster  # pyright: ignore[reportMissingImports]

    contract, settings = load_contract('avoiding_cartesian'), load_settings('learning_chunked')
    episodes, turns = (2, 1) if quick else (_EPISODES, _TURNS)
    cluster = Cluster(initialize_head=True, head_node_args={'num_cpus': 2, 'include_dashboard': False})
    spent: dict[str, list[float]] = {'local': [], 'ray': []}
    found: dict[str, dict[str, Rollouts]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder:
            save_random_student(Path(folder) / 'student', contract, settings.student, action_scale=0.01)
            planner = partial(DistilledPolicy.load, Path(folder) / 'student')
            deployed = Timing(control_period=4_000_000, latency=(0.002,))
            trials = {'lockstep': Trial(planner, episodes), 'deployed': Trial(planner, episodes // 2, timing=deployed)}
            for _ in range(turns):
                for name, how in (('local', {'processes': 2}), ('ray', {'ray': cluster.address})):
                    began = time.perf_counter()
                    found[name] = rollout_all(load_task('avoiding'), contract, trials, 0, **how)
                    spent[name].append(time.perf_counter() - began)
    finally:
        cluster.shutdown()
    return {
        'part': 'rollouts',
        'episodes': sum(trial.episodes for trial in trials.values()),
        'equal': all(_equal(found['local'][name], found['ray'][name]) for name in trials),
        'local [s]': min(spent['local']),
        'ray [s]': min(spent['ray']),
        'ratio': min(spent['local']) / min(spent['ray']),
    }


def _equal(one: Rollouts, other: Rollouts) -> bool:
    """Tell whether two sets of rollouts are the same episodes."""
    parts = ([*each.paths, *each.states, *each.experts, each.success, each.steps] for each in (one, other))
    return one.causes == other.causes and all(np.array_equal(a, b) for a, b in zip(*parts, strict=True))


def bars_of(rows: list[dict[str, Any]], device: Device) -> list[Bar]:
    """Return the bars that hold for two GPUs."""
    return [
        Bar(f'{row["kind"]}, {row["precision"]}: two devices beside one', row['ratio'], _ASKED)
        for row in rows
        if row.get('part') == 'scaling' and row['devices'] == 2 and device == 'cuda'
    ] + [
        bar
        for row in rows
        if row.get('part') == 'rollouts'
        for bar in (
            Bar('rollouts on Ray equal those of local processes', float(row['equal']), 1.0),
            Bar('rollouts on Ray: speed beside as many local processes', row['ratio'], _AS_FAST),
        )
    ]


def main(
    parts: tuple[Part, ...] = ('training', 'rollouts'),
    devices: int = 2,
    device: Device = 'cpu',
    quick: bool = False,
    check: bool = False,
    worker: Path | None = None,
    batch: int = _BATCH,
    counts: tuple[int, int] = (1, 3),
) -> int:
    """Measure training and rollouts on several devices.

    Parameters
    ----------
    parts
        What to measure.
    devices
        Number of devices of this computer for the training.
    device
        Kind of these devices.
    quick
        A small version that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.
    worker
        Measure in this process, which torchrun began, into this file.
    batch, counts
        Windows on each device, and updates of the two trainings, of such a process.

    """
    if worker is not None:
        rows = measure(device, batch, counts)
        if rows[0]['leads']:
            worker.write_text(json.dumps(rows), encoding='utf-8')
        return 0
    rows: list[dict[str, Any]] = []
    if 'training' in parts:
        rows += scaling_rows(devices, device, quick)
    if 'rollouts' in parts:
        rows.append(rollout_row(quick))
    return finish('scaling', rows, bars_of(rows, device), check=check, by='part')


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
