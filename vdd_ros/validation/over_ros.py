"""Rollouts over ROS: the simulated arm, the policy node and the validator as processes, as they are on a robot."""

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
"""Real time between the reset of the arm and the activation of the policy node [s], which must know the new start."""


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
    """Let a student drive the simulated arm through ROS: bridge, policy node and validator as processes.

    Parameters
    ----------
    student
        The artifact.
    task, disturbances
        Where, and what is made worse there.
    episodes, seed
        How many, and what draws chance. In real time equal seeds do not give equal episodes.
    deployment
        The rules that commands are under.
    real_time
        False: lockstep, the simulation waits for the policy. True: everything by the wall clock, as on a robot:
        commands leave at the rate of the deployment under all limits, plans are made beside them. On a computer that
        is busy otherwise, results show that and not the policy.
    logs
        Folder for the output of the nodes.
    progress
        Told how far it is.

    Returns
    -------
    The rollouts, with all commands as they were received. Their paths are those of the tool point as commanded; what
    only the inside of the simulation could tell is NaN.

    Raises
    ------
    ArtifactError
        The student is absent or damaged.
    InterfaceError
        A node failed; the message says why.

    """
    began = time.perf_counter()
    contract = load_artifact(student, kind='student').manifest.contract
    logs.mkdir(parents=True, exist_ok=True)
    run = time.time_ns()
    outcomes, commands = logs / f'outcomes_{run}.json', logs / f'commands_{run}.npz'
    written = logs / 'contract.yaml'
    written.write_text(json.dumps(contract.model_dump(mode='json')), encoding='utf-8')
    bridge: dict[str, Value] = {'task': task, 'contract': str(written.absolute()), 'seed': seed}
    bridge['time_limit'] = 1 / deployment.speed  # a policy that is slowed down needs as much more time
    bridge |= {'mode': 'realtime', 'clock': 'wall'} if real_time else {'mode': 'lockstep'}
    if not disturbances.is_nominal:
        file = logs / 'disturbances.yaml'
        # JSON is YAML, and says no more of a number than was meant.
        file.write_text(json.dumps(disturbances.model_dump(mode='json', exclude_defaults=True)), encoding='utf-8')
        bridge['disturbances'] = str(file.absolute())
    policy = {**deployment.parameters, 'artifact': str(Path(student).absolute()), 'seed': seed}
    if real_time:
        record = str((logs / 'overrides.jsonl').absolute())
        answered = {'override_name': 'validation', 'override_reason': 'the arm is simulated', 'override_record': record}
        policy |= {'use_sim_time': False, **answered}
    else:
        policy |= {'use_sim_time': True, 'control_rate': 0.0}
    settings: dict[str, Value] = {
        'contract': str(written),
        'episodes': episodes,
        'output': str(outcomes),
        'commands': str(commands),
        'settling': _SETTLING if real_time else 0.0,
    }

    def listen(line: str) -> None:
        if (match := re.search(r'rollouts: done=(\d+) of=\d+ successes=(\d+)', line)) is not None:
            progress('ros', float(match[1]), episodes, {'successes': float(match[2])})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', bridge)
        graph.start('policy_node', policy)
        graph.start('validator', settings, listen=listen)
        graph.wait('validator')
    found = json.loads(outcomes.read_text(encoding='utf-8'))
    period = deployment.control_period(contract, simulated=False) if real_time else contract.period
    with np.load(commands) as arrays:
        sent = tuple(arrays[f'sent_{number}'] for number in range(episodes))
        positions = tuple(arrays[f'position_{number}'] for number in range(episodes))
    return _rollouts(load_task(task), contract, found, sent, positions, period, time.perf_counter() - began)


def _rollouts(
    task: Task,
    contract: Contract,
    found: Mapping[str, Any],
    sent: tuple[np.ndarray, ...],
    positions: tuple[np.ndarray, ...],
    period: int,
    seconds: float,
) -> Rollouts:
    """Put together what the validator wrote; commands left every ``period`` [ns]."""
    episodes, kinematics = found['episodes'], Kinematics.from_contract(contract)
    count, stride = len(episodes), max(1, round(contract.period / period))
    ways = [task.way_names.index(each['way']) if each['way'] else -1 for each in episodes]
    paths = tuple(kinematics.tool_position(rows[::stride]) for rows in positions)
    counted = {kind: found['policy'].get(f'clamped_{kind}', '').split() for kind in KINDS}
    return Rollouts(
        success=np.array([each['outcome'] == 'success' for each in episodes]),
        way=np.array(ways),
        steps=np.array([each['steps'] for each in episodes]),
        clamped=np.full(count, np.nan),
        clearance=np.full(count, np.nan),
        paths=paths,
        states=(),
        experts=tuple(np.full(max(len(path) - 1, 0), -1) for path in paths),
        way_names=task.way_names,
        period=contract.period / NANOSECONDS,
        seconds=seconds,
        causes=tuple(_cause(task, each) for each in episodes),
        limited={kind: np.array(joints, dtype=float) * period / NANOSECONDS for kind, joints in counted.items()},
        commands=positions,
        sent=sent,
    )


def _cause(task: Task, episode: Mapping[str, Any]) -> str:
    """Return why an episode failed, as it is called in process, too; empty for one that succeeded."""
    if episode['outcome'] == 'success':
        return ''
    reason = episode.get('reason', '')
    if episode.get('stopped'):
        return str(reason)
    if episode['steps'] < task.max_steps:
        return 'collision'
    return f'time-out; last: {reason}' if reason else 'time-out'
