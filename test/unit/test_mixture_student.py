"""The student network."""

from __future__ import annotations

import pytest
import torch
from oracles import seeded

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings

SHAPE = PolicyShape(observation_horizon=2, observation_size=3, action_size=3)


def student(**settings) -> Student:
    """Build a small student in double precision."""
    torch.manual_seed(0)
    trunk = TrunkSettings(width=16, depth=2)
    return Student(StudentSettings(**{'trunk': trunk, 'experts': 4, **settings}), SHAPE, seeded()).double()


def windows(count: int = 5):
    """Draw observations and actions."""
    options = {'generator': seeded(1), 'dtype': torch.float64}
    return torch.randn(count, 2, 3, **options), torch.randn(count, 3, **options)


@pytest.mark.parametrize('form', ['diagonal', 'full', 'low_rank'])
@pytest.mark.parametrize('gating_trunk', ['shared', 'own'])
def test_every_parameter_of_a_student_shapes_its_likelihood(form, gating_trunk):
    model = student(covariance=form, gating_trunk=gating_trunk)
    observation, action = windows()
    model(observation).log_prob(action).sum().backward()
    assert not [name for name, value in model.named_parameters() if value.grad is None or not value.grad.any()]


def test_experts_start_apart_and_as_wide_as_configured():
    model = student(mean_init_std=2.0, initial_scale=0.7, scale_floor=0.1)
    biases = model.mean_head.bias.view(4, 3)
    assert torch.cdist(biases, biases).fill_diagonal_(torch.inf).min() > 0.5
    with torch.no_grad():
        for head in (model.scale_head, model.factor_head):
            head.weight.zero_()
        scale = model(windows()[0]).covariance.variance().sqrt()
    torch.testing.assert_close(scale, torch.full_like(scale, 0.7))


def test_a_uniform_gating_gives_every_expert_the_same_probability():
    gating = student(gating='uniform')(windows()[0]).log_gating.exp()
    torch.testing.assert_close(gating, torch.full_like(gating, 0.25))


def test_scales_never_fall_below_their_floor():
    model = student(scale_floor=0.05, initial_scale=0.5)
    with torch.no_grad():
        model.scale_head.bias.fill_(-1000)
    assert model(windows()[0]).covariance.variance().min() >= 0.05**2


@pytest.mark.parametrize(('size', 'form'), [(16, 'full'), (17, 'diagonal')])
def test_covariances_of_many_values_are_diagonal_by_default(size, form):
    shape = PolicyShape(observation_size=2, observation_horizon=1, action_size=size)
    student = Student(StudentSettings(trunk=TrunkSettings(width=8, depth=1)), shape, seeded())
    assert StudentSettings().covariance == 'auto' and student.settings.covariance == form


@pytest.mark.parametrize('form', ['diagonal', 'full', 'low_rank'])
def test_retiring_experts_leaves_the_density_of_the_others_as_it_was(form):
    model = student(covariance=form)
    observation, action = windows()
    kept = model(observation).select(torch.tensor([0, 3])).log_joint(action)
    model.retire([1, 2])
    assert torch.equal(model(observation).log_joint(action), kept)
    smaller = model.compact()
    assert smaller.settings.experts == 2
    torch.testing.assert_close(smaller(observation).log_joint(action), kept, rtol=1e-12, atol=1e-12)


def test_the_last_expert_cannot_be_retired():
    model = student()
    with pytest.raises(ConfigurationError, match='at least one active expert'):
        model.retire(range(4))
    assert model.alive.all()


def test_settings_survive_conversion_to_a_manifest():
    settings = StudentSettings(trunk=TrunkSettings(kind='transformer', width=24, heads=3), experts=5, rank=2)
    assert StudentSettings.parse(settings.model_dump(mode='json')) == settings


def test_an_unknown_setting_is_refused_with_the_known_ones():
    with pytest.raises(ConfigurationError, match='expertz: an unknown setting; did you mean experts.*covariance, rank'):
        StudentSettings.parse({'expertz': 3})
