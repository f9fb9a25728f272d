"""Training on a GPU: steps that are captured as a graph learn what eager steps learn, also when resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from vdd_ros.learning.diffusion.teacher import Teacher, TeacherSettings
from vdd_ros.learning.distillation.distiller import PAPER, Distiller, DistillerSettings
from vdd_ros.learning.mixture.student import Student, StudentSettings
from vdd_ros.learning.networks import PolicyShape, TrunkSettings
from vdd_ros.learning.training import Checkpoint, DescentSettings, Ema, Learner, SingleLoss, Windows, fit

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')

STEPS, KILLED_AT = 80, 40
POINT, CHUNK, KITCHEN = PolicyShape(2, 4, 2), PolicyShape(2, 10, 32, 16), PolicyShape(6, 30, 9)
MLP = TrunkSettings(width=64, depth=2)
EXPERTS = {'experts': 8, 'trunk': MLP}


def windows(shape: PolicyShape) -> Windows:
    """Return random windows on the GPU."""
    options = {'generator': torch.Generator('cuda').manual_seed(0), 'device': 'cuda'}
    observation = torch.randn(5000, shape.observation_horizon, shape.observation_size, **options)
    return Windows(observation, torch.randn(5000, shape.action_size, **options))


def teacher(shape: PolicyShape, trunk: TrunkSettings, *, mixed: bool = False) -> Callable[[], Learner]:
    """Return what makes a learner of a teacher."""

    def make() -> Learner:
        model = Teacher(TeacherSettings(trunk=trunk), shape).cuda()
        model.denoiser.mixed = mixed
        return SingleLoss(model, model.loss, windows(shape), batch=256, descent=DescentSettings())

    return make


def student(shape: PolicyShape, made_of: StudentSettings, distillation: DistillerSettings) -> Callable[[], Learner]:
    """Return what makes a learner of a student."""

    def make() -> Learner:
        model = Teacher(TeacherSettings(trunk=MLP), shape).cuda().requires_grad_(False)
        learned = Student(made_of, shape, torch.Generator().manual_seed(0)).cuda()
        settings, source = distillation.model_copy(update={'batch': 256}), windows(shape)
        return Distiller(learned, model.score, source, settings, source if settings.imitation else None)

    return make


ALL = DistillerSettings(unused_below=0.0)
LEARNERS = {
    'mlp': teacher(POINT, MLP),
    'U-Net in bfloat16': teacher(CHUNK, TrunkSettings(kind='unet', width=32, depth=3), mixed=True),
    'transformer': teacher(KITCHEN, TrunkSettings(kind='transformer', width=48, depth=2)),
    'full covariances': student(KITCHEN, StudentSettings(**EXPERTS), ALL),
    'diagonal covariances': student(CHUNK, StudentSettings(covariance='diagonal', **EXPERTS), ALL),
    'low-rank covariances': student(CHUNK, StudentSettings(covariance='low_rank', **EXPERTS), ALL),
    'labels': student(
        CHUNK,
        StudentSettings(covariance='diagonal', **EXPERTS),
        ALL.model_copy(update={'divergence': 0.0, 'coverage': 0.0, 'imitation': 1.0}),
    ),
    'experts that retire': student(
        POINT, StudentSettings(**EXPERTS), DistillerSettings(review_every=20, unused_below=0.1, move_until=0.2)
    ),
    'published objective': student(
        POINT, StudentSettings(gating_trunk='own', scale_floor=1e-4, **EXPERTS), PAPER.model_copy()
    ),
}


def made(name: str) -> tuple[Learner, Ema, torch.Generator]:
    """Return a learner as it begins, the same every time."""
    torch.manual_seed(0)
    learner = LEARNERS[name]()
    return learner, Ema(learner.module, 0.99), torch.Generator('cuda').manual_seed(1)


def equal(first: tuple[Learner, Ema], second: tuple[Learner, Ema]) -> bool:
    """Tell whether weights and their averages are equal to the last bit."""
    pairs = [
        *zip(first[0].module.state_dict().values(), second[0].module.state_dict().values()),
        *zip(first[1].average, second[1].average),
    ]
    return all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize('name', LEARNERS)
def test_a_graph_learns_what_eager_steps_learn_and_is_resumed_bit_for_bit(name: str, tmp_path: Path, caplog):
    eager, average, generator = made(name)
    for done in range(STEPS):
        eager.step(torch.tensor(done, dtype=torch.float64, device='cuda') / STEPS, generator)
        average.update()
        eager.review(done + 1, STEPS, generator)
    learner, ema, generator = made(name)
    fit(learner, iterations=STEPS, generator=generator, ema=ema)
    assert 'without a CUDA graph' not in caplog.text
    assert equal((learner, ema), (eager, average))
    file, steps = tmp_path / 'checkpoint.safetensors', iter(range(1, STEPS))
    killed, ema_of_killed, generator = made(name)
    killing = {'checkpoint': Checkpoint(file), 'cancelled': lambda: next(steps) == KILLED_AT}
    assert fit(killed, iterations=STEPS, generator=generator, ema=ema_of_killed, **killing) == KILLED_AT
    resumed, ema_of_resumed, generator = made(name)
    options = {'checkpoint': Checkpoint(file, resume=True), 'ema': ema_of_resumed}
    fit(resumed, iterations=STEPS, generator=generator.manual_seed(7), **options)
    assert equal((resumed, ema_of_resumed), (learner, ema))
