"""Tasks as a `Simulator` for the rollouts of policies during the distillation of a student."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np

from vdd_ros.common.cluster import map_on_cluster
from vdd_ros.contract.contract import Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.observation import AnyObservation, joined
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.policies import Planner
from vdd_ros.validation.rollout import BATCH
from vdd_ros.validation.runner import Runner, batches_of


class TaskSimulator:
    """Rolls policies out in a task, in lockstep, and returns the visited observation windows."""

    def __init__(self, task: Task, contract: Contract, ray: str = '') -> None:
        """Simulate a task with the observations and commands of a contract; `ray` is the address of a cluster."""
        self._task, self._contract, self._ray = task, contract, ray

    def visit(self, policy: Planner, episodes: int, seed: int) -> AnyObservation:
        """Roll out a policy; return the visited windows (window, observation_horizon, observation) and images."""
        if self._ray:
            make = partial(_visiting, self._task.reference, self._contract, policy, seed)
            return joined(map_on_cluster(self._ray, make, batches_of(episodes, BATCH)))
        visits = _Visits(self._task, self._contract, policy, seed)
        return joined([visits.of(numbers) for numbers in batches_of(episodes, BATCH)])


def _visiting(task: str, contract: Contract, policy: Planner, seed: int) -> Callable[[range], AnyObservation]:
    return _Visits(load_task(task), contract, policy, seed).of


class _Visits:
    """Rolls out batches of episodes in one process."""

    def __init__(self, task: Task, contract: Contract, policy: Planner, seed: int) -> None:
        self._runner = Runner(task, contract, Deployment(), None)
        self._policy, self._seed = policy, np.random.SeedSequence(seed)

    def of(self, numbers: range) -> AnyObservation:
        """Return the windows of some episodes."""
        noting = _Noting(self._policy)
        self._runner.run(noting, Disturbances(), numbers, self._seed, lambda count: None)
        return joined(noting.windows)


class _Noting:
    """A policy that records its observation windows."""

    def __init__(self, policy: Planner) -> None:
        self._policy = policy
        self.windows: list[AnyObservation] = []

    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        self.windows.append(joined([observation]))  # a copy
        return self._policy.plan(observation, generator)
