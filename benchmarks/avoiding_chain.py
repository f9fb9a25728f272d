"""One teacher on Avoiding and all that is made of it, kept on disk method by method."""

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
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.windows import Demonstrations, windows_of
from vdd_ros.learning import jobs as learning
from vdd_ros.learning.augmentation import AugmentedWindows
from vdd_ros.learning.baselines.consistency import ConsistencyModel, ConsistencySettings
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.distillation.distiller import PAPER
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.rounds import Draw, TorchPolicy, draw_of_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.learning.training import Ema, SingleLoss, fit
from vdd_ros.policy.artifact import Artifact, DataRecord, load_artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.metrics import summarise
from vdd_ros.validation.rollout import Planner, rollout

CONTRACTS = {
    'cartesian': ('avoiding_cartesian', {'prediction_horizon': 1, 'action_horizon': 1}, 'learning'),
    'joint': ('avoiding_joint', {}, 'learning_joint'),
    'chunked': ('avoiding_cartesian', {}, 'learning_chunked'),
}
"""The contract of each, what is changed in it, and by which settings of `config` it is learned."""
CALLS = (16, 8, 4, 2, 1)
DEMONSTRATIONS = 288
"""What the bars are asked of; `make demo` records as many."""
WORK = FOLDER / 'avoiding'
"""Where artifacts and rows are kept."""
_HIGHEST = 1.0
"""The highest level of a discrete teacher that students are compared at, in normalised action units."""


@dataclass(frozen=True)
class Chain:
    """One teacher, and all that is made of it."""

    contract: str
    process: Literal['edm', 'ddpm']
    seed: int
    demonstrations: int
    rollouts: int
    teacher_iterations: int | None
    iterations: int | None
    threads: int
    accelerator: int = 0
    """Which of the accelerators learns, counted round where there are fewer."""

    def run(self) -> list[dict[str, Any]]:
        """Learn and roll out what is not there yet; return a row for each method."""
        torch.set_num_threads(self.threads)
        if torch.cuda.is_available():
            torch.cuda.set_device(self.accelerator % torch.cuda.device_count())
        self._folder.mkdir(parents=True, exist_ok=True)
        name, change, _ = CONTRACTS[self.contract]
        contract = Contract.model_validate({**load_contract(name).model_dump(mode='json'), **change})
        settings = self._settings()
        demonstrations = self._shown(contract)
        path = self._folder / 'teacher'
        train = partial(learning.train_teacher, demonstrations, path, settings, silent)
        spent = self._timed('teacher', train) if not path.exists() else 0.0
        teacher = load_artifact(path, kind='teacher')
        rows = [
            self._row(f'teacher {calls}', contract, partial(self._teacher_planner, teacher, calls), lambda: spent)
            for calls in CALLS
        ]
        for method, chosen in (('vdd', settings), ('paper', self._paper(settings))):
            output = self._folder / method
            learn = partial(self._distilled, demonstrations, output, chosen)
            rows.append(self._row(method, contract, partial(DistilledPolicy.load, output), learn))
        return rows + self._baselines(demonstrations, teacher, settings)

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

    def _distilled(self, demonstrations: Demonstrations, output: Path, settings: LearningSettings) -> float:
        distill = partial(learning.distill, demonstrations, self._folder / 'teacher', output, settings, silent)
        kept = self._folder / f'{output.name}.seconds'
        return float(kept.read_text(encoding='utf-8')) if output.exists() else self._timed(output.name, distill)

    def _settings(self) -> LearningSettings:
        settings = load_settings(CONTRACTS[self.contract][2])
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
        distillation = PAPER.model_copy(update=same)
        return settings.model_copy(update={'distillation': distillation, 'student': student, 'start': 'random'})

    def _shown(self, contract: Contract) -> Demonstrations:
        shown = demonstrate(load_task('avoiding'), contract, self.demonstrations, self.seed)
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

        rows = [self._row('EM', contract, partial(DistilledPolicy.load, self._folder / 'EM'), mixture)]
        if self.process == 'edm':
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

            draw = partial(_draw_once, model, shape.action_size)
            rows.append(self._row('consistency', contract, partial(_planner, artifact, draw), consistent))
        return rows

    def _teacher_planner(self, artifact: Artifact, calls: int) -> Planner:
        return _planner(artifact, draw_of_teacher(learning.restored_teacher(artifact), calls))

    def _row(
        self, method: str, contract: Contract, planner: Callable[[], Planner], learn: Callable[[], float]
    ) -> dict[str, Any]:
        kept = self._folder / f'{method}.json'
        if kept.exists():
            return json.loads(kept.read_text(encoding='utf-8'))
        spent = learn()
        summary = summarise(rollout(load_task('avoiding'), contract, planner, self.rollouts, self.seed))
        row = {
            'contract': self.contract,
            'teacher': self.process,
            'seed': self.seed,
            'demonstrations': self.demonstrations,
            'method': method,
            'success': summary.success,
            'entropy': summary.entropy,
            'ways': summary.ways,
            'learning_seconds': spent,
        }
        aside = kept.with_suffix('.partial')
        aside.write_text(json.dumps(row), encoding='utf-8')
        aside.rename(kept)
        return row


def _planner(artifact: Artifact, draw: Draw) -> Planner:
    return TorchPolicy(draw, artifact.manifest.contract, artifact.manifest.normalizers, torch.device('cpu'))


def _draw_once(model: ConsistencyModel, size: int, observation: Tensor, generator: torch.Generator) -> Tensor:
    return model.sample(observation, torch.randn(len(observation), size, generator=generator))


def kept_rows() -> list[dict[str, Any]]:
    """Return the rows of all chains that are on disk."""
    return [json.loads(file.read_text(encoding='utf-8')) for file in sorted(WORK.glob('*/*.json'))]
