"""Initialisation of a student: the teacher's conditional mean, plus deviations of demonstrations for the experts.

If actions have many dimensions but few degrees of freedom (joints, chunks), randomly initialised experts are far from
the demonstrations: responsibilities are close to 0 or 1, and most experts become unused. Every expert would also have
to learn the conditional mean from scratch.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.training import DescentSettings, SingleLoss, WindowSource, fit

_DROWNING = 5.0
"""Noise in normalised units that dominates the actions, so ``D(0; sigma, s)`` is within 4 % of ``E[a|s]``."""
_UPDATES, _BATCH = 1000, 512
_WINDOWS = 4096
_ROUNDS, _TRIALS = 10, 8
_LEAST_SCALE = 0.05


def start_from_teacher(student: Student, teacher: Teacher, windows: WindowSource, generator: torch.Generator) -> None:
    """Set the mean of every expert to ``E[a|s]`` of the teacher.

    MLP trunks of equal architecture and image encoder copy the features of the teacher. Otherwise a trunk of the
    student's architecture is trained first, by least squares over the windows.
    """
    mean = teacher.denoiser.conditional_mean(_DROWNING)
    alike = student.vision is None or student.settings.encoder != 'own'
    if mean is not None and alike and _make(mean[0]) == _make(student.trunk):
        student.adopt(*mean)
        return
    head = torch.nn.Linear(student.mean_head.in_features, student.shape.action_size).to(student.mean_head.weight)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    level = head.weight.new_tensor(_DROWNING)

    def loss(observation: AnyWindows, action: Tensor, draws: Draws) -> Tensor:
        del draws  # The answer has no noise.
        with torch.no_grad():
            expected = teacher.denoiser(torch.zeros_like(action), level, teacher.see(observation))
        return (head(student.trunk(student.see(observation))) - expected).square().mean()

    learned = [student.vision] if student.vision is not None and student.settings.encoder == 'own' else []
    module = torch.nn.ModuleList([student.trunk, head, *learned])
    learner = SingleLoss(module, loss, windows, batch=_BATCH, descent=DescentSettings(learning_rate=1e-3))
    fit(learner, iterations=_UPDATES, generator=generator)
    student.adopt(student.trunk, head)


@torch.no_grad()
def place_experts(student: Student, windows: WindowSource, generator: torch.Generator) -> None:
    """Place experts at clusters of the deviations of demonstrations from the mean, with their spread and share.

    The clusters are the tightest of several trials of k-means, initialised by k-means++ (Arthur and Vassilvitskii
    2007), which includes distant modes.
    """
    observation, action = windows.draw(_WINDOWS, generator)
    deviation = action - student(observation).mean.mean(dim=-2)
    trials = [_clustered(deviation, student.settings.experts, generator) for _ in range(_TRIALS)]
    centre = min(trials, key=lambda centre: float(torch.cdist(deviation, centre).amin(dim=-1).square().sum()))
    student.place(*_summary(deviation, torch.cdist(deviation, centre).argmin(dim=-1), centre))


def _clustered(
    deviation: Float[Tensor, 'window action'], count: int, generator: torch.Generator
) -> Float[Tensor, 'expert action']:
    """Return the centres found by one trial of k-means."""
    centre = _spread_out(deviation, count, generator)
    for _ in range(_ROUNDS):
        centre, _, _ = _summary(deviation, torch.cdist(deviation, centre).argmin(dim=-1), centre)
    return centre


def _spread_out(
    deviation: Float[Tensor, 'window action'], count: int, generator: torch.Generator
) -> Float[Tensor, 'expert action']:
    chosen = deviation[torch.randint(len(deviation), (1,), generator=generator, device=generator.device)]
    while len(chosen) < count:
        distance = torch.cdist(deviation, chosen).square().amin(dim=-1)
        # Fewer distinct demonstrations than experts: the rest share places.
        weight = distance if distance.any() else torch.ones_like(distance)
        chosen = torch.cat([chosen, deviation[torch.multinomial(weight, 1, generator=generator)]])
    return chosen


def _summary(
    deviation: Float[Tensor, 'window action'], cluster: Int[Tensor, 'window'], centre: Float[Tensor, 'expert action']
) -> tuple[Float[Tensor, 'expert action'], Float[Tensor, 'expert action'], Float[Tensor, 'expert']]:
    """Return mean, standard deviation and share of each cluster; an empty one keeps its centre."""
    member = torch.nn.functional.one_hot(cluster, len(centre)).to(deviation)
    count = member.sum(dim=0)
    filled = count.clamp(min=1)[:, None]
    mean = torch.where(count[:, None] > 0, member.T @ deviation / filled, centre)
    variance = member.T @ (deviation - mean[cluster]).square() / filled
    return mean, variance.sqrt().clamp(min=_LEAST_SCALE), count.clamp(min=1) / len(deviation)


def _make(trunk: torch.nn.Module) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in trunk.state_dict().items()}
