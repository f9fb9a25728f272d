"""Gaussian mixtures against brute force."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
import torch
from oracles import random_mixture, seeded, sigma_points
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from vdd_ros.learning.mixture.covariance import FullCovariance, factorized, factorized_by_entries
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture

FORMS = ['diagonal', 'full', 'low_rank']


def brute_force(mixture):
    """Return the same mixture as a torch distribution over dense matrices."""
    experts = MultivariateNormal(mixture.mean, mixture.covariance.dense())
    return MixtureSameFamily(Categorical(logits=mixture.log_gating), experts)


@pytest.mark.parametrize('form', FORMS)
def test_log_prob_is_that_of_brute_force_with_and_without_sample_axes(form):
    mixture = random_mixture(form)
    action = torch.randn(5, 3, 3, generator=seeded(1), dtype=torch.float64)
    expected = brute_force(mixture).log_prob(action)
    torch.testing.assert_close(mixture.log_prob(action), expected, rtol=1e-11, atol=1e-11)
    torch.testing.assert_close(mixture.log_prob(action[0]), expected[0], rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize('form', FORMS)
def test_score_is_the_gradient_of_log_prob(form):
    mixture = random_mixture(form)
    action = torch.randn(5, 3, 3, generator=seeded(1), dtype=torch.float64, requires_grad=True)
    (expected,) = torch.autograd.grad(mixture.log_prob(action).sum(), action)
    torch.testing.assert_close(mixture.score(action), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize('form', FORMS)
@pytest.mark.parametrize('samples', [(), (5,)])
def test_gradients_of_the_density_are_those_of_the_dense_matrix(form, samples):
    """A form may write its gradient down instead of leaving it to automatic differentiation."""
    mixture = random_mixture(form)
    leaves = [mixture.mean, *(getattr(mixture.covariance, field.name) for field in fields(mixture.covariance))]
    for leaf in leaves:
        leaf.requires_grad_()
    action = torch.randn(*samples, 3, 3, generator=seeded(3), dtype=torch.float64, requires_grad=True)
    weight = torch.rand(*samples, 3, 4, generator=seeded(4), dtype=torch.float64)
    dense = MultivariateNormal(mixture.mean, mixture.covariance.dense())
    expected = torch.autograd.grad((weight * dense.log_prob(action[..., None, :])).sum(), [action, *leaves])
    found = torch.autograd.grad((weight * mixture.log_joint(action)).sum(), [action, *leaves])
    for one, other in zip(found, expected):
        torch.testing.assert_close(one, other.tril() if form == 'full' and one.ndim == 4 else other)


@pytest.mark.parametrize('form', FORMS)
def test_entropy_determinant_and_variance_are_those_of_the_dense_matrix(form):
    mixture = random_mixture(form)
    dense = mixture.covariance.dense()
    torch.testing.assert_close(mixture.covariance.entropy(), MultivariateNormal(mixture.mean, dense).entropy())
    torch.testing.assert_close(mixture.covariance.log_determinant(), dense.logdet())
    torch.testing.assert_close(mixture.covariance.variance(), dense.diagonal(dim1=-2, dim2=-1))


@pytest.mark.parametrize('form', FORMS)
def test_a_convolved_mixture_is_that_with_sigma_squared_added_to_every_covariance(form):
    mixture = random_mixture(form)
    sigma = torch.tensor([0.1, 0.5, 2.0], dtype=torch.float64)
    widened = mixture.covariance.dense() + sigma[:, None, None, None] ** 2 * torch.eye(3, dtype=torch.float64)
    torch.testing.assert_close(mixture.convolved(sigma).covariance.dense(), widened, rtol=1e-12, atol=1e-12)
    assert torch.equal(mixture.convolved(sigma).mean, mixture.mean)


@pytest.mark.parametrize('form', FORMS)
def test_samples_of_an_expert_have_its_mean_and_covariance(form):
    mixture = random_mixture(form)
    noise = sigma_points(mixture.covariance.noise_size)[:, None, None, :]
    sample = mixture.sample_experts(noise.expand(-1, 3, 4, -1))
    deviation = sample - mixture.mean
    torch.testing.assert_close(sample.mean(dim=0), mixture.mean)
    covariance = torch.einsum('sbei,sbej->beij', deviation, deviation) / len(sample)
    torch.testing.assert_close(covariance, mixture.covariance.dense())


@pytest.mark.parametrize('form', FORMS)
def test_what_a_sample_deviates_by_is_that_of_its_own_expert(form):
    mixture = random_mixture(form)
    uniform = torch.rand(7, 3, generator=seeded(1), dtype=torch.float64)
    noise = torch.randn(7, 3, mixture.covariance.noise_size, generator=seeded(2), dtype=torch.float64)
    chosen = mixture.choose(uniform)
    assert chosen.unique().numel() > 1
    of_all = mixture.sample_experts(noise[..., None, :].expand(-1, -1, 4, -1))
    expected = of_all.gather(-2, chosen[..., None, None].expand(-1, -1, 1, 3))[..., 0, :]
    torch.testing.assert_close(mixture.sample(noise, uniform), expected, rtol=1e-14, atol=1e-14)
    dense = mixture.covariance.dense().expand(7, -1, -1, -1, -1)
    picked = dense.gather(2, chosen[..., None, None, None].expand(-1, -1, 1, 3, 3))[:, :, 0]
    torch.testing.assert_close(mixture.covariance.of(chosen).dense(), picked, rtol=1e-14, atol=1e-14)


def test_samples_choose_experts_in_proportion_to_the_gating():
    mixture = random_mixture(batch=1)
    count = 100_000
    uniform = ((torch.arange(count, dtype=torch.float64) + 0.5) / count)[:, None]
    chosen = mixture.choose(uniform)
    share = torch.bincount(chosen[:, 0], minlength=4) / count
    torch.testing.assert_close(share.double(), mixture.log_gating[0].exp(), rtol=0, atol=2 / count)
    noise = torch.zeros(count, 1, 3, dtype=torch.float64)
    assert torch.equal(mixture.sample(noise, uniform), mixture.mean_of_expert(chosen))


def test_responsibilities_sum_to_one_and_follow_from_bayes():
    mixture = random_mixture()
    action = torch.randn(6, 3, 3, generator=seeded(2), dtype=torch.float64)
    responsibility = mixture.log_responsibility(action).exp()
    torch.testing.assert_close(responsibility.sum(dim=-1), torch.ones(6, 3, dtype=torch.float64))
    expected = mixture.log_joint(action).exp() / mixture.log_prob(action).exp()[..., None]
    torch.testing.assert_close(responsibility, expected)


@pytest.mark.parametrize('form', FORMS)
def test_nothing_breaks_a_million_deviations_away_in_single_precision(form):
    mixture = random_mixture(form)
    covariance = type(mixture.covariance)(*(part.float() for part in vars(mixture.covariance).values()))
    single = GaussianMixture(mixture.log_gating.float(), mixture.mean.float(), covariance)
    action = torch.full((3, 3), 1e6, requires_grad=True)
    log_prob = single.log_prob(action)
    (gradient,) = torch.autograd.grad(log_prob.sum(), action)
    expected = mixture.log_prob(action.detach().double())
    assert torch.equal(log_prob.exp(), torch.zeros(3))
    torch.testing.assert_close(log_prob.double(), expected, rtol=1e-4, atol=0)
    assert gradient.isfinite().all()
    torch.testing.assert_close(single.log_responsibility(action).exp().sum(dim=-1), torch.ones(3))


def test_a_distance_beyond_single_precision_leaves_responsibilities_and_gradients_finite():
    cholesky = torch.eye(3).expand(2, 3, 3).clone()
    cholesky[:, 1:, 0] = -1.0
    cholesky = (cholesky * torch.tensor([1e-12, 1e-12, 1e-12])).requires_grad_()
    gating = torch.tensor([0.25, 0.75]).log()
    mixture = GaussianMixture(gating, torch.zeros(2, 3), FullCovariance(cholesky))
    action = torch.full((3,), 1e9)
    assert torch.isinf(mixture.covariance.mahalanobis(action - mixture.mean)).all()
    torch.testing.assert_close(mixture.log_responsibility(action).exp(), torch.tensor([0.5, 0.5]))
    mixture.log_prob(action).backward()
    assert cholesky.grad.isfinite().all()


def test_selecting_experts_keeps_their_densities_exactly_and_renormalises_the_gating():
    mixture = random_mixture()
    kept = torch.tensor([0, 2])
    action = torch.randn(3, 3, generator=seeded(3), dtype=torch.float64)
    joint = mixture.log_joint(action)[:, kept]
    total = mixture.log_gating[:, kept].logsumexp(dim=-1, keepdim=True)
    torch.testing.assert_close(mixture.select(kept).log_joint(action), joint - total, rtol=1e-14, atol=1e-14)


def test_the_mode_is_the_expert_mean_of_highest_density():
    mixture = random_mixture()
    density = torch.stack([mixture.log_prob(mixture.mean[:, expert]) for expert in range(4)])
    for batch, expert in enumerate(density.argmax(dim=0)):
        assert torch.equal(mixture.mode()[batch], mixture.mean[batch, expert])


def test_the_gating_entropy_of_an_even_gating_is_log_of_the_experts_and_of_a_sure_one_zero():
    mixture = random_mixture(batch=2)
    gating = torch.tensor([[0.25] * 4, [1.0, 0.0, 0.0, 0.0]], dtype=torch.float64).log()
    entropy = GaussianMixture(gating, mixture.mean, mixture.covariance).gating_entropy()
    torch.testing.assert_close(entropy, torch.tensor([math.log(4), 0.0], dtype=torch.float64))


def test_a_covariance_that_is_singular_by_rounding_alone_has_a_factor():
    """A wide one of many dimensions in float32: the smallest eigenvalue is below the rounding errors of the largest."""
    half = torch.randn(50, 84, 42, generator=seeded(0))
    narrow = half @ half.mT + 1e-7 * torch.eye(84)
    assert (torch.linalg.cholesky_ex(narrow).info != 0).all()
    narrow.requires_grad_()
    found = factorized(narrow)
    assert (found @ found.mT - narrow).abs().max() < 1e-4 * narrow.max()
    (gradient,) = torch.autograd.grad(found.square().sum(), narrow)
    assert gradient.isfinite().all()

    sound = torch.eye(84).expand(2, 84, 84)
    torch.testing.assert_close(factorized(sound), sound, rtol=0, atol=0)
    mixed = torch.stack([torch.eye(84), -torch.eye(84)])
    assert factorized(mixed)[0].equal(torch.eye(84)) and factorized(mixed)[1].isnan().all()


@pytest.mark.parametrize('size', [1, 2, 3])
def test_tiny_matrices_factorised_by_entries_have_the_factors_of_torch(size: int) -> None:
    """As on a GPU: factor, gradient, a matrix that is singular by rounding, and one without a factor."""
    half = torch.randn(50, size, 2 * size, generator=seeded(size), dtype=torch.float64)
    matrix = (half @ half.mT).requires_grad_()
    weight = torch.randn(50, size, size, generator=seeded(9), dtype=torch.float64).tril()
    found, expected = factorized_by_entries(matrix), torch.linalg.cholesky(matrix)
    torch.testing.assert_close(found, expected)
    # Torch spreads the gradient over both triangles.
    gradients = [torch.autograd.grad((weight * factor).sum(), matrix)[0] for factor in (found, expected)]
    torch.testing.assert_close(*(gradient + gradient.mT for gradient in gradients))

    ones = torch.ones(1, size, size)
    factor = factorized_by_entries(ones)
    assert factor.isfinite().all() and (factor.diagonal(dim1=-2, dim2=-1) > 0).all()
    torch.testing.assert_close(factor @ factor.mT, ones, rtol=0, atol=1e-5)
    assert factorized_by_entries(-torch.eye(size)).isnan().any()
