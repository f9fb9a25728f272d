"""Model selection without a simulator, against closed forms."""

from __future__ import annotations

import math

import pytest
import torch
from oracles import random_mixture, repeated, seeded

from vdd_ros.learning.evaluation import calibration, drawn, energy_distance, energy_score, judge, widening_of
from vdd_ros.learning.mixture.covariance import DiagonalCovariance
from vdd_ros.learning.mixture.gaussian_mixture import GaussianMixture

COUNT = 20_000
# Four standard errors of a share of COUNT actions.
TOLERANCE = 4 * 0.5 / math.sqrt(COUNT)


def drawn_from(mixture: GaussianMixture):
    """Draw one action from a mixture of batch size 1 for each of COUNT copies of it."""
    copies = repeated(mixture, COUNT)
    options = {'generator': seeded(9), 'dtype': torch.float64}
    noise = torch.randn(COUNT, copies.covariance.noise_size, **options)
    return copies, copies.sample(noise, torch.rand(COUNT, **options))


@pytest.mark.parametrize('form', ['diagonal', 'full', 'low_rank'])
@pytest.mark.parametrize('size', [1, 3, 8])
def test_actions_of_the_mixture_itself_are_calibrated_however_much_its_experts_overlap(form, size):
    mixture, action = drawn_from(random_mixture(form, batch=1, experts=5, size=size))
    for share in (0.5, 0.9):
        assert calibration(mixture, action, share) == pytest.approx(share, abs=TOLERANCE)


@pytest.mark.parametrize('width', [0.5, 2.0])
def test_covariances_of_the_wrong_width_are_identified_by_their_calibration(width):
    truth, action = drawn_from(random_mixture('diagonal', batch=1, experts=1, size=2))
    student = GaussianMixture(truth.log_gating, truth.mean, DiagonalCovariance(width * truth.covariance.scale))
    for share in (0.5, 0.9):
        # In two dimensions chi-square has the distribution function 1 - exp(-distance / 2).
        expected = 1 - (1 - share) ** (width**2)
        assert calibration(student, action, share) == pytest.approx(expected, abs=TOLERANCE)


def test_a_student_is_judged_by_its_likelihood_its_gating_and_the_use_of_every_expert():
    gating = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
    mean = torch.tensor([[-100.0], [0.0], [100.0]], dtype=torch.float64)
    scale = torch.ones(1, 3, 1, dtype=torch.float64)
    mixture, action = drawn_from(GaussianMixture(gating.log()[None], mean[None], DiagonalCovariance(scale)))
    found = judge(mixture, action)
    assert [found[f'usage_{expert}'] for expert in range(3)] == pytest.approx([0.5, 0.3, 0.2])
    assert (found['experts'], found['least_used_expert']) == (3.0, pytest.approx(0.2))
    entropy = float(-(gating * gating.log()).sum())
    assert found['gating_entropy'] == pytest.approx(entropy)
    # Experts this far apart: the entropy of the mixture is the sum of both.
    expected = -entropy - 0.5 * (1 + math.log(2 * math.pi))
    assert found['held_out_log_likelihood'] == pytest.approx(expected, abs=4 / math.sqrt(COUNT))
    assert found['calibration_50'] == pytest.approx(0.5, abs=TOLERANCE)
    assert found['calibration_90'] == pytest.approx(0.9, abs=TOLERANCE)


@pytest.mark.parametrize('form', ['diagonal', 'low_rank'])
def test_what_is_too_narrow_is_widened_by_the_factor_that_it_lacks(form):
    truth, action = drawn_from(random_mixture(form, batch=1, experts=3, size=8))
    fields = {name: getattr(truth.covariance, name) / 1.3 for name in truth.covariance.__dataclass_fields__}
    narrow = GaussianMixture(truth.log_gating, truth.mean, type(truth.covariance)(**fields))
    factor = widening_of(narrow, action)
    assert factor == pytest.approx(1.3, abs=0.021)
    assert widening_of(truth, action) == pytest.approx(1.0, abs=0.021)


def test_what_is_too_wide_stays_as_it_is():
    truth, action = drawn_from(random_mixture('diagonal', batch=1, experts=3, size=8))
    wide = GaussianMixture(truth.log_gating, truth.mean, DiagonalCovariance(1.4 * truth.covariance.scale))
    assert widening_of(wide, action) == 1.0


@pytest.mark.parametrize('size', [1, 2])
def test_the_energy_score_of_a_gaussian_is_its_closed_form(size):
    """In one dimension it is the CRPS (Gneiting and Raftery 2007, eq. 21); in two, at the mean, of Rayleigh's law."""
    scale = 1.7
    samples = scale * torch.randn(4000, 1, size, generator=seeded(1), dtype=torch.float64)
    action = torch.zeros(3, 1, size, dtype=torch.float64)
    action[1:, :, 0] = torch.tensor([0.8, -2.5])[:, None]
    found = energy_score(samples, action)[:, 0]
    normal = torch.distributions.Normal(0.0, 1.0)
    if size == 1:
        z = action[:, 0, 0] / scale
        density = normal.log_prob(z).exp()
        expected = scale * (z * (2 * normal.cdf(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
        assert found.tolist() == pytest.approx(expected.tolist(), abs=0.05)
    else:
        # E|X| is the mean of Rayleigh's distribution, and X - X' is as X, times the root of two.
        assert found[0].item() == pytest.approx(scale * math.sqrt(math.pi / 2) * (1 - math.sqrt(0.5)), abs=0.05)


def test_the_energy_score_has_no_bias_with_few_samples():
    few = torch.randn(4, COUNT, 1, generator=seeded(2), dtype=torch.float64)
    score = energy_score(few, torch.zeros(COUNT, 1, dtype=torch.float64))
    expected = math.sqrt(2 / math.pi) - 1 / math.sqrt(math.pi)
    assert score.mean().item() == pytest.approx(expected, abs=4 * score.std().item() / math.sqrt(COUNT))


def test_the_energy_distance_is_nothing_between_equals_and_separates_others():
    mixture = random_mixture('full', batch=50, experts=3, size=2)
    ours, theirs = drawn(mixture, 60, seeded(3)), drawn(mixture, 60, seeded(4))
    assert energy_distance(ours, theirs).mean().item() == pytest.approx(0, abs=0.02)
    assert energy_distance(ours, theirs + 1.0).mean().item() > 0.2
