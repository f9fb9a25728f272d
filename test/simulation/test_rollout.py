"""Rollouts: what the planner is asked, what becomes of its plans, and who runs them."""

from __future__ import annotations

import functools

import numpy as np
import pytest

from vdd_ros.common.errors import ArtifactError, ConfigurationError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.policy.chunk import Plan
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.sim.tasks.avoiding.layout import MODE_NAMES, START
from vdd_ros.validation.rollout import BATCH, rollout

_VIA_Y = (-0.28, -0.14, -0.06, 0.04, 0.12, 0.22, 0.40)
_VIA_X = {
    'left-left-leftmost': (0.525, 0.42, 0.42, 0.36, 0.36, 0.28, 0.28),
    'right-right-right': (0.525, 0.58, 0.58, 0.635, 0.635, 0.575, 0.575),
}


class Guide:
    """Has stored two paths and draws one of them, as an expert, at the start of each episode."""

    def __init__(self, horizon: int = 1) -> None:
        """Plan so many steps at a time."""
        self.horizon = horizon
        self.batches: list[int] = []
        self.windows: list[np.ndarray] = []

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Follow the path that lies nearer; at the start, where both meet, draw."""
        self.batches.append(len(observation))
        self.windows.append(observation)
        xy = observation[:, -1, :2]
        drawn = generator.integers(0, 2, len(xy))
        distance = np.stack([np.abs(np.interp(xy[:, 1], _VIA_Y, x) - xy[:, 0]) for x in _VIA_X.values()], axis=1)
        expert = np.where(np.ptp(distance, axis=1) < 1e-6, drawn, distance.argmin(axis=1))
        action = np.empty((len(xy), self.horizon, 2))
        for step in range(self.horizon):
            y = xy[:, 1] + 0.01
            x = np.array([np.interp(height, _VIA_Y, list(_VIA_X.values())[mode]) for height, mode in zip(y, expert)])
            following = np.stack([x, y], axis=1)
            action[:, step] = following - xy
            xy = following
        return Plan(action, expert)


class Constant:
    """Always does the same."""

    def __init__(self, action: tuple[float, float]) -> None:
        """Do this."""
        self._action = action

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan without looking."""
        return Plan(np.tile(self._action, (len(observation), 1, 1)), np.full(len(observation), -1))


def refuse() -> Guide:
    """Fail as a planner does whose artifact is damaged."""
    raise ArtifactError(expected='weights', found='noise', remedy='train again')


@pytest.fixture(scope='module')
def task() -> Task:
    """Return the task."""
    return load_task('avoiding')


@pytest.fixture(scope='module')
def contract() -> Contract:
    """Return the contract under which the planners here work."""
    return load_contract('avoiding_cartesian')


def test_planner_with_two_modes_uses_both_and_succeeds(task: Task, contract: Contract):
    rollouts = rollout(task, contract, Guide, 12, seed=0)
    assert rollouts.success.all()
    assert {MODE_NAMES[mode] for mode in rollouts.mode} == set(_VIA_X)
    for episode in range(12):
        # Once chosen, the path is kept, and the experts tell which it was.
        experts = rollouts.experts[episode]
        assert np.all(experts == experts[0]) and MODE_NAMES[rollouts.mode[episode]] == list(_VIA_X)[experts[0]]
        assert len(experts) == rollouts.steps[episode] == len(rollouts.paths[episode]) - 1
        np.testing.assert_allclose(rollouts.paths[episode][0], [*START, 0.12], atol=1e-9)
        assert rollouts.paths[episode][-1][1] > 0.35 > rollouts.paths[episode][-2][1]
    assert rollouts.simulated_seconds == pytest.approx(0.035 * rollouts.steps.sum())


def test_equal_seeds_give_equal_rollouts_whatever_the_number_of_processes(task: Task, contract: Contract):
    episodes, progress = BATCH + 12, []
    one = rollout(task, contract, Guide, episodes, seed=5)
    two = rollout(task, contract, Guide, episodes, 5, processes=2, progress=lambda *counts: progress.append(counts))
    other = rollout(task, contract, Guide, 12, seed=6)
    assert progress[-1] == (episodes, episodes)
    for first, second in zip(one.paths, two.paths):
        np.testing.assert_array_equal(first, second)
    np.testing.assert_array_equal(one.mode, two.mode)
    assert not np.array_equal(one.mode[:12], other.mode)
    # Twelve draws of two paths: batches that shared their chance would agree.
    assert not np.array_equal(one.mode[:12], one.mode[BATCH:])


def test_planner_is_called_once_for_all_and_only_when_a_chunk_is_used_up(task: Task, contract: Contract):
    chunked = contract.model_copy(update={'prediction_horizon': 6, 'action_horizon': 4})
    guide = Guide(6)
    rollouts = rollout(task, chunked, lambda: guide, 5, seed=0)
    assert rollouts.success.all()
    assert guide.batches[0] == 5 and len(guide.batches) == -(-rollouts.steps.max() // 4)
    # The commanded points at the times of planning lie four actions apart.
    np.testing.assert_allclose(np.diff([window[0, -1, 1] for window in guide.windows[:5]]), 0.04, atol=1e-5)


def test_planner_sees_the_window_that_the_contract_defines(task: Task, contract: Contract):
    wide = contract.model_copy(update={'observation_horizon': 3, 'observation_stride': 2})
    guide = Guide()
    rollout(task, wide, lambda: guide, 1, seed=0)
    y = np.array([window[0, :, 1] for window in guide.windows[:8]])
    now = START[1] + 0.01 * np.arange(8)
    expected = np.stack([np.maximum(now - lag, START[1]) for lag in (0.04, 0.02, 0.0)], axis=1)
    np.testing.assert_allclose(y, expected, atol=1e-4)


def test_straight_on_fails_at_the_first_post(task: Task, contract: Contract):
    rollouts = rollout(task, contract, functools.partial(Constant, (0.0, 0.01)), 2, seed=0)
    assert not rollouts.success.any() and np.all(rollouts.mode == -1)
    assert rollouts.paths[0][-1][1] < -0.1
    np.testing.assert_array_equal(rollouts.experts[0], -1)


def test_standing_still_fails_when_time_is_up(task: Task, contract: Contract):
    done = []
    rollouts = rollout(
        task, contract, functools.partial(Constant, (0.0, 0.0)), 1, seed=0, progress=lambda *counts: done.append(counts)
    )
    assert not rollouts.success.any() and rollouts.steps[0] == 250 and done == [(1, 1)]
    # Inverse kinematics may be off by its tolerance, but does not creep.
    np.testing.assert_allclose(rollouts.paths[0][-1], rollouts.paths[0][0], atol=1e-5)


def test_action_that_is_not_finite_fails_the_episode_and_no_other(task: Task, contract: Contract):
    class Spoiled(Guide):
        def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
            plan = super().plan(observation, generator)
            if len(self.batches) == 3:
                plan.action[1] = np.nan
            return plan

    rollouts = rollout(task, contract, Spoiled, 3, seed=0)
    assert rollouts.success.tolist() == [True, False, True]
    assert rollouts.steps[1] == 2 and np.isfinite(rollouts.paths[1]).all()


def test_joint_contract_is_rolled_out_in_the_contract_s_own_order(task: Task):
    contract = load_contract('avoiding_joint')
    robot = contract.robot.model_copy(update={'joints': tuple(reversed(contract.robot.joints))})
    contract = contract.model_copy(update={'robot': robot})

    class TurnBase:
        def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
            action = np.zeros((len(observation), 1, 7))
            action[..., 6] = -0.02
            return Plan(action, np.zeros(len(observation), dtype=int))

    path = rollout(task, contract, TurnBase, 1, seed=0).paths[0]
    # Turning the base keeps the distance from its axis, and the height.
    radius = np.hypot(path[:, 0], path[:, 1])
    np.testing.assert_allclose(radius, radius[0], atol=0.002)
    assert np.arctan2(path[20, 1], path[20, 0]) < np.arctan2(path[0, 1], path[0, 0]) - 0.3


def test_error_of_a_planner_is_the_same_from_a_worker(task: Task, contract: Contract):
    for processes in (1, 2):
        with pytest.raises(ArtifactError, match='expected weights; found noise; train again'):
            rollout(task, contract, refuse, BATCH + 1, seed=0, processes=processes)


@pytest.mark.parametrize(('episodes', 'processes'), [(0, 1), (1, 0)])
def test_nothing_to_do_is_refused(task: Task, contract: Contract, episodes: int, processes: int):
    with pytest.raises(ConfigurationError):
        rollout(task, contract, Guide, episodes, seed=0, processes=processes)
