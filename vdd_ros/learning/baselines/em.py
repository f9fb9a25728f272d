"""EM: the same mixture of experts, fitted to the demonstrations by likelihood, without a teacher."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from vdd_ros.learning.distillation.objective import coverage_loss
from vdd_ros.learning.mixture.student import Student


def likelihood_loss(student: Student) -> Callable[[Tensor, Tensor, torch.Generator], Tensor]:
    """Return the loss `(observation, action, generator)` for `training.SingleLoss`.

    Its gradient is that of EM's M-step, with the responsibilities of the current student held fixed: a gradient step
    on the one is a generalised EM step on the other (Neal and Hinton 1998).
    """

    def loss(observation: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        del generator  # Likelihood needs no noise.
        return coverage_loss(student(observation), action)

    return loss
