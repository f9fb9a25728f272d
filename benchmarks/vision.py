"""Learning from images: `python -m benchmarks.vision`; parts by `--only`.

    avoiding     a teacher, a student and EM learn `avoiding_seen` from a camera above the table, and act as deployed
    placing      the same with `placing_seen`, a wrist camera and a front camera, without entropy and covered lenses
    pusht        the same from the images of PushT (`--data`, the human demonstrations as .npz)
    speed        one answer of students with two 96 x 96 cameras, encoder included, on one thread
    conversion   60 s of two 640 x 480 JPEG cameras from a bag to 96 x 96 pixels, on one core
    parity       images of a bag, over DDS and of a lossless film of a LeRobot dataset: equal bytes
    node         the policy node with two 640 x 480 JPEG cameras at 30 Hz over DDS and commands at 500 Hz

Learning needs a GPU: `--quick` only shows that everything runs.
"""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.console import Console

from benchmarks.harness import Bar, finish
from benchmarks.vision_tasks import learned, seen, seen_bars, tell
from vdd_ros.common.console import Bars
from vdd_ros.common.output import claim_output
from vdd_ros.common.progress import Progress
from vdd_ros.data.windows import Demonstrations
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.export import export_student, export_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.mixture.student import Student
from vdd_ros.policy.normalization import Normalizer, Normalizers
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.runtime import Network

Part = Literal['avoiding', 'placing', 'pusht', 'speed', 'conversion', 'parity', 'node']

_console = Console()
_FRAMES = 1800
_CALLS = 200
_SECONDS, _QUICK_SECONDS = 60.0, 4.0
"""Time for which the policy node is watched [s]."""
_QUICK_CHANGES = (
    *('teacher.trunk.width=16', 'teacher.trunk.depth=2', 'teacher.calls=4', 'teacher.vision.encoder=light'),
    *('teacher_training.iterations=4', 'teacher_training.batch=16', 'student.trunk.width=16', 'student.experts=2'),
    *('distillation.iterations=4', 'distillation.batch=16', 'distillation.labels.per_window=1', 'threads=1'),
    'distillation.simulation.episodes=1',
)
PIXELS = Path(__file__).parent / 'pusht_task' / 'learning_pixels.yaml'
"""How PushT is learned from its images."""

Row = dict[str, Any]


def pusht(
    data: Path,
    folder: Path,
    settings: LearningSettings,
    shown: int | None,
    games: int,
    processes: int,
    steps: int | None,
    progress: Progress,
) -> list[Row]:
    """Learn PushT from its images, with rounds of games, and play it; students act by the mean of the drawn expert."""
    from benchmarks.pusht_task import pixels
    from benchmarks.pusht_task.players import teacher_on
    from benchmarks.pusht_task.rollout import STEPS, Arena

    contract, rows, place = pixels.contract(), [], folder / 'pusht'
    demonstrated = Demonstrations.from_episodes(pixels.episodes(data, shown), contract)
    with Arena(
        contract,
        processes,
        steps=STEPS if steps is None else steps,
        new_game=pixels.PixelGame,
        see=pixels.PixelGame.observed,
    ) as arena:
        seconds = learned(demonstrated, place, settings, progress, arena)
        students = {
            name: DistilledPolicy.load(place / name, threads=processes, action_noise_scale=0.0).act
            for name in ('student', 'em')
        }
        plays = {'teacher': teacher_on(learning.device_of(settings), place / 'teacher'), **students}
        for name, act in plays.items():
            found = arena.test(act, games, progress=partial(tell, progress, name))
            rows.append(
                {
                    'part': 'pusht',
                    'method': name,
                    'overlap': found.mean,
                    'standard_error': found.standard_error,
                    'solved': found.success,
                    'games': games,
                    'learned_s': seconds[name],
                }
            )
    return rows


def speed(calls: int) -> list[Row]:
    """Measure one answer of students and of a teacher that sees by ResNet-18, on one thread, encoder included."""
    from benchmarks.vision_conversion import CAMERAS, SIDE, two_cameras

    contract, rows = two_cameras(), []
    shape = learning.shape_of(contract)
    one = Normalizer(np.zeros(contract.observation_size), np.ones(contract.observation_size))
    normalizers = Normalizers(one, Normalizer(np.zeros(contract.action_size), np.ones(contract.action_size)))
    settings = load_settings('learning_images')
    generator = np.random.default_rng(0)
    given: dict[str, np.ndarray] = {'observation': np.zeros((1, 1, contract.observation_size))}
    size = 1, 1, SIDE, SIDE, 3
    given |= {f'image_{name}': generator.integers(0, 256, size, dtype=np.uint8) for name in CAMERAS}
    for encoder in ('light', 'resnet18'):
        vision = settings.teacher.vision.model_copy(update={'encoder': encoder})
        student = Student(
            settings.student.model_copy(update={'vision': vision}), shape, torch.Generator().manual_seed(0)
        )
        network = Network(export_student(student.eval(), normalizers))
        rows.append({'part': 'speed', 'method': f'student, {encoder}', **_timed(partial(network, given), calls)})
    teacher = Teacher(settings.teacher, shape).eval()
    encoding, answering = (Network(model) for model in export_teacher(teacher, normalizers))
    noisy = np.zeros((1, shape.action_size))

    def plan() -> None:
        context = encoding(given)[0]
        for sigma in teacher.sigmas()[:-1].numpy():
            answering({'noisy': noisy, 'sigma': sigma, 'context': context})

    return [*rows, {'part': 'speed', 'method': 'teacher, resnet18', **_timed(plan, max(calls // 10, 1))}]


def _timed(call: Any, calls: int) -> Row:
    durations = []
    for _ in range(calls + 5):
        begin = time.perf_counter()
        call()
        durations.append(1e3 * (time.perf_counter() - begin))
    return {'p50_ms': float(np.median(durations[5:])), 'p99_ms': float(np.quantile(durations[5:], 0.99))}


def bars(rows: list[Row]) -> list[Bar]:
    """Return the bars of the parts that were measured."""
    of = {part: {row['method']: row for row in rows if row['part'] == part} for part in {row['part'] for row in rows}}
    found = seen_bars(rows)
    if 'pusht' in of:
        table = of['pusht']
        found += [
            Bar('PushT, overlap of the teacher', table['teacher']['overlap'], 0.93),
            Bar('PushT, solved by the teacher', table['teacher']['solved'], 0.55),
            Bar(
                'PushT, overlap of the student under its teacher',
                table['teacher']['overlap'] - table['student']['overlap'],
                0.02,
                at_most=True,
            ),
            Bar('PushT, student over EM', table['student']['overlap'] - table['em']['overlap'], 0.0),
            Bar('PushT, learned [s]', sum(row['learned_s'] for row in table.values()), 25 * 60, at_most=True),
        ]
    if 'speed' in of:
        p50 = {name: row['p50_ms'] for name, row in of['speed'].items()}
        found += [
            Bar('light encoder, p50 [ms]', p50['student, light'], 5.0, at_most=True),
            Bar('ResNet-18, p50 [ms]', p50['student, resnet18'], 20.0, at_most=True),
            Bar('teacher / student, both ResNet-18', p50['teacher, resnet18'] / p50['student, resnet18'], 10.0),
        ]
    if 'conversion' in of:
        (row,) = of['conversion'].values()
        found += [
            Bar('conversion [s]', row['cpu_s'], 10.0, at_most=True),
            Bar('conversion [MB]', row['peak_MB'], 300.0, at_most=True),
        ]
    return found


def main(
    data: Path | None = None,
    output: Path = Path('runs/vision'),
    settings: Path | None = None,
    change: tuple[str, ...] = (),
    demonstrated: int = 192,
    episodes: int = 480,
    seeds: int = 2,
    processes: int = os.cpu_count() or 1,
    only: tuple[Part, ...] = ('avoiding', 'placing', 'speed', 'conversion', 'parity', 'node'),
    resume: bool = False,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Measure learning from images.

    Parameters
    ----------
    data
        The human demonstrations of PushT (.npz); `pusht` is measured where it is given.
    output
        Folder of what is learned; must not exist, unless to resume.
    settings
        How to learn: a YAML file; by default `learning_images`, and for PushT `pusht_task/learning_pixels.yaml`.
    change
        Settings that differ, as `name=value`.
    demonstrated
        Demonstrations of `avoiding_seen` and `placing_seen`.
    episodes
        Rollouts and games of each method; of `placing_seen` half as many.
    seeds
        Of `avoiding_seen`: how often it is learned.
    processes
        Processes side by side.
    only
        The parts.
    resume
        Go on with what an interrupted run left in the output; rollouts and games are repeated.
    quick
        A small version that shows only that everything runs.
    check
        Exit with 1 where a bar does not hold.

    """
    if not resume:
        claim_output(output)
    chosen = load_settings(settings or 'learning_images').changed(change)
    parts = {*only, 'pusht'} if data is not None else set(only)
    shown: int | None = None
    steps, calls, frames, seconds = None, _CALLS, _FRAMES, _SECONDS
    of_pixels = load_settings(settings or PIXELS).changed(change)
    if quick:
        chosen, of_pixels = chosen.changed(_QUICK_CHANGES), of_pixels.changed(_QUICK_CHANGES)
        demonstrated, episodes, seeds, processes = 5, 1, 1, 1
        shown, steps, calls, frames, seconds = 3, 16, 5, 30, _QUICK_SECONDS
    rows: list[Row] = []
    with Bars(_console) as progress:
        if 'avoiding' in parts:
            rows += seen('avoiding', output, chosen, demonstrated, episodes, seeds, processes, progress)
        if 'placing' in parts:
            rows += seen('placing', output, chosen, demonstrated, -(-episodes // 2), 1, processes, progress)
        if 'pusht' in parts:
            rows += pusht(data, output, of_pixels, shown, episodes, processes, steps, progress)
    rows += speed(calls) if 'speed' in parts else []
    if 'conversion' in parts:
        # Only here: what reads bags need not be there for the other parts.
        from benchmarks.vision_conversion import conversion

        rows += conversion(frames)
    found = bars(rows)
    # Only here: ROS need not be there for the other parts.
    if 'parity' in parts:
        from benchmarks.vision_parity import measure, parity_bars

        compared = measure()
        rows, found = rows + compared, found + parity_bars(compared)
    if 'node' in parts:
        from benchmarks.vision_node import node, node_bars

        watched = node(seconds)
        rows, found = rows + watched, found + node_bars(watched)
    return finish('vision', rows, found, check=check, by='part')


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
