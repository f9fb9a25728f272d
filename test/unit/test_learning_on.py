"""A teacher and a student that learn on: experts keep number, name and colour, and new behaviour is reported."""

from __future__ import annotations

from types import MappingProxyType

import numpy as np
import pytest
import torch

from vdd_ros.commands.pipeline import learn_on, teacher_of_continued
from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.windows import Demonstrations, WindowArrays
from vdd_ros.learning.jobs import distill, restored_student, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.policy.artifact import DataRecord, load_artifact
from vdd_ros.policy.labels import Label, Labels, load_labels, save_labels
from vdd_ros.policy.policy import DistilledPolicy

CONTRACT = load_contract('avoiding_cartesian')
TRUNK = {'width': 32, 'depth': 1}
SETTINGS = LearningSettings.parse(
    {
        'threads': 1,
        'student_ema': 0.8,
        'teacher': {'trunk': TRUNK},
        'teacher_training': {'iterations': 100, 'batch': 128, 'descent': {'learning_rate': 0.004}},
        'student': {'experts': 3, 'trunk': TRUNK, 'covariance': 'diagonal'},
        'distillation': {
            'iterations': 100,
            'batch': 128,
            'review_every': 10,
            'coverage': 1.0,
            'descent': {'learning_rate': 0.004},
        },
        'continuation': {'share': 1.0, 'learning_rate': 1.0, 'spare_experts': 2},
    }
)


def demonstrations(*directions: tuple[float, float], seed: int = 0) -> Demonstrations:
    """Return demonstrations of steps in some directions [cm], chosen at random wherever the tool is."""
    random = np.random.default_rng(seed)

    def windows(count: int) -> WindowArrays:
        observation = random.normal(size=(count, CONTRACT.observation_horizon, CONTRACT.observation_size))
        chosen = 0.01 * np.array(directions)[random.integers(len(directions), size=count)]
        noise = random.normal(scale=3e-4, size=(count, CONTRACT.prediction_horizon, 2))
        action = chosen[:, None] + noise
        return WindowArrays(observation, action, action[:, 0])

    return Demonstrations(CONTRACT, windows(600), windows(100), DataRecord(bags={}, episodes=8, windows=600))


LEFT, RIGHT, AHEAD = (-1.0, 1.0), (1.0, 1.0), (0.0, -2.0)


@pytest.fixture(scope='module')
def learned(tmp_path_factory):
    """A folder with a teacher and its student, whose experts have names."""
    folder = tmp_path_factory.mktemp('learned')
    train_teacher(demonstrations(LEFT, RIGHT), folder / 'teacher', SETTINGS, silent)
    distill(demonstrations(LEFT, RIGHT), folder / 'teacher', folder / 'student', SETTINGS, silent)
    artifact = load_artifact(folder / 'student')
    save_labels(artifact.path, artifact.hash, Labels(MappingProxyType({0: Label(name='first', colour='#123456')})))
    return folder


def usage(path) -> np.ndarray:
    """Return the mean gating of the experts of a student, shape (expert,)."""
    policy = DistilledPolicy.load(path)
    windows = demonstrations(LEFT).held_out.observation
    return np.exp(policy.experts(windows).log_gating).mean(axis=0)


def directions(path) -> np.ndarray:
    """Return where each expert leads on average [cm], shape (expert, 2)."""
    policy = DistilledPolicy.load(path)
    return 100 * policy.experts(demonstrations(LEFT).held_out.observation).mean.mean(axis=(0, 2))


def test_a_new_direction_is_learned_by_a_new_expert_and_the_others_keep_number_and_name(learned, tmp_path):
    before, share = directions(learned / 'student'), usage(learned / 'student')
    shown = demonstrations(LEFT, RIGHT, AHEAD)
    made = learn_on(shown, learned / 'teacher', learned / 'student', tmp_path / 'student', SETTINGS, silent)
    assert teacher_of_continued(tmp_path / 'student').is_dir()
    after, present = directions(made.path), usage(made.path)
    used = np.flatnonzero(share > 0.05)
    np.testing.assert_allclose(after[used], before[used], atol=0.35)
    ahead = [expert for expert in range(len(after)) if np.abs(after[expert] - AHEAD).max() < 0.6]
    assert sum(present[ahead]) > 0.5 / 3
    verdict = ' '.join(made.manifest.verdict)
    assert 'experts are matched and keep number, name and colour' in verdict
    appeared = [expert for expert in ahead if expert >= len(before)]
    assert all(f'Expert {expert} appeared' in verdict for expert in appeared)
    assert appeared or 'moved' in verdict
    labels = load_labels(made.path, made.hash, len(after))
    assert labels.name(0) == 'first' and labels.colour(0) == '#123456'
    old = load_artifact(learned / 'student')
    assert made.manifest.observation_offset == old.manifest.observation_offset


def test_a_teacher_of_other_scales_is_refused(learned, tmp_path):
    quick = SETTINGS.changed(['teacher_training.iterations=1'])
    train_teacher(demonstrations(LEFT, AHEAD, seed=3), tmp_path / 'other', quick, silent)
    with pytest.raises(ConfigurationError, match='learned on from the teacher of the student'):
        distill(
            demonstrations(LEFT),
            tmp_path / 'other',
            tmp_path / 'student',
            SETTINGS,
            silent,
            start=learned / 'student',
        )


def test_an_expert_that_acts_nowhere_changes_no_density_and_arranged_ones_only_their_place(learned):
    student = restored_student(load_artifact(learned / 'student'))
    count = student.settings.experts
    observation = torch.randn(64, CONTRACT.observation_horizon, CONTRACT.observation_size)
    action = torch.randn(64, student.shape.action_size)
    expected = student(observation).log_joint(action).logsumexp(dim=-1)
    larger = student.extended(2)
    assert larger.settings.experts == count + 2
    torch.testing.assert_close(larger(observation).log_joint(action).logsumexp(dim=-1), expected)
    assert larger(observation).log_gating[:, count:].exp().max() < 1e-12
    order = [*reversed(range(count))]
    turned = student.arranged(order)
    torch.testing.assert_close(turned(observation).mean, student(observation).mean[:, order])
