"""Where students begin."""

import pytest
import torch
from oracles import ring, seeded

from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.start import place_experts, start_from_teacher
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import Windows

SHAPE = PolicyShape(observation_horizon=2, observation_size=3, action_size=2)
TRUNK = TrunkSettings(width=32, depth=2)
WEIGHTS = [0.3, 0.2, 0.15, 0.1, 0.1, 0.05, 0.05, 0.05]


def trained(process: str, trunk: TrunkSettings = TRUNK) -> Teacher:
    """Return a teacher whose weights are no longer those of the start."""
    torch.manual_seed(0)
    teacher = Teacher(TeacherSettings(process=process, trunk=trunk), SHAPE)
    with torch.no_grad():
        for parameter in teacher.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=seeded()))
    return teacher


def student(trunk: TrunkSettings = TRUNK, **settings) -> Student:
    return Student(StudentSettings(trunk=trunk, **settings), SHAPE, seeded())


def ring_windows(count: int = 4000) -> Windows:
    teacher = ring(0.1, WEIGHTS)
    noise, uniform = torch.randn(count, 1, 2, generator=seeded(1)), torch.rand(count, 1, generator=seeded(2))
    return Windows(torch.randn(count, 2, 3, generator=seeded(3)), teacher.sample(noise, uniform)[:, 0])


@pytest.mark.parametrize('process', ['edm', 'ddpm'])
@pytest.mark.parametrize('kind', ['mlp', 'residual'])
def test_every_expert_begins_at_what_the_teacher_makes_of_pure_noise(process, kind):
    trunk = TRUNK.model_copy(update={'kind': kind})
    teacher, pupil = trained(process, trunk), student(trunk)
    start_from_teacher(pupil, teacher, ring_windows(600), seeded())
    window = torch.randn(5, 2, 3, generator=seeded())
    with torch.no_grad():
        expected = teacher.denoiser(torch.zeros(5, 2), torch.tensor(5.0), window)
        mean = pupil(window).mean
    torch.testing.assert_close(mean, expected[:, None].expand_as(mean), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('kind', ['narrower', 'deeper', 'transformer'])
def test_a_trunk_of_another_make_finds_where_the_teacher_is_on_average(kind):
    """Whichever of the two is no plain stack of layers of the other's size."""
    attentive = TrunkSettings(kind='transformer', width=8, depth=1)
    changed = {'narrower': TRUNK.model_copy(update={'width': 24}), 'deeper': TRUNK.model_copy(update={'depth': 3})}
    trunk = changed.get(kind, attentive)
    teacher = trained('edm', attentive if kind == 'transformer' else TRUNK)
    windows, pupils = ring_windows(), []
    for _ in range(2 if kind == 'narrower' else 1):  # once is enough to see that learning repeats itself
        torch.manual_seed(0)
        pupils.append(student(trunk))
        start_from_teacher(pupils[-1], teacher, windows, seeded())
    with torch.no_grad():
        expected = teacher.denoiser(torch.zeros_like(windows.action), torch.tensor(5.0), windows.observation)
        mean, *again = (pupil(windows.observation).mean for pupil in pupils)
    assert all(torch.equal(mean, other) for other in again)
    torch.testing.assert_close(mean, mean[:, :1].expand_as(mean))
    assert (mean[:, 0] - expected).var(dim=0).lt(0.05 * expected.var(dim=0)).all()


def test_an_expert_begins_at_every_mode_of_the_demonstrations_with_its_share():
    windows, pupil = ring_windows(), student(experts=16)
    place_experts(pupil, windows, seeded())
    with torch.no_grad():
        mixture = pupil(torch.zeros(1, 2, 3))
    modes = ring(0.1, WEIGHTS).mean[0]
    distance = torch.cdist(modes, mixture.mean[0])
    assert (distance.amin(dim=1) < 0.4).all()
    share = torch.zeros(8).index_add(0, distance.argmin(dim=0), mixture.log_gating[0].exp())
    torch.testing.assert_close(share, torch.tensor(WEIGHTS), atol=0.04, rtol=0)


def test_placed_experts_foretell_demonstrations_better_than_spread_ones():
    windows, placed, spread = ring_windows(), student(), student()
    place_experts(placed, windows, seeded())
    with torch.no_grad():
        ours, theirs = (model(windows.observation).log_prob(windows.action).mean() for model in (placed, spread))
    assert ours > theirs + 1


def test_fewer_demonstrations_than_experts_share_places():
    windows = Windows(torch.zeros(3, 2, 3), torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]))
    pupil = student(experts=16)
    place_experts(pupil, windows, seeded())
    with torch.no_grad():
        mixture = pupil(torch.zeros(1, 2, 3))
    assert torch.isfinite(mixture.mean).all() and torch.isfinite(mixture.log_prob(windows.action[:1])).all()
