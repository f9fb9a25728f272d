"""A teacher and its student, learned by all processes that torchrun begins: `learn_together FOLDER`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from vdd_ros.common.progress import silent
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.windows import Demonstrations, WindowArrays
from vdd_ros.learning.jobs import distill, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings
from vdd_ros.policy.artifact import DataRecord

CONTRACT = load_contract('avoiding_cartesian')
UPDATES = 200
TRUNK = {'width': 16, 'depth': 1}
SETTINGS = LearningSettings.parse(
    {
        'device': 'cpu',
        'accumulation': 2,
        'threads': 1,
        'teacher': {'trunk': TRUNK},
        'teacher_training': {'iterations': UPDATES, 'batch': 32},
        'student': {'experts': 4, 'trunk': TRUNK, 'covariance': 'low_rank'},
        # Experts are moved until the half, and retired afterwards; windows are visited in simulation and labelled.
        'distillation': {
            'iterations': UPDATES,
            'batch': 32,
            'review_every': 40,
            'unused_below': 0.25,
            'simulation': {'rounds': 1, 'episodes': 7},
            'labels': {'per_window': 0.5},
        },
        'selection': {'patience': 1},
    }
)


class Table:
    """A simulator in which every policy slides on by what it plans; it notes who asked."""

    def __init__(self, log: Path) -> None:
        self._log = log

    def visit(self, policy, episodes, seed):
        """Slide from random places."""
        with self._log.open('a', encoding='utf-8') as log:
            log.write(f'{seed}\n')
        generator = np.random.default_rng(seed)
        seen = [generator.normal(size=(episodes, CONTRACT.observation_horizon, CONTRACT.observation_size))]
        for _ in range(2):
            seen.append(seen[-1] + policy.plan(seen[-1], generator).action[:, :1])
        return np.concatenate(seen)


def demonstrations() -> Demonstrations:
    """Return demonstrations that go left or right."""
    random = np.random.default_rng(0)

    def windows(count: int) -> WindowArrays:
        observation = random.normal(size=(count, CONTRACT.observation_horizon, CONTRACT.observation_size))
        side = random.choice([-1.0, 1.0], size=(count, 1))
        action = np.stack([0.01 * side, np.full_like(side, 0.01)], axis=-1)
        action = action + random.normal(scale=1e-3, size=(count, CONTRACT.prediction_horizon, 2))
        return WindowArrays(observation, action, action[:, 0])

    return Demonstrations(CONTRACT, windows(200), windows(50), DataRecord(bags={}, episodes=8, windows=200))


def learn(folder: Path, settings: LearningSettings = SETTINGS) -> None:
    """Learn both into a folder."""
    folder.mkdir(exist_ok=True)
    data = demonstrations()
    train_teacher(data, folder / 'teacher', settings, silent)
    distill(data, folder / 'teacher', folder / 'student', settings, silent, simulator=Table(folder / 'visits'))


if __name__ == '__main__':
    learn(Path(sys.argv[1]))
