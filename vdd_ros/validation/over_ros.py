"""Rollouts over ROS: the simulated arm, the policy node and the validator as processes, as they are on a robot."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from vdd_ros.common.processes import NodeGraph, Value
from vdd_ros.common.progress import Progress
from vdd_ros.control.deployment import Deployment
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.sim.disturbances import Disturbances

Outcome = Mapping[str, object]


def rollout_over_ros(
    student: str | Path,
    *,
    task: str = 'avoiding',
    episodes: int = 20,
    seed: int = 0,
    disturbances: Disturbances = Disturbances(),
    deployment: Deployment = Deployment(),
    logs: Path,
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Let a student drive the simulated arm through ROS: bridge, policy node and validator as processes.

    Returns for each episode its ``outcome``, ``way``, ``steps`` and ``index``.

    Raises
    ------
    ArtifactError
        The student is absent or damaged.
    InterfaceError
        A node failed; the message says why.

    """
    artifact = load_artifact(student, kind='student')
    logs.mkdir(parents=True, exist_ok=True)
    contract, outcomes = logs / 'contract.yaml', logs / f'outcomes_{time.time_ns()}.json'
    contract.write_text(json.dumps(artifact.manifest.contract.model_dump(mode='json')), encoding='utf-8')
    bridge: dict[str, Value] = {'task': task, 'mode': 'lockstep'}
    if not disturbances.is_nominal:
        file = logs / 'disturbances.yaml'
        # JSON is YAML, and says no more of a number than was meant.
        file.write_text(json.dumps(disturbances.model_dump(mode='json', exclude_defaults=True)), encoding='utf-8')
        bridge |= {'disturbances': str(file.absolute()), 'seed': seed}

    def listen(line: str) -> None:
        if (match := re.search(r'rollouts: done=(\d+) of=\d+ successes=(\d+)', line)) is not None:
            progress('ros', float(match[1]), episodes, {'successes': float(match[2])})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', bridge)
        policy = {'artifact': str(Path(student).absolute()), 'seed': seed, 'use_sim_time': True, 'control_rate': 0.0}
        graph.start('policy_node', {**deployment.parameters, **policy})
        settings = {'contract': str(contract), 'episodes': episodes, 'output': str(outcomes)}
        graph.start('validator', settings, listen=listen)
        graph.wait('validator')
    return tuple(json.loads(outcomes.read_text(encoding='utf-8')))
