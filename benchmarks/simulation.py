"""Measure the simulated robot: `python -m benchmarks.simulation`.

    in process              rollouts of Avoiding on one core; the network of the student is evaluated, but student and
    guide follow the same path, so that only the cost differs
    lockstep over DDS       bridge and policy node in separate processes, as on a robot
    real time               the bridge at 500 joint states per second, alone and with a 640 x 480 RGB-D camera
    determinism             two bridges with one seed and all kinds of disturbances: bit-identical joint states

Speeds in process are relative to processor time, so that other load has little effect.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro
from rich.progress import Progress

from benchmarks.harness import Bar, finish
from benchmarks.inference import untrained
from benchmarks.simulation_guide import Guide, GuidedStudent
from benchmarks.simulation_ros import pace, states_with_disturbances
from vdd_ros.contract.contract import NANOSECONDS, load_contract
from vdd_ros.learning.learning_settings import load_settings
from vdd_ros.policy.artifact import Artifact
from vdd_ros.sim.tasks import load_task
from vdd_ros.validation.over_ros import rollout_over_ros
from vdd_ros.validation.rollout import rollout

_CONTRACT = load_contract('avoiding_cartesian')
_PERIOD = _CONTRACT.period / NANOSECONDS
_CALM = 0.001
"""Step of an untrained student [m], small enough for episodes that last until the time-out."""


def in_process(artifact: Artifact, rounds: int, episodes: int, tell: Callable[[], None]) -> list[dict[str, Any]]:
    """Roll out student and guide in turn; return the median speed of each."""
    task, policies = load_task('avoiding'), {'student': lambda: GuidedStudent(artifact), 'no network': Guide}
    speeds: dict[str, list[float]] = {name: [] for name in policies}
    for _ in range(rounds):
        for name, policy in policies.items():
            began = time.process_time()
            done = rollout(task, _CONTRACT, policy, episodes, seed=0)
            speeds[name].append(float(done.steps.sum()) * _PERIOD / (time.process_time() - began))
            tell()
    return [
        {'what': f'in process, {name}', 'x real time': sorted(each)[len(each) // 2], 'best': max(each)}
        for name, each in speeds.items()
    ]


def over_dds(artifact: Path, episodes: int, logs: Path, tell: Callable[[], None]) -> dict[str, Any]:
    """Roll out a student over DDS; the time is measured from the end of the first episode to that of the last."""
    ends: list[float] = []

    def progress(stage: str, done: float, total: float, values: dict[str, float]) -> None:
        ends.append(time.monotonic())
        tell()

    rollouts = rollout_over_ros(artifact, episodes=episodes + 1, logs=logs, progress=progress)
    simulated = float(rollouts.steps[1:].sum()) * _PERIOD
    return {'what': 'lockstep over DDS', 'x real time': simulated / (ends[-1] - ends[0]), 'seconds': ends[-1] - ends[0]}


def main(quick: bool = False, check: bool = False) -> int:
    """Measure, print and store; with ``check`` return 1 if a bar does not hold."""
    rounds, episodes, driven, seconds, commands = (1, 6, 1, 1.0, 20) if quick else (9, 120, 12, 60.0, 500)
    with tempfile.TemporaryDirectory() as folder, Progress(transient=True) as progress:
        bar = progress.add_task('simulation', total=2 * rounds + driven + 1 + 4)

        def tell() -> None:
            progress.advance(bar)

        def place(name: str) -> Path:
            (path := Path(folder, name)).mkdir()
            return path

        student = untrained('student', _CONTRACT, load_settings(None), Path(folder, 'student'), _CALM)
        rows = in_process(student, rounds, episodes, tell)
        rows.append(over_dds(Path(folder, 'student'), driven, place('dds'), tell))
        for camera in (False, True):
            name = 'real time, RGB-D camera' if camera else 'real time'
            rows.append({'what': name, **pace(place(name), seconds, camera=camera)})
            tell()
        states = []
        for run in range(2):
            states.append(states_with_disturbances(place(f'run {run}'), commands, seed=3))
            tell()
        differing = abs(len(states[0]) - len(states[1])) + sum(one != other for one, other in zip(*states))
        rows.append({'what': 'determinism', 'states': len(states[0]), 'differing': differing})
    student_speed, bare_speed, dds, alone, watched = rows[:5]
    bars = [
        Bar('in process, x real time on a core, student included', student_speed['x real time'], 150),
        Bar('in process, share of the speed without a network', student_speed['best'] / bare_speed['best'], 0.8),
        Bar('lockstep over DDS, x real time', dds['x real time'], 15),
    ]
    for row in (alone, watched):
        what, factor, drift = row['what'], row['factor'], row['drift [ms]']
        bars.append(Bar(f'{what}, distance of the mean factor from 1', abs(factor - 1), 0.002, at_most=True))
        bars.append(Bar(f'{what}, drift [ms]', abs(drift), 5, at_most=True))
    bars.append(Bar('joint states that differ between two runs of one seed', differing, 0, at_most=True))
    return finish('simulation', rows, bars, check=check)


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
