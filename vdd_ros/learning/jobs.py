"""Offline learning: demonstrations to a teacher's artifact, and that to a student's."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import Contract
from vdd_ros.data.dataset import WindowArrays
from vdd_ros.data.demonstrations import Demonstrations
from vdd_ros.learning.augmentation import AugmentationSettings, AugmentedWindows, fit_normalizers
from vdd_ros.learning.calibration import calibrate
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller
from vdd_ros.learning.distillation.selection import judge
from vdd_ros.learning.distillation.start import place_experts, start_from_teacher
from vdd_ros.learning.events import write_events
from vdd_ros.learning.export import export_denoiser, export_student
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.networks import PolicyShape
from vdd_ros.learning.training import Ema, Learner, SingleLoss, fit
from vdd_ros.policy.artifact import Artifact, Manifest, claim_output, load_artifact, normalizer_entries, save_artifact
from vdd_ros.policy.normalization import Normalizers

_HISTORY = 100
_HELD_OUT_DRAWS = 4


def train_teacher(
    demonstrations: Demonstrations,
    output: str | Path,
    settings: LearningSettings,
    progress: Progress,
    *,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Train a diffusion policy and write its artifact; None if cancelled, with a checkpoint to `resume` from.

    Raises
    ------
    OutputError
        The output is occupied.
    TrainingError
        A loss is not finite; the checkpoint keeps the last good weights.
    ConfigurationError
        There is nothing to resume from.

    """
    output = claim_output(output)
    augmentation = settings.augmentation_of('teacher')
    normalizers = fit_normalizers(demonstrations.train, demonstrations.contract, augmentation)
    device = device_of(settings)
    windows = _augmented(demonstrations.train, demonstrations, normalizers, augmentation, device)
    training = settings.teacher_training
    torch.manual_seed(settings.seed)
    teacher = Teacher(settings.teacher, _shape(demonstrations.contract)).to(device)
    learner = SingleLoss(teacher, teacher.loss, windows, batch=training.batch, descent=training.descent)
    ema = Ema(teacher, training.ema)
    with _threads(settings.threads):
        history = _fit(learner, ema, training.iterations, output, settings, 'teacher', progress, resume, cancelled)
        if history is None:
            return None
        teacher.cpu()
        held_out = _augmented(demonstrations.held_out, demonstrations, normalizers, augmentation)
        generator = torch.Generator().manual_seed(settings.seed)
        with torch.no_grad():
            entries = [teacher.loss(*held_out.draw(4096, generator), generator) for _ in range(_HELD_OUT_DRAWS)]
    manifest = Manifest(
        kind='teacher',
        **_origin(demonstrations, normalizers),
        network=settings.teacher.model_dump(mode='json'),
        training={
            'settings': settings.model_dump(mode='json'),
            'sigmas': teacher.sigmas().tolist(),
            'sigma_data': teacher.denoiser.sigma_data,
        },
        metrics={'held_out_loss': float(torch.stack(entries).mean())},
        history=history,
    )
    export = partial(export_denoiser, teacher.denoiser, normalizers, teacher.shape)
    return _save(output, manifest, teacher, export, progress)


def distill(
    demonstrations: Demonstrations,
    teacher_path: str | Path,
    output: str | Path,
    settings: LearningSettings,
    progress: Progress,
    *,
    resume: bool = False,
    cancelled: Callable[[], bool] = lambda: False,
) -> Artifact | None:
    """Distil a teacher's artifact into a student's; arguments and errors as those of `train_teacher`.

    Raises
    ------
    ArtifactError
        The teacher is absent, damaged, or of another contract.

    """
    output = claim_output(output)
    artifact = load_artifact(teacher_path, kind='teacher', contract=demonstrations.contract)
    normalizers = artifact.manifest.normalizers
    shape = _shape(demonstrations.contract)
    teacher = Teacher(TeacherSettings.parse(artifact.manifest.network), shape)
    teacher.load_state_dict({name: torch.from_numpy(value.copy()) for name, value in artifact.weights.items()})
    device = device_of(settings)
    teacher.requires_grad_(False).to(device)
    torch.manual_seed(settings.seed)
    student = Student(settings.student, shape, torch.Generator().manual_seed(settings.seed)).to(device)
    augmentation = settings.augmentation_of('student')
    windows = _augmented(demonstrations.train, demonstrations, normalizers, augmentation, device)
    with _threads(settings.threads):
        if settings.start == 'teacher':
            generator = torch.Generator(device).manual_seed(settings.seed)
            start_from_teacher(student, teacher.denoiser, windows, generator)
        if settings.start != 'spread':
            place_experts(student, windows, torch.Generator(device).manual_seed(settings.seed))
        learner = Distiller(student, teacher.score, windows, settings.distillation)
        ema = Ema(student, settings.student_ema)
        history = _fit(
            learner, ema, settings.distillation.iterations, output, settings, 'student', progress, resume, cancelled
        )
        if history is None:
            return None
        student = student.cpu().compact()
        held_out = _augmented(demonstrations.held_out, demonstrations, normalizers, augmentation)
        observation, action = held_out.draw(4096, torch.Generator().manual_seed(settings.seed))
        with torch.no_grad():
            metrics = judge(student(observation), action)
        calibration, familiarity = calibrate(student, demonstrations, normalizers, settings.seed)
    manifest = Manifest(
        kind='student',
        **_origin(demonstrations, normalizers),
        network=student.settings.model_dump(mode='json'),
        training={'settings': settings.model_dump(mode='json')},
        metrics=metrics,
        history=history,
        teacher=artifact.hash,
        calibration=calibration,
    )
    return _save(output, manifest, student, partial(export_student, student, normalizers), progress, familiarity.arrays)


def checkpoint_path(output: Path) -> Path:
    """Return where the checkpoint of an unfinished artifact is kept."""
    return output.with_name(f'{output.name}.checkpoint.safetensors')


def events_path(output: Path) -> Path:
    """Return the folder beside an artifact that tells TensorBoard how its training went."""
    return output.with_name(f'{output.name}.tensorboard')


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
            expected='a GPU that torch can use', found='none', remedy='set device to auto or cpu, or mend the driver'
        )
    return torch.device('cuda' if available and settings.device != 'cpu' else 'cpu')


def _fit(
    learner: Learner,
    ema: Ema,
    iterations: int,
    output: Path,
    settings: LearningSettings,
    step: str,
    progress: Progress,
    resume: bool,
    cancelled: Callable[[], bool],
) -> dict[str, tuple[float, ...]] | None:
    history: dict[str, list[float]] = {}
    checkpoint = checkpoint_path(output)

    def report(done: int, total: int, metrics: Mapping[str, float]) -> None:
        progress(step, done, total, metrics)
        for name, value in {'iteration': float(done), **metrics}.items():
            history.setdefault(name, []).append(value)

    done = fit(
        learner,
        iterations=iterations,
        generator=torch.Generator(device_of(settings)).manual_seed(settings.seed),
        ema=ema,
        checkpoint=checkpoint,
        resume=resume,
        report=report,
        report_every=max(1, iterations // _HISTORY),
        cancelled=cancelled,
    )
    if done < iterations:
        return None
    ema.copy_to(learner.module)
    return {name: tuple(values) for name, values in history.items()}


def _augmented(
    arrays: WindowArrays,
    demonstrations: Demonstrations,
    normalizers: Normalizers,
    settings: AugmentationSettings,
    device: torch.device | None = None,
) -> AugmentedWindows:
    return AugmentedWindows(arrays, demonstrations.contract, normalizers, settings, device)


def _shape(contract: Contract) -> PolicyShape:
    return PolicyShape(
        contract.observation_horizon, contract.observation_size, contract.prediction_horizon * contract.action_size
    )


def _origin(demonstrations: Demonstrations, normalizers: Normalizers) -> dict[str, Any]:
    """Return the entries of a manifest that say what was learned from."""
    return {
        'contract': demonstrations.contract,
        'contract_hash': demonstrations.contract.hash,
        'data': demonstrations.record,
        **normalizer_entries(normalizers),
    }


def _save(
    output: Path,
    manifest: Manifest,
    module: torch.nn.Module,
    export: Callable[[], bytes],
    progress: Progress,
    familiarity: Mapping[str, Any] | None = None,
) -> Artifact:
    progress(f'{manifest.kind} export', 0, 1, {})
    weights = {name: value.detach().cpu().numpy() for name, value in module.state_dict().items()}
    save_artifact(output, manifest, weights, export(), familiarity)
    artifact = load_artifact(output)
    # Only now: what was learned is not lost where it cannot be exported or written.
    checkpoint_path(output).unlink(missing_ok=True)
    progress(f'{manifest.kind} export', 1, 1, {})
    # A run of its own for each artifact: curves of one that was removed and made anew would be joined to these.
    write_events(events_path(output) / artifact.hash[:8], manifest.history, manifest.metrics)
    return artifact


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
