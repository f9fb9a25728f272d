"""Distil densities in closed form, and measure the errors of the students: `python -m benchmarks.toy`.

The score of the teacher is exact and the demonstrations are samples, so only the distillation is measured. Three
methods use the same network, demonstrations, batch, step sizes and number of updates of the experts:

    default   the shipped settings, StudentSettings() and DistillerSettings(), with fewer iterations
    paper     the published objective and alternation, at a noise level with negligible bias
    EM        the same mixture by likelihood only, without a teacher
"""

from __future__ import annotations

import math
import multiprocessing
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from typing import Any, Literal

import torch
import tyro
from rich.progress import track

from benchmarks.harness import FOLDER, Bar, finish
from benchmarks.toy_picture import Panel, draw_picture, panels
from benchmarks.toy_problems import TOYS, measure
from vdd_ros.learning.baselines.em import likelihood_loss
from vdd_ros.learning.distillation.distiller import PAPER, Distiller, DistillerSettings
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.objective import Score
from vdd_ros.learning.distillation.start import place_experts
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.learning.training import Ema, Learner, SingleLoss, Windows, fit

METHODS = ('default', 'paper', 'EM')
ITERATIONS = 1600
_QUICK_ITERATIONS = 8
_DEMONSTRATIONS = 20_000
_SAMPLES = 100_000
_CLEAN = NoiseLevels(kind='fixed', low=0.02)


@dataclass(frozen=True)
class Job:
    """One student to train and measure."""

    toy: str
    method: Literal['default', 'paper', 'EM']
    seed: int
    iterations: int

    def run(self) -> tuple[dict[str, Any], list[Panel]]:
        """Return its row, and its panels of the figure."""
        torch.set_num_threads(1)
        torch.manual_seed(self.seed)
        generator = torch.Generator().manual_seed(self.seed)
        toy = TOYS[self.toy].normalised()
        student = Student(self._student_settings(), PolicyShape(1, 1, 2), generator)
        if self.method != 'paper':
            place_experts(student, toy.demonstrations(_DEMONSTRATIONS, generator), generator)
        learner, iterations = self._learner(student, toy.score(), toy.demonstrations(_DEMONSTRATIONS, generator))
        ema = Ema(student, LearningSettings().student_ema)
        began = time.perf_counter()
        fit(learner, iterations=iterations, generator=generator, ema=ema)
        seconds = time.perf_counter() - began
        ema.copy_to(student)
        figures = measure(toy, student, generator, _SAMPLES)
        row = {'toy': self.toy, 'method': self.method, 'seed': self.seed, **figures}
        row |= {'experts': int(student.alive.sum()), 'iterations': iterations, 'seconds': seconds}
        return row, panels(self.toy, self.method, student, toy.unit) if self.seed == 0 else []

    def _student_settings(self) -> StudentSettings:
        paper = {'gating_trunk': 'own', 'scale_floor': 1e-4}
        return StudentSettings(**paper) if self.method == 'paper' else StudentSettings()

    def _learner(self, student: Student, score: Score, windows: Windows) -> tuple[Learner, int]:
        default = DistillerSettings(iterations=self.iterations)
        if self.method == 'EM':
            loss = likelihood_loss(student)
            return SingleLoss(student, loss, windows, batch=default.batch, descent=default.descent), self.iterations
        if self.method == 'default':
            return Distiller(student, score, windows, default), self.iterations
        # Each of its iterations updates the experts twice.
        iterations = self.iterations // PAPER.expert_steps
        same = {'iterations': iterations, 'batch': default.batch, 'descent': default.descent, 'noise': _CLEAN}
        settings = PAPER.model_copy(update=same)
        return Distiller(student, score, windows, settings), iterations


def jobs_of(seeds: int | None, iterations: int, methods: Sequence[str] = METHODS) -> list[Job]:
    """Return all jobs: the default for every seed, the other methods for the compared seeds."""
    jobs = []
    for name, toy in TOYS.items():
        for method in methods:
            count = toy.seeds if method == 'default' else toy.compared
            count = count if seeds is None else min(seeds, count)
            jobs += [Job(name, method, seed, iterations) for seed in range(count)]
    return jobs


def bars_of(rows: Iterable[dict[str, Any]]) -> list[Bar]:
    """Return the bars of the default: maximum errors over all seeds, and the seeds with all modes."""

    def of(name: str, figure: str) -> list[float]:
        return [row[figure] for row in rows if row['toy'] == name and row['method'] == 'default']

    modes = of('ring', 'modes')
    bars = [
        Bar('ring: seeds with every mode found', sum(found == 8 for found in modes), len(modes)),
        Bar('ring: highest forward KL', max(of('ring', 'forward_kl')), 0.01, at_most=True),
        Bar('ring: highest reverse KL', max(of('ring', 'reverse_kl')), 0.01, at_most=True),
    ]
    modes = of('hard ring', 'modes')
    return [
        *bars,
        Bar('hard ring: seeds with every mode found', sum(found == 8 for found in modes), math.ceil(0.95 * len(modes))),
        Bar('hard ring: highest forward KL', max(of('hard ring', 'forward_kl')), 0.05, at_most=True),
        Bar('hard ring: highest error of a weight', max(of('hard ring', 'weight_error')), 0.03, at_most=True),
        Bar('junction: highest forward KL', max(of('junction', 'forward_kl')), 0.05, at_most=True),
    ]


def _results(jobs: list[Job], processes: int) -> Iterator[tuple[dict[str, Any], list[Panel]]]:
    if processes == 1:
        yield from (job.run() for job in jobs)
        return
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context('spawn')) as pool:
        for done in as_completed([pool.submit(job.run) for job in jobs]):
            yield done.result()


def main(
    quick: bool = False,
    check: bool = False,
    seeds: int | None = None,
    compare: bool = True,
    processes: int | None = None,
    iterations: int | None = None,
) -> int:
    """Distil densities in closed form, and measure the errors of the students.

    Parameters
    ----------
    quick
        Two seeds and a few iterations, which only test the program.
    check
        Exit with 1 if a bar does not hold.
    seeds
        Maximum number of seeds of each toy; by default 20, 20 and 10.
    compare
        Also the published objective and EM, which take more than half of the time.
    processes
        Number of processes; by default the number of cores, and one for `quick`.
    iterations
        Updates of each student; shipped: 4000, default: 1600, `quick`: 8.

    """
    iterations = iterations or (_QUICK_ITERATIONS if quick else ITERATIONS)
    methods = METHODS if compare else METHODS[:1]
    jobs = jobs_of(2 if quick and seeds is None else seeds, iterations, methods)
    processes = processes or (1 if quick else os.cpu_count() or 1)
    rows, shown = [], []
    for row, drawn in track(_results(jobs, processes), description='distilling', total=len(jobs)):
        rows.append(row)
        shown += drawn
    order = {(job.toy, job.method, job.seed): number for number, job in enumerate(jobs)}
    rows.sort(key=lambda row: order[row['toy'], row['method'], row['seed']])
    code = finish('toy', rows, bars_of(rows), check=check)
    draw_picture(shown, FOLDER / 'toy.png')
    return code


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
