"""Noise levels, denoisers, the loss and the samplers against closed forms of Gaussian data."""

from __future__ import annotations

import functools
import itertools
import math

import pytest
import torch
from oracles import random_mixture, repeated, seeded, sigma_points
from torch import Tensor, nn

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.learning.diffusion import samplers
from vdd_ros.learning.diffusion.denoiser import Denoiser, edm, epsilon, flow, score_of
from vdd_ros.learning.diffusion.loss import denoising_loss
from vdd_ros.learning.diffusion.noise import (
    alphabar,
    ddpm_grid,
    flow_grid,
    karras_grid,
    loglogistic,
    lognormal,
    loguniform,
    sigma_of_alphabar,
)
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import DescentSettings, SingleLoss, Windows, fit

SHAPE = PolicyShape(observation_horizon=1, observation_size=1, action_size=2)
NOTHING = torch.zeros(1, 1, 1, dtype=torch.float64)
MEAN = torch.tensor([0.5, -1.0], dtype=torch.float64)
SCALE = torch.tensor([0.8, 0.3], dtype=torch.float64)


def gaussian(noisy, sigma, observation):
    """Denoise a Gaussian of MEAN and SCALE, exactly."""
    sigma = torch.as_tensor(sigma, dtype=noisy.dtype)[..., None]
    return MEAN + SCALE**2 / (SCALE**2 + sigma**2) * (noisy - MEAN)


def followed(noisy, sigma):
    """Follow the probability flow of that Gaussian from sigma down to 0, exactly."""
    return MEAN + SCALE / (SCALE**2 + sigma**2).sqrt() * (noisy - MEAN)


def standard(*shape, seed=0):
    """Draw standard normal numbers in double precision."""
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float64)


class Counted:
    """A denoiser that counts how often it is called."""

    calls = 0

    def __call__(self, noisy, sigma, observation):
        """Denoise."""
        self.calls += 1
        return gaussian(noisy, sigma, observation)


@pytest.mark.parametrize(('sampler', 'order'), [(samplers.euler, 1), (samplers.heun, 2)])
def test_a_sampler_converges_with_its_order(sampler, order):
    start = 3 * standard(16, 2)
    counts = [64, 128, 256]
    errors = []
    for count in counts:
        sigmas = torch.linspace(3.0, 0.1, count + 1, dtype=torch.float64)
        reached = sampler(gaussian, start, sigmas, NOTHING)
        exact = MEAN + ((SCALE**2 + 0.1**2) / (SCALE**2 + 3.0**2)).sqrt() * (start - MEAN)
        errors.append((reached - exact).abs().max().log2().item())
    slopes = [errors[0] - errors[1], errors[1] - errors[2]]
    assert slopes == pytest.approx([order, order], abs=0.15)


def test_a_sampler_makes_the_stated_number_of_calls():
    start = standard(4, 2)
    for name, calls in (('euler', 16), ('heun', 15), ('ancestral', 16)):
        teacher = Teacher(TeacherSettings(sampler=name, calls=calls, trunk=TrunkSettings(width=4)), SHAPE)
        denoise = Counted()
        noise = [standard(16, 4, 2)] if name == 'ancestral' else []
        getattr(samplers, name)(denoise, start, teacher.sigmas(), NOTHING, *noise)
        assert denoise.calls == calls


def test_clean_actions_are_bounded_while_sampling():
    reached = samplers.euler(gaussian, 9 * standard(64, 2), karras_grid(8, 0.01, 9.0), NOTHING, bound=0.25)
    assert reached.abs().max() <= 0.25


def test_euler_on_ddpm_levels_is_ddim():
    count = 8
    signal = alphabar('cosine', count)
    scaled = standard(5, 2)
    state = scaled
    for step in reversed(range(count)):
        sigma = sigma_of_alphabar(signal[step])
        unscaled = state / signal[step].sqrt()
        predicted = (unscaled - gaussian(unscaled, sigma, NOTHING)) / sigma
        clean = (state - (1 - signal[step]).sqrt() * predicted) / signal[step].sqrt()
        before = signal[step - 1] if step else torch.ones((), dtype=torch.float64)
        state = before.sqrt() * clean + (1 - before).sqrt() * predicted  # Song et al. 2021, eq. 12
    ours = samplers.euler(gaussian, scaled / signal[-1].sqrt(), ddpm_grid('cosine', count, count), NOTHING)
    torch.testing.assert_close(ours, state, rtol=1e-9, atol=1e-9)


def test_ancestral_on_ddpm_levels_is_ddpm():
    count = 8
    signal = alphabar('linear', count)
    scaled, noise = standard(5, 2), standard(count, 5, 2, seed=1)
    state = scaled
    for step, unit in zip(reversed(range(count)), noise):
        before = signal[step - 1] if step else torch.ones((), dtype=torch.float64)
        unscaled = state / signal[step].sqrt()
        clean = gaussian(unscaled, sigma_of_alphabar(signal[step]), NOTHING)
        beta = 1 - signal[step] / before
        mean = before.sqrt() * beta * clean + (1 - beta).sqrt() * (1 - before) * state
        variance = (1 - before) / (1 - signal[step]) * beta  # Ho et al. 2020, eq. 7
        state = mean / (1 - signal[step]) + variance.sqrt() * unit
    grid = ddpm_grid('linear', count, count)
    ours = samplers.ancestral(gaussian, scaled / signal[-1].sqrt(), grid, NOTHING, noise)
    torch.testing.assert_close(ours, state, rtol=1e-9, atol=1e-9)


def test_a_score_means_the_same_for_both_processes():
    """Of a Gaussian, the perfect noise prediction of DDPM and the perfect denoiser of EDM give one score."""
    sigma = torch.tensor([0.2, 1.5], dtype=torch.float64)
    action = standard(2, 2)
    signal = 1 / (1 + sigma**2)
    scaled = action * signal.sqrt()[:, None]
    variance = signal[:, None] * SCALE**2 + 1 - signal[:, None]
    noise = (1 - signal).sqrt()[:, None] * (scaled - signal.sqrt()[:, None] * MEAN) / variance
    skip, output, scale = epsilon(sigma, 1.0)
    torch.testing.assert_close(scale[:, None] * action, scaled)
    predicted = score_of(lambda *_: skip[:, None] * action + output[:, None] * noise, action, sigma, NOTHING)
    expected = -(action - MEAN) / (SCALE**2 + sigma[:, None] ** 2)
    torch.testing.assert_close(predicted, expected)
    torch.testing.assert_close(score_of(gaussian, action, sigma, NOTHING), expected)


def test_edm_scaling_gives_the_network_unit_input_and_unit_target():
    sigma = torch.tensor([0.01, 0.5, 20.0], dtype=torch.float64)
    skip, output, scale = edm(sigma, 0.7)
    torch.testing.assert_close(scale**2 * (0.7**2 + sigma**2), torch.ones_like(sigma))
    target = ((1 - skip) ** 2 * 0.7**2 + skip**2 * sigma**2) / output**2
    torch.testing.assert_close(target, torch.ones_like(sigma))


class Linear(nn.Module):
    """A denoiser with a gain to learn."""

    def __init__(self, gain):
        super().__init__()
        self.gain = nn.Parameter(gain)

    def forward(self, noisy, sigma, observation):
        """Shrink towards zero."""
        return self.gain * noisy

    def loss_weight(self, sigma):
        """Weigh as EDM does."""
        return edm(sigma, 1.0)[1] ** -2


def test_the_loss_is_least_at_the_closed_form_denoiser():
    action, noise = sigma_points(4).split([2, 2], dim=-1)
    sigma = torch.full((len(action),), 0.6, dtype=torch.float64)
    for share, slope in ((0.9, -1), (1.0, 0), (1.1, 1)):
        denoiser = Linear(share * SCALE**2 / (SCALE**2 + 0.6**2))
        denoising_loss(denoiser, SCALE * action, NOTHING, sigma, noise).backward()
        signs = denoiser.gain.grad.sign() if slope else denoiser.gain.grad
        torch.testing.assert_close(signs, torch.full_like(signs, slope), rtol=0, atol=1e-14)


def test_the_loss_of_noise_prediction_is_the_squared_error_of_the_noise():
    torch.manual_seed(0)
    denoiser = Denoiser(TrunkSettings(width=8), SHAPE, preconditioning=epsilon).double()
    nn.init.normal_(denoiser.head.weight)
    action, noise, sigma = standard(6, 2), standard(6, 2, seed=1), standard(6, seed=2).exp()
    observation = torch.zeros(6, 1, 1, dtype=torch.float64)
    noisy = action + sigma[:, None] * noise
    predicted = (noisy - denoiser(noisy, sigma, observation)) / sigma[:, None]
    expected = (predicted - noise).square().mean()
    torch.testing.assert_close(denoising_loss(denoiser, action, observation, sigma, noise), expected)


def correlated() -> tuple[Tensor, Tensor, Tensor]:
    """Return actions whose numbers are correlated, with their mean and covariance."""
    action = standard(4000, 4) @ torch.tensor(
        [[2.0, 1.9, 0.1, 0.0], [0.0, 0.1, 0.0, 0.1], [0.0, 0.0, 0.5, 0.4], [0.0, 0.0, 0.0, 0.05]], dtype=torch.float64
    ) + torch.tensor([1.0, -2.0, 0.0, 0.3], dtype=torch.float64)
    return action, action.mean(dim=0), action.mT.cov()


def test_along_principal_axes_a_silent_network_is_the_posterior_mean_of_a_normal_distribution():
    shape = PolicyShape(1, 1, 4, 2)
    denoiser = Denoiser(TrunkSettings(width=8), shape, principal_axes=True).double()
    action, mean, covariance = correlated()
    denoiser.fit_axes(action)
    noisy, observation = 3 * standard(7, 4, seed=1), torch.zeros(7, 1, 1, dtype=torch.float64)
    for sigma in (0.02, 0.5, 8.0):
        level = torch.tensor(sigma, dtype=torch.float64)
        gain = covariance @ torch.linalg.inv(covariance + sigma**2 * torch.eye(4, dtype=torch.float64))
        expected = mean + (noisy - mean) @ gain.mT
        torch.testing.assert_close(denoiser(noisy, level, observation), expected, rtol=0, atol=1e-9)


def test_principal_axes_are_kept_with_the_weights_and_give_the_conditional_mean():
    torch.manual_seed(0)
    shape, trunk = PolicyShape(1, 3, 4, 2), TrunkSettings(width=8)
    denoiser = Denoiser(trunk, shape, principal_axes=True).double()
    nn.init.normal_(denoiser.head.weight)
    nn.init.normal_(denoiser.head.bias)
    denoiser.fit_axes(correlated()[0])
    restored = Denoiser(trunk, shape, principal_axes=True).double()
    restored.load_state_dict(denoiser.state_dict())
    observation, level = standard(5, 1, 3), torch.tensor(8.0, dtype=torch.float64)
    expected = denoiser(torch.zeros(5, 4, dtype=torch.float64), level, observation)
    torch.testing.assert_close(restored(torch.zeros(5, 4, dtype=torch.float64), level, observation), expected)
    features, head = restored.conditional_mean(8.0)
    torch.testing.assert_close(head(features(observation)), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize('change', [{'process': 'ddpm'}, {'process': 'flow'}, {'trunk': {'kind': 'unet'}}])
def test_principal_axes_are_refused_where_they_mean_nothing(change: dict):
    with pytest.raises(ValueError, match='principal_axes suits process: edm'):
        TeacherSettings.model_validate({'principal_axes': True, **change})


def test_a_karras_grid_runs_from_high_to_low_and_ends_at_zero():
    grid = karras_grid(5, 0.02, 8.0)
    assert grid[0].item() == pytest.approx(8.0) and grid[-2].item() == pytest.approx(0.02) and grid[-1] == 0
    assert (grid.diff() < 0).all()
    assert karras_grid(1, 0.02, 8.0).tolist() == pytest.approx([8.0, 0.0])


def test_noise_levels_of_training_have_the_distribution_they_name():
    uniform = torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64)
    low, high = 0.5 / 4, 0.5 * 4  # symmetric in the logarithm about the median
    shape = {'location': math.log(0.5), 'scale': 0.7}
    for levels in (
        loguniform(uniform, low, high),
        loglogistic(uniform, low, high, **shape),
        lognormal(uniform, low, high, **shape),
    ):
        torch.testing.assert_close(levels, torch.tensor([low, 0.5, high], dtype=torch.float64))
    cut = 1 / (1 + 4 ** (1 / 0.7))  # what the interval leaves out at either end
    share = cut + (1 - 2 * cut) / 4
    lower = loglogistic(torch.tensor(0.25, dtype=torch.float64), low, high, **shape)
    assert lower.log().item() == pytest.approx(math.log(0.5) + 0.7 * math.log(share / (1 - share)), abs=1e-9)
    upper = loglogistic(torch.tensor(0.75, dtype=torch.float64), 1e-6, 1e6, **shape)
    assert upper.log().item() == pytest.approx(math.log(0.5) + 0.7 * math.log(3), abs=1e-5)  # a logistic's quartile
    upper = lognormal(torch.tensor(0.8413447, dtype=torch.float64), 1e-6, 1e6, **shape)
    assert upper.log().item() == pytest.approx(math.log(0.5) + 0.7, abs=1e-5)  # a normal's one deviation


def test_a_discrete_teacher_predicts_the_velocity_of_the_variance_preserving_process():
    """``v = sqrt(alphabar) eps - sqrt(1 - alphabar) a`` (Salimans and Ho 2022), but for its sign, and weighed alike."""
    teacher = Teacher(TeacherSettings(process='ddpm'), SHAPE).double()
    sigma, clean, noise = teacher.sigmas()[:-1, None].expand(-1, 5), standard(16, 5, 2), standard(16, 5, 2, seed=1)
    signal = 1 / (1 + sigma[..., None] ** 2)
    velocity = signal.sqrt() * noise - (1 - signal).sqrt() * clean
    skip, output, _ = (part[..., None] for part in edm(sigma, 1.0))
    noisy = clean + sigma[..., None] * noise
    torch.testing.assert_close(skip * noisy - output * velocity, clean)
    torch.testing.assert_close(teacher.denoiser.loss_weight(sigma), output[..., 0] ** -2)


def test_flow_matching_is_the_straight_path_between_action_and_noise():
    """Its loss is the squared error of the velocity, and a step of Euler is one in the time of the path."""
    sigma, clean, noise = standard(6, seed=2).exp(), standard(6, 2), standard(6, 2, seed=1)
    time = (sigma / (1 + sigma))[:, None]
    path, velocity = (1 - time) * clean + time * noise, noise - clean
    noisy = clean + sigma[:, None] * noise
    skip, output, scale = (part[:, None] for part in flow(sigma, 1.0))
    torch.testing.assert_close(scale * noisy, path)
    torch.testing.assert_close(skip * noisy + output * velocity, clean)
    torch.testing.assert_close(output**-2 * (output * (velocity + 1)) ** 2, (velocity + 1) ** 2)

    grid = flow_grid(4, 9.0)
    assert (grid / (1 + grid)).tolist() == pytest.approx([0.9, 0.675, 0.45, 0.225, 0.0])
    state = 3 * standard(5, 2)
    reached = samplers.euler(gaussian, state, grid, NOTHING)
    path = state / (1 + grid[0])
    for here, there in itertools.pairwise(grid):
        time, next_time = here / (1 + here), there / (1 + there)
        expected = gaussian(path / (1 - time), here, NOTHING)
        path = path + (next_time - time) * (path - expected) / time  # v = eps - a, of x = (1 - t) a + t eps
    torch.testing.assert_close(reached, path)


def test_flow_matching_is_trained_at_all_times_of_the_path_alike():
    teacher = Teacher(TeacherSettings(process='flow', sigma_min=0.01, sigma_max=99.0), SHAPE)
    sigma = teacher.training_sigma(torch.linspace(0, 1, 101, dtype=torch.float64))
    time = sigma / (1 + sigma)
    torch.testing.assert_close(time, torch.linspace(0.01 / 1.01, 0.99, 101, dtype=torch.float64), atol=1e-6, rtol=0)


def test_stratified_numbers_fall_one_into_each_stratum():
    numbers = Draws(seeded()).stratified(100)
    assert (numbers * 100).long().sort().values.tolist() == list(range(100))
    assert not torch.equal(numbers.sort().values, numbers)


@pytest.mark.parametrize('schedule', ['cosine', 'linear'])
def test_ddpm_levels_rise_from_little_noise_to_more_than_the_data(schedule):
    sigma = sigma_of_alphabar(alphabar(schedule, 16))
    assert (sigma.diff() > 0).all() and sigma[0] < 0.2 and sigma[-1] > 10
    assert torch.equal(ddpm_grid(schedule, 16, 16)[:-1], sigma.flip(0))


def test_calls_that_a_sampler_cannot_make_are_refused():
    with pytest.raises(ConfigurationError, match='odd number of calls for heun; found 16; set calls to 15'):
        Teacher(TeacherSettings(sampler='heun', calls=16), SHAPE).sigmas()
    with pytest.raises(ConfigurationError, match='at most 8 calls, one per step; found 9 calls'):
        Teacher(TeacherSettings(process='ddpm', steps=8, calls=9), SHAPE).sigmas()


TRUTH = random_mixture('diagonal', batch=1, experts=2, size=2, seed=3)
COUNT = 20_000


@functools.lru_cache
def trained(process: str, prediction: str = 'velocity') -> Teacher:
    """Train a small teacher on draws from TRUTH."""
    options = {'generator': seeded(), 'dtype': torch.float64}
    data = TRUTH.sample(torch.randn(COUNT, 1, 2, **options), torch.rand(COUNT, 1, **options))[:, 0]
    torch.manual_seed(0)
    settings = TeacherSettings(process=process, prediction=prediction, trunk=TrunkSettings(width=64, depth=3))
    teacher = Teacher(settings, SHAPE)
    windows = Windows(torch.zeros(COUNT, 1, 1), data.float())
    descent = DescentSettings(learning_rate=3e-3)
    fit(SingleLoss(teacher, teacher.loss, windows, batch=256, descent=descent), iterations=1000, generator=seeded(1))
    return teacher.requires_grad_(False)


def exact(noisy, sigma, observation):
    """Denoise TRUTH, exactly."""
    sigma = sigma.expand(len(noisy))
    return noisy + sigma[:, None] ** 2 * repeated(TRUTH, len(noisy)).convolved(sigma).score(noisy)


@pytest.mark.parametrize(
    ('process', 'prediction'), [('edm', 'velocity'), ('ddpm', 'velocity'), ('ddpm', 'noise'), ('flow', 'velocity')]
)
def test_a_trained_teacher_has_the_score_of_its_data(process, prediction):
    teacher = trained(process, prediction)
    sigma = teacher.sigmas()[8].expand(COUNT)
    noisy = TRUTH.mean[0, 0] + standard(COUNT, 2)
    expected = score_of(exact, noisy, sigma, NOTHING)
    found = teacher.score(noisy.float(), sigma.float(), torch.zeros(COUNT, 1, 1)).double()
    assert (found - expected).square().mean() < 0.01 * expected.square().mean()


@pytest.mark.parametrize('sampler', ['euler', 'heun', 'ancestral'])
def test_samples_of_a_trained_teacher_are_spread_as_those_of_the_exact_denoiser(sampler):
    teacher = Teacher(TeacherSettings(sampler=sampler, calls=15, trunk=TrunkSettings(width=64, depth=3)), SHAPE)
    teacher.load_state_dict(trained('edm').state_dict())
    noise = standard(teacher.noise_draws(), COUNT, 2)
    with torch.no_grad():
        found = teacher.sample(torch.zeros(COUNT, 1, 1), noise.float()).double()
    sigmas = teacher.sigmas()
    draws = [noise[1:]] if sampler == 'ancestral' else []
    expected = getattr(samplers, sampler)(exact, teacher.start(noise[0], sigmas[0]), sigmas, NOTHING, *draws)
    torch.testing.assert_close(found.mean(dim=0), expected.mean(dim=0), rtol=0, atol=0.05)
    torch.testing.assert_close(found.T.cov(), expected.T.cov(), rtol=0, atol=0.05)


CHUNK = PolicyShape(observation_horizon=2, observation_size=1, action_size=6, steps=3)


class ChunkData:
    """Chunks of three steps of two numbers, normal about what is seen, each step near the one before."""

    root = 0.3 * torch.ones(6, 6, dtype=torch.float64).tril()

    def mean(self, observation):
        """Return where they are on average, shape (batch, 6)."""
        return torch.cat([observation[:, -1].expand(-1, 3), -observation[:, 0].expand(-1, 3)], dim=-1)

    def windows(self, count):
        """Draw windows and chunks."""
        observation = standard(count, 2, 1)
        chunk = self.mean(observation) + standard(count, 6, seed=1) @ self.root.T
        return Windows(observation.float(), chunk.float())

    def score(self, noisy, sigma, observation):
        """Return the exact score of chunks with noise."""
        covariance = self.root @ self.root.T + sigma**2 * torch.eye(6, dtype=torch.float64)
        return -torch.linalg.solve(covariance, (noisy - self.mean(observation)).T).T


@pytest.mark.parametrize(
    ('process', 'trunk'),
    [
        ('edm', {'kind': 'unet', 'width': 16, 'depth': 2, 'kernel': 3}),
        ('flow', {'kind': 'chunk_transformer', 'width': 24, 'depth': 1, 'heads': 2}),
        ('ddpm', {'kind': 'transformer', 'width': 24, 'depth': 1, 'heads': 2}),
    ],
)
def test_a_teacher_over_chunks_has_the_score_of_gaussian_data(process, trunk):
    torch.manual_seed(0)
    data = ChunkData()
    teacher = Teacher(TeacherSettings(process=process, trunk=TrunkSettings.parse(trunk)), CHUNK)
    learner = SingleLoss(
        teacher, teacher.loss, data.windows(20_000), batch=128, descent=DescentSettings(learning_rate=3e-3)
    )
    fit(learner, iterations=300, generator=seeded(1))
    observation = standard(2000, 2, 1, seed=4)
    for sigma in (0.3, 1.0):
        noisy = data.mean(observation) + standard(2000, 6, seed=5) @ data.root.T + sigma * standard(2000, 6, seed=6)
        expected = data.score(noisy, sigma, observation)
        with torch.no_grad():
            found = teacher.score(noisy.float(), torch.tensor(sigma), observation.float()).double()
        assert (found - expected).square().mean() < 0.1 * expected.square().mean()
