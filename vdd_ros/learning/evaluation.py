"""Evaluate a policy on held-out demonstrations without a simulator: likelihood, calibration, energy scores."""

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
from vdd_ros.learning.observation import AnyWindows
from vdd_ros.learning.training import WindowSource

_SHARES = (0.5, 0.9)
_WIDEST, _FACTORS, _DEARER = 2.0, 51, 0.25
_WINDOWS, _SEEN_WINDOWS = 1024, 128
SAMPLED_WINDOWS = 256
"""Number of windows evaluated with samples."""
SAMPLES = 16
"""Number of sampled actions per window."""
_TEACHER_SAMPLES = 8


@torch.no_grad()
def judge(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> dict[str, float]:
    """Evaluate mixtures on held-out actions.

    Returns
    -------
    dict
        ``held_out_log_likelihood`` per window, in normalised units [nat]; ``gating_entropy`` [nat]; ``experts``;
        ``usage_N``, the mean gating of each expert, and their minimum ``least_used_expert``; ``calibration_50`` and
        ``calibration_90``, see `calibration`.

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
    """Return the share of actions within the ellipsoids of nominal probability `share`.

    Each action counts for every expert with its responsibility. The expected value is then `share`, regardless of the
    overlap of experts, since ``E_a sum_z q(z|s,a) [a in E_z] = sum_z q(z|s) q(E_z|s,z)``. Assigning each action to its
    most responsible expert would be biased towards close ones. Smaller values mean too narrow covariances.
    """
    distance = mixture.covariance.mahalanobis(action[..., None, :] - mixture.mean)
    # Chi-square distribution function with the number of dimensions as degrees of freedom.
    within = torch.special.gammainc(distance.new_tensor(action.shape[-1] / 2), distance / 2) <= share
    return float((mixture.log_responsibility(action).exp() * within).sum(dim=-1).mean())


@torch.no_grad()
def widening_of(mixture: GaussianMixture, action: Float[Tensor, 'batch action']) -> float:
    """Return the factor on all standard deviations that calibrates the regions on held-out actions.

    The factor is fitted after training, like the temperature of Guo et al. (2017): means learned from few
    demonstrations have larger errors on held-out actions than on training actions. The factor is at least one, since
    regions that are too wide result from the chosen floor. It is limited so that the log-likelihood of the actions
    decreases by at most 0.25 nats.
    """
    distance = mixture.covariance.mahalanobis(action[..., None, :] - mixture.mean)
    size = action.shape[-1]
    # Chi-square distribution functions at each factor, and the remaining density.
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
    """Return ``E|X - a| - E|X - X'| / 2`` of samples X of a policy, for each action a; lower is better.

    A strictly proper score that only needs samples (Gneiting and Raftery 2007, eq. 22). It can therefore compare
    policies with and without a likelihood. The estimate is unbiased for more than one sample.
    """
    apart = samples.reshape(len(samples), *[1] * (action.ndim - 2), *samples.shape[1:]) - action
    return apart.norm(dim=-1).mean(dim=0) - _own_distance(samples) / 2


def energy_distance(
    samples: Float[Tensor, 'sample batch action'], others: Float[Tensor, 'other batch action']
) -> Float[Tensor, 'batch']:
    """Return ``2 E|X - Y| - E|X - X'| - E|Y - Y'|``; its mean is zero if and only if both distributions are equal."""
    return 2 * energy_score(samples, others).mean(dim=0) - _own_distance(others)


def _own_distance(samples: Float[Tensor, 'sample batch action']) -> Float[Tensor, 'batch']:
    """Return the mean distance between different samples."""
    count = len(samples)
    total = torch.cdist(*[samples.movedim(0, -2)] * 2, compute_mode='donot_use_mm_for_euclid_dist').sum(dim=(-1, -2))
    return total / (count * (count - 1))


@torch.no_grad()
def drawn(mixture: GaussianMixture, count: int, generator: torch.Generator) -> Float[Tensor, 'sample batch action']:
    """Sample actions from every mixture of a batch."""
    shape = (count, len(mixture.log_gating))
    options = {'generator': generator, 'dtype': mixture.mean.dtype, 'device': mixture.mean.device}
    noise = torch.randn(*shape, mixture.covariance.noise_size, **options)
    return mixture.sample(noise, torch.rand(shape, **options))


@torch.no_grad()
def drawn_by_teacher(
    teacher: Teacher,
    observation: AnyWindows,
    count: int,
    generator: torch.Generator,
    calls: int | None = None,
) -> Float[Tensor, 'sample batch action']:
    """Sample actions of a teacher for every window of a batch, with `calls` network calls (default: its own)."""
    options = {'generator': generator, 'dtype': observation.dtype, 'device': observation.device}
    shape = (teacher.noise_draws(calls), count, len(observation), teacher.shape.action_size)
    return teacher.sample(observation, torch.randn(shape, **options), calls)


@dataclass(frozen=True)
class _Sample:
    observation: AnyWindows
    action: Tensor

    @classmethod
    def of(cls, source: WindowSource, generator: torch.Generator) -> _Sample:
        """Draw windows for the evaluation; fewer windows if they have images, since encoding takes most of the time."""
        observation, action = source.draw(_WINDOWS, generator)
        count = _WINDOWS if isinstance(observation, Tensor) else _SEEN_WINDOWS
        return cls(observation[:count], action[:count])


class StudentEvaluation:
    """Evaluates a student during training, on fixed windows with fixed noise."""

    def __init__(
        self,
        learned_from: WindowSource,
        held_out: WindowSource,
        teacher: Teacher | None,
        seed: int,
        device: torch.device,
    ) -> None:
        """Select the windows, and sample actions of the teacher for some of them."""
        self._seed, self._device = seed, device
        generator = torch.Generator(device).manual_seed(seed)
        self._learned_from = _Sample.of(learned_from, generator)
        self._held_out = _Sample.of(held_out, generator)
        self._teacher: Tensor | None = None
        self.teacher_energy_score: float | None = None
        """Energy score of the teacher on the same held-out actions, as a reference for the student."""
        if teacher is not None:
            window = self._held_out.observation[:SAMPLED_WINDOWS]
            self._teacher = drawn_by_teacher(teacher, window, _TEACHER_SAMPLES, generator)
            score = energy_score(self._teacher, self._held_out.action[:SAMPLED_WINDOWS])
            self.teacher_energy_score = float(score.mean())

    @torch.no_grad()
    def __call__(self, student: Student) -> dict[str, float]:
        """Return the metrics.

        ``training_log_likelihood`` and ``held_out_log_likelihood`` [nat] with the same weights; ``calibration_50`` and
        ``calibration_90``; ``energy_score`` on held-out actions, and ``energy_distance`` to the teacher.
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
    """Evaluates a teacher during training: denoising loss of held-out windows with fixed noise."""

    def __init__(self, learned_from: WindowSource, held_out: WindowSource, seed: int, device: torch.device) -> None:
        """Select the windows."""
        self._seed, self._device = seed, device
        generator = torch.Generator(device).manual_seed(seed)
        self._parts: Mapping[str, _Sample] = {
            'training_loss': _Sample.of(learned_from, generator),
            'held_out_loss': _Sample.of(held_out, generator),
        }

    @torch.no_grad()
    def __call__(self, teacher: Teacher) -> dict[str, float]:
        """Return ``training_loss`` and ``held_out_loss`` with the same weights."""
        return {
            name: float(
                teacher.loss(part.observation, part.action, torch.Generator(self._device).manual_seed(self._seed))
            )
            for name, part in self._parts.items()
        }

    def energy_score(self, teacher: Teacher) -> float:
        """Return the energy score of the teacher on held-out actions."""
        held_out = self._parts['held_out_loss']
        generator = torch.Generator(self._device).manual_seed(self._seed)
        window = held_out.observation[:SAMPLED_WINDOWS]
        samples = drawn_by_teacher(teacher, window, _TEACHER_SAMPLES, generator)
        return float(energy_score(samples, held_out.action[:SAMPLED_WINDOWS]).mean())
