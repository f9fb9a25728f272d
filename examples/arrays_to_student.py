"""From arrays to a policy: a diffusion teacher, its student, and metrics on held-out demonstrations.

A point moves from left to right and passes an obstacle above or below. The average of the two modes would collide.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro

import vdd_ros

CONTRACT = vdd_ros.Contract.of_arrays(2, 2, observation_horizon=2, prediction_horizon=4, name='obstacle')


def walk(generator: np.random.Generator) -> vdd_ros.Episode:
    """Return one demonstration: observed positions, shape (time, 2), and actions, the next steps, shape (time, 2)."""
    x = np.linspace(-1, 1, generator.integers(30, 50))
    side = generator.choice([-1, 1])
    y = side * 0.6 * np.exp(-4 * x**2) + 0.02 * generator.standard_normal()
    position = np.stack([x, y], axis=1)
    return vdd_ros.Episode(position[:-1], np.diff(position, axis=0), success=True)


def main(
    output: tyro.conf.Positional[Path], teacher_updates: int = 3000, student_updates: int = 2000, episodes: int = 200
) -> dict:
    """Train both policies, and return the metrics of the student.

    Parameters
    ----------
    output
        Folder for the two artifacts.
    teacher_updates, student_updates
        Number of updates of the two networks.
    episodes
        Number of demonstrations.

    """
    generator = np.random.default_rng(0)
    demonstrations = vdd_ros.Demonstrations.from_episodes([walk(generator) for _ in range(episodes)], CONTRACT)
    settings = vdd_ros.LearningSettings().changed(
        [
            f'teacher_training.iterations={teacher_updates}',
            f'distillation.iterations={student_updates}',
            'student.experts=4',
            'start=demonstrations',
        ]
    )
    vdd_ros.train_teacher(demonstrations, output / 'teacher', settings)
    vdd_ros.distill(demonstrations, output / 'teacher', output / 'student', settings)
    return vdd_ros.evaluate(output / 'student', demonstrations.held_out)


if __name__ == '__main__':
    for name, value in tyro.cli(main).items():
        print(f'{name:28} {value:9.3f}')
