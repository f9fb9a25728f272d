"""The PushT benchmark: what the bag holds is what was demonstrated, and every stage leaves what the next one needs."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from benchmarks.pusht import NOISY, Rows, Stages, bars, quickened, run_seed  # noqa: E402
from benchmarks.pusht_task.data import HERE, METRES, contract, observation, write_bag  # noqa: E402
from benchmarks.pusht_task.rollout import FIRST_SEED, Arena  # noqa: E402
from vdd_ros.common.progress import silent  # noqa: E402
from vdd_ros.data.convert import convert  # noqa: E402
from vdd_ros.data.decode.conversion_report import ConversionReport  # noqa: E402
from vdd_ros.learning.learning_settings import load_settings  # noqa: E402
from vdd_ros.policy.chunk import Plan  # noqa: E402


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


def test_every_stage_continues_from_the_one_before_and_stops_on_request(source, tmp_path):
    write_bag(source, tmp_path / 'bag')
    settings = quickened(load_settings(HERE / 'learning_two_cores.yaml')).model_copy(update={'device': 'cpu'})
    with Arena(contract(tmp_path), steps=17, new_game=Field) as arena:
        seed, rows = tmp_path / 'seed-0', Rows(tmp_path / 'rows.json')
        stopped = Stages(seed, tmp_path / 'bag', settings, arena, silent, lambda: True)
        assert not run_seed(stopped, arena, rows, 0, 5, silent)
        assert not rows.all and not (seed / 'teacher').exists()
        stages = Stages(seed, tmp_path / 'bag', settings, arena, silent, lambda: False)
        assert run_seed(stages, arena, rows, 0, 5, silent)
        made = rows.all
        assert [row['method'] for row in made] == ['teacher', 'student', NOISY, 'em', 'em_selected']
        assert all(row['games'] == 5 and 0 <= row['overlap'] <= 1 and row['learning [s]'] > 0 for row in made)
        assert not list(seed.glob('*.run/checkpoint*'))
        assert {path.name for path in (seed / 'student.run').glob('labels-*')} == {
            f'labels-{name}.safetensors' for name in ('displaced', 'visited-0', 'visited-1')
        }
        again = Rows(tmp_path / 'rows.json')
        assert run_seed(stopped, arena, again, 0, 5, silent)
        assert again.all == made


def rightwards(observation: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Ask for twelve pixels to the right of where the newest stamp shows the agent, in each of sixteen steps."""
    return observation[:, -1, None, :2] + 0.012 * np.arange(1, 17)[:, None] * [1.0, 0.0]


def test_games_execute_half_a_chunk_at_a_time_and_end_alone(tmp_path):
    with Arena(contract(tmp_path), steps=50, new_game=Field) as arena:
        found = arena.test(rightwards, 4)
    starts = [Field().reset(FIRST_SEED + number)[0][0] for number in range(4)]
    assert found.steps.tolist() == [9 if start <= 412 else 50 for start in starts]
    np.testing.assert_allclose(found.overlap, [min((512 - start) / 100, 1) for start in starts])
    assert found.success == np.mean([start <= 412 for start in starts])


def test_games_in_processes_are_those_in_one_and_show_every_window(tmp_path):
    bound, told = contract(tmp_path), []
    seeds = range(FIRST_SEED, FIRST_SEED + 5)
    with Arena(bound, steps=20, new_game=Field) as arena:
        alone = arena.play(rightwards, seeds, noting=True)
        assert arena.test(rightwards, 5).windows is None
    with Arena(bound, 2, steps=20, new_game=Field) as arena:
        found = arena.play(rightwards, seeds, noting=True, progress=lambda done, total: told.append((done, total)))
        visited = arena.visit(Rightwards(), 3, seed=1)
    for name in ('overlap', 'steps', 'windows'):
        np.testing.assert_array_equal(getattr(found, name), getattr(alone, name))
    assert told[-1] == (20, 20)
    assert found.windows.shape == (5 + found.steps.sum(), 2, 10) and visited.shape[1:] == (2, 10)
    starts = found.windows[[0, *np.cumsum(found.steps + 1)[:-1]], 0]
    wanted = [observation(Field().reset(FIRST_SEED + number)[0]) for number in range(5)]
    np.testing.assert_allclose(starts, wanted)
    assert not any((visited[0, 0] == start).all() for start in starts)


class Rightwards:
    """The same policy, as the rounds of a distillation have it."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan as `rightwards` does."""
        return Plan(rightwards(observation, generator), np.full(len(observation), -1))


def rows_of(seed: int, teacher: float, student: float, em: float, solved: float) -> list[dict]:
    """Return rows as a run of one seed leaves them."""
    found = {'teacher': teacher, 'student': student, NOISY: student, 'em': em - 0.1, 'em_selected': em}
    spent = {'solved': solved, 'learning [s]': 200.0}
    return [{'seed': seed, 'method': name, 'overlap': value, **spent} for name, value in found.items()]


def test_the_bars_are_those_of_the_means_over_seeds_beside_the_better_em():
    rows = rows_of(0, 0.98, 0.97, 0.93, 0.7) + rows_of(1, 0.96, 0.95, 0.94, 0.6)
    rows.append({'seed': 0, 'method': 'inference', 'student p50 [us]': 100.0, 'teacher p50 [us]': 6000.0})
    found = {bar.name: bar for bar in bars(rows, 'cuda')}
    assert all(bar.holds for bar in found.values()) and len(found) == 8
    assert found['student: overlap ahead of the better EM'].value == pytest.approx(0.025)
    assert found['teacher and student of one seed [min]'].value == pytest.approx(400 / 60)
    assert found['student: times as fast as its teacher in the same runtime'].value == pytest.approx(60)
    worse = rows_of(0, 0.98, 0.95, 0.94, 0.59)
    assert sum(not bar.holds for bar in bars(worse, 'cuda')) == 4
    assert sum(not bar.holds for bar in bars(worse, 'cpu')) == 2
