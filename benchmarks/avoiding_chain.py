"""One teacher on Avoiding or placing with all methods derived from it, stored on disk method by method."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from benchmarks.harness import FOLDER
from benchmarks.objectives import OBJECTIVES, with_objective
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.windows import Demonstrations, windows_of
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.augmentation import AugmentedWindows
from vdd_ros.learning.baselines.consistency import ConsistencyModel, ConsistencySettings
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.distillation.distiller import PAPER
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.rounds import Draw, DrawOfTeacher, Simulator, TorchPolicy
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.learning.training import Ema, SingleLoss, fit
from vdd_ros.policy.artifact import Artifact, DataRecord, load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Planner, rollout
from vdd_ros.validation.visits import TaskSimulator

CONTRACTS = {
    'cartesian': ('avoiding', 'avoiding_cartesian', {'prediction_horizon': 1, 'action_horizon': 1}, 'learning'),
    'joint': ('avoiding', 'avoiding_joint', {}, 'learning_joint'),
    'chunked': ('avoiding', 'avoiding_cartesian', {}, 'learning_chunked'),
    'placing': ('placing', 'placing_cartesian', {}, 'learning_chunked'),
}
"""Task, contract, changes to it, and settings of `config`, for each name."""
METHODS = ('teachers', *OBJECTIVES, 'paper', 'EM', 'consistency')
"""What can be made of a teacher; `teachers` are those of fewer network calls."""
CALLS = (16, 8, 4, 2, 1)
DEMONSTRATIONS = 288
"""Number of demonstrations for which the bars are defined; `make demo` records the same number."""
WORK = FOLDER / 'avoiding'
"""Folder of artifacts and rows."""
_HIGHEST = 1.0
"""Maximum noise level of a discrete teacher for the distillation of students, in normalised action units."""


@dataclass(frozen=True)
class Chain:
    """One teacher and all methods derived from it."""

    contract: str
    process: Literal['edm', 'ddpm']
    seed: int
    demonstrations: int
    rollouts: int
    teacher_iterations: int | None
    iterations: int | None
    threads: int
    methods: tuple[str, ...] = METHODS
    """Those of `METHODS` that are wanted."""
    accelerator: int = 0
    """Index of the accelerator for training, modulo their number."""

    def run(self) -> list[dict[str, Any]]:
        """Compute missing results; return a row for each method."""
        torch.set_num_threads(self.threads)
        if torch.cuda.is_available():
            torch.cuda.set_device(self.accelerator % torch.cuda.device_count())
        self._folder.mkdir(parents=True, exist_ok=True)
        _, name, change, _ = CONTRACTS[self.contract]
        contract = Contract.model_validate({**load_contract(name).model_dump(mode='json'), **change})
        settings = self._settings()
        demonstrations = self._shown(contract)
        path = self._folder / 'teacher'
        train = partial(learning.train_teacher, demonstrations, path, settings, silent)
        spent = self._timed('teacher', train) if not path.exists() else 0.0
        teacher = load_artifact(path, kind='teacher')
        rows = [
            self._row(f'teacher {calls}', contract, partial(self._teacher_planner, teacher, calls), lambda: spent)
            for calls in (CALLS if 'teachers' in self.methods else CALLS[:1])
        ]
        chosen = {name: with_objective(settings, name) for name in OBJECTIVES} | {'paper': self._paper(settings)}
        for method in (name for name in chosen if name in self.methods):
            output = self._folder / method.replace(' ', '-')
            simulator = TaskSimulator(self._task, contract) if method == 'visited' else None
            learn = partial(self._distilled, demonstrations, output, chosen[method], simulator)
            rows.append(self._row(method, contract, partial(DistilledPolicy.load, output), learn))
        return rows + self._baselines(demonstrations, teacher, settings)

    @property
    def _task(self) -> Task:
        return load_task(CONTRACTS[self.contract][0])

    @property
    def _folder(self) -> Path:
        asked = '' if self.demonstrations == DEMONSTRATIONS else f'-{self.demonstrations}'
        return WORK / f'{self.contract}-{self.process}-{self.seed}{asked}'

    def _timed(self, name: str, learn: Callable[[], object]) -> float:
        began = time.perf_counter()
        learn()
        spent = time.perf_counter() - began
        (self._folder / f'{name}.seconds').write_text(f'{spent}', encoding='utf-8')
        return spent

    def _distilled(
        self, demonstrations: Demonstrations, output: Path, settings: LearningSettings, simulator: Simulator | None
    ) -> float:
        teacher = self._folder / 'teacher'
        distill = partial(learning.distill, demonstrations, teacher, output, settings, silent, simulator=simulator)
        kept = self._folder / f'{output.name}.seconds'
        return float(kept.read_text(encoding='utf-8')) if output.exists() else self._timed(output.name, distill)

    def _settings(self) -> LearningSettings:
        settings = load_settings(CONTRACTS[self.contract][3])
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
        """Return the published objective with the budget and network of the other methods."""
        same = {name: getattr(settings.distillation, name) for name in ('batch', 'iterations', 'descent')}
        student = settings.student.model_copy(update={'gating_trunk': 'own', 'scale_floor': 1e-4})
        distillation = PAPER.model_copy(update=same)
        return settings.model_copy(update={'distillation': distillation, 'student': student, 'start': 'random'})

    def _shown(self, contract: Contract) -> Demonstrations:
        shown = demonstrate(self._task, contract, self.demonstrations, self.seed)
        shown = [episode for episode in shown if episode.success]
        kept_back = max(1, len(shown) // 10)
        train, held_out = windows_of(shown[kept_back:], contract), windows_of(shown[:kept_back], contract)
        record = DataRecord(bags={}, episodes=len(shown), windows=len(train.action))
        return Demonstrations(contract, train, held_out, record)

    def _baselines(
        self, demonstrations: Demonstrations, artifact: Artifact, settings: LearningSettings
    ) -> list[dict[str, Any]]:
        contract, normalizers = demonstrations.contract, artifact.manifest.normalizers

        def mixture() -> float:
            output = self._folder / 'EM'
            shutil.rmtree(output, ignore_errors=True)
            learn = partial(learning.fit_em, demonstrations, output, settings, silent, teacher=artifact)
            return self._timed('EM', learn)

        rows = []
        if 'EM' in self.methods:
            rows.append(self._row('EM', contract, partial(DistilledPolicy.load, self._folder / 'EM'), mixture))
        if self.process == 'edm' and 'consistency' in self.methods:
            device, budget = learning.device_of(settings), settings.distillation
            teacher = learning.restored_teacher(artifact).to(device)
            augmentation = settings.augmentation_of('student')
            windows = AugmentedWindows(demonstrations.train, contract, normalizers, augmentation, device)
            trunk, shape = settings.teacher.trunk, teacher.shape
            model = ConsistencyModel(ConsistencySettings(trunk=trunk, sigma_max=settings.teacher.sigma_max), shape)
            model.to(device)

            def consistent() -> float:
                loss = partial(model.loss, teacher.denoiser)
                learner = SingleLoss(model, loss, windows, batch=budget.batch, descent=budget.descent)
                ema = Ema(model, settings.student_ema)
                generator = torch.Generator(device).manual_seed(self.seed)
                began = time.perf_counter()
                fit(learner, iterations=budget.iterations, generator=generator, ema=ema)
                ema.copy_to(model)
                model.cpu()
                return time.perf_counter() - began

            draw = _DrawOnce(model, shape.action_size)
            rows.append(self._row('consistency', contract, partial(_planner, artifact, draw), consistent))
        return rows

    def _teacher_planner(self, artifact: Artifact, calls: int) -> Planner:
        return _planner(artifact, DrawOfTeacher(learning.restored_teacher(artifact), calls))

    def _row(
        self, method: str, contract: Contract, planner: Callable[[], Planner], learn: Callable[[], float]
    ) -> dict[str, Any]:
        kept = self._folder / f'{method}.json'
        if kept.exists():
            return json.loads(kept.read_text(encoding='utf-8'))
        spent = learn()
        summary = summarise(rollout(self._task, contract, planner, self.rollouts, self.seed))
        row = {
            'contract': self.contract,
            'teacher': self.process,
            'seed': self.seed,
            'demonstrations': self.demonstrations,
            'method': method,
            'success': summary.success,
            'entropy': summary.entropy,
            'modes': summary.modes,
            'learning_seconds': spent,
        }
        aside = kept.with_suffix('.partial')
        aside.write_text(json.dumps(row), encoding='utf-8')
        aside.rename(kept)
        return row


def _planner(artifact: Artifact, draw: Draw) -> Planner:
    return TorchPolicy(draw, artifact.manifest.contract, artifact.manifest.normalizers, torch.device('cpu'))


@dataclass(frozen=True)
class _DrawOnce:
    module: ConsistencyModel
    size: int

    def __call__(self, window: Tensor, generator: torch.Generator) -> Tensor:
        return self.module.sample(window, torch.randn(len(window), self.size, generator=generator))


def kept_rows() -> list[dict[str, Any]]:
    """Return the stored rows of all chains."""
    return [json.loads(file.read_text(encoding='utf-8')) for file in sorted(WORK.glob('*/*.json'))]
