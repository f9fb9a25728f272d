"""What a policy is worth without a simulator, by demonstrations it never saw: likelihood, regions, energy scores."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.training import WindowSource

_SHARES = (0.5, 0.9)
_WIDEST, _FACTORS, _DEARER = 2.0, 51, 0.25
_WINDOWS = 1024
SAMPLED_WINDOWS = 256
"""Windows that are judged by samples."""
SAMPLES = 16
"""Actions that are sampled in each."""
_TEACHER_SAMPLES = 8


@torch.no_grad()
def judge(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> dict[str, float]:
    """Judge mixtures by the held-out actions that they should have foretold.

    Returns
    -------
    dict
        ``held_out_log_likelihood`` for each window, in normalised units [nat]; ``gating_entropy`` [nat]; ``experts``;
        ``usage_N``, the mean gating of each expert, and the least of them, ``least_used_expert``;
        ``calibration_50`` and ``calibration_90``, see `calibration`.

    """
    usage = mixture.log_gating.exp().mean(dim=0).tolist()
    return {
        'held_out_log_likelihood': float(mixture.log_prob(action).mean()),
        'gating_entropy': float(mixture.gating_entropy().mean()),
        'experts': float(len(usage)),
        'least_used_expert': min(usage),
        **{f'calibration_{round(100 * share)}': calibration(mixture, action, share) for share in _SHARES},
        **{f'usage_{expert}': share for expert, share in enumerate(usage)},
    }


def calibration(mixture: GaussianMixture, action: Float[Tensor, 'batch action'], share: float) -> float:
    """Return which share of the actions lies in the ellipsoids that should hold `share` of them.

    Actions are counted for every expert by its responsibility. Then the expected value is `share` itself, however
    much the experts overlap, since ``E_a sum_z q(z|s,a) [a in E_z] = sum_z q(z|s) q(E_z|s,z)``; counting each action
    for its most responsible expert alone would favour near ones. Less means covariances that are too narrow.
    """
    distance = mixture.covariance.mahalanobis(action[..., None, :] - mixture.mean)
    # The distribution function of chi-square with as many degrees of freedom as dimensions.
    within = torch.special.gammainc(distance.new_tensor(action.shape[-1] / 2), distance / 2) <= share
    return float((mixture.log_responsibility(action).exp() * within).sum(dim=-1).mean())


@torch.no_grad()
def widening_of(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> float:
    """Return the factor on all standard deviations by which regions hold what they should of held-out actions.

    One number, fitted after learning (as the temperature of Guo et al. 2017): means that were learned from few
    demonstrations are off in others by more than the residuals of those say. Never below one, since regions are too
    wide by a floor that was chosen; never so far that the actions get less likely by more than a quarter of a nat.
    """
    distance = mixture.covariance.mahalanobis(action[..., None, :] - mixture.mean)
    size = action.shape[-1]
    # The distribution functions of chi-square at each factor, and what is left of the density.
    half, base = distance.new_tensor(size / 2), mixture.log_gating - 0.5 * mixture.covariance.log_determinant()
    found = []
    for factor in torch.linspace(1.0, _WIDEST, _FACTORS, dtype=torch.float64).tolist():
        shrunk = distance / factor**2 / 2
        joint = base - shrunk - size * math.log(factor)
        responsibility, within = joint.softmax(dim=-1), torch.special.gammainc(half, shrunk)
        missed = sum(abs(float((responsibility * (within <= share)).sum(dim=-1).mean()) - share) for share in _SHARES)
        found.append((missed, factor, float(joint.logsumexp(dim=-1).mean())))
    likeliest = max(likelihood for _, _, likelihood in found)
    return min(each for each in found if each[2] >= likeliest - _DEARER)[1]


def energy_score(
    samples: Float[Tensor, 'sample batch action'], action: Float[Tensor, '*draw batch action']
) -> Float[Tensor, '*draw batch']:
    """Return ``E|X - a| - E|X - X'| / 2`` of samples X of a policy, for each action a; less is better.

    A strictly proper score that needs samples alone (Gneiting and Raftery 2007, eq. 22), so that it compares policies
    with and without a likelihood. The estimate has no bias at any number of samples above one.
    """
    apart = samples.reshape(len(samples), *[1] * (action.ndim - 2), *samples.shape[1:]) - action
    return apart.norm(dim=-1).mean(dim=0) - _own_distance(samples) / 2


def energy_distance(
    samples: Float[Tensor, 'sample batch action'], others: Float[Tensor, 'other batch action']
) -> Float[Tensor, 'batch']:
    """Return ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``, zero if and only if both are samples of one distribution."""
    return 2 * energy_score(samples, others).mean(dim=0) - _own_distance(others)


def _own_distance(samples: Float[Tensor, 'sample batch action']) -> Float[Tensor, 'batch']:
    """Return the mean distance of two different samples."""
    count = len(samples)
    total = torch.cdist(*[samples.movedim(0, -2)] * 2, compute_mode='donot_use_mm_for_euclid_dist').sum(dim=(-1, -2))
    return total / (count * (count - 1))


@torch.no_grad()
def drawn(mixture: GaussianMixture, count: int, generator: torch.Generator) -> Float[Tensor, 'sample batch action']:
    """Draw actions of every mixture of a batch."""
    shape = (count, len(mixture.log_gating))
    options = {'generator': generator, 'dtype': mixture.mean.dtype, 'device': mixture.mean.device}
    noise = torch.randn(*shape, mixture.covariance.noise_size, **options)
    return mixture.sample(noise, torch.rand(shape, **options))


@torch.no_grad()
def drawn_by_teacher(
    teacher: Teacher,
    observation: Float[Tensor, 'batch horizon obs'],
    count: int,
    generator: torch.Generator,
    calls: int | None = None,
) -> Float[Tensor, 'sample batch action']:
    """Draw actions of a teacher for every window of a batch, by so many network calls, or as many as it ships with."""
    options = {'generator': generator, 'dtype': observation.dtype, 'device': observation.device}
    shape = (teacher.noise_draws(calls), count, len(observation), teacher.shape.action_size)
    return teacher.sample(observation, torch.randn(shape, **options), calls)


@dataclass(frozen=True)
class _Sample:
    observation: Tensor
    action: Tensor


class StudentEvaluation:
    """Evaluates a student while it learns, on the same windows and with the same noise every time."""

    def __init__(
        self,
        learned_from: WindowSource,
        held_out: WindowSource,
        teacher: Teacher | None,
        seed: int,
        device: torch.device,
    ) -> None:
        """Draw the windows that are evaluated, and the teacher's actions in some of them."""
        self._seed, self._device = seed, device
        generator = torch.Generator(device).manual_seed(seed)
        self._learned_from = _Sample(*learned_from.draw(_WINDOWS, generator))
        self._held_out = _Sample(*held_out.draw(_WINDOWS, generator))
        self._teacher: Tensor | None = None
        self.teacher_energy_score: float | None = None
        """That of the teacher on the same held-out actions: what a student that equals it would have."""
        if teacher is not None:
            window = self._held_out.observation[:SAMPLED_WINDOWS]
            self._teacher = drawn_by_teacher(teacher, window, _TEACHER_SAMPLES, generator)
            score = energy_score(self._teacher, self._held_out.action[:SAMPLED_WINDOWS])
            self.teacher_energy_score = float(score.mean())

    @torch.no_grad()
    def __call__(self, student: Student) -> dict[str, float]:
        """Return the figures.

        ``training_log_likelihood`` and ``held_out_log_likelihood`` [nat] under the same weights; ``calibration_50`` and
        ``calibration_90``; ``energy_score`` against held-out actions, and ``energy_distance`` to the teacher.
        """
        part, held_out = self._learned_from, self._held_out
        mixture = student(held_out.observation)
        figures = {
            'training_log_likelihood': float(student(part.observation).log_prob(part.action).mean()),
            'held_out_log_likelihood': float(mixture.log_prob(held_out.action).mean()),
            **{f'calibration_{round(100 * share)}': calibration(mixture, held_out.action, share) for share in _SHARES},
        }
        generator = torch.Generator(self._device).manual_seed(self._seed)
        samples = drawn(student(held_out.observation[:SAMPLED_WINDOWS]), SAMPLES, generator)
        figures['energy_score'] = float(energy_score(samples, held_out.action[:SAMPLED_WINDOWS]).mean())
        if self._teacher is not None:
            figures['energy_distance'] = float(energy_distance(samples, self._teacher).mean())
        return figures


class TeacherEvaluation:
    """Evaluates a teacher while it learns: the denoising loss of held-out windows at the same noise every time."""

    def __init__(self, learned_from: WindowSource, held_out: WindowSource, seed: int, device: torch.device) -> None:
        """Draw the windows that are evaluated."""
        self._seed, self._device = seed, device
        generator = torch.Generator(device).manual_seed(seed)
        self._parts: Mapping[str, _Sample] = {
            'training_loss': _Sample(*learned_from.draw(_WINDOWS, generator)),
            'held_out_loss': _Sample(*held_out.draw(_WINDOWS, generator)),
        }

    @torch.no_grad()
    def __call__(self, teacher: Teacher) -> dict[str, float]:
        """Return ``training_loss`` and ``held_out_loss`` under the same weights."""
        return {
            name: float(
                teacher.loss(part.observation, part.action, torch.Generator(self._device).manual_seed(self._seed))
            )
            for name, part in self._parts.items()
        }

    def energy_score(self, teacher: Teacher) -> float:
        """Return the energy score of the teacher's actions against held-out ones."""
        held_out = self._parts['held_out_loss']
        generator = torch.Generator(self._device).manual_seed(self._seed)
        window = held_out.observation[:SAMPLED_WINDOWS]
        samples = drawn_by_teacher(teacher, window, _TEACHER_SAMPLES, generator)
        return float(energy_score(samples, held_out.action[:SAMPLED_WINDOWS]).mean())
