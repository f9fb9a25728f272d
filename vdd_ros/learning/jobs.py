"""Training jobs: from demonstrations to the artifact of a teacher, and from a teacher to the artifact of a student."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from vdd_ros.learning.distillation.labels import LabelledWindows, Labels, displaced
from vdd_ros.learning.distillation.objective import Score
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
from vdd_ros.learning.export import export_student, export_teacher
from vdd_ros.learning.image_windows import EncodedImages, ImageWindows, Seeing
from vdd_ros.learning.learning_settings import LearningSettings, load_settings, preset
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import ImageShape, PolicyShape
from vdd_ros.learning.processor import has_bfloat16, keep_freed_memory
from vdd_ros.learning.ranks import Ranks, Sharing, joined
from vdd_ros.learning.runs import Run, checkpoint_path, run_path
from vdd_ros.learning.selection import Evaluate, Selection
from vdd_ros.learning.training import Checkpoint, Ema, Learner, Monitoring, SingleLoss, fit
from vdd_ros.learning.verdict import odd_ones, verdict_of
from vdd_ros.learning.vision import VisionEncoder, VisionSettings
from vdd_ros.policy.artifact import Artifact, Manifest, load_artifact, normalizer_entries, save_artifact
from vdd_ros.policy.expert_matching import Behaviour, match_experts
from vdd_ros.policy.labels import Labels as Names
from vdd_ros.policy.labels import load_labels, save_labels
from vdd_ros.policy.normalization import Normalizers

Module = TypeVar('Module', bound=torch.nn.Module)

_REPORTS = 100
_JUDGED_WINDOWS = 4096
_MATCHED_WINDOWS = 8192

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
"""The metrics shown in a terminal, with their labels."""


@dataclass(frozen=True)
class _Job:
    """The common parts of all trainings in one call."""

    demonstrations: Demonstrations
    output: Path
    settings: LearningSettings
    progress: Progress
    resume: bool
    cancelled: Callable[[], bool]

    @property
    def ranks(self) -> Ranks:
        """The processes that train together: those launched by torchrun, or only this process."""
        return joined(device_of(self.settings).type)

    @property
    def sharing(self) -> Sharing:
        return Sharing(self.ranks, self.settings.accumulation)

    @property
    def contract(self) -> Contract:
        return self.demonstrations.contract

    @property
    def device(self) -> torch.device:
        return self.ranks.device or device_of(self.settings)

    @property
    def mixed(self) -> bool:
        return mixed_precision(self.settings, self.device)

    def continued(self, networks: dict[str, Any]) -> _Job:
        """Return the job for continued training with an artifact's network; not for images: the encoder changes."""
        if self.contract.arrays:
            raise ConfigurationError(
                expected='a contract without images, to learn on',
                found=', '.join(feature.name for feature in self.contract.arrays),
                remedy='learn from the beginning, with all bags',
            )
        return replace(self, settings=self.settings.continued().model_copy(update=networks))

    def compile(self, *networks: torch.nn.Module) -> None:
        """Compile networks in place, if the settings ask for it."""
        if self.settings.compiled:
            for network in networks:
                network.compile(dynamic=False)

    def generator(self) -> torch.Generator:
        return torch.Generator(self.device).manual_seed(self.settings.seed)

    def windows(
        self,
        arrays: WindowArrays,
        normalizers: Normalizers,
        augmentation: AugmentationSettings,
        vision: VisionSettings | VisionEncoder,
    ) -> AugmentedWindows:
        """Return training windows. With a trained `VisionEncoder`, images are replaced by their features."""
        images: ImageWindows | EncodedImages | None = None
        if shapes := shape_of(self.contract).images:
            settings = vision.settings if isinstance(vision, VisionEncoder) else vision
            images = ImageWindows(arrays.images, shapes, settings, self.device)
            if isinstance(vision, VisionEncoder):
                self.progress('features', 0, 1, {})
                images = images.encoded(vision, self.generator())
                self.progress('features', 1, 1, {})
        return AugmentedWindows(arrays, self.contract, normalizers, augmentation, self.device, images)

    def student_normalizers(self) -> Normalizers:
        """Return the normalizers of a student without a trained teacher."""
        return fit_normalizers(self.demonstrations.train, self.contract, self.settings.augmentation_of('student'))

    @contextlib.contextmanager
    def run(self, step: str) -> Iterator[Run | None]:
        """Open the run folder of a training on the first rank; the other ranks have none."""
        if not self.ranks.leads:
            self.ranks.wait()
            yield None
            return
        facts = {
            'devices': self.ranks.count,
            'settings': self.settings.model_dump(mode='json'),
            'contract': self.contract.name,
            'contract_hash': self.contract.hash,
            'data': self.demonstrations.record.model_dump(mode='json'),
        }
        with Run(self.output, step, facts, resume=self.resume, trackers=self.settings.trackers) as run:
            self.ranks.wait()
            yield run

    def fit(
        self, step: str, run: Run | None, learner: Learner, decay: float, iterations: int, selection: Selection
    ) -> bool:
        """Train, report progress, and load the selected weights; return False if cancelled."""

        def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
            if run is not None:
                self.progress(step, done, total, {_SHOWN[name]: metrics[name] for name in _SHOWN if name in metrics})
                run.log(done, metrics)

        ema, path = Ema(learner.module, decay), checkpoint_path(self.output)
        done = fit(
            learner,
            iterations=iterations,
            generator=self.generator(),
            ema=ema,
            checkpoint=Checkpoint(path, resume=self.ranks.first(lambda: self.resume and path.exists())),
            monitoring=Monitoring(report, selection, max(1, iterations // _REPORTS)),
            cancelled=self.cancelled,
        )
        if done < iterations and not selection.exhausted:
            return False
        if not selection.kept_at:  # resumed after the budget was used up
            selection.watch(learner.module, ema, done, {})
        selection.take(learner.module)
        return True

    def judging(self, evaluate: Evaluate) -> Evaluate:
        """Return an evaluation that the first rank computes for all ranks, so they make equal decisions."""
        return lambda module: self.ranks.first(lambda: evaluate(module))

    def written(self, write: Callable[[], Artifact]) -> Artifact:
        """Write the artifact on the first rank, and return it on all ranks."""
        artifact = write() if self.ranks.leads else None
        self.ranks.wait()
        return load_artifact(self.output) if artifact is None else artifact

    def save(
        self,
        run: Run,
        manifest: Manifest,
        module: torch.nn.Module,
        export: Callable[[], tuple[bytes | None, bytes]],
        density: Mapping[str, Any] | None = None,
    ) -> Artifact:
        name = f'{manifest.kind} export'
        self.progress(name, 0, 1, {})
        weights = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
        encoder, network = export()
        save_artifact(self.output, manifest, weights, network, density, encoder)
        artifact = load_artifact(self.output)
        # Last, so that training results are not lost if they cannot be exported or written.
        run.finish(manifest.history, manifest.metrics, manifest.verdict)
        self.progress(name, 1, 1, {})
        return artifact

    def origin(self, normalizers: Normalizers) -> dict[str, Any]:
        """Return the manifest entries about the training data."""
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
    start: str | Path | None = None,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Train a diffusion policy and write its artifact; None if cancelled, with a checkpoint for `resume`.

    The final averaged weights are used, because the held-out denoising loss is a poor predictor of the performance of a
    diffusion policy (docs/method.md). The held-out loss is reported in addition to the training loss.

    Parameters
    ----------
    demonstrations
        The training data.
    output
        The folder to write; it must not exist.
    settings
        Training settings. Default: the shipped settings for the contract (`preset`).
    progress
        Called as ``progress(step, done, total, metrics)``.
    start
        Artifact of a teacher whose training is continued with further demonstrations; network and normalisers are those
        of this teacher (`LearningSettings.continuation`).
    resume
        Continue from the checkpoint of an interrupted run.
    cancelled
        Called after every update; returns whether to stop.

    Raises
    ------
    OutputError
        The output exists.
    TrainingError
        A loss is not finite; the checkpoint has the last valid weights.
    ConfigurationError
        There is no checkpoint to resume from.

    """
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    former = None if start is None else load_artifact(start, kind='teacher', contract=demonstrations.contract)
    if former is not None:
        job = job.continued({'teacher': TeacherSettings.parse(former.manifest.network)})
    settings, training = job.settings, job.settings.teacher_training
    bench = _TeacherBench(job, former)
    teacher = bench.teacher()
    with _threads(settings.threads), job.run('teacher') as run:
        learner = SingleLoss(
            teacher, teacher.loss, bench.windows, batch=training.batch, descent=training.descent, sharing=job.sharing
        )
        evaluation = TeacherEvaluation(bench.windows, bench.held_out, settings.seed, job.device)
        selection = Selection(teacher, job.judging(evaluation), training.iterations)
        job.compile(teacher.denoiser, *_encoders(teacher.vision))
        if not job.fit('teacher', run, learner, training.ema, training.iterations, selection):
            return None
        return bench.save(run, teacher, evaluation, selection)


def distill(
    demonstrations: Demonstrations,
    teacher: str | Path | ExternalScore,
    output: str | Path,
    settings: LearningSettings | None = None,
    progress: Progress = silent,
    *,
    compare: Literal['em'] | None = None,
    simulator: Simulator | None = None,
    start: str | Path | None = None,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Distil a teacher into a student, and write its artifact; other arguments and errors as for `train_teacher`.

    The weights are chosen by `selection.Selection`. The manifest has a verdict in words.

    Parameters
    ----------
    teacher
        The artifact of a trained teacher, or the score of an external teacher (`ExternalScore`).
    compare
        `em`: also train the same mixture by likelihood only, write it to `em_path`, and compare the student with it.
    simulator
        A simulator in which teacher and student act; the teacher labels the visited windows
        (`distillation.simulation`). It sets `imitation` to 1 if the settings have 0.
    start
        Artifact of a student whose training is continued with further demonstrations; network and normalisers are those
        of this student (`LearningSettings.continuation`). Experts are matched by their behaviour, and keep number, name
        and colour. The verdict lists the changes.

    Raises
    ------
    ArtifactError
        The teacher is missing, damaged, or has another contract.

    """
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    former = None if start is None else load_artifact(start, kind='student', contract=demonstrations.contract)
    if former is not None:
        job = job.continued({'student': StudentSettings.parse(former.manifest.network)})
    if compare is not None and not resume:
        claim_output(em_path(job.output))
    source = _Source.of(teacher, job)
    if former is not None:
        _require_same_units(former.manifest.normalizers, source.normalizers)
    with _threads(job.settings.threads), job.run('student') as run:
        bench = _StudentBench(job, source.normalizers, source.vision)
        student = bench.begun(source.network) if former is None else bench.extended(former)
        settings = bench.imitating(simulator)
        labels, rounds = bench.labelling(source.network, simulator)
        learner = Distiller(student, source.score, bench.windows, settings.distillation, labels, rounds, job.sharing)
        if former is not None:
            learner.place_unused(job.generator())
        evaluation, selection = bench.selection(student, source.network)
        denoisers = [] if source.network is None else [source.network.denoiser]
        job.compile(student.trunk, *denoisers, *_encoders(student.vision))
        if not job.fit('student', run, learner, settings.student_ema, settings.distillation.iterations, selection):
            return None
        changes, names = (), Names()
        if former is not None:
            student, changes, names = bench.renumbered(student, former)
        metrics, rival = bench.figures(student, evaluation), None
        if compare is not None:
            fitted = _fit_rival(job, settings, source.artifact)
            if fitted is None:
                return None
            rival = fitted.manifest.metrics
            metrics |= {f'em_{name}': rival[name] for name in ('held_out_log_likelihood', 'energy_score')}
        verdict = (*changes, *verdict_of(metrics, selection, rival))
        made = bench.save(run, student, metrics, selection, verdict, teacher=source.hash)
        if names.experts:
            save_labels(made.path, made.hash, names)
        return made


@dataclass(frozen=True)
class _Source:
    """The source of a distillation: a trained teacher, or an external score."""

    score: Score
    """The score, in normalised units."""
    normalizers: Normalizers
    artifact: Artifact | None = None
    network: Teacher | None = None
    """Artifact and network of the teacher; None for an external score."""

    @classmethod
    def of(cls, teacher: str | Path | ExternalScore, job: _Job) -> _Source:
        """Load a teacher onto the device of a job, or convert an external score; errors as for `distill`."""
        if callable(teacher):
            normalizers = job.student_normalizers()
            return cls(score_in_normalized_units(teacher, job.contract, normalizers, job.device), normalizers)
        artifact = load_artifact(teacher, kind='teacher', contract=job.contract)
        network = restored_teacher(artifact).to(job.device)
        _reduce(network, job.mixed)
        return cls(network.score, artifact.manifest.normalizers, artifact, network)

    @property
    def hash(self) -> str | None:
        """The hash of the artifact; None for an external score."""
        return None if self.artifact is None else self.artifact.hash

    @property
    def vision(self) -> VisionEncoder | None:
        """The image encoder of the teacher; None without images or teacher."""
        return None if self.network is None else self.network.vision


def _fit_rival(job: _Job, settings: LearningSettings, teacher: Artifact | None) -> Artifact | None:
    """Fit the mixture that a student is compared with; None if cancelled."""
    output = em_path(job.output)
    return fit_em(
        job.demonstrations,
        output,
        settings,
        job.progress,
        teacher=teacher,
        resume=job.ranks.first(lambda: job.resume and run_path(output).exists()),
        cancelled=job.cancelled,
    )


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
    """Fit the mixture of the student by likelihood only (EM), with network, windows and budget of `distill`.

    A teacher only provides its normalizers and its image encoder, for comparable metrics. With ``resume``, an existing
    artifact is returned unchanged. Other arguments and errors as for `train_teacher`.
    """
    output = Path(output)
    if output.exists() and resume:
        return load_artifact(output, kind='student', contract=demonstrations.contract)
    job = _job(demonstrations, output, settings, progress, resume, cancelled)
    settings = job.settings
    with _threads(settings.threads), job.run('em') as run:
        normalizers = teacher.manifest.normalizers if teacher else job.student_normalizers()
        bench = _StudentBench(job, normalizers, restored_teacher(teacher).vision if teacher else None)
        student, budget = bench.student(), settings.distillation
        if settings.start != 'random':
            place_experts(student, bench.windows, job.generator())
        loss = likelihood_loss(student)
        learner = SingleLoss(
            student, loss, bench.windows, batch=budget.batch, descent=budget.descent, sharing=job.sharing
        )
        evaluation, selection = bench.selection(student, None)
        if not job.fit('em', run, learner, settings.student_ema, budget.iterations, selection):
            return None
        metrics = bench.figures(student, evaluation)
        return bench.save(run, student, metrics, selection, verdict_of(metrics, selection), method='EM')


def em_path(student: Path) -> Path:
    """Return the artifact path ``STUDENT.em`` of the mixture that EM fits for comparison with a student."""
    return student.with_name(f'{student.name}.em')


def evaluate(
    artifact: Artifact | str | Path, windows: WindowArrays, *, seed: int = 0, most: int = _JUDGED_WINDOWS
) -> dict[str, float]:
    """Evaluate a policy on demonstrated windows, preferably held-out ones.

    Parameters
    ----------
    artifact
        A teacher or a student.
    windows
        Windows for the contract of the policy: `Demonstrations.held_out`, or the result of `windows_of` or
        `windows_from`.
    seed
        Random seed for the selection of windows and for noise.
    most
        Maximum number of windows evaluated.

    Returns
    -------
    dict
        For a student: the metrics of `evaluation.judge`, and ``energy_score``. For a teacher: ``held_out_loss`` and
        ``energy_score``. All in normalised units.

    Raises
    ------
    ArtifactError
        The artifact is missing or damaged.
    TrainingError
        The windows do not have the shapes of the contract.

    """
    artifact = artifact if isinstance(artifact, Artifact) else load_artifact(artifact)
    images = windows.images
    windows = replace(windows_from(windows.observation, windows.action, artifact.manifest.contract), images=images)
    if len(windows) > most:
        windows = windows[np.random.default_rng(seed).choice(len(windows), most, replace=False)]
    normalizers, generator = artifact.manifest.normalizers, torch.Generator().manual_seed(seed)
    network = restored_teacher(artifact) if artifact.manifest.kind == 'teacher' else restored_student(artifact)
    seeing = Seeing(network.vision, normalizers.observation, torch.device('cpu'))
    observation, action = (
        torch.as_tensor(values, dtype=torch.float32)
        for values in (seeing.all(windows), normalizers.action.normalize(windows.action))
    )
    action, few = action.flatten(start_dim=1), min(len(action), SAMPLED_WINDOWS)
    with torch.no_grad():
        if isinstance(network, Teacher):
            teacher = network
            figures = {'held_out_loss': float(teacher.loss(observation, action, generator))}
            samples = drawn_by_teacher(teacher, observation[:few], SAMPLES, generator)
        else:
            student = network
            figures = judge(student(observation), action)
            samples = drawn(student(observation[:few]), SAMPLES, generator)
    return {**figures, 'energy_score': float(energy_score(samples, action[:few]).mean())}


def restored_teacher(artifact: Artifact) -> Teacher:
    """Return the teacher of an artifact as a torch module in evaluation mode."""
    teacher = Teacher(TeacherSettings.parse(artifact.manifest.network), shape_of(artifact.manifest.contract))
    return _with_weights(teacher, artifact)


def restored_student(artifact: Artifact) -> Student:
    """Return the student of an artifact as a torch module in evaluation mode."""
    settings = StudentSettings.parse(artifact.manifest.network)
    student = Student(settings, shape_of(artifact.manifest.contract), torch.Generator().manual_seed(0))
    return _with_weights(student, artifact)


def _with_weights(module: Module, artifact: Artifact) -> Module:
    _load_weights(module, artifact)
    return module.requires_grad_(False)


def _load_weights(module: torch.nn.Module, artifact: Artifact) -> None:
    module.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})


def shape_of(contract: Contract) -> PolicyShape:
    """Return the sizes of policies for a contract."""
    steps = contract.prediction_horizon
    size = steps * contract.action_size
    images = tuple(
        ImageShape(item.name, *item.shape, depth=item.is_distance, points=item.points is not None)
        for item in contract.arrays
    )
    return PolicyShape(contract.observation_horizon, contract.observation_size, size, steps, images)


def device_of(settings: LearningSettings) -> torch.device:
    """Return the device for training.

    Raises
    ------
    ConfigurationError
        A GPU is requested but not available.

    """
    available = torch.cuda.is_available()
    if settings.device == 'cuda' and not available:
        raise ConfigurationError(
            expected='a GPU supported by torch', found='none', remedy='set device to auto or cpu, or correct the driver'
        )
    return torch.device('cuda' if available and settings.device != 'cpu' else 'cpu')


def mixed_precision(settings: LearningSettings, device: torch.device) -> bool:
    """Return whether networks compute in bfloat16 during training, depending on settings and device."""
    if settings.precision != 'auto':
        return settings.precision == 'mixed'
    return torch.cuda.is_bf16_supported() if device.type == 'cuda' else has_bfloat16()


def _encoders(vision: VisionEncoder | None) -> Iterable[torch.nn.Module]:
    """Return the networks of an image encoder, each for images of one size."""
    return () if vision is None else vision.encoders


class _TeacherBench:
    """Training data, network and artifact of a teacher, trained from scratch or continued from an earlier teacher."""

    def __init__(self, job: _Job, former: Artifact | None) -> None:
        self._job, self._former = job, former
        augmentation, vision = job.settings.augmentation_of('teacher'), job.settings.teacher.vision
        self._normalizers = (
            fit_normalizers(job.demonstrations.train, job.contract, augmentation)
            if former is None
            else former.manifest.normalizers
        )
        self.windows = job.windows(job.demonstrations.train, self._normalizers, augmentation, vision)
        self.held_out = job.windows(job.demonstrations.held_out, self._normalizers, augmentation, vision)

    def teacher(self) -> Teacher:
        """Return a teacher before its first update."""
        job = self._job
        torch.manual_seed(job.settings.seed)
        teacher = Teacher(job.settings.teacher, shape_of(job.contract)).to(job.device)
        if self._former is None:
            teacher.denoiser.fit_axes(self.windows.action)
        else:
            _load_weights(teacher, self._former)
        _reduce(teacher, job.mixed)
        return teacher

    def save(self, run: Run | None, learned: Teacher, evaluation: TeacherEvaluation, selection: Selection) -> Artifact:
        """Write the artifact of a trained teacher."""
        job, normalizers = self._job, self._normalizers
        teacher = Teacher(learned.settings, learned.shape)
        teacher.load_state_dict(learned.state_dict())  # in float32, not compiled, in the memory of the processor
        _reduce(learned, mixed=False)
        manifest = Manifest(
            kind='teacher',
            **job.origin(normalizers),
            network=teacher.settings.model_dump(mode='json'),
            training={
                'settings': job.settings.model_dump(mode='json'),
                'sigmas': teacher.sigmas().tolist(),
                'sigma_data': teacher.denoiser.sigma_data,
            },
            metrics={**evaluation(learned), 'energy_score': evaluation.energy_score(learned)},
            history=selection.curves,
        )
        export = partial(export_teacher, teacher, normalizers)
        return job.written(lambda: job.save(run, manifest, teacher, export))


class _StudentBench:
    """Common parts of a student and EM beside it: training data, evaluation and export."""

    def __init__(self, job: _Job, normalizers: Normalizers, vision: VisionEncoder | None) -> None:
        self._job, self._normalizers, self._vision = job, normalizers, vision
        augmentation = job.settings.augmentation_of('student')
        self._settings = self._seeing()
        kept = self._vision is not None and self._settings.encoder == 'teacher'
        seen = self._vision.to(job.device) if kept else self._settings.vision
        self.windows = job.windows(job.demonstrations.train, normalizers, augmentation, seen)
        self.held_out = job.windows(job.demonstrations.held_out, normalizers, augmentation, seen)

    def _seeing(self) -> StudentSettings:
        """Return the student's settings with the encoder that it has: the teacher's, or one of its own."""
        settings, vision = self._job.settings.student, self._vision
        if not self._job.contract.arrays:
            return settings
        if vision is None:
            return settings.model_copy(update={'encoder': 'own'})
        if settings.encoder != 'own':
            return settings.model_copy(update={'vision': vision.settings})
        # Teacher and student see the same crops.
        own = settings.vision.model_copy(update={'crop': vision.settings.crop})
        return settings.model_copy(update={'vision': own})

    def student(self) -> Student:
        job = self._job
        torch.manual_seed(job.settings.seed)
        generator = torch.Generator().manual_seed(job.settings.seed)
        student = Student(self._settings, shape_of(job.contract), generator).to(job.device)
        if self._vision is not None and self._settings.encoder != 'own':
            student.vision.load_state_dict(self._vision.state_dict())
        _reduce(student, job.mixed)
        return student

    def begun(self, teacher: Teacher | None) -> Student:
        """Return a student for training from scratch."""
        job, student = self._job, self.student()
        if job.settings.start == 'teacher' and teacher is not None:
            start_from_teacher(student, teacher, self.windows, job.generator())
        if job.settings.start != 'random':
            place_experts(student, self.windows, job.generator())
        return student

    def extended(self, former: Artifact) -> Student:
        """Return a student for continued training, with additional experts."""
        job = self._job
        student = restored_student(former).requires_grad_(True)
        spare = job.settings.continuation.spare_experts if student.gating_head is not None else 0
        student = student.extended(spare).to(job.device)
        _reduce(student, job.mixed)
        return student

    @torch.no_grad()
    def renumbered(self, student: Student, former: Artifact) -> tuple[Student, tuple[str, ...], Names]:
        """Return a student with its expert numbers from before the continued training, the changes, and the names."""
        names = load_labels(former.path, former.hash, self._settings.experts)
        count = min(_MATCHED_WINDOWS, len(self._job.demonstrations.train.action))
        observation, _ = self.windows.draw(count, self._job.generator())
        student, before = student.compact(), restored_student(former).to(observation.device)
        matching = match_experts(_behaviour(before, observation), _behaviour(student, observation))
        places = matching.places
        if student.gating_head is None:
            places = tuple(place for place in places if place is not None)
        return student.arranged(places), tuple(matching.lines(names)), names

    def imitating(self, simulator: Simulator | None) -> LearningSettings:
        """Return the settings, with an imitation weight above 0 if there is a simulator."""
        settings = self._job.settings
        if simulator is None or settings.distillation.imitation:
            return settings
        distillation = settings.distillation.model_copy(update={'imitation': 1.0})
        self._job = replace(self._job, settings=settings.model_copy(update={'distillation': distillation}))
        return self._job.settings

    def labelling(
        self, teacher: Teacher | None, simulator: Simulator | None
    ) -> tuple[Labels | LabelledWindows | None, Rounds | None]:
        """Return windows labelled by the teacher, and rounds in a simulator, if the settings enable them.

        Raises
        ------
        ConfigurationError
            The settings require labels, and there is no teacher network.

        """
        if teacher is not None:
            labels = self.labels(teacher)
            return labels, None if simulator is None else self.rounds(teacher, labels, simulator)
        if imitation := self._job.settings.distillation.imitation:
            raise ConfigurationError(
                expected='imitation 0 and no simulator: an external score cannot label windows',
                found=f'imitation {imitation:g}',
                remedy='train a teacher, or omit both',
            )
        return None, None

    def rounds(self, teacher: Teacher, labels: Labels | LabelledWindows, simulator: Simulator) -> Rounds:
        """Roll out the teacher, and prepare the rounds of the student."""
        job = self._job
        if not isinstance(labels, Labels):
            raise ConfigurationError(
                expected='student.encoder teacher with a simulator',
                found=self._settings.encoder,
                remedy='leave the simulator out, or keep the encoder of the teacher',
            )
        see = Seeing(teacher.vision, self._normalizers.observation, job.device)
        rounds = Rounds(
            labels,
            simulator,
            job.settings.distillation.simulation,
            lambda draw: TorchPolicy(draw, job.contract, self._normalizers, job.device, see),
            see,
            job.settings.seed,
            lambda done, total: job.progress('rounds', done, total, {'windows': len(labels)}),
            job.ranks,
        )
        rounds.begin(teacher)
        return rounds

    def labels(self, teacher: Teacher) -> Labels | LabelledWindows | None:
        """Label windows with the teacher, if enabled in the settings."""
        job, settings = self._job, self._job.settings.distillation
        if not settings.imitation:
            return None
        if self._vision is not None and self._settings.encoder != 'teacher':
            copies = max(1, round(settings.labels.per_window))
            return LabelledWindows(teacher, self.windows, copies, job.generator())
        labels = Labels(teacher, job.settings.seed, run_path(job.output), writes=job.ranks.leads)
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
            self._job.judging(evaluation),
            settings.distillation.iterations,
            criterion='held_out_log_likelihood',
            settings=settings.selection,
        )
        return evaluation, selection

    def figures(self, student: Student, evaluation: StudentEvaluation) -> dict[str, float]:
        """Widen too narrow covariances, and return the metrics of the selected weights, on more windows."""
        _reduce(student, mixed=False)
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
        run: Run | None,
        student: Student,
        metrics: dict[str, float],
        selection: Selection,
        verdict: tuple[str, ...],
        *,
        teacher: str | None = None,
        method: str = 'distillation',
    ) -> Artifact:
        return self._job.written(
            lambda: self._write(run, student, metrics, selection, verdict, teacher=teacher, method=method)
        )

    def _write(
        self,
        run: Run,
        student: Student,
        metrics: dict[str, float],
        selection: Selection,
        verdict: tuple[str, ...],
        *,
        teacher: str | None,
        method: str,
    ) -> Artifact:
        job = self._job
        student = student.cpu().compact()
        calibration, density = calibrate(
            *(student, job.demonstrations, self._normalizers, job.settings.seed), device=job.device
        )
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
        return job.save(run, manifest, student, lambda: (None, export()), density.arrays)


def _reduce(policy: Teacher | Student, mixed: bool) -> None:
    """Choose whether networks compute in bfloat16."""
    (policy.denoiser if isinstance(policy, Teacher) else policy).mixed = mixed
    if policy.vision is not None:
        policy.vision.mixed = mixed


def _behaviour(student: Student, observation: torch.Tensor) -> Behaviour:
    """Return what every expert of a student does in some windows."""
    mixture = student(observation)
    return Behaviour(mixture.log_gating.exp().double().cpu().numpy(), mixture.mean.double().cpu().numpy())


def _require_same_units(student: Normalizers, teacher: Normalizers) -> None:
    pairs = ((student.observation, teacher.observation), (student.action, teacher.action))
    same = all(
        np.array_equal(one.offset, other.offset) and np.array_equal(one.scale, other.scale) for one, other in pairs
    )
    if not same:
        raise ConfigurationError(
            expected='a teacher that has learned on from the teacher of the student',
            found='another scale of observations or actions',
            remedy='name the teacher that the student was distilled from; it learns on with the same scales',
        )


def _job(
    demonstrations: Demonstrations,
    output: str | Path,
    settings: LearningSettings | None,
    progress: Progress,
    resume: bool,
    cancelled: Callable[[], bool],
) -> _Job:
    settings = load_settings(preset(demonstrations.contract)) if settings is None else settings
    settings = settings.suited_to(len(demonstrations.train))
    leads = joined(device_of(settings).type).leads
    progress = progress if leads else silent
    return _Job(demonstrations, claim_output(output), settings, progress, _resumable(output, resume), cancelled)


def _resumable(output: str | Path, resume: bool) -> bool:
    """Check that there is a training to resume; one killed before its first checkpoint starts again."""
    folder = run_path(Path(output))
    if resume and not folder.exists():
        raise ConfigurationError(
            expected=f'a training to resume at {folder}', found='none', remedy='start without --resume'
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
