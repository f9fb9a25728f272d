"""The offline jobs as functions: record, train a teacher, distil a student, validate them; each from the files of the
one before."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from vdd_ros.artifact import Artifact, claim_output, load_artifact
from vdd_ros.contract import load_contract
from vdd_ros.errors import InterfaceError
from vdd_ros.processes import NodeGraph
from vdd_ros.progress import Progress


def record(
    output: str | Path,
    *,
    contract: str = 'avoiding_cartesian',
    task: str = 'avoiding',
    episodes: int = 288,
    seed: int = 0,
    logs: Path,
    progress: Progress,
) -> Path:
    """Record scripted demonstrations of a task over ROS: bridge, demonstrator and recorder as processes.

    Parameters
    ----------
    output
        The bag to write.
    contract, task
        Whose topics to record, and what to demonstrate.
    episodes
        How many successful demonstrations to stop after.
    seed
        Draws the demonstrations.
    logs
        Folder for what the nodes say.
    progress
        Told the successes so far.

    Raises
    ------
    OutputError
        The output is occupied.
    InterfaceError
        A node failed; the message says why.

    """
    output = claim_output(output)
    load_contract(contract)

    def listen(line: str) -> None:
        if (match := re.search(r'demonstrations: successes=(\d+) .*failures=(\d+) ways=(\d+)', line)) is not None:
            done, failures, ways = map(float, match.groups())
            progress('record', done, episodes, {'failures': failures, 'ways': ways})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {'task': task, 'mode': 'lockstep'})
        graph.start('recorder', {'output': str(output.absolute()), 'contract': contract, 'use_sim_time': True})
        settings = {'task': task, 'contract': contract, 'episodes': episodes, 'seed': seed, 'recorder': 'recorder'}
        graph.start('demonstrator', {**settings, 'use_sim_time': True}, listen=listen)
        graph.wait('demonstrator')
    if not output.exists():
        raise InterfaceError(expected=f'a bag at {output}', found='none', remedy=f'read the logs in {logs}')
    return output


@dataclass(frozen=True)
class RosRollouts:
    """Episodes of a student that drove the simulated arm over DDS, from a process of its own."""

    outcomes: tuple[Mapping[str, object], ...]

    @property
    def success(self) -> float:
        """Share of the episodes that succeeded."""
        return sum(item['outcome'] == 'success' for item in self.outcomes) / len(self.outcomes)


def rollout_over_ros(
    student: str | Path, *, task: str = 'avoiding', episodes: int = 20, seed: int = 0, logs: Path, progress: Progress
) -> RosRollouts:
    """Let a student drive the simulated arm through ROS: bridge, policy node and validator as processes.

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

    def listen(line: str) -> None:
        if (match := re.search(r'rollouts: done=(\d+) of=\d+ successes=(\d+)', line)) is not None:
            progress('ros', float(match[1]), episodes, {'successes': float(match[2])})

    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {'task': task, 'mode': 'lockstep'})
        graph.start('policy_node', {'artifact': str(Path(student).absolute()), 'seed': seed, 'use_sim_time': True})
        graph.start('validator', {'contract': str(contract), 'episodes': episodes, 'output': str(outcomes)}, listen=listen)
        graph.wait('validator')
    return RosRollouts(tuple(json.loads(outcomes.read_text(encoding='utf-8'))))
