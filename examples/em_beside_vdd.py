"""The same mixture of experts, fitted by likelihood only (EM) and distilled from a teacher (VDD)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

import vdd_ros

CONTRACT = vdd_ros.Contract.of_arrays(1, 1, name='fork')
METRICS = ('held_out_log_likelihood', 'energy_score', 'calibration_90', 'gating_entropy')


def main(
    output: tyro.conf.Positional[Path], teacher_updates: int = 3000, updates: int = 2000, samples: int = 2000
) -> dict[str, dict]:
    """Train both mixtures, and return the metrics of each on held-out windows.

    Parameters
    ----------
    output
        Folder for the artifacts.
    teacher_updates, updates
        Number of updates of the teacher, and of each mixture.
    samples
        Number of training windows.

    """
    generator = np.random.default_rng(0)
    observation = generator.uniform(-1, 1, (samples, 1))
    # One mode for negative observations, two modes for positive ones.
    action = generator.choice([-1, 1], (samples, 1)) * np.maximum(observation, 0)
    action += 0.05 * generator.standard_normal(action.shape)
    demonstrations = vdd_ros.Demonstrations.from_windows(observation, action, CONTRACT)

    settings = vdd_ros.LearningSettings().changed(
        [
            f'teacher_training.iterations={teacher_updates}',
            f'distillation.iterations={updates}',
            'student.experts=4',
            'start=demonstrations',
        ]
    )
    vdd_ros.train_teacher(demonstrations, output / 'teacher', settings)
    vdd_ros.distill(demonstrations, output / 'teacher', output / 'vdd', settings)
    vdd_ros.fit_em(demonstrations, output / 'em', settings, teacher=vdd_ros.load_artifact(output / 'teacher'))
    return {name: vdd_ros.evaluate(output / name, demonstrations.held_out) for name in ('vdd', 'em')}


if __name__ == '__main__':
    found = tyro.cli(main)
    for metric in METRICS:
        print(f'{metric:26}' + ''.join(f'{name} {metrics[metric]:7.3f}  ' for name, metrics in found.items()))
