"""Few demonstrations that are never alike: what is kept of a student that memorises them."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.reaching import demonstrations
from vdd_ros.common.progress import silent
from vdd_ros.learning.jobs import distill, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.training import DescentSettings
from vdd_ros.policy.artifact import Manifest

UPDATES, DESCENT = 600, DescentSettings(learning_rate=3e-3)


def settings(**distillation: object) -> LearningSettings:
    """Return the shipped settings of chunks, with small networks and few updates of few windows."""
    shipped = load_settings('learning_chunked')
    trunk = shipped.teacher.trunk.model_copy(update={'width': 64, 'depth': 2})
    return shipped.model_copy(
        update={
            'threads': 1,
            'teacher': shipped.teacher.model_copy(update={'trunk': trunk, 'principal_axes': False}),
            'teacher_training': shipped.teacher_training.model_copy(update={'iterations': 300, 'batch': 128}),
            'student': shipped.student.model_copy(update={'trunk': trunk, 'experts': 8, 'scale_floor': 0.02}),
            'distillation': shipped.distillation.model_copy(
                update={
                    'iterations': UPDATES,
                    'batch': 64,
                    'descent': DescentSettings(learning_rate=3e-3),
                    **distillation,
                }
            ),
        }
    )


@pytest.fixture(scope='module')
def student(tmp_path_factory: pytest.TempPathFactory) -> Manifest:
    """A student of twenty demonstrations, which it can remember."""
    folder, data = tmp_path_factory.mktemp('overfitting'), demonstrations(seed=0, count=20)
    chosen = settings()
    train_teacher(data, folder / 'teacher', chosen, silent)
    made = distill(data, folder / 'teacher', folder / 'student', chosen, silent)
    assert made is not None
    return made.manifest


def test_the_kept_student_is_as_good_as_its_best_although_it_memorised_later(student):
    curve = student.history['held_out_log_likelihood']
    assert max(curve) - curve[-1] > 2
    kept = curve[student.history['iteration'].index(student.training['kept_at'])]
    assert max(curve) - kept <= 0.5
    assert student.history['iteration'][-1] < UPDATES
    assert any(sentence.startswith('overfits') for sentence in student.verdict)


def test_its_regions_hold_what_they_should_of_held_out_actions(student):
    assert 0.4 <= student.metrics['calibration_50'] <= 0.6
    assert 0.8 <= student.metrics['calibration_90'] <= 0.97


def test_updates_follow_the_number_of_windows():
    chosen = settings(most_passes=10.0)
    assert chosen.suited_to(64).distillation.iterations == 10
    assert chosen.suited_to(1_000_000).distillation.iterations == UPDATES
    assert chosen.suited_to(1).teacher_training.iterations == 5
    assert chosen.suited_to(1).distillation.iterations == 1
