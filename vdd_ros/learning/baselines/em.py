"""EM: the same mixture of experts, fitted to the demonstrations by likelihood, without a teacher."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from vdd_ros.learning.distillation.objective import coverage_loss
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.mixture.student import Student


def likelihood_loss(student: Student) -> Callable[[Tensor, Tensor, Draws], Tensor]:
    """Return the loss `(observation, action, draws)` for `training.SingleLoss`.

    Its gradient is that of the M-step of EM, with the responsibilities of the current student held fixed: a gradient
    step is a generalised EM step (Neal and Hinton 1998).
    """

    def loss(observation: Tensor, action: Tensor, draws: Draws) -> Tensor:
        del draws  # Likelihood needs no noise.
        return coverage_loss(student(observation), action)

    return loss
