"""The PushT benchmark: what the bag holds is what was demonstrated, and every stage leaves what the next one needs."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.pusht import Stages, bars, quickened  # noqa: E402
from benchmarks.pusht_task.data import HERE, METRES, contract, observation, write_bag  # noqa: E402
from benchmarks.pusht_task.rollout import FIRST_SEED, rollout  # noqa: E402
from vdd_ros.common.progress import silent  # noqa: E402
from vdd_ros.data.convert import convert  # noqa: E402
from vdd_ros.data.decode.conversion_report import ConversionReport  # noqa: E402
from vdd_ros.learning.learning_settings import load_settings  # noqa: E402
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy  # noqa: E402


class Field:
    """A game without physics: the agent goes to its target, and covers as much as it has gone to the right."""

    def reset(self, seed: int) -> tuple[np.ndarray, dict]:
        """Start at a place that the seed draws."""
        chance = np.random.default_rng(seed)
        self.state = np.array([*chance.uniform(50, 450, 4), chance.uniform(0, 6)])
        self.start = self.state[0]
        return self.state, {}

    def step(self, target: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Go there."""
        assert target.shape == (2,) and (target >= 0).all() and (target <= 512).all()
        self.state = np.array([*target, *self.state[2:]])
        share = float(np.clip((self.state[0] - self.start) / 100, 0, 1))
        return self.state, share, share >= 1, False, {}


@pytest.fixture(scope='module')
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight demonstrations of different lengths."""
    chance = np.random.default_rng(0)
    ends = np.cumsum(chance.integers(20, 40, 8))
    state = np.concatenate([chance.uniform(50, 450, (ends[-1], 4)), chance.uniform(0, 6.28, (ends[-1], 1))], axis=1)
    path = tmp_path_factory.mktemp('pusht') / 'demonstrations.npz'
    action = chance.uniform(0, 512, (ends[-1], 2))
    np.savez(path, state=state.astype(np.float32), action=action.astype(np.float32), episode_ends=ends)
    return path


def test_the_bag_gives_back_every_state_and_action(source, tmp_path):
    assert write_bag(source, tmp_path / 'bag') == 8
    report = ConversionReport()
    episodes = list(convert(tmp_path / 'bag', contract(tmp_path), None, report))
    assert not report.entries
    with np.load(source) as data:
        begins = [0, *data['episode_ends'][:-1]]
        for episode, begin, end in zip(episodes, begins, data['episode_ends']):
            assert episode.success and episode.labels['language'] == 'push the T onto its outline'
            np.testing.assert_array_equal(episode.action, data['action'][begin:end].astype(float) * METRES)
            wanted = [observation(state) for state in data['state'][begin:end].astype(float)]
            np.testing.assert_allclose(episode.observation, wanted, atol=1e-12)


def test_every_stage_goes_on_from_the_one_before_and_stops_when_told_to(source, tmp_path):
    write_bag(source, tmp_path / 'bag')
    settings = quickened(load_settings(HERE / 'learning.yaml'))
    stopped = Stages(tmp_path, settings, silent, lambda: True)
    assert not stopped.stage('teacher') and not (tmp_path / 'teacher').exists()
    stages = Stages(tmp_path, settings, silent, lambda: False)
    assert all(stages.stage(name) for name in ('teacher', 'student', 'em'))
    assert not list(tmp_path.glob('*.run/checkpoint*'))

    def tell(done: int, total: int) -> None:
        told.append((done, total))

    for name, policy in (('teacher', TeacherPolicy), ('student', DistilledPolicy), ('em', DistilledPolicy)):
        told: list[tuple[int, int]] = []
        planner = partial(policy.load, tmp_path / name)
        found = rollout(contract(tmp_path), planner, 32, steps=17, progress=tell, new_game=Field)
        assert told == [(30, 32), (32, 32)]
        assert len(found.overlap) == 32 and 0 <= found.mean <= 1
        assert (found.steps[found.overlap < 1] == 17).all() and (found.steps[found.overlap >= 1] <= 17).all()


class Rightwards:
    """A policy that asks for twelve pixels to the right of where its newest stamp shows the agent."""

    def act(self, observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Return sixteen steps of it."""
        ahead = 0.012 * np.arange(1, 17)[:, None] * [1.0, 0.0]
        return observation[:, -1, None, :2] + ahead


def test_rollouts_execute_half_a_chunk_at_a_time_and_end_with_the_game(tmp_path):
    found = rollout(contract(tmp_path), Rightwards, 4, steps=50, progress=lambda done, total: None, new_game=Field)
    starts = [Field().reset(FIRST_SEED + number)[0][0] for number in range(4)]
    assert found.steps.tolist() == [9 if start <= 412 else 50 for start in starts]
    np.testing.assert_allclose(found.overlap, [min((512 - start) / 100, 1) for start in starts])
    assert found.success == np.mean([start <= 412 for start in starts])


def test_the_bar_holds_the_student_to_its_teacher():
    rows = [{'method': name, 'mean_max_overlap': value} for name, value in (('teacher', 0.9), ('student', 0.88))]
    assert [round(bar.value, 9) for bar in bars(rows)] == [0.02] and bars(rows)[0].holds
    rows[1]['mean_max_overlap'] = 0.86
    assert not bars(rows)[0].holds
