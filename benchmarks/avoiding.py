"""Learns Avoiding by every method and rolls all of them out in MuJoCo: `python -m benchmarks.avoiding`.

One chain for each contract, teacher and seed: demonstrations in process, a teacher, and from these the students and the
baselines, all with the network, data and budget of `config/learning.yaml`:

    teacher N     the diffusion policy with N network calls for an action; N = 1 is the one-step teacher
    vdd           the student as it ships
    paper         the student by the published objective
    EM            the same mixture by likelihood alone, without a teacher
    consistency   a one-call model distilled so that neighbours on the teacher's ODE agree (continuous teachers)

The whole takes hours on two cores; choose contracts, teachers and seeds, or more processes where there are cores.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from rich.progress import track
from torch import Tensor

from benchmarks.avoiding_picture import draw_picture
from benchmarks.harness import FOLDER, Bar, finish
from vdd_ros import learning
from vdd_ros.artifact import Artifact, DataRecord
from vdd_ros.baselines.consistency import ConsistencyModel, ConsistencySettings
from vdd_ros.baselines.em import likelihood_loss
from vdd_ros.contract import Contract, load_contract
from vdd_ros.control.chunk import Plan
from vdd_ros.data.augmentation import AugmentedWindows
from vdd_ros.data.dataset import windows_of
from vdd_ros.data.demonstrations import Demonstrations
from vdd_ros.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.distillation.distiller import PAPER
from vdd_ros.distillation.noise_levels import NoiseLevels
from vdd_ros.learning import LearningSettings, load_settings
from vdd_ros.mixture.student import Student
from vdd_ros.networks import PolicyShape
from vdd_ros.policy import DistilledPolicy
from vdd_ros.progress import silent
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.training import Ema, SingleLoss, fit
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Planner, rollout

CONTRACTS = {
    'cartesian': ('avoiding_cartesian', {}),
    'joint': ('avoiding_joint', {}),
    'chunked': ('avoiding_cartesian', {'prediction_horizon': 8, 'action_horizon': 4}),
}
CALLS = (16, 8, 4, 2, 1)
_QUICK = {'teacher_iterations': 20, 'iterations': 10, 'episodes': 12, 'rollouts': 4}
_HIGHEST = 1.0
"""The highest level of a discrete teacher that students are compared at, in normalised action units."""


@dataclass(frozen=True)
class Chain:
    """One teacher, and all that is made of it."""

    contract: str
    process: Literal['edm', 'ddpm']
    seed: int
    episodes: int
    rollouts: int
    teacher_iterations: int | None
    iterations: int | None
    threads: int

    def run(self) -> list[dict[str, Any]]:
        """Learn and roll out; return a row for each method."""
        torch.set_num_threads(self.threads)
        name, change = CONTRACTS[self.contract]
        contract = Contract.model_validate({**load_contract(name).model_dump(mode='json'), **change})
        settings = self._settings()
        demonstrations = self._demonstrations(contract)
        rows = []
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder)
            began = time.perf_counter()
            teacher = learning.train_teacher(demonstrations, path / 'teacher', settings, silent)
            spent = time.perf_counter() - began
            for calls in CALLS:
                planner = partial(self._teacher_planner, teacher, calls)
                rows.append(self._row(f'teacher {calls}', contract, planner, spent if calls == CALLS[0] else 0.0))
            for method, chosen in (('vdd', settings), ('paper', self._paper(settings))):
                began = time.perf_counter()
                learning.distill(demonstrations, path / 'teacher', path / method, chosen, silent)
                spent = time.perf_counter() - began
                rows.append(self._row(method, contract, partial(DistilledPolicy.load, path / method), spent))
            rows += self._baselines(demonstrations, teacher, settings)
        return rows

    def _settings(self) -> LearningSettings:
        settings = load_settings()
        training, distillation, teacher = settings.teacher_training, settings.distillation, settings.teacher
        if self.process == 'ddpm':
            change = {'process': 'ddpm', 'steps': CALLS[0], 'calls': CALLS[0], 'sampler': 'ancestral'}
            teacher = teacher.model_copy(update=change)
            levels = Teacher(teacher, PolicyShape(1, 1, 1)).sigmas()
            chosen = tuple(float(level) for level in levels if 0 < level <= _HIGHEST)
            distillation = distillation.model_copy(update={'noise': NoiseLevels(kind='levels', levels=chosen)})
        if self.teacher_iterations is not None:
            training = training.model_copy(update={'iterations': self.teacher_iterations})
        if self.iterations is not None:
            distillation = distillation.model_copy(update={'iterations': self.iterations})
        return settings.model_copy(
            update={
                'seed': self.seed,
                'threads': self.threads,
                'teacher': teacher,
                'teacher_training': training,
                'distillation': distillation,
            }
        )

    def _paper(self, settings: LearningSettings) -> LearningSettings:
        """Return the published objective with the budget and the network of the other methods."""
        same = {name: getattr(settings.distillation, name) for name in ('batch', 'iterations', 'descent')}
        student = settings.student.model_copy(update={'gating_trunk': 'own', 'scale_floor': 1e-4})
        return settings.model_copy(update={'distillation': PAPER.model_copy(update=same), 'student': student})

    def _demonstrations(self, contract: Contract) -> Demonstrations:
        shown = demonstrate(load_task('avoiding'), contract, self.episodes, self.seed)
        shown = [episode for episode in shown if episode.success]
        kept_back = max(1, len(shown) // 10)
        train, held_out = windows_of(shown[kept_back:], contract), windows_of(shown[:kept_back], contract)
        record = DataRecord(bags={}, episodes=len(shown), windows=len(train.action))
        return Demonstrations(contract, train, held_out, record)

    def _baselines(
        self, demonstrations: Demonstrations, artifact: Artifact, settings: LearningSettings
    ) -> list[dict[str, Any]]:
        contract, normalizers = demonstrations.contract, artifact.manifest.normalizers
        windows = AugmentedWindows(demonstrations.train, contract, normalizers, settings.augmentation)
        teacher = restored(artifact)
        student = Student(settings.student, teacher.shape, torch.Generator().manual_seed(self.seed))
        models = [('EM', student, likelihood_loss(student), partial(_draw_expert, student))]
        if self.process == 'edm':
            trunk, shape = settings.teacher.trunk, teacher.shape
            model = ConsistencyModel(ConsistencySettings(trunk=trunk, sigma_max=settings.teacher.sigma_max), shape)
            loss = partial(model.loss, teacher.denoiser)
            models.append(('consistency', model, loss, partial(_draw_once, model, shape.action_size)))
        rows = []
        for method, module, loss, draw in models:
            began = time.perf_counter()
            budget = settings.distillation
            learner = SingleLoss(module, loss, windows, batch=budget.batch, descent=budget.descent)
            ema = Ema(module, settings.student_ema)
            generator = torch.Generator().manual_seed(self.seed)
            fit(learner, iterations=budget.iterations, generator=generator, ema=ema)
            ema.copy_to(module)
            spent = time.perf_counter() - began
            rows.append(self._row(method, contract, partial(_TorchPlanner, artifact, draw), spent))
        return rows

    def _teacher_planner(self, artifact: Artifact, calls: int) -> Planner:
        teacher = restored(artifact)

        def draw(observation: Tensor, generator: torch.Generator) -> Tensor:
            shape = (teacher.noise_draws(calls), len(observation), teacher.shape.action_size)
            return teacher.sample(observation, torch.randn(shape, generator=generator), calls)

        return _TorchPlanner(artifact, draw)

    def _row(self, method: str, contract: Contract, planner: Callable[[], Planner], spent: float) -> dict[str, Any]:
        summary = summarise(rollout(load_task('avoiding'), contract, planner, self.rollouts, self.seed))
        return {
            'contract': self.contract,
            'teacher': self.process,
            'seed': self.seed,
            'method': method,
            'success': summary.success,
            'entropy': summary.entropy,
            'ways': summary.ways,
            'learning_seconds': spent,
        }


def restored(artifact: Artifact) -> Teacher:
    """Return the teacher of an artifact as a torch module."""
    contract = artifact.manifest.contract
    size = contract.prediction_horizon * contract.action_size
    shape = PolicyShape(contract.observation_horizon, contract.observation_size, size)
    teacher = Teacher(TeacherSettings.parse(artifact.manifest.network), shape)
    teacher.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})
    return teacher.requires_grad_(False)


class _TorchPlanner:
    """A torch module in rollouts: draws flattened, normalised chunks."""

    def __init__(self, artifact: Artifact, draw: Callable[[Tensor, torch.Generator], Tensor]) -> None:
        self._contract = artifact.manifest.contract
        self._normalizers = artifact.manifest.normalizers
        self._draw = draw

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan for windows of shape (batch, observation_horizon, observation)."""
        seeded = torch.Generator().manual_seed(int(generator.integers(2**62)))
        normalized = self._normalizers.observation.normalize(observation)
        with torch.inference_mode():
            chunk = self._draw(torch.as_tensor(normalized, dtype=torch.float32), seeded).numpy().astype(np.float64)
        chunk = chunk.reshape(len(chunk), self._contract.prediction_horizon, self._contract.action_size)
        return Plan(self._normalizers.action.denormalize(chunk), np.full(len(chunk), -1))


def _draw_expert(student: Student, observation: Tensor, generator: torch.Generator) -> Tensor:
    mixture = student(observation)
    return mixture.mean_of_expert(mixture.choose(torch.rand(len(observation), generator=generator)))


def _draw_once(model: ConsistencyModel, size: int, observation: Tensor, generator: torch.Generator) -> Tensor:
    return model.sample(observation, torch.randn(len(observation), size, generator=generator))


def bars(rows: list[dict[str, Any]]) -> list[Bar]:
    """Return the bars that these rows can tell of."""
    found = []

    def mean(contract: str, process: str, method: str, figure: str) -> float:
        chosen = [
            row[figure]
            for row in rows
            if (row['contract'], row['teacher'], row['method']) == (contract, process, method)
        ]
        return float(np.mean(chosen)) if chosen else float('nan')

    asked = {'cartesian': (0.95, 0.90), 'joint': (0.90, 0.85), 'chunked': (0.93, 0.85)}
    for contract, process in dict.fromkeys((row['contract'], row['teacher']) for row in rows):
        success, entropy = asked[contract]
        student = partial(mean, contract, process, 'vdd')
        name = f'{contract}, {process} teacher'
        found.append(Bar(f'{name}: success of the student', student('success'), success))
        found.append(Bar(f'{name}: entropy of the student', student('entropy'), entropy))
        short = mean(contract, process, 'teacher 16', 'success') - student('success')
        found.append(Bar(f'{name}: success under the teacher', short, 0.02, at_most=True))
        if contract == 'cartesian':
            for rival in ('EM', 'teacher 1', *(('consistency',) if process == 'edm' else ())):
                sums = [
                    mean(contract, process, method, 'success') + mean(contract, process, method, 'entropy')
                    for method in ('vdd', rival)
                ]
                found.append(Bar(f'{name}: success + entropy ahead of {rival}', sums[0] - sums[1], 0.0))
    spent = [row['learning_seconds'] for row in rows if row['method'] == 'vdd']
    found.append(Bar('slowest distillation [s]', max(spent), 240.0, at_most=True))
    return found


def main(
    contracts: tuple[Literal['cartesian', 'joint', 'chunked'], ...] = ('cartesian', 'joint', 'chunked'),
    teachers: tuple[Literal['edm', 'ddpm'], ...] = ('edm', 'ddpm'),
    seeds: int = 3,
    rollouts: int = 480,
    processes: int = 1,
    threads: int = 2,
    quick: bool = False,
    check: bool = False,
) -> int:
    """Learn Avoiding by every method and roll all of them out.

    Parameters
    ----------
    contracts, teachers, seeds
        Which chains to run.
    rollouts
        How many for each method.
    processes, threads
        Chains side by side, and the threads of each.
    quick
        A small version that shows only that the program runs.
    check
        Exit with 1 where a bar does not hold.

    """
    budget = {'teacher_iterations': None, 'iterations': None, 'episodes': 288, 'rollouts': rollouts}
    if quick:
        contracts, teachers, seeds, threads, budget = contracts[:1], teachers[:1], 1, 1, dict(_QUICK)
    # The discrete teacher is asked for in the Cartesian task only.
    chains = [
        Chain(contract, process, seed, threads=threads, **budget)
        for contract in contracts
        for process in (teachers if contract == 'cartesian' else ('edm',))
        for seed in range(seeds)
    ]
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(processes, multiprocessing.get_context('spawn')) as executor:
        futures = [executor.submit(chain.run) for chain in chains]
        for future in track(as_completed(futures), total=len(futures), description='chains'):
            rows += future.result()
    rows.sort(key=lambda row: (row['contract'], row['teacher'], row['seed']))
    FOLDER.mkdir(parents=True, exist_ok=True)
    draw_picture(rows, FOLDER / 'avoiding.png')
    return finish('avoiding', rows, bars(rows), check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
