"""Rollouts over ROS: simulated arm, policy node and validator as separate processes, as on a robot."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from vdd_ros.common.processes import NodeGraph, Value
from vdd_ros.common.progress import Progress
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.limits import KINDS
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.tasks import Task, load_task
from vdd_ros.validation.trial import Rollouts

_SETTLING = 0.2
"""Wall time between reset and activation of the policy node [s], which must receive the new start state."""


def rollout_over_ros(
    student: str | Path,
    *,
    task: str = 'avoiding',
    episodes: int = 20,
    seed: int = 0,
    disturbances: Disturbances = Disturbances(),
    deployment: Deployment = Deployment(),
    real_time: bool = False,
    logs: Path,
    progress: Progress,
) -> Rollouts:
    """Roll out a student on the simulated arm over ROS: bridge, policy node and validator as processes.

    Parameters
    ----------
    student
        The artifact.
    task, disturbances
        The task and its disturbances.
    episodes, seed
        Number of episodes, and random seed. In real time equal seeds do not give equal episodes.
    deployment
        The deployment parameters.
    real_time
        False: lockstep, the simulation waits for the policy. True: wall-clock time as on a robot, with commands at
        the control rate of the deployment under all limits, and asynchronous planning. Other load on the computer
        affects the results.
    logs
        Folder for the output of the nodes.
    progress
        Called with the number of completed episodes whenever the validator reports it.

    Returns
    -------
    The rollouts, with all received commands. The paths are those of the commanded tool point. Values that require the
    internal state of the simulation are NaN.

    Raises
    ------
    ArtifactError
        The student is missing or damaged.
    InterfaceError
        A node failed; the message gives the reason.

    """
    began = time.perf_counter()
    contract = load_artifact(student, kind='student').manifest.contract
    run = _Run(logs, contract, real_time=real_time)
    settings: dict[str, Value] = {'episodes': episodes, 'settling': _SETTLING if real_time else 0.0}

    def listen(line: str) -> None:
        if (match := re.search(r'rollouts: done=(\d+) of=\d+ successes=(\d+)', line)) is not None:
            progress('ros', float(match[1]), episodes, {'successes': float(match[2])})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {**run.bridge(disturbances, deployment), 'task': task, 'seed': seed})
        graph.start('policy_node', {**run.policy(deployment), 'artifact': str(Path(student).absolute()), 'seed': seed})
        graph.start('validator', {**run.validator(), **settings}, listen=listen)
        graph.wait('validator')
    period = deployment.control_period(contract, simulated=False) if real_time else contract.period
    return run.rollouts(load_task(task), period, time.perf_counter() - began)


class _Run:
    """One run in a log folder: the parameters of its nodes, its files, and its results."""

    def __init__(self, logs: Path, contract: Contract, *, real_time: bool) -> None:
        logs.mkdir(parents=True, exist_ok=True)
        number = time.time_ns()
        self._logs, self._contract, self._real_time = logs, contract, real_time
        self._outcomes, self._commands = logs / f'outcomes_{number}.json', logs / f'commands_{number}.npz'
        self._contract_file = self._written('contract.yaml', contract.model_dump(mode='json'))

    def bridge(self, disturbances: Disturbances, deployment: Deployment) -> dict[str, Value]:
        """Return the parameters of the simulated arm, without task and seed."""
        values: dict[str, Value] = {'contract': self._contract_file, 'time_limit': 1 / deployment.speed}
        values |= {'mode': 'realtime', 'clock': 'wall'} if self._real_time else {'mode': 'lockstep'}
        if not disturbances.is_nominal:
            changed = disturbances.model_dump(mode='json', exclude_defaults=True)
            values['disturbances'] = self._written('disturbances.yaml', changed)
        return values

    def policy(self, deployment: Deployment) -> dict[str, Value]:
        """Return the parameters of the policy node, without artifact and seed."""
        if not self._real_time:
            return {**deployment.parameters, 'use_sim_time': True, 'control_rate': 0.0}
        record = str((self._logs / 'overrides.jsonl').absolute())
        override = {'override_name': 'validation', 'override_reason': 'the arm is simulated', 'override_record': record}
        return {**deployment.parameters, 'use_sim_time': False, **override}

    def validator(self) -> dict[str, Value]:
        """Return the files that the validator reads and writes."""
        return {'contract': self._contract_file, 'output': str(self._outcomes), 'commands': str(self._commands)}

    def rollouts(self, task: Task, period: int, seconds: float) -> Rollouts:
        """Read the results of the validator; commands were sent every ``period`` [ns]."""
        found = json.loads(self._outcomes.read_text(encoding='utf-8'))
        with np.load(self._commands) as arrays:
            count = range(len(found['episodes']))
            sent = tuple(arrays[f'sent_{number}'] for number in count)
            positions = tuple(arrays[f'position_{number}'] for number in count)
        return _rollouts(task, self._contract, found, sent, positions, period, seconds)

    def _written(self, name: str, values: Any) -> str:
        """Write a parameter file; return its absolute path. JSON is valid YAML and keeps the precision of numbers."""
        file = self._logs / name
        file.write_text(json.dumps(values), encoding='utf-8')
        return str(file.absolute())


def _rollouts(
    task: Task,
    contract: Contract,
    found: Mapping[str, Any],
    sent: tuple[np.ndarray, ...],
    positions: tuple[np.ndarray, ...],
    period: int,
    seconds: float,
) -> Rollouts:
    """Convert the record of the validator to rollouts; commands were sent every ``period`` [ns]."""
    episodes, kinematics = found['episodes'], Kinematics.from_contract(contract)
    count, stride = len(episodes), max(1, round(contract.period / period))
    modes = [task.mode_names.index(each['mode']) if each['mode'] else -1 for each in episodes]
    arm = len(contract.robot.joints)
    paths = tuple(kinematics.tool_position(rows[::stride, :arm]) for rows in positions)
    counted = {kind: found['policy'].get(f'clamped_{kind}', '').split() for kind in KINDS}
    return Rollouts(
        success=np.array([each['outcome'] == 'success' for each in episodes]),
        mode=np.array(modes),
        steps=np.array([each['steps'] for each in episodes]),
        clamped=np.full(count, np.nan),
        clearance=np.full(count, np.nan),
        paths=paths,
        states=(),
        experts=tuple(np.full(max(len(path) - 1, 0), -1) for path in paths),
        mode_names=task.mode_names,
        period=contract.period / NANOSECONDS,
        seconds=seconds,
        causes=tuple(_cause(task, each) for each in episodes),
        limited={kind: np.array(joints, dtype=float) * period / NANOSECONDS for kind, joints in counted.items()},
        commands=positions,
        sent=sent,
    )


def _cause(task: Task, episode: Mapping[str, Any]) -> str:
    """Return the cause of a failure, named as for rollouts in process; empty for a success."""
    if episode['outcome'] == 'success':
        return ''
    reason = episode.get('reason', '')
    if episode.get('stopped'):
        return str(reason)
    if episode['steps'] < task.max_steps:
        return 'collision'
    return f'time-out; last: {reason}' if reason else 'time-out'
