"""What VDD is compared with."""

from __future__ import annotations

import functools

import pytest
import torch
from oracles import random_mixture, repeated, seeded

from vdd_ros.learning.baselines.consistency import ConsistencyModel, ConsistencySettings
from vdd_ros.learning.baselines.em import likelihood_loss
from vdd_ros.learning.baselines.one_step import sample_in_one_step
from vdd_ros.learning.diffusion.noise import karras_grid
from vdd_ros.learning.diffusion.samplers import heun
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import DescentSettings, SingleLoss, Windows, fit

SHAPE = PolicyShape(observation_horizon=1, observation_size=1, action_size=2)
MEAN = torch.tensor([1.0, -0.5])
SCALE = torch.tensor([0.5, 0.2])


def gaussian(noisy, sigma, observation):
    """Denoise a Gaussian of MEAN and SCALE, exactly."""
    return MEAN + SCALE**2 / (SCALE**2 + sigma[..., None] ** 2) * (noisy - MEAN)


def gaussian_windows(count=5000):
    """Draw demonstrations from that Gaussian."""
    return Windows(torch.zeros(count, 1, 1), MEAN + SCALE * torch.randn(count, 2, generator=seeded()))


def test_em_ascends_the_likelihood_to_that_of_the_data():
    truth = random_mixture('full', batch=1, experts=2, size=2, seed=5)
    options = {'generator': seeded(), 'dtype': torch.float64}
    data = truth.sample(torch.randn(4000, 1, 2, **options), torch.rand(4000, 1, **options))[:, 0]
    windows = Windows(torch.zeros(4000, 1, 1), data.float())
    torch.manual_seed(0)
    student = Student(StudentSettings(trunk=TrunkSettings(width=16, depth=1), experts=4), SHAPE, seeded(1))
    descent = DescentSettings(learning_rate=1e-2)
    fit(
        SingleLoss(student, likelihood_loss(student), windows, batch=256, descent=descent),
        iterations=500,
        generator=seeded(2),
    )
    with torch.no_grad():
        reached = student(windows.observation).log_prob(windows.action).mean()
    assert reached == pytest.approx(repeated(truth, 4000).log_prob(data).mean().item(), abs=0.03)


def test_a_consistency_model_is_the_identity_at_the_least_noise():
    torch.manual_seed(0)
    model = ConsistencyModel(ConsistencySettings(trunk=TrunkSettings(width=8)), SHAPE)
    torch.nn.init.normal_(model.network.head.weight)
    noisy = torch.randn(4, 2, generator=seeded())
    reached = model.network(noisy, torch.full((4,), model.settings.sigma_min), torch.zeros(4, 1, 1))
    assert torch.equal(reached, noisy)


def test_consistency_distillation_finds_the_end_of_the_teachers_ode_in_one_call():
    torch.manual_seed(0)
    settings = ConsistencySettings(trunk=TrunkSettings(width=64, depth=3), sigma_max=4.0, levels=8)
    model = ConsistencyModel(settings, SHAPE)
    loss = functools.partial(model.loss, gaussian)
    descent = DescentSettings(learning_rate=3e-3)
    fit(SingleLoss(model, loss, gaussian_windows(), batch=256, descent=descent), iterations=1000, generator=seeded(1))
    noise = torch.randn(2000, 2, generator=seeded(2))
    with torch.no_grad():
        reached = model.sample(torch.zeros(2000, 1, 1), noise)
    start = noise * (4.0**2 + 1) ** 0.5
    expected = heun(gaussian, start, karras_grid(8, 0.02, 4.0)[:-1], torch.zeros(2000, 1, 1))
    assert (reached - expected).square().mean().sqrt() < 0.1 * SCALE.norm()


@pytest.mark.parametrize('process', ['edm', 'ddpm'])
def test_one_step_of_a_teacher_is_its_denoiser_at_the_most_noise(process):
    torch.manual_seed(0)
    teacher = Teacher(TeacherSettings(process=process, trunk=TrunkSettings(width=8), sampler='ancestral'), SHAPE)
    torch.nn.init.normal_(teacher.denoiser.head.weight, std=0.1)
    noise = torch.randn(4, 2, generator=seeded())
    sigma = teacher.sigmas()[0].float()
    expected = teacher.denoiser(noise * (sigma**2 + 1).sqrt(), sigma, torch.zeros(4, 1, 1)).clamp(-6, 6)
    torch.testing.assert_close(sample_in_one_step(teacher, torch.zeros(4, 1, 1), noise), expected)
