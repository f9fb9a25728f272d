"""Offline learning: demonstrations to a teacher's artifact, and that to a student's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.output import claim_output
from vdd_ros.common.progress import Progress, silent
from vdd_ros.contract.contract import Contract
from vdd_ros.data.windows import Demonstrations, WindowArrays, windows_from
from vdd_ros.learning.augmentation import AugmentationSettings, AugmentedWindows, fit_normalizers
from vdd_ros.learning.baselines.em import likelihood_loss
from vdd_ros.learning.calibration import calibrate
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller
from vdd_ros.learning.distillation.external import ExternalScore, score_in_normalized_units
from vdd_ros.learning.distillation.labels import Labels, displaced
from vdd_ros.learning.distillation.rounds import Rounds, Simulator, TorchPolicy
from vdd_ros.learning.distillation.start import place_experts, start_from_teacher
from vdd_ros.learning.evaluation import (
    SAMPLED_WINDOWS,
    SAMPLES,
    StudentEvaluation,
    TeacherEvaluation,
    drawn,
    drawn_by_teacher,
    energy_score,
    judge,
    widening_of,
)
from vdd_ros.learning.export import export_denoiser, export_student
from vdd_ros.learning.learning_settings import LearningSettings, load_settings, preset
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.learning.processor import has_bfloat16, keep_freed_memory
from vdd_ros.learning.runs import Run, checkpoint_path, run_path
from vdd_ros.learning.selection import Selection
from vdd_ros.learning.training import Ema, Learner, SingleLoss, fit
from vdd_ros.learning.verdict import odd_ones, verdict_of
from vdd_ros.policy.artifact import Artifact, Manifest, load_artifact, normalizer_entries, save_artifact
from vdd_ros.policy.normalization import Normalizers

Module = TypeVar('Module', bound=torch.nn.Module)

_REPORTS = 100
_JUDGED_WINDOWS = 4096

_SHOWN = {
    'loss': 'loss',
    'held_out_loss': 'held out',
    'log_likelihood': 'log-likelihood',
    'held_out_log_likelihood': 'held out',
    'calibration_50': '50 % hold',
    'calibration_90': '90 % hold',
    'energy_score': 'energy score',
    'energy_distance': 'to teacher',
    'experts': 'experts',
}
"""What of the metrics a terminal shows, and under which name."""


@dataclass(frozen=True)
class _Job:
    """What all trainings of one call have in common."""

    demonstrations: Demonstrations
    output: Path
    settings: LearningSettings
    progress: Progress
    resume: bool
    cancelled: Callable[[], bool]

    @property
    def contract(self) -> Contract:
        return self.demonstrations.contract

    @property
    def device(self) -> torch.device:
        return device_of(self.settings)

    @property
    def mixed(self) -> bool:
        return mixed_precision(self.settings, self.device)

    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(self.settings.seed)

    def windows(
        self, arrays: WindowArrays, normalizers: Normalizers, augmentation: AugmentationSettings
    ) -> AugmentedWindows:
        return AugmentedWindows(arrays, self.contract, normalizers, augmentation, self.device)

    def student_normalizers(self) -> Normalizers:
        """Return the normalisers of a student that no trained teacher lends its own."""
        return fit_normalizers(self.demonstrations.train, self.contract, self.settings.augmentation_of('student'))

    def run(self, step: str) -> Run:
        facts = {
            'settings': self.settings.model_dump(mode='json'),
            'contract': self.contract.name,
            'contract_hash': self.contract.hash,
            'data': self.demonstrations.record.model_dump(mode='json'),
        }
        return Run(self.output, step, facts, resume=self.resume, trackers=self.settings.trackers)

    def fit(self, step: str, run: Run, learner: Learner, decay: float, iterations: int, selection: Selection) -> bool:
        """Train, show how it goes, and take the weights to be kept; return False if cancelled."""

        def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
            self.progress(step, done, total, {_SHOWN[name]: metrics[name] for name in _SHOWN if name in metrics})
            run.log(done, metrics)

        ema = Ema(learner.module, decay)
        done = fit(
            learner,
            iterations=iterations,
            generator=self.generator(),
            ema=ema,
            checkpoint=checkpoint_path(self.output),
            resume=self.resume and checkpoint_path(self.output).exists(),
            watcher=selection,
            report=report,
            report_every=max(1, iterations // _REPORTS),
            cancelled=self.cancelled,
        )
        if done < iterations and not selection.exhausted:
            return False
        if not selection.kept_at:  # resumed with a budget that was spent before the first report
            selection.watch(learner.module, ema, done, {})
        selection.take(learner.module)
        return True

    def save(
        self,
        run: Run,
        manifest: Manifest,
        module: torch.nn.Module,
        export: Callable[[], tuple[bytes | None, bytes]],
        familiarity: Mapping[str, Any] | None = None,
    ) -> Artifact:
        name = f'{manifest.kind} export'
        self.progress(name, 0, 1, {})
        weights = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
        encoder, network = export()
        save_artifact(self.output, manifest, weights, network, familiarity, encoder)
        artifact = load_artifact(self.output)
        # Only now: what was learned is not lost where it cannot be exported or written.
        run.finish(manifest.history, manifest.metrics, manifest.verdict)
        self.progress(name, 1, 1, {})
        return artifact

    def origin(self, normalizers: Normalizers) -> dict[str, Any]:
        """Return the entries of a manifest that say what was learned from."""
        return {
            'contract': self.contract,
            'contract_hash': self.contract.hash,
            'data': self.demonstrations.record,
            **normalizer_entries(normalizers),
        }


def train_teacher(
    demonstrations: Demonstrations,
    output: str | Path,
    settings: LearningSettings | None = None,
    progress: Progress = silent,
    *,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Train a diffusion policy and write its artifact; None if cancelled, with a checkpoint to `resume` from.

    The last averaged weights are kept: the denoising loss of held-out demonstrations says little of how a diffusion
    policy acts (docs/method.md), and is shown beside that of learned ones.

    Parameters
    ----------
    demonstrations
        What is learned from.
    output
        The folder to write; it must not exist.
    settings
        How to learn. Default: the shipped settings that suit the contract (`preset`).
    progress
        Called as ``progress(step, done, total, metrics)``.
    resume
        Go on from the checkpoint that an interrupted run left.
    cancelled
        Asked after every update whether to stop.

    Raises
    ------
    OutputError
        The output is occupied.
    TrainingError
        A loss is not finite; the checkpoint keeps the last good weights.
    ConfigurationError
        There is nothing to resume from.

    """
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    settings = job.settings
    augmentation = settings.augmentation_of('teacher')
    normalizers = fit_normalizers(demonstrations.train, job.contract, augmentation)
    windows = job.windows(demonstrations.train, normalizers, augmentation)
    held_out = job.windows(demonstrations.held_out, normalizers, augmentation)
    training = settings.teacher_training
    torch.manual_seed(settings.seed)
    teacher = Teacher(settings.teacher, shape_of(job.contract)).to(job.device)
    teacher.denoiser.mixed = job.mixed
    with _threads(settings.threads), job.run('teacher') as run:
        learner = SingleLoss(teacher, teacher.loss, windows, batch=training.batch, descent=training.descent)
        evaluation = TeacherEvaluation(windows, held_out, settings.seed, job.device)
        selection = Selection(teacher, evaluation, training.iterations)
        if settings.compiled:
            teacher.denoiser.compile(dynamic=False)
        if not job.fit('teacher', run, learner, training.ema, training.iterations, selection):
            return None
        learned, teacher = teacher, Teacher(settings.teacher, teacher.shape)
        teacher.load_state_dict(learned.state_dict())  # in float32, not compiled, in the memory of the processor
        learned.denoiser.mixed = False
        metrics = {**evaluation(learned), 'energy_score': evaluation.energy_score(learned)}
        manifest = Manifest(
            kind='teacher',
            **job.origin(normalizers),
            network=settings.teacher.model_dump(mode='json'),
            training={
                'settings': settings.model_dump(mode='json'),
                'sigmas': teacher.sigmas().tolist(),
                'sigma_data': teacher.denoiser.sigma_data,
            },
            metrics=metrics,
            history=selection.curves,
        )
        return job.save(run, manifest, teacher, partial(export_denoiser, teacher.denoiser, normalizers, teacher.shape))


def distill(
    demonstrations: Demonstrations,
    teacher: str | Path | ExternalScore,
    output: str | Path,
    settings: LearningSettings | None = None,
    progress: Progress = silent,
    *,
    compare: Literal['em'] | None = None,
    simulator: Simulator | None = None,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Distil a teacher into a student, and write its artifact; other arguments and errors as those of `train_teacher`.

    The weights are those that `selection.Selection` keeps, and the verdict in words is in the manifest.

    Parameters
    ----------
    teacher
        The artifact of a trained teacher, or the score of another one (`ExternalScore`).
    compare
        `em`: also train the same mixture by likelihood alone, write it beside (`em_path`), and judge the student by it.
    simulator
        Where teacher and student act, so that the teacher labels the windows that they come to
        (`distillation.simulation`). With one, `imitation` is 1 where the settings leave it at 0.

    Raises
    ------
    ArtifactError
        The teacher is absent, damaged, or of another contract.

    """
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    settings = job.settings
    if compare is not None and not resume:
        claim_output(em_path(job.output))
    artifact, learned = None, None
    if callable(teacher):
        normalizers = job.student_normalizers()
        score = score_in_normalized_units(teacher, job.contract, normalizers, job.device)
    else:
        artifact = load_artifact(teacher, kind='teacher', contract=demonstrations.contract)
        normalizers, learned = artifact.manifest.normalizers, restored_teacher(artifact).to(job.device)
        learned.denoiser.mixed, score = job.mixed, learned.score
    with _threads(settings.threads), job.run('student') as run:
        bench = _StudentBench(job, normalizers)
        student = bench.student()
        if settings.start == 'teacher' and learned is not None:
            start_from_teacher(student, learned.denoiser, bench.windows, job.generator())
        if settings.start != 'random':
            place_experts(student, bench.windows, job.generator())
        settings = bench.imitating(simulator)
        labels, rounds = None, None
        if learned is not None:
            labels = bench.labels(learned)
            rounds = None if simulator is None else bench.rounds(learned, labels, simulator)
        elif settings.distillation.imitation:
            raise ConfigurationError(
                expected='imitation 0 and no simulator: an external score cannot label windows',
                found=f'imitation {settings.distillation.imitation:g}',
                remedy='train a teacher, or leave both out',
            )
        learner = Distiller(student, score, bench.windows, settings.distillation, labels, rounds)
        evaluation, selection = bench.selection(student, learned)
        if settings.compiled:
            for network in (student.trunk, *([] if learned is None else [learned.denoiser])):
                network.compile(dynamic=False)
        if not job.fit('student', run, learner, settings.student_ema, settings.distillation.iterations, selection):
            return None
        metrics = bench.figures(student, evaluation)
        rival = None
        if compare is not None:
            made = fit_em(
                demonstrations,
                em_path(job.output),
                settings,
                progress,
                teacher=artifact,
                resume=resume and run_path(em_path(job.output)).exists(),
                cancelled=cancelled,
            )
            if made is None:
                return None
            rival = made.manifest.metrics
            metrics |= {f'em_{name}': rival[name] for name in ('held_out_log_likelihood', 'energy_score')}
        verdict = verdict_of(metrics, selection, rival)
        return bench.save(run, student, metrics, selection, verdict, teacher=artifact.hash if artifact else None)


def fit_em(
    demonstrations: Demonstrations,
    output: str | Path,
    settings: LearningSettings | None = None,
    progress: Progress = silent,
    *,
    teacher: Artifact | None = None,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Fit the student's mixture by likelihood alone (EM), with the network, windows and budget of `distill`.

    A teacher only lends its normalisers, so that figures compare. One that is there already is taken as it is.
    Arguments and errors else as those of `train_teacher`.
    """
    output = Path(output)
    if output.exists() and resume:
        return load_artifact(output, kind='student', contract=demonstrations.contract)
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    settings = job.settings
    with _threads(settings.threads), job.run('em') as run:
        bench = _StudentBench(job, teacher.manifest.normalizers if teacher else job.student_normalizers())
        student, budget = bench.student(), settings.distillation
        if settings.start != 'random':
            place_experts(student, bench.windows, job.generator())
        loss = likelihood_loss(student)
        learner = SingleLoss(student, loss, bench.windows, batch=budget.batch, descent=budget.descent)
        evaluation, selection = bench.selection(student, None)
        if not job.fit('em', run, learner, settings.student_ema, budget.iterations, selection):
            return None
        metrics = bench.figures(student, evaluation)
        return bench.save(run, student, metrics, selection, verdict_of(metrics, selection), method='EM')


def em_path(student: Path) -> Path:
    """Return where the mixture lies that EM fitted to compare a student with."""
    return student.with_name(f'{student.name}.em')


def evaluate(
    artifact: Artifact | str | Path, windows: WindowArrays, *, seed: int = 0, most: int = _JUDGED_WINDOWS
) -> dict[str, float]:
    """Judge a policy by demonstrated windows, best by those that it never saw.

    Parameters
    ----------
    artifact
        A teacher or a student.
    windows
        Windows of its contract: `Demonstrations.held_out`, or of `windows_of` or `windows_from`.
    seed
        Draws the windows and the noise.
    most
        How many windows are judged of very many.

    Returns
    -------
    dict
        Of a student: the figures of `evaluation.judge`, and ``energy_score``. Of a teacher: ``held_out_loss`` and
        ``energy_score``. All in normalised units.

    Raises
    ------
    ArtifactError
        There is no such artifact, or it is damaged.
    TrainingError
        The windows have other shapes than its contract says.

    """
    artifact = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    windows = windows_from(windows.observation, windows.action, artifact.manifest.contract)
    if len(windows) > most:
        windows = windows[np.random.default_rng(seed).choice(len(windows), most, replace=False)]
    normalizers, generator = artifact.manifest.normalizers, torch.Generator().manual_seed(seed)
    observation, action = (
        torch.as_tensor(normalizer.normalize(values), dtype=torch.float32)
        for normalizer, values in (
            (normalizers.observation, windows.observation),
            (normalizers.action, windows.action),
        )
    )
    action, few = action.flatten(start_dim=1), min(len(action), SAMPLED_WINDOWS)
    with torch.no_grad():
        if artifact.manifest.kind == 'teacher':
            teacher = restored_teacher(artifact)
            figures = {'held_out_loss': float(teacher.loss(observation, action, generator))}
            samples = drawn_by_teacher(teacher, observation[:few], SAMPLES, generator)
        else:
            student = restored_student(artifact)
            figures = judge(student(observation), action)
            samples = drawn(student(observation[:few]), SAMPLES, generator)
    return {**figures, 'energy_score': float(energy_score(samples, action[:few]).mean())}


def restored_teacher(artifact: Artifact) -> Teacher:
    """Return the teacher of an artifact as a torch module that is not learned any more."""
    teacher = Teacher(TeacherSettings.parse(artifact.manifest.network), shape_of(artifact.manifest.contract))
    return _with_weights(teacher, artifact)


def restored_student(artifact: Artifact) -> Student:
    """Return the student of an artifact as a torch module that is not learned any more."""
    settings = StudentSettings.parse(artifact.manifest.network)
    student = Student(settings, shape_of(artifact.manifest.contract), torch.Generator().manual_seed(0))
    return _with_weights(student, artifact)


def _with_weights(module: Module, artifact: Artifact) -> Module:
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})
    return module.requires_grad_(False)


def shape_of(contract: Contract) -> PolicyShape:
    """Return the sizes of policies of a contract."""
    steps = contract.prediction_horizon
    size = steps * contract.action_size
    return PolicyShape(contract.observation_horizon, contract.observation_size, size, steps)


def device_of(settings: LearningSettings) -> torch.device:
    """Return where networks are trained.

    Raises
    ------
    ConfigurationError
        A GPU is asked for and absent.

    """
    available = torch.cuda.is_available()
    if settings.device == 'cuda' and not available:
        raise ConfigurationError(
            expected='a GPU that torch can use', found='none', remedy='set device to auto or cpu, or correct the driver'
        )
    return torch.device('cuda' if available and settings.device != 'cpu' else 'cpu')


def mixed_precision(settings: LearningSettings, device: torch.device) -> bool:
    """Return whether networks compute in bfloat16 while they are trained: if the settings and the device say so."""
    if settings.precision != 'auto':
        return settings.precision == 'mixed'
    return torch.cuda.is_bf16_supported() if device.type == 'cuda' else has_bfloat16()


class _StudentBench:
    """What a student and EM beside it are learned from, and how both are judged and written."""

    def __init__(self, job: _Job, normalizers: Normalizers) -> None:
        self._job, self._normalizers = job, normalizers
        augmentation = job.settings.augmentation_of('student')
        self.windows = job.windows(job.demonstrations.train, normalizers, augmentation)
        self.held_out = job.windows(job.demonstrations.held_out, normalizers, augmentation)

    def student(self) -> Student:
        job = self._job
        torch.manual_seed(job.settings.seed)
        generator = torch.Generator().manual_seed(job.settings.seed)
        student = Student(job.settings.student, shape_of(job.contract), generator).to(job.device)
        student.mixed = job.mixed
        return student

    def imitating(self, simulator: Simulator | None) -> LearningSettings:
        """Return the settings, by which a simulator is of use."""
        settings = self._job.settings
        if simulator is None or settings.distillation.imitation:
            return settings
        distillation = settings.distillation.model_copy(update={'imitation': 1.0})
        self._job = replace(self._job, settings=settings.model_copy(update={'distillation': distillation}))
        return self._job.settings

    def rounds(self, teacher: Teacher, labels: Labels, simulator: Simulator) -> Rounds:
        """Let the teacher act, and prepare the rounds of the student."""
        job = self._job
        rounds = Rounds(
            labels,
            simulator,
            job.settings.distillation.simulation,
            lambda draw: TorchPolicy(draw, job.contract, self._normalizers, job.device),
            self._normalizers,
            job.settings.seed,
            lambda done, total: job.progress('rounds', done, total, {'windows': len(labels)}),
        )
        rounds.begin(teacher)
        return rounds

    def labels(self, teacher: Teacher) -> Labels | None:
        """Let the teacher label windows, if the settings ask for it."""
        job, settings = self._job, self._job.settings.distillation
        if not settings.imitation:
            return None
        labels = Labels(teacher, job.settings.seed, run_path(job.output))
        count = round(settings.labels.per_window * len(job.demonstrations.train.action))
        windows = displaced(self.windows, count, settings.labels.displacement, job.generator())
        job.progress('labels', 0, 1, {})
        labels.add('displaced', windows)
        job.progress('labels', 1, 1, {'windows': len(labels)})
        return labels

    def selection(self, student: Student, teacher: Teacher | None) -> tuple[StudentEvaluation, Selection]:
        settings = self._job.settings
        evaluation = StudentEvaluation(self.windows, self.held_out, teacher, settings.seed, self._job.device)
        selection = Selection(
            student,
            evaluation,
            settings.distillation.iterations,
            criterion='held_out_log_likelihood',
            settings=settings.selection,
        )
        return evaluation, selection

    def figures(self, student: Student, evaluation: StudentEvaluation) -> dict[str, float]:
        """Widen what is too narrow, and return what the kept weights are worth, on more windows than while learning."""
        student.mixed = False
        observation, action = self.held_out.draw(_JUDGED_WINDOWS, self._job.generator())
        with torch.no_grad():
            student.widen(widening_of(student(observation), action))
            metrics = judge(student(observation), action)
        found = evaluation(student)
        metrics |= {name: value for name, value in found.items() if name.startswith(('energy', 'training'))}
        if evaluation.teacher_energy_score is not None:
            metrics['teacher_energy_score'] = evaluation.teacher_energy_score
        return metrics

    def save(
        self,
        run: Run,
        student: Student,
        metrics: dict[str, float],
        selection: Selection,
        verdict: tuple[str, ...],
        *,
        teacher: str | None = None,
        method: str = 'distillation',
    ) -> Artifact:
        job = self._job
        student = student.cpu().compact()
        calibration, familiarity = calibrate(student, job.demonstrations, self._normalizers, job.settings.seed)
        manifest = Manifest(
            kind='student',
            **job.origin(self._normalizers),
            network=student.settings.model_dump(mode='json'),
            training={'settings': job.settings.model_dump(mode='json'), 'method': method, 'kept_at': selection.kept_at},
            metrics=metrics,
            history=selection.curves,
            verdict=(*verdict, *odd_ones(calibration.outliers)),
            teacher=teacher,
            calibration=calibration,
        )
        export = partial(export_student, student, self._normalizers)
        return job.save(run, manifest, student, lambda: (None, export()), familiarity.arrays)


def _job(
    demonstrations: Demonstrations,
    output: str | Path,
    settings: LearningSettings | None,
    progress: Progress,
    resume: bool,
    cancelled: Callable[[], bool],
) -> _Job:
    settings = load_settings(preset(demonstrations.contract)) if settings is None else settings
    return _Job(demonstrations, claim_output(output), settings, progress, _resumable(output, resume), cancelled)


def _resumable(output: str | Path, resume: bool) -> bool:
    """Refuse to resume where nothing was begun; what was killed before its first checkpoint begins anew."""
    folder = run_path(Path(output))
    if resume and not folder.exists():
        raise ConfigurationError(
            expected=f'a training to resume at {folder}', found='none', remedy='start afresh, without --resume'
        )
    return resume


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    keep_freed_memory()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
