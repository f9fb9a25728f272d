"""Whole distillations of a closed-form teacher: 8 Gaussians on a ring, some rare."""

from __future__ import annotations

import pytest
import torch
from oracles import ring, score_of, seeded

from vdd_ros.learning.distillation.distiller import PAPER, Distiller, DistillerSettings
from vdd_ros.learning.distillation.noise_levels import NoiseLevels
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import DescentSettings, Windows, fit

WEIGHTS = [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05]
TEACHER = ring(0.1, WEIGHTS)
SHAPE = PolicyShape(observation_horizon=1, observation_size=1, action_size=2)
QUICK = {'batch': 64, 'iterations': 800, 'descent': DescentSettings(learning_rate=1e-2), 'review_every': 100}


def draw(mixture, count, seed):
    """Draw actions from a mixture of batch size 1."""
    generator = seeded(seed)
    noise, uniform = torch.randn(count, 1, 2, generator=generator), torch.rand(count, 1, generator=generator)
    return mixture.sample(noise, uniform)


def distil(settings: DistillerSettings, **student):
    """Distil the ring and return student and distiller."""
    torch.manual_seed(0)
    actions = draw(TEACHER, 5000, seed=1)[:, 0]
    model = Student(StudentSettings(trunk=TrunkSettings(width=16, depth=1), **student), SHAPE, seeded(2))
    distiller = Distiller(model, score_of(TEACHER), Windows(torch.zeros(5000, 1, 1), actions), settings)
    fit(distiller, iterations=settings.iterations, generator=seeded(3))
    return model, distiller


@pytest.mark.parametrize('objective', ['drawn', 'convolved'])
def test_every_mode_of_the_ring_is_found_with_its_weight_and_its_width(objective):
    model, _ = distil(DistillerSettings(objective=objective, **QUICK), initial_scale=1.0, mean_init_std=1.0)
    with torch.no_grad():
        student = model(torch.zeros(1, 1, 1))
        actions = draw(TEACHER, 20_000, seed=4)
        forward = (TEACHER.log_prob(actions) - student.log_prob(actions)).mean()
        mode = TEACHER.log_responsibility(student.mean[0, :, None]).argmax(dim=-1)[:, 0]
        weights = torch.zeros(8).index_add(0, mode, student.log_gating[0].exp())
    assert forward < 0.05
    torch.testing.assert_close(weights, torch.tensor(WEIGHTS), rtol=0, atol=0.03)
    assert 8 <= model.alive.sum() < 16


def narrow(settings, **student):
    """Distil one Gaussian of standard deviation .2 and return the students' deviation."""
    torch.manual_seed(0)
    teacher = ring(0.2, [1.0])
    settings = settings.model_copy(update=QUICK | {'iterations': 400, 'samples': 4, 'batch': 64})
    options = StudentSettings(trunk=TrunkSettings(width=16, depth=1), **student)
    model = Student(options, SHAPE, seeded(2))
    windows = Windows(torch.zeros(5000, 1, 1), draw(teacher, 5000, seed=1)[:, 0])
    fit(Distiller(model, score_of(teacher), windows, settings), iterations=400, generator=seeded(3))
    with torch.no_grad():
        student = model(torch.zeros(1, 1, 1))
        actions = draw(student, 20_000, seed=4)
    return model, student, actions.std(dim=0)[0]


def test_a_student_distilled_at_a_fixed_noise_is_too_wide_by_it_and_the_default_is_not():
    fixed = PAPER.model_copy(update={'noise': NoiseLevels(kind='fixed', low=0.3)})
    *_, wide = narrow(fixed, experts=1, gating_trunk='own')
    torch.testing.assert_close(wide, torch.full((2,), (0.2**2 + 0.3**2) ** 0.5), rtol=0.05, atol=0)
    *_, exact = narrow(DistillerSettings(), experts=1)
    torch.testing.assert_close(exact, torch.full((2,), 0.2), rtol=0.05, atol=0)


def test_more_experts_than_modes_end_in_the_density_of_the_modes():
    model, student, _ = narrow(DistillerSettings(), experts=16)
    teacher = ring(0.2, [1.0])
    actions = draw(teacher, 20_000, seed=4)
    assert (teacher.log_prob(actions) - student.log_prob(actions)).mean() < 0.01
    assert model.alive.sum() < 16


def test_the_papers_scheme_moves_experts_and_gating_by_optimisers_of_their_own():
    quick = {'iterations': 3, 'batch': 8}
    model, distiller = distil(PAPER.model_copy(update=quick), gating_trunk='own', experts=4)
    assert set(distiller.descents) == {'experts', 'gating'}
    counts = {name: len(descent.parameters) for name, descent in distiller.descents.items()}
    assert sum(counts.values()) == len(list(model.parameters()))
    steps = {
        name: {int(state['step']) for state in descent.optimizer.state.values()}
        for name, descent in distiller.descents.items()
    }
    assert steps == {'experts': {6}, 'gating': {3}}


def test_coverage_fades_in_proportion_to_what_is_left_and_stays_on_request():
    def after_one_step(**coverage):
        torch.manual_seed(0)
        model = Student(StudentSettings(trunk=TrunkSettings(width=8, depth=1), experts=3), SHAPE, seeded(2))
        windows = Windows(torch.zeros(100, 1, 1), draw(TEACHER, 100, seed=1)[:, 0])
        settings = DistillerSettings(batch=16, descent=DescentSettings(clip=1e9), **coverage)
        Distiller(model, score_of(TEACHER), windows, settings).step(torch.tensor(0.75), seeded(3))
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters()])

    quarter = after_one_step(coverage=0.25, coverage_decay='constant')
    assert torch.equal(after_one_step(coverage=1.0), quarter)
    assert not torch.allclose(after_one_step(coverage=1.0, coverage_decay='constant'), quarter, rtol=0.1)


def test_a_uniform_gating_stays_uniform():
    model, _ = distil(DistillerSettings(**QUICK | {'iterations': 3}), gating='uniform', experts=4)
    torch.testing.assert_close(model(torch.zeros(1, 1, 1)).log_gating.exp(), torch.full((1, 4), 0.25))
