"""The teacher as a labeller: what it says at which windows, and what a student learns of it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from oracles import seeded

from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller, DistillerSettings
from vdd_ros.learning.distillation.labels import Labels, displaced
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import DescentSettings, Windows, fit
from vdd_ros.policy.experts import ActionNoise

SHAPE = PolicyShape(observation_horizon=2, observation_size=1, action_size=2)
STD = 0.5


class GaussianTeacher(Teacher):
    """A teacher in closed form: normal actions of deviation .5 about a mean that is linear in what is observed."""

    def __init__(self):
        super().__init__(TeacherSettings(trunk=TrunkSettings(width=4, depth=1), calls=32), SHAPE)
        self.denoiser.forward = self.denoised
        self.requires_grad_(False)

    def mean(self, observation):
        """Return the mean of the actions."""
        newest = observation[:, -1]
        return torch.cat([newest, -2 * newest], dim=-1)

    def denoised(self, noisy, sigma, observation):
        """Return the expected clean action: Bayes' rule for two Gaussians."""
        share = STD**2 / (STD**2 + sigma**2)
        share = share[..., None] if isinstance(share, torch.Tensor) and share.ndim else share
        return self.mean(observation) + share * (noisy - self.mean(observation))


def windows(count: int = 400, spread: float = 0.3) -> Windows:
    """Few places, far from where the student is asked later; demonstrated actions are all wrong."""
    observation = spread * torch.randn(count, 2, 1, generator=seeded(1))
    return Windows(observation, torch.full((count, 2), 7.0))


def test_labels_are_samples_of_the_teacher_at_their_windows():
    teacher, labels = GaussianTeacher(), Labels(GaussianTeacher(), 0)
    labels.add('some', 0.8 * torch.randn(20_000, 2, 1, generator=seeded(2)))
    assert len(labels) == 20_000
    observation, action = labels.draw(20_000, seeded(3))
    deviation = action - teacher.mean(observation)
    assert deviation.mean().abs() < 0.02
    # 32 Euler steps from a finite noise end a little narrow of the truth.
    assert deviation.std(dim=0).tolist() == pytest.approx([STD, STD], rel=0.06)


def test_labels_are_kept_and_the_teacher_is_not_called_again(tmp_path):
    first = Labels(GaussianTeacher(), 0, tmp_path)
    first.add('some', torch.zeros(5, 2, 1))
    first.add('more', torch.ones(5, 2, 1))
    assert 'some' in first and 'none' not in first
    again = Labels(GaussianTeacher(), 1, tmp_path)
    assert 'more' in again
    again.add('some')
    again.add('more')
    for one, other in zip(first.draw(50, seeded()), again.draw(50, seeded())):
        assert torch.equal(one, other)


def test_every_other_window_is_displaced_alike_at_all_of_its_stamps():
    source = Windows(torch.randn(1, 2, 1, generator=seeded(5)), torch.zeros(1, 2))
    found = displaced(source, 4000, 0.2, seeded(1)) - source.observation
    assert not found[::2].any()
    assert torch.allclose(found[:, 0], found[:, 1], atol=1e-6)
    assert found[1::2, 0].std().item() == pytest.approx(0.2, rel=0.05)


def test_a_student_of_labels_covers_what_was_not_demonstrated():
    """It learns nothing of wrong demonstrations, and all of the teacher at displaced windows."""
    torch.manual_seed(0)
    teacher = GaussianTeacher()
    source = windows()
    labels = Labels(teacher, 0)
    labels.add('displaced', displaced(source, 4000, 1.2, seeded(4)))
    student = Student(StudentSettings(experts=2, trunk=TrunkSettings(width=32, depth=2)), SHAPE, seeded())
    settings = DistillerSettings(
        divergence=0.0,
        coverage=0.0,
        imitation=1.0,
        unused_below=0.0,
        batch=128,
        descent=DescentSettings(learning_rate=3e-3),
    )
    learner = Distiller(student, teacher.score, source, settings, labels)
    fit(learner, iterations=600, generator=seeded(6))
    requested = torch.linspace(-1.5, 1.5, 9)[:, None, None].expand(-1, 2, 1)
    with torch.no_grad():
        mixture = student(requested)
        mean = (mixture.log_gating.exp()[..., None] * mixture.mean).sum(dim=1)
        spread = (mixture.log_gating.exp()[..., None] * (mixture.covariance.variance() + mixture.mean**2)).sum(dim=1)
    assert (mean - teacher.mean(requested)).abs().max() < 0.2
    assert (spread - mean**2).sqrt().mean().item() == pytest.approx(STD, rel=0.15)


@pytest.mark.parametrize('covariance', ['diagonal', 'full', 'low_rank'])
def test_a_student_acts_in_simulation_with_the_deviations_of_the_robot(covariance):
    """Those of `ActionNoise`: without the floor, and without what regions were widened by."""
    settings = StudentSettings(
        experts=3, covariance=covariance, rank=2, scale_floor=0.3, widening=1.7, trunk=TrunkSettings(width=8, depth=1)
    )
    student = Student(settings, SHAPE, seeded())
    window = torch.randn(1, 2, 1, generator=seeded(1))
    acting = student.acting(window)
    heads = [head for head in (student.scale_head, student.factor_head) if head is not None]
    with torch.no_grad():
        features = student.trunk(window)
        spread = torch.cat([head(features).unflatten(-1, (3, -1)) for head in heads], dim=-1)[0].numpy()
    noise = ActionNoise(settings.model_dump(mode='json'), np.ones(2))
    for expert in range(3):
        drawn = noise.of_each(np.tile(spread[expert], (100_000, 1)), np.random.default_rng(0))
        expected = acting.covariance.dense()[0, expert].detach().numpy()
        np.testing.assert_allclose(np.cov(drawn.T), expected, atol=0.02 * np.abs(expected).max())
