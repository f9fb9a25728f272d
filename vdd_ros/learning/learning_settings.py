"""All settings of learning that are not the contract, and where they are read from."""

from __future__ import annotations

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
    """How the teacher is trained."""

    iterations: int = Field(8000, ge=1)
    """Updates."""
    batch: int = Field(512, ge=1)
    """Windows in an update."""
    ema: float = Field(0.999, ge=0, lt=1)
    """Decay of the averaged weights, which are what is kept."""
    descent: DescentSettings = DescentSettings(learning_rate=1e-3)
    """How Adam descends."""


class LearningSettings(Settings):
    """Everything about learning that is not the contract."""

    seed: int = Field(0, ge=0)
    """All randomness comes from it."""
    held_out: float = Field(0.1, ge=0, lt=1)
    """Share of the episodes that is kept for judging."""
    threads: int = Field(0, ge=0)
    """Cores to use; 0 for all."""
    device: Literal['auto', 'cpu', 'cuda'] = 'auto'
    """Where networks are trained; `auto`: on a GPU where there is one. A checkpoint is resumed where it was begun."""
    precision: Literal['auto', 'full', 'mixed'] = 'full'
    """`mixed`: networks compute in bfloat16 while they are trained; weights, noise scales, likelihoods and covariances
    stay in float32, and so does all of what is exported. `full`: all in float32. `auto`: mixed where the GPU or the
    processor has instructions for it. A checkpoint is resumed with the precision it was begun with."""
    compiled: bool = False
    """Whether `torch.compile` fuses what networks compute between products; a minute of compilation, on a GPU."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """Displacements that teach recovery."""
    student_augmentation: AugmentationSettings | None = None
    """Those of the student, if they are others. It acts near its experts' means and strays less than the teacher, so
    that it may trust its past motion more, and goes more ways for it (docs/method.md)."""
    teacher: TeacherSettings = TeacherSettings()
    """What the teacher is made of."""
    teacher_training: TeacherTraining = TeacherTraining()
    """How it is trained."""
    start: Literal['teacher', 'demonstrations', 'random'] = 'teacher'
    """Where the student begins. `teacher`: at the teacher's conditional mean, experts placed on what demonstrations
    deviate from it; if their trunks are equal MLPs, by the teacher's own features. `demonstrations`: experts placed on
    clusters of demonstrated actions. `random`: anywhere (the paper)."""
    student: StudentSettings = StudentSettings()
    """What the student is made of."""
    distillation: DistillerSettings = DistillerSettings()
    """How it is distilled."""
    student_ema: float = Field(0.995, ge=0, lt=1)
    """Decay of the student's averaged weights."""
    selection: SelectionSettings = SelectionSettings()
    """Which weights of a student are kept, and when it has learned enough."""
    trackers: tuple[TrackerName, ...] = ()
    """Services that are told how a training goes, beside its folder: `wandb`, `mlflow`; they must be installed."""

    @field_validator('start', mode='before')
    @classmethod
    def _rename_start(cls, value: Any) -> Any:
        if value != 'spread':
            return value
        warnings.warn('start: spread is now named start: random; rename it', FutureWarning, stacklevel=2)
        return 'random'

    def augmentation_of(self, kind: Literal['teacher', 'student']) -> AugmentationSettings:
        """Return the displacements under which one of the two is learned."""
        return self.student_augmentation or self.augmentation if kind == 'student' else self.augmentation


def preset(contract: Contract) -> str:
    """Return the name of the shipped settings that suit a contract."""
    if contract.has_robot and contract.action.space == 'joint':
        return 'learning_joint'
    return 'learning_chunked' if contract.prediction_horizon > 1 else 'learning'


def load_settings(path: str | Path | None = None) -> LearningSettings:
    """Read settings from YAML: a file, or the name of one that ships, by default ``learning``.

    Of those in ``config``, `learning` was tuned on single Cartesian steps, `learning_joint` on chunks of joint motions,
    and `learning_chunked` on chunks of Cartesian steps; `preset` chooses among them.

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, a key is unknown, or a value is out of range.

    """
    file = share_path('config', 'learning.yaml') if path is None else Path(path)
    if not file.suffix and not file.is_file():
        file = share_path('config', f'{file}.yaml')
    return LearningSettings.read(file)
