"""Closed-loop rollouts in process: batches of episodes, distributed over the cores."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vdd_ros.common.cluster import map_on_cluster
from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.policies import Planner, PlannerFactory, Recorded
from vdd_ros.validation.runner import Record, Runner, batches_of
from vdd_ros.validation.trial import Rollouts, Timing, Trial

__all__ = ['BATCH', 'Planner', 'PlannerFactory', 'Recorded', 'Rollouts', 'Timing', 'Trial', 'rollout', 'rollout_all']

BATCH = 60
"""Episodes per batch. Each batch has its own random generator, so results do not depend on the processes."""

_POLL = 0.2
_ONLY = ''

Progress = Callable[[int, int], None]
"""`(episodes done, episodes)`, called whenever the number of completed episodes has changed."""


def rollout(
    task: Task,
    contract: Contract,
    planner: PlannerFactory | Recorded,
    episodes: int,
    seed: int,
    processes: int = 1,
    progress: Progress | None = None,
    *,
    disturbances: Disturbances = Disturbances(),
) -> Rollouts:
    """Roll out a policy in a task, with the default deployment parameters; `rollout_all` accepts others.

    Parameters
    ----------
    task, contract
        The task, and the contract of the policy.
    planner
        Creates the policy; called once per process.
    episodes
        Number of episodes.
    seed
        Equal seeds give equal rollouts, for any number of processes.
    processes
        Number of processes for the batches of `BATCH` episodes; 1: this process.
    progress
        Called with (episodes done, episodes) while episodes are completed.
    disturbances
        Disturbances of the simulation.

    Raises
    ------
    ConfigurationError
        The number of episodes or processes is not positive.
    ModelError
        An element named in the disturbances is not in the scene.

    """

    def report(name: str, done: int, total: int) -> None:
        if progress is not None:
            progress(done, total)

    trials = {_ONLY: Trial(planner, episodes, disturbances)}
    return rollout_all(task, contract, trials, seed, processes, report)[_ONLY]


def rollout_all(
    task: Task,
    contract: Contract,
    trials: Mapping[str, Trial],
    seed: int,
    processes: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
    deployment: Deployment = Deployment(),
    ray: str = '',
) -> dict[str, Rollouts]:
    """Run several trials, one after the other, in the same processes; see `rollout`.

    ``progress`` is called with the name of a trial, its number of completed episodes, and its total number of episodes.
    ``ray`` is the address of a Ray cluster (`cluster.map_on_cluster`) whose processors run the batches instead of
    processes on this computer.
    """
    if processes < 1 or any(trial.episodes < 1 for trial in trials.values()):
        raise ConfigurationError(
            expected='at least one episode and one process',
            found=f'{[trial.episodes for trial in trials.values()]} episodes, {processes} processes',
            remedy='use positive numbers',
        )
    report = progress or (lambda name, done, total: None)
    jobs = [(name, numbers) for name, trial in trials.items() for numbers in batches_of(trial.episodes, BATCH)]
    processes = min(processes, len(jobs))
    run = partial(_on_cluster, ray) if ray else _in_this_process if processes == 1 else _shared_out
    records: dict[str, list[Record]] = {name: [] for name in trials}
    seconds = dict.fromkeys(trials, 0.0)
    recipe = _Recipe(contract, trials, seed, deployment)
    for (name, _), (batch, spent) in zip(jobs, run(task, recipe, jobs, processes, report)):
        records[name] += batch
        seconds[name] += spent
    return {
        name: _collected(task, contract, records[name], seconds[name], trial.timing) for name, trial in trials.items()
    }


def _collected(
    task: Task, contract: Contract, records: list[Record], seconds: float, timing: Timing | None
) -> Rollouts:
    period = contract.period if timing is None else timing.control_period
    limited: dict[str, np.ndarray] = {}
    for record in records:
        for kind, counts in record.clamps.items():
            limited[kind] = limited.get(kind, 0.0) + np.array(counts) * period / NANOSECONDS
    return Rollouts(
        success=np.array([record.verdict == 'success' for record in records]),
        mode=np.array([-1 if record.mode is None else record.mode for record in records]),
        steps=np.array([len(record.experts) for record in records]),
        clamped=np.array([record.clamped * period / contract.period for record in records]),
        clearance=np.array([record.clearance if task.moving and task.obstacles else np.nan for record in records]),
        paths=tuple(np.array(record.path) for record in records),
        states=tuple(np.array(record.states) for record in records),
        experts=tuple(np.array(record.experts, dtype=np.int64) for record in records),
        mode_names=task.mode_names,
        period=contract.period / NANOSECONDS,
        seconds=seconds,
        causes=tuple(record.cause for record in records),
        limited=limited,
        commands=tuple(np.array(record.commands) for record in records),
    )


@dataclass(frozen=True)
class _Recipe:
    """The shared configuration of all processes."""

    contract: Contract
    trials: Mapping[str, Trial]
    seed: int
    deployment: Deployment


class _Runs:
    """Runs the batches of trials in one process; creates each policy once."""

    def __init__(self, task: Task, recipe: _Recipe) -> None:
        self._task, self._recipe = task, recipe
        self._runners: dict[tuple[Timing | None, str], Runner] = {}
        self._trials = recipe.trials
        self._seed = np.random.SeedSequence(recipe.seed)
        self._policies: dict[int, Planner] = {}

    def run(self, name: str, numbers: range, ended: Callable[[int], None]) -> tuple[list[Record], float]:
        """Return the records of a batch, and its duration [s]."""
        trial = self._trials[name]
        policy = trial.policy if isinstance(trial.policy, Recorded) else self._made(trial.policy)
        began = time.perf_counter()
        records = self._runner_of(trial).run(policy, trial.disturbances, numbers, self._seed, ended)
        return records, time.perf_counter() - began

    def _runner_of(self, trial: Trial) -> Runner:
        deployment = trial.deployment or self._recipe.deployment
        key = trial.timing, deployment.model_dump_json()
        if key not in self._runners:
            self._runners[key] = Runner(self._task, self._recipe.contract, deployment, trial.timing)
        return self._runners[key]

    def _made(self, factory: PlannerFactory) -> Planner:
        if id(factory) not in self._policies:
            self._policies[id(factory)] = factory()
        return self._policies[id(factory)]


def _in_this_process(
    task: Task, recipe: _Recipe, jobs: list, processes: int, report: Callable[[str, int, int], None]
) -> list[tuple[list[Record], float]]:
    done = dict.fromkeys(recipe.trials, 0)
    runs, results = _Runs(task, recipe), []
    for name, numbers in jobs:

        def ended(count: int, name: str = name) -> None:
            done[name] += count
            if count:
                report(name, done[name], recipe.trials[name].episodes)

        results.append(runs.run(name, numbers, ended))
    return results


def _shared_out(
    task: Task, recipe: _Recipe, jobs: list, processes: int, report: Callable[[str, int, int], None]
) -> list[tuple[list[Record], float]]:
    """Run the jobs in worker processes and return their results in order."""
    context, trials = multiprocessing.get_context('spawn'), recipe.trials
    done, stopped = context.Array('i', len(trials)), context.Event()
    given = (task.reference, recipe, done, stopped)
    with ProcessPoolExecutor(processes, context, _enter_worker, given) as executor:
        futures = [executor.submit(_run_in_worker, name, numbers) for name, numbers in jobs]
        reported = dict.fromkeys(trials, 0)
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, _POLL)
                for name, count in zip(trials, list(done)):
                    if count != reported[name]:
                        report(name, count, trials[name].episodes)
                        reported[name] = count
            return [future.result() for future in futures]
        finally:
            # After an interrupt or an error the workers end at their next step instead of the end of their batch.
            stopped.set()
            executor.shutdown(cancel_futures=True)


def _on_cluster(
    address: str,
    task: Task,
    recipe: _Recipe,
    jobs: list,
    processes: int,
    report: Callable[[str, int, int], None],
) -> list[tuple[list[Record], float]]:
    """Run the jobs on a Ray cluster and return their results in order."""
    done = dict.fromkeys(recipe.trials, 0)

    def ended(job: tuple[str, range]) -> None:
        name, numbers = job
        done[name] += len(numbers)
        report(name, done[name], recipe.trials[name].episodes)

    return map_on_cluster(address, partial(_cluster_worker, task.reference, recipe), jobs, ended)


def _cluster_worker(task: str, recipe: _Recipe) -> Callable[[tuple[str, range]], tuple[list[Record], float]]:
    runs = _Runs(load_task(task), recipe)
    return lambda job: runs.run(*job, lambda count: None)


class _Stopped(Exception):
    """The parent has cancelled the work."""


_worker: dict[str, Any] = {}
"""State of a worker process; empty in every other process."""


def _enter_worker(task: str, recipe: _Recipe, done: Any, stopped: Any) -> None:
    # Ctrl-C reaches every process of the terminal; only the parent handles it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(task=task, recipe=recipe, done=done, stopped=stopped)


def _run_in_worker(name: str, numbers: range) -> tuple[list[Record], float]:
    place = list(_worker['recipe'].trials).index(name)

    def ended(count: int) -> None:
        if _worker['stopped'].is_set():
            raise _Stopped
        with _worker['done'].get_lock():
            _worker['done'][place] += count

    if 'runs' not in _worker:
        _worker['runs'] = _Runs(load_task(_worker['task']), _worker['recipe'])
    return _worker['runs'].run(name, numbers, ended)
