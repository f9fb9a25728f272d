"""Tasks of this package as a `Simulator`, in which policies act while a student is distilled."""

from __future__ import annotations

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.policy.chunk import Plan
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.policies import Planner
from vdd_ros.validation.rollout import rollout


class TaskSimulator:
    """Rolls policies out in a task, in lockstep, and returns the windows that they were asked about."""

    def __init__(self, task: Task, contract: Contract) -> None:
        """Simulate a task, observed and commanded by a contract."""
        self._task, self._contract = task, contract

    def visit(self, policy: Planner, episodes: int, seed: int) -> np.ndarray:
        """Let a policy act; return windows of shape (window, observation_horizon, observation)."""
        noting = _Noting(policy)
        rollout(self._task, self._contract, lambda: noting, episodes, seed)
        return np.concatenate(noting.windows)


class _Noting:
    """A policy that notes what it is asked about."""

    def __init__(self, policy: Planner) -> None:
        self._policy = policy
        self.windows: list[np.ndarray] = []

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        self.windows.append(observation.copy())
        return self._policy.plan(observation, generator)
