"""All training settings except the contract, and their loading."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator

from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.contract.contract import Contract
from vdd_ros.learning.augmentation import AugmentationSettings
from vdd_ros.learning.diffusion.teacher import TeacherSettings
from vdd_ros.learning.distillation.distiller import DistillerSettings
from vdd_ros.learning.mixture.student import StudentSettings
from vdd_ros.learning.runs import TrackerName
from vdd_ros.learning.selection import SelectionSettings
from vdd_ros.learning.training import DescentSettings


class TeacherTraining(Settings):
    """Settings of the training of the teacher: updates, batch, averaging and optimiser."""

    iterations: int = Field(8000, ge=1)
    """Updates."""
    batch: int = Field(512, ge=1)
    """Windows per update."""
    most_passes: float = Field(600.0, gt=0)
    """Maximum number of passes over the demonstrated windows; few windows therefore get fewer updates."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the averaged weights, which are exported."""
    descent: DescentSettings = DescentSettings(learning_rate=1e-3)
    """Optimiser (Adam) settings."""


class ContinuationSettings(Settings):
    """How the training of existing artifacts is continued with further demonstrations."""

    share: float = Field(0.6, gt=0, le=1)
    """Number of iterations, as a share of those of a training from scratch."""
    learning_rate: float = Field(1.0, gt=0, le=1)
    """Factor on the learning rates."""
    spare_experts: int = Field(4, ge=0)
    """Number of experts that are added for new behaviour. Unused experts are retired."""


class LearningSettings(Settings):
    """All training settings except the contract."""

    seed: int = Field(0, ge=0)
    """Seed of all random numbers."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of the episodes held out for evaluation."""
    threads: int = Field(0, ge=0)
    """Number of cores; 0 for all."""
    device: Literal['auto', 'cpu', 'cuda'] = 'auto'
    """Device for training; `auto`: a GPU if available. A checkpoint is resumed on its original device."""
    precision: Literal['auto', 'full', 'mixed'] = 'full'
    """`mixed`: networks compute in bfloat16 during training; weights, noise scales, likelihoods, covariances and
    exported networks are in float32. `full`: all in float32. `auto`: mixed if GPU or processor support it natively. A
    checkpoint is resumed with its original precision."""
    compiled: bool = False
    """Whether `torch.compile` fuses the operations between matrix products. On a GPU, compilation takes a minute."""
    accumulation: int = Field(1, ge=1)
    """Number of parts in which a device processes its share of a batch, one after the other, before each step. Use it
    for batches whose activations exceed the memory of the device. The result is the same up to rounding."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """Displacements from the demonstrated path."""
    student_augmentation: AugmentationSettings | None = None
    """Displacements for the student, if different. The student acts close to expert means and deviates less than the
    teacher. With less memory noise it covers more modes (docs/method.md)."""
    teacher: TeacherSettings = TeacherSettings()
    """Architecture and noise of the teacher."""
    teacher_training: TeacherTraining = TeacherTraining()
    """Training of the teacher."""
    start: Literal['teacher', 'demonstrations', 'random'] = 'teacher'
    """Initialisation of the student. `teacher`: at the conditional mean of the teacher, with experts at clusters of the
    deviations of demonstrations from it; equal MLP trunks copy the features of the teacher. `demonstrations`: experts
    at clusters of demonstrated actions. `random`: random means (the paper)."""
    student: StudentSettings = StudentSettings()
    """Architecture of the student."""
    distillation: DistillerSettings = DistillerSettings()
    """Distillation."""
    student_ema: float = Field(0.995, ge=0, lt=1)
    """Decay of the averaged weights of the student."""
    continuation: ContinuationSettings = ContinuationSettings()
    """Continued training of teacher and student (`vdd distill --from`)."""
    selection: SelectionSettings = SelectionSettings()
    """Selection of the weights of a student, and early stopping."""
    trackers: tuple[TrackerName, ...] = ()
    """Experiment trackers in addition to the run folder: `wandb`, `mlflow`. Their packages must be installed."""

    @field_validator('start', mode='before')
    @classmethod
    def _rename_start(cls, value: Any) -> Any:
        if value != 'spread':
            return value
        warnings.warn('start: spread is now named start: random; rename it', FutureWarning, stacklevel=2)
        return 'random'

    def continued(self) -> LearningSettings:
        """Return the settings for the continued training of existing artifacts."""
        training, distillation = self.teacher_training, self.distillation
        share, rate = self.continuation.share, self.continuation.learning_rate

        def less(each: TeacherTraining | DistillerSettings) -> dict[str, Any]:
            descent = each.descent.model_copy(update={'learning_rate': rate * each.descent.learning_rate})
            return {'iterations': max(1, round(share * each.iterations)), 'descent': descent}

        return self.model_copy(
            update={
                'teacher_training': training.model_copy(update=less(training)),
                'distillation': distillation.model_copy(update=less(distillation)),
            }
        )

    def suited_to(self, windows: int) -> LearningSettings:
        """Return the settings with updates limited to `most_passes` over a number of demonstrated windows."""
        training, distillation = (
            part.model_copy(update={'iterations': _updates(part.iterations, part.batch, part.most_passes, windows)})
            for part in (self.teacher_training, self.distillation)
        )
        return self.model_copy(update={'teacher_training': training, 'distillation': distillation})

    def augmentation_of(self, kind: Literal['teacher', 'student']) -> AugmentationSettings:
        """Return the displacements used for the teacher or the student."""
        return self.student_augmentation or self.augmentation if kind == 'student' else self.augmentation


def _updates(iterations: int, batch: int, most_passes: float, windows: int) -> int:
    return max(1, min(iterations, math.ceil(most_passes * windows / batch)))


def preset(contract: Contract) -> str:
    """Return the name of the shipped settings that suit a contract."""
    if contract.arrays:
        return 'learning_images'
    if contract.has_robot and contract.action.space == 'joint':
        return 'learning_joint'
    return 'learning_chunked' if contract.prediction_horizon > 1 else 'learning'


def load_settings(path: str | Path | None = None) -> LearningSettings:
    """Read settings from YAML: a file, or the name of shipped settings, by default ``learning``.

    Shipped in ``config``: `learning`, tuned for single Cartesian steps, `learning_joint`, for chunks of joint motion,
    `learning_chunked`, for chunks of Cartesian steps, and `learning_images`, for images. `preset` chooses among them.

    Raises
    ------
    ConfigurationError
        The file is missing or malformed, a key is unknown, or a value is out of range.

    """
    file = share_path('config', 'learning.yaml') if path is None else Path(path)
    if not file.suffix and not file.is_file():
        file = share_path('config', f'{file}.yaml')
    return LearningSettings.read(file)
