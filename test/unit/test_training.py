"""The fit loop: resuming, cancelling, averaging, and what happens when a loss is not finite."""

from __future__ import annotations

import pytest
import torch
from oracles import seeded
from torch import nn

from vdd_ros.common.errors import ConfigurationError, TrainingError
from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import Distiller, DistillerSettings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import Checkpoint, Descent, DescentSettings, Ema, Monitoring, SingleLoss, Windows, fit

SHAPE = PolicyShape(observation_horizon=1, observation_size=2, action_size=2)


def windows():
    """Draw training data."""
    return Windows(torch.randn(200, 1, 2, generator=seeded(1)), torch.randn(200, 2, generator=seeded(2)))


def distiller(experts: int = 6) -> Distiller:
    """Build a distiller with separate optimisers that retires experts on its way."""
    torch.manual_seed(0)
    student = Student(
        StudentSettings(trunk=TrunkSettings(width=8, depth=1), experts=experts, gating_trunk='own'), SHAPE, seeded()
    )
    settings = DistillerSettings(batch=16, review_every=5, unused_below=0.3, descent=DescentSettings(learning_rate=0.1))
    return Distiller(student, lambda action, sigma, observation: -action, windows(), settings)


def teaching(process: str) -> SingleLoss:
    """Build a learner of a small teacher."""
    torch.manual_seed(0)
    teacher = Teacher(TeacherSettings(process=process, trunk=TrunkSettings(width=8, depth=1)), SHAPE)
    return SingleLoss(teacher, teacher.loss, windows(), batch=16, descent=DescentSettings())


def regression(loss=None) -> SingleLoss:
    """Build a learner of one linear layer."""
    torch.manual_seed(0)
    layer = nn.Linear(2, 2)
    squared = lambda observation, action, generator: (layer(observation[:, 0]) - action).square().mean()  # noqa: E731
    return SingleLoss(layer, loss or squared, windows(), batch=16, descent=DescentSettings())


def everything(learner, ema, generator):
    """Return all state that training depends on."""
    moments = [
        descent.optimizer.state[parameter][key]
        for descent in learner.descents.values()
        for parameter in descent.parameters
        for key in ('step', 'exp_avg', 'exp_avg_sq')
    ]
    return [*learner.module.state_dict().values(), *moments, *ema.average, generator.get_state()]


def resumed(build, stop: int, checkpoint):
    """Return all state of a training of 24 steps, and that of another which was stopped and taken up again."""
    whole, generator = build(), seeded(3)
    average = Ema(whole.module, 0.99)
    fit(whole, iterations=24, generator=generator, ema=average)

    first = build()
    done = []
    fit(
        first,
        iterations=24,
        generator=seeded(3),
        ema=Ema(first.module, 0.99),
        checkpoint=Checkpoint(checkpoint),
        cancelled=lambda: done.append(None) or len(done) == stop,
    )
    second, again = build(), seeded(99)
    for parameter in second.module.parameters():
        torch.nn.init.ones_(parameter)
    ema = Ema(second.module, 0.99)
    assert fit(second, iterations=24, generator=again, ema=ema, checkpoint=Checkpoint(checkpoint, resume=True)) == 24
    assert ema.updates == average.updates == 24
    return everything(whole, average, generator), everything(second, ema, again)


# Experts are reviewed after 5, 10, 15 and 20 steps: moved in the first half, retired in the second.
@pytest.mark.parametrize('stop', [4, 5, 11, 17])
def test_a_resumed_distillation_continues_bit_for_bit_whatever_was_moved_or_retired(tmp_path, stop):
    for expected, found in zip(*resumed(distiller, stop, tmp_path / 'checkpoint.safetensors'), strict=True):
        assert torch.equal(expected, found)


def test_that_distillation_moves_experts_first_and_retires_some_later():
    learner, moves, alive = distiller(), [], []
    move = learner.module.move
    learner.module.move = lambda *arguments, **options: (moves.append(len(alive)), move(*arguments, **options))
    fit(
        learner,
        iterations=24,
        generator=seeded(3),
        monitoring=Monitoring(lambda *_: alive.append(int(learner.module.alive.sum())), every=1),
    )
    assert moves and max(moves) < 10
    assert alive[9] == 6 and alive[-1] < 6


@pytest.mark.parametrize('process', ['edm', 'ddpm'])
def test_a_resumed_teacher_continues_bit_for_bit(tmp_path, process):
    for expected, found in zip(*resumed(lambda: teaching(process), 11, tmp_path / 'it.safetensors'), strict=True):
        assert torch.equal(expected, found)


def test_a_cancelled_training_stops_at_once_and_leaves_one_whole_file(tmp_path):
    done = fit(
        regression(),
        iterations=100,
        generator=seeded(),
        checkpoint=Checkpoint(tmp_path / 'run' / 'checkpoint.safetensors'),
        cancelled=lambda: True,
    )
    assert done == 1
    assert [path.name for path in (tmp_path / 'run').iterdir()] == ['checkpoint.safetensors']


def test_a_checkpoint_of_another_build_is_refused(tmp_path):
    checkpoint = tmp_path / 'checkpoint.safetensors'
    fit(distiller(), iterations=1, generator=seeded(), checkpoint=Checkpoint(checkpoint))
    with pytest.raises(ConfigurationError, match='a checkpoint of this training'):
        fit(distiller(experts=3), iterations=2, generator=seeded(), checkpoint=Checkpoint(checkpoint, resume=True))


@pytest.mark.parametrize('content', [None, b'', b'not a checkpoint at all'])
def test_an_absent_or_damaged_checkpoint_is_refused(tmp_path, content):
    checkpoint = tmp_path / 'checkpoint.safetensors'
    if content is not None:
        checkpoint.write_bytes(content)
    with pytest.raises(ConfigurationError, match='start again'):
        fit(regression(), iterations=2, generator=seeded(), checkpoint=Checkpoint(checkpoint, resume=True))


def test_a_loss_that_is_not_finite_raises_and_keeps_the_last_good_weights(tmp_path):
    learner = regression()
    calls = []

    def diverging(observation, action, generator):
        calls.append(None)
        scale = torch.nan if len(calls) == 8 else 1.0
        return scale * learner.module(observation[:, 0]).square().mean()

    learner = SingleLoss(learner.module, diverging, windows(), batch=16, descent=DescentSettings())
    checkpoint = tmp_path / 'checkpoint.safetensors'
    with pytest.raises(TrainingError, match='finite loss.*lower the learning rate'):
        fit(learner, iterations=20, generator=seeded(), checkpoint=Checkpoint(checkpoint, every=5))
    assert all(parameter.isfinite().all() for parameter in learner.module.parameters())
    assert fit(learner, iterations=20, generator=seeded(), checkpoint=Checkpoint(checkpoint, resume=True)) == 20
    # The failure of the eighth step is found when the tenth is to be saved; all after the fifth are done again.
    assert len(calls) == 10 + 15


def test_a_teacher_that_answers_in_nan_ends_distilling_and_the_student_keeps_its_weights():
    learner = distiller()
    before = [parameter.clone() for parameter in learner.module.parameters()]
    score = lambda action, *_: torch.full_like(action, torch.nan)  # noqa: E731
    broken = Distiller(learner.module, score, windows(), learner.settings)
    with pytest.raises(TrainingError, match='finite loss'):
        fit(broken, iterations=5, generator=seeded())
    for parameter, kept in zip(learner.module.parameters(), before):
        assert torch.equal(parameter, kept)


def test_progress_is_reported_now_and_then_and_at_the_end():
    reports = []
    monitoring = Monitoring(lambda *report: reports.append(report), every=3)
    fit(regression(), iterations=7, generator=seeded(), monitoring=monitoring)
    assert [(done, total) for done, total, _ in reports] == [(3, 7), (6, 7), (7, 7)]
    assert all(set(metrics) == {'loss', 'gradient'} for *_, metrics in reports)


def test_an_average_forgets_fast_while_young_and_slowly_when_old():
    layer = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(layer.weight)
    ema = Ema(layer, decay=0.9)
    nn.init.ones_(layer.weight)
    ema.update()
    assert ema.average[0].item() == pytest.approx(1 - 2 / 11)
    for _ in range(200):
        ema.update()
    nn.init.zeros_(layer.weight)
    ema.update()
    assert ema.average[0].item() == pytest.approx(0.9)
    ema.copy_to(layer)
    assert layer.weight.item() == pytest.approx(0.9)


@pytest.mark.parametrize(
    ('decay', 'rates'), [('constant', [1, 1, 1]), ('linear', [1, 0.5, 0]), ('cosine', [1, 0.5, 0])]
)
def test_the_step_size_rises_then_falls_as_configured(decay, rates):
    settings = DescentSettings(learning_rate=1.0, warmup=0.2, decay=decay)
    found = [settings.rate(torch.tensor(progress)).item() for progress in (0.1, 0.2, 0.6, 1.0)]
    assert found == pytest.approx([0.5, *rates], abs=1e-6)


def test_a_gradient_is_clipped_to_its_largest_norm():
    parameter = nn.Parameter(torch.zeros(2))
    descent = Descent([parameter], DescentSettings(clip=0.5))
    norm = descent.step((parameter * torch.tensor([30.0, 40.0])).sum(), progress=torch.tensor(0.5))
    assert norm.item() == pytest.approx(50.0)
    torch.testing.assert_close(parameter.grad, torch.tensor([0.3, 0.4]))


@pytest.mark.parametrize('kind', ['mlp', 'transformer', 'unet'])
def test_mixed_precision_leaves_everything_but_the_layers_in_float32(kind):
    """What comes out is float32 and near to what comes out in full; scales, likelihoods and weights are not reduced."""
    torch.manual_seed(0)
    shape = PolicyShape(observation_horizon=2, observation_size=3, action_size=8, steps=4)
    trunk = TrunkSettings(kind=kind, width=32, depth=2)
    teacher = Teacher(TeacherSettings(trunk=trunk), shape)
    for parameter in teacher.parameters():
        nn.init.normal_(parameter, std=0.1)
    window, noisy = torch.randn(64, 2, 3, generator=seeded(1)), torch.randn(64, 8, generator=seeded(2))
    sigma = torch.tensor(0.02)
    full = teacher.denoiser(noisy, sigma, window)
    teacher.denoiser.mixed = True
    mixed = teacher.denoiser(noisy, sigma, window)
    assert mixed.dtype == torch.float32
    # At little noise the network has little say: its error of a part in some hundred is scaled with the noise.
    assert 0 < (mixed - full).abs().max() < 0.02 * 0.2
    mixed.square().mean().backward()
    assert all(parameter.grad.dtype == parameter.dtype == torch.float32 for parameter in teacher.parameters())


def test_a_student_of_mixed_precision_has_covariances_and_likelihoods_in_float32():
    torch.manual_seed(0)
    student = Student(StudentSettings(trunk=TrunkSettings(width=32, depth=2), experts=3), SHAPE, seeded())
    window = torch.randn(64, 1, 2, generator=seeded(1))
    full = student(window)
    student.mixed = True
    mixed = student(window)
    for name in ('mean', 'log_gating'):
        assert getattr(mixed, name).dtype == torch.float32
        assert 0 < (getattr(mixed, name) - getattr(full, name)).abs().max() < 0.05
    assert mixed.covariance.cholesky.dtype == mixed.log_prob(torch.zeros(64, 2)).dtype == torch.float32
