"""EM: the same mixture of experts, fitted to the demonstrations by likelihood, without a teacher."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from vdd_ros.learning.distillation.objective import coverage_loss
from vdd_ros.learning.export import export_student
from vdd_ros.learning.mixture.student import Student
from vdd_ros.policy.artifact import Manifest, save_artifact


def likelihood_loss(student: Student) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """Return the loss `(observation, action, generator)` for `training.SingleLoss`.

    Its gradient is that of EM's M-step, with the responsibilities of the current student held fixed: a gradient step
    on the one is a generalised EM step on the other (Neal and Hinton 1998).
    """

    def loss(observation: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        del generator  # Likelihood needs no noise.
        return coverage_loss(student(observation), action)

    return loss


def save_fitted(path: Path, student: Student, like: Manifest) -> None:
    """Write a mixture as the artifact of a student without a teacher; contract, data, normalizers are those of `like`.

    Raises
    ------
    OutputError
        The output is occupied.

    """
    manifest = like.model_copy(
        update={
            'kind': 'student',
            'teacher': None,
            'network': student.settings.model_dump(mode='json'),
            'training': {'method': 'EM'},
            'metrics': {'experts': student.settings.experts},
            'history': {},
            'calibration': None,
        }
    )
    weights = {name: value.detach().cpu().numpy() for name, value in student.state_dict().items()}
    save_artifact(path, manifest, weights, export_student(student.cpu(), manifest.normalizers))
