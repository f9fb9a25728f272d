"""Closed-loop rollouts in process: many episodes side by side, planned for in one batch."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.control.chunk import Plan
from vdd_ros.control.embodiment import Embodiment
from vdd_ros.errors import ConfigurationError
from vdd_ros.kinematics import Kinematics
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Referee, Task, Verdict, load_task

BATCH = 60
"""Episodes side by side. Each batch draws from a generator of its own: results do not depend on the processes."""

_POLL = 0.2

Progress = Callable[[int, int], None]


class Planner(Protocol):
    """A policy as the rollouts see it."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation); all chance is ``generator``'s."""
        ...


PlannerFactory = Callable[[], Planner]
"""Makes a planner in the process that will use it; must be picklable for more than one process."""


@dataclass(frozen=True)
class Rollouts:
    """What came of the episodes; every sequence is in their order."""

    success: np.ndarray
    """Shape (episode,) bool."""
    way: np.ndarray
    """Index into `way_names`, -1 where none was completed; shape (episode,) int."""
    steps: np.ndarray
    """Policy periods until the episode ended, shape (episode,) int."""
    paths: tuple[np.ndarray, ...]
    """The measured tool point at the start and after every step, shape (steps + 1, 3) each [m]."""
    experts: tuple[np.ndarray, ...]
    """The expert of every step, shape (steps,) each; -1 where there are no experts."""
    way_names: tuple[str, ...]
    """The ways of the task."""
    seconds: float
    """How long it took [s]."""
    simulated_seconds: float
    """How much time the episodes span together [s]."""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.success)


def rollout(
    task: Task,
    contract: Contract,
    planner: PlannerFactory,
    episodes: int,
    seed: int,
    processes: int = 1,
    progress: Progress | None = None,
) -> Rollouts:
    """Let a policy do a task again and again.

    Parameters
    ----------
    task, contract
        What is to be done, and what the policy sees and commands of it.
    planner
        Called once in each process.
    episodes
        How many.
    seed
        Equal seeds give equal rollouts, whatever the number of processes.
    processes
        Batches of `BATCH` episodes are shared out to so many; 1 stays in this one.
    progress
        Called with (episodes done, episodes).

    Raises
    ------
    ConfigurationError
        Episodes or processes are not positive.

    """
    if episodes < 1 or processes < 1:
        raise ConfigurationError(
            expected='at least one episode and one process',
            found=f'{episodes} episodes, {processes} processes',
            remedy='ask for more',
        )
    began = time.perf_counter()
    sizes = [min(BATCH, episodes - first) for first in range(0, episodes, BATCH)]
    jobs = [(size, np.random.SeedSequence(seed, spawn_key=(batch,))) for batch, size in enumerate(sizes)]
    report = progress or (lambda done, total: None)
    if processes == 1:
        done = 0

        def ended(count: int) -> None:
            nonlocal done
            done += count
            if count:
                report(done, episodes)

        runner = _Runner(task, contract, planner())
        batches = [runner.run(size, chance, ended) for size, chance in jobs]
    else:
        batches = _share_out((task.name, contract, planner), jobs, min(processes, len(jobs)), report)
    arms = [arm for batch in batches for arm in batch]
    steps = np.array([len(arm.experts) for arm in arms])
    return Rollouts(
        success=np.array([arm.verdict == 'success' for arm in arms]),
        way=np.array([-1 if arm.way is None else arm.way for arm in arms]),
        steps=steps,
        paths=tuple(np.array(arm.path) for arm in arms),
        experts=tuple(np.array(arm.experts, dtype=np.int64) for arm in arms),
        way_names=task.way_names,
        seconds=time.perf_counter() - began,
        simulated_seconds=float(steps.sum() * contract.period / NANOSECONDS),
    )


@dataclass
class _Record:
    """What is kept of an episode; small enough to be sent between processes."""

    path: list[np.ndarray] = field(default_factory=list)
    experts: list[int] = field(default_factory=list)
    verdict: Verdict = 'running'
    way: int | None = None


@dataclass(frozen=True)
class _Arm:
    simulation: Simulation
    embodiment: Embodiment
    referee: Referee
    record: _Record


class _Runner:
    """Runs batches of episodes in one process."""

    def __init__(self, task: Task, contract: Contract, planner: Planner) -> None:
        self._task = task
        self._contract = contract
        self._planner = planner
        self._kinematics = Kinematics.from_contract(contract)
        self._simulations: list[Simulation] = []

    def run(self, episodes: int, chance: np.random.SeedSequence, ended: Callable[[int], None]) -> list[_Record]:
        """Run episodes side by side and return their records; ``ended`` is told after each step how many it ended."""
        contract, generator = self._contract, np.random.default_rng(chance)
        while len(self._simulations) < episodes:
            self._simulations.append(self._task.simulation(contract.robot.joints))
        arms = [self._start(simulation) for simulation in self._simulations[:episodes]]
        running = arms
        plans: dict[int, tuple[np.ndarray, int]] = {}
        for step in range(self._task.max_steps * self._task.period // contract.period):
            windows = [arm.embodiment.observe(arm.simulation.position) for arm in running]
            offset = step % contract.action_horizon
            if offset == 0:
                plan = self._planner.plan(np.stack(windows), generator)
                plans = {id(arm): each for arm, each in zip(running, zip(plan.action, plan.expert))}
            for arm in running:
                action, expert = plans[id(arm)]
                self._act(arm, action[offset], int(expert))
            before, running = len(running), [arm for arm in running if arm.record.verdict == 'running']
            ended(before - len(running))
            if not running:
                break
        ended(len(running))
        return [arm.record for arm in arms]

    def _start(self, simulation: Simulation) -> _Arm:
        simulation.reset('start')
        embodiment = Embodiment(self._contract, self._kinematics)
        embodiment.anchor(simulation.position)
        record = _Record(path=[simulation.site_position(self._task.tool)])
        return _Arm(simulation, embodiment, self._task.new_referee(), record)

    def _act(self, arm: _Arm, action: np.ndarray, expert: int) -> None:
        record = arm.record
        # What a policy must never do: no arm would follow, so the episode has failed.
        if not np.isfinite(action).all():
            record.verdict = 'failure'
            return
        command = np.clip(arm.embodiment.target(action), self._kinematics.lower, self._kinematics.upper)
        arm.embodiment.sent(command)
        arm.simulation.set_command(command)
        arm.simulation.step(self._contract.period)
        record.verdict = arm.referee.judge(arm.simulation)
        record.way = arm.referee.way
        record.path.append(arm.simulation.site_position(self._task.tool))
        record.experts.append(expert)


def _share_out(recipe: tuple[str, Contract, PlannerFactory], jobs: list, processes: int, report: Progress) -> list:
    """Run the jobs in worker processes and return their results in order."""
    context = multiprocessing.get_context('spawn')
    done, stopped = context.Value('i', 0), context.Event()
    total = sum(size for size, _ in jobs)
    with ProcessPoolExecutor(processes, context, _enter_worker, (recipe, done, stopped)) as executor:
        futures = [executor.submit(_run_in_worker, size, chance) for size, chance in jobs]
        try:
            pending = set(futures)
            while pending:
                _, pending = wait(pending, _POLL)
                report(done.value, total)
            return [future.result() for future in futures]
        finally:
            # After an interrupt or an error the workers end at their next step, not at the end of their batch.
            stopped.set()
            executor.shutdown(cancel_futures=True)


class _Stopped(Exception):
    """The parent no longer wants the result."""


_worker: dict[str, Any] = {}
"""What a worker process was given, and the runner that it made of it; empty in every other process."""


def _enter_worker(recipe: tuple[str, Contract, PlannerFactory], done: Any, stopped: Any) -> None:
    # Ctrl-C reaches every process of the terminal; the parent alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _worker.update(recipe=recipe, done=done, stopped=stopped)


def _run_in_worker(size: int, chance: np.random.SeedSequence) -> list[_Record]:
    def ended(count: int) -> None:
        if _worker['stopped'].is_set():
            raise _Stopped
        with _worker['done'].get_lock():
            _worker['done'].value += count

    if 'runner' not in _worker:
        task, contract, planner = _worker['recipe']
        _worker['runner'] = _Runner(load_task(task), contract, planner())
    return _worker['runner'].run(size, chance, ended)
