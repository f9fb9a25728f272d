"""The objective against closed-form divergences, in double precision."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import random_mixture, repeated, score_of, seeded, sigma_points
from torch.distributions import MultivariateNormal, kl_divergence

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.distillation.objective import (
    convolved_expert_loss,
    coverage_loss,
    drawn_expert_loss,
    gating_loss,
    paper_expert_loss,
)
from vdd_ros.learning.mixture.covariance import DiagonalCovariance, FullCovariance
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture

SIZE = 3
EYE = torch.eye(SIZE, dtype=torch.float64)
SIGMA = torch.tensor([0.4], dtype=torch.float64)
NOTHING = torch.zeros(1, 1, 1, dtype=torch.float64)


def one_expert(cholesky=None):
    """Return one expert whose mean and Cholesky factor ask for a gradient."""
    start = random_mixture('full', batch=1, experts=1, size=SIZE, seed=1)
    mean = start.mean.clone().requires_grad_()
    factor = (start.covariance.cholesky if cholesky is None else cholesky).clone().requires_grad_()
    return GaussianMixture(start.log_gating, mean, FullCovariance(factor))


def gradients(loss, mixture):
    """Return the gradients of a loss in the means and the lower triangles of the factors."""
    mean, factor = torch.autograd.grad(loss, [mixture.mean, mixture.covariance.cholesky])
    return torch.cat([mean.flatten(), factor.tril().flatten()])


def closed_form(mixture, teacher, student_noise, teacher_noise):
    """Return the gradient of the divergence of two Gaussians, each convolved with its noise."""
    student = MultivariateNormal(mixture.mean, mixture.covariance.dense() + student_noise**2 * EYE)
    noisy = MultivariateNormal(teacher.mean, teacher.covariance.dense() + teacher_noise**2 * EYE)
    return gradients(kl_divergence(student, noisy).sum(), mixture)


def paper_gradient(mixture, teacher):
    """Return the gradient of the paper's loss; sigma points as noise integrate it exactly."""
    noise = sigma_points(SIZE)[:, None, None]
    return gradients(paper_expert_loss(mixture, score_of(teacher), NOTHING, SIGMA, noise), mixture)


def convolved_gradient(mixture, teacher):
    """Return the gradient of the convolved loss; sigma points as noise and perturbation integrate it exactly."""
    noise, perturbation = sigma_points(2 * SIZE)[:, None, None].split(SIZE, dim=-1)
    loss = convolved_expert_loss(mixture, score_of(teacher), NOTHING, SIGMA, noise, perturbation)
    return gradients(loss, mixture)


def test_the_papers_expert_gradient_is_that_of_the_closed_form_kl():
    mixture, teacher = one_expert(), random_mixture('full', batch=1, experts=1, size=SIZE, seed=2)
    expected = closed_form(mixture, teacher, 0.0, SIGMA)
    torch.testing.assert_close(paper_gradient(mixture, teacher), expected, rtol=0, atol=1e-10)


def test_the_convolved_expert_gradient_is_that_of_the_closed_form_kl():
    mixture, teacher = one_expert(), random_mixture('full', batch=1, experts=1, size=SIZE, seed=2)
    expected = closed_form(mixture, teacher, SIGMA, SIGMA)
    torch.testing.assert_close(convolved_gradient(mixture, teacher), expected, rtol=0, atol=1e-10)


def test_the_papers_student_is_too_wide_by_sigma_and_the_convolved_one_is_not():
    teacher = random_mixture('full', batch=1, experts=1, size=SIZE, seed=2)
    wide = torch.linalg.cholesky(teacher.covariance.dense() + SIGMA**2 * EYE)
    for cholesky, biased in ((teacher.covariance.cholesky, False), (wide, True)):
        mixture = GaussianMixture(
            teacher.log_gating,
            teacher.mean.clone().requires_grad_(),
            FullCovariance(cholesky.clone().requires_grad_()),
        )
        at_rest = paper_gradient if biased else convolved_gradient
        moving = convolved_gradient if biased else paper_gradient
        torch.testing.assert_close(at_rest(mixture, teacher), torch.zeros(12, dtype=torch.float64), rtol=0, atol=1e-12)
        assert moving(mixture, teacher).abs().max() > 0.1


def test_a_student_equal_to_its_teacher_rests_whatever_the_noise():
    teacher = random_mixture('diagonal', batch=1, experts=4, size=SIZE)
    mean = teacher.mean.clone().requires_grad_()
    scale = teacher.covariance.scale.clone().requires_grad_()
    student = GaussianMixture(teacher.log_gating, mean, DiagonalCovariance(scale))
    noise = torch.randn(2, 5, 1, 4, SIZE, generator=seeded(), dtype=torch.float64)
    loss = convolved_expert_loss(student, score_of(teacher), NOTHING, SIGMA, *noise)
    for gradient in torch.autograd.grad(loss, [mean, scale]):
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), rtol=0, atol=1e-12)


def one_dimensional(seed):
    """Return a mixture of three experts over one dimension, batch size 1, that asks for gradients."""
    mixture = random_mixture('diagonal', batch=1, experts=3, size=1, seed=seed)
    leaves = [mixture.mean.requires_grad_(), mixture.covariance.scale.requires_grad_()]
    return mixture, leaves


def integrated(student, teacher, leaves):
    """Return the gradient of KL(student || teacher) by a fine sum over the line."""
    line = torch.linspace(-12, 12, 20_001, dtype=torch.float64)[:, None, None]
    log_student = student.log_prob(line)
    divergence = (log_student.exp() * (log_student - teacher.log_prob(line).detach())).sum() * 24 / 20_000
    return torch.autograd.grad(divergence, leaves)


def test_several_experts_of_the_paper_descend_the_divergence_of_the_whole_mixture():
    (student, leaves), (teacher, _) = one_dimensional(1), one_dimensional(2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(150)
    loss = sum(
        weight
        / np.sqrt(2 * np.pi)
        * paper_expert_loss(
            student, score_of(teacher), NOTHING, SIGMA, torch.full((1, 1, 3, 1), node, dtype=torch.float64)
        )
        for node, weight in zip(nodes, weights)
    )
    expected = integrated(student, teacher.convolved(SIGMA), leaves)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), expected, rtol=0, atol=1e-6)


def test_several_convolved_experts_descend_the_divergence_of_the_whole_mixture():
    (student, leaves), (teacher, _) = one_dimensional(1), one_dimensional(2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    noise, perturbation = (
        torch.tensor(part).reshape(1, -1, 1, 1).expand(-1, -1, 3, -1) for part in np.meshgrid(nodes, nodes)
    )
    weight = torch.tensor(np.outer(weights, weights).ravel() / (2 * np.pi)) * 1600
    loss = convolved_expert_loss(
        repeated(student, 1600), score_of(teacher), NOTHING, SIGMA.expand(1600), noise, perturbation, weight
    )
    expected = integrated(student.convolved(SIGMA), teacher.convolved(SIGMA), leaves)
    torch.testing.assert_close(torch.autograd.grad(loss, leaves), expected, rtol=0, atol=1e-6)


def test_experts_drawn_from_an_even_gating_give_the_gradient_of_all_of_them():
    student, leaves = one_dimensional(1)
    student = GaussianMixture(torch.full((1, 3), 1 / 3, dtype=torch.float64).log(), student.mean, student.covariance)
    teacher, _ = one_dimensional(2)
    noise, perturbation = torch.randn(2, 3, 1, 1, generator=seeded(), dtype=torch.float64)
    uniform = (torch.arange(3, dtype=torch.float64)[:, None] + 0.5) / 3
    drawn = drawn_expert_loss(student, score_of(teacher), NOTHING, SIGMA, noise, uniform, perturbation)
    all_of_them = convolved_expert_loss(
        student, score_of(teacher), NOTHING, SIGMA, noise.movedim(0, 1)[None], perturbation.movedim(0, 1)[None]
    )
    torch.testing.assert_close(torch.autograd.grad(drawn, leaves), torch.autograd.grad(all_of_them, leaves))


def test_the_gating_moves_towards_the_responsibilities_and_moves_nothing_else():
    student, leaves = one_dimensional(1)
    logits = student.log_gating.clone().requires_grad_()
    student = GaussianMixture(logits.log_softmax(dim=-1), student.mean, student.covariance)
    action = torch.tensor([[0.7]], dtype=torch.float64)
    loss = gating_loss(student, action)
    assert torch.autograd.grad(loss, leaves, allow_unused=True, retain_graph=True) == (None, None)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = student.log_gating.exp() - student.log_responsibility(action).exp()
    torch.testing.assert_close(gradient, expected.detach())


def test_coverage_is_the_negative_log_likelihood():
    student = random_mixture()
    action = torch.zeros(3, 3, dtype=torch.float64)
    torch.testing.assert_close(coverage_loss(student, action), -student.log_prob(action).mean())


@pytest.mark.parametrize(
    ('kind', 'progress', 'expected'),
    [
        ('fixed', 0.5, [0.1, 0.1, 0.1]),
        ('uniform', 0.5, [0.1, 0.5, 0.9]),
        ('log_uniform', 0.5, [0.1, 0.3, 0.9]),
        ('narrowing', 0.0, [0.1, 0.3, 0.9]),
        ('narrowing', 0.5, [0.1, 0.3 / 3**0.25, 0.9 / 3**0.5]),
        ('narrowing', 1.0, [0.1, 0.03**0.5, 0.3]),
        ('annealed', 0.0, [0.9, 0.9, 0.9]),
        ('annealed', 0.5, [0.3, 0.3, 0.3]),
        ('annealed', 1.0, [0.1, 0.1, 0.1]),
    ],
)
def test_noise_levels_follow_their_kind(kind, progress, expected):
    uniform = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    sigma = NoiseLevels(kind=kind, low=0.1, high=0.9, end=0.3).sigma(uniform, torch.tensor(progress))
    torch.testing.assert_close(sigma, torch.tensor(expected, dtype=torch.float64))


def test_given_levels_are_drawn_evenly():
    uniform = torch.tensor([0.0, 0.49, 0.51, 1.0])
    levels = NoiseLevels(kind='levels', levels=(0.25, 0.5))
    assert levels.sigma(uniform, torch.tensor(0.0)).tolist() == [0.25, 0.25, 0.5, 0.5]


@pytest.mark.parametrize(
    ('settings', 'message'),
    [
        ({'low': 2.0}, 'low 2.0 exceeds high 1.0'),
        ({'end': 2.0}, r'end 2.0 lies outside of \[0.05, 1.0\]'),
        ({'kind': 'levels'}, 'levels'),
        ({'levels': (0.1,)}, 'levels'),
    ],
)
def test_noise_levels_that_contradict_themselves_are_refused(settings, message):
    with pytest.raises(ConfigurationError, match=message):
        NoiseLevels.parse(settings)
