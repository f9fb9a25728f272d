"""Where a student begins: at the teacher's conditional mean, with experts where the demonstrations deviate from it.

Experts that begin anywhere are far from the demonstrations where actions have many dimensions and few of them move
freely (the joints of an arm, chunks): responsibilities are all or nothing, and most experts die. And every expert's
mean would first have to learn what the teacher knows already.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from vdd_ros.learning.diffusion.denoiser import Denoiser
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.training import DescentSettings, SingleLoss, WindowSource, fit

_DROWNING = 5.0
"""Noise, in normalised units, beside which actions hardly differ: ``D(0; sigma, s)`` is within 4 % of ``E[a|s]``."""
_UPDATES, _BATCH = 1000, 512
_WINDOWS = 4096
_ROUNDS, _TRIALS = 10, 8
_LEAST_SCALE = 0.05


def start_from_teacher(student: Student, denoiser: Denoiser, windows: WindowSource, generator: torch.Generator) -> None:
    """Let every expert's mean be the teacher's ``E[a|s]``.

    By the teacher's own features, if the trunks are of one make and no transformers; else a trunk of the student's make
    learns it first, by least squares over the windows.
    """
    mean = denoiser.conditional_mean(_DROWNING)
    if mean is not None and _make(mean[0]) == _make(student.trunk):
        student.adopt(*mean)
        return
    head = torch.nn.Linear(student.mean_head.in_features, student.shape.action_size).to(student.mean_head.weight)
    torch.nn.init.zeros_(head.weight)
    torch.nn.init.zeros_(head.bias)
    level = head.weight.new_tensor(_DROWNING)

    def loss(observation: Tensor, action: Tensor, generator: torch.Generator) -> Tensor:
        with torch.no_grad():
            expected = denoiser(torch.zeros_like(action), level, observation)
        return (head(student.trunk(observation)) - expected).square().mean()

    module = torch.nn.ModuleList([student.trunk, head])
    learner = SingleLoss(module, loss, windows, batch=_BATCH, descent=DescentSettings(learning_rate=1e-3))
    fit(learner, iterations=_UPDATES, generator=generator)
    student.adopt(student.trunk, head)


@torch.no_grad()
def place_experts(student: Student, windows: WindowSource, generator: torch.Generator) -> None:
    """Place experts on clusters of what demonstrations deviate from the mean of the means, with their spread and share.

    The clusters are the tightest of several trials of k-means, each begun by k-means++ (Arthur and Vassilvitskii 2007),
    which leaves out no far mode.
    """
    observation, action = windows.draw(_WINDOWS, generator)
    deviation = action - student(observation).mean.mean(dim=-2)
    trials = [_clustered(deviation, student.settings.experts, generator) for _ in range(_TRIALS)]
    centre = min(trials, key=lambda centre: float(torch.cdist(deviation, centre).amin(dim=-1).square().sum()))
    student.place(*_summary(deviation, torch.cdist(deviation, centre).argmin(dim=-1), centre))


def _clustered(
    deviation: Float[Tensor, 'window action'], count: int, generator: torch.Generator
) -> Float[Tensor, 'expert action']:
    """Return the centres that one trial of k-means comes to."""
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
        # Fewer different demonstrations than experts: the rest share places.
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
