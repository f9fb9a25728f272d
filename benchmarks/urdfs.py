"""Move robot arms of several makers that are described by URDF: `python -m benchmarks.urdfs FOLDER --check`.

FOLDER contains clones of the makers' repositories. `urdfs.yaml` beside this file lists them, with a scene file
(docs/simulation.md) without controllers for each arm, whose paths are relative to FOLDER; `--scenes` selects another
file.

Each arm is moved joint by joint by REACH, once with a position controller and once with a trajectory controller, as by
a bridge with that scene file. An arm passes if all joints with servos follow in both cases, within TOLERANCE.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tyro
import yaml

from benchmarks.harness import Bar, finish
from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.sim.stage import open_stage
from vdd_ros.sim.trajectory import TrajectoryGoal

SCENES = Path(__file__).with_name('urdfs.yaml')
REACH = 0.2
"""Motion of each joint [rad], [m]; less if its range is short."""
TOLERANCE = 0.02
"""Maximum final error of each joint [rad], [m]."""
_SECOND = 1_000_000_000
_PERIOD = 10_000_000


def main(
    folder: tyro.conf.Positional[Path],
    scenes: Path = SCENES,
    arms: tuple[str, ...] = (),
    least: int = 10,
    check: bool = False,
) -> int:
    """Run the measurement.

    Parameters
    ----------
    folder
        Folder of the repositories.
    scenes
        Scenes by name.
    arms
        Only these arms; none: all.
    least
        Number of arms that must move.
    check
        Exit with 1 if a bar does not hold.

    """
    rows = measure(folder, scenes, arms)
    moved = sum(row['position'] == row['trajectory'] == 'moves' for row in rows)
    bars = [Bar('arms that move under position and trajectory control', moved, least)]
    return finish('urdfs', rows, bars, check=check)


def measure(folder: Path, scenes: Path, arms: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Return a row for each arm.

    Raises
    ------
    ConfigurationError
        There are no scenes, or the file is not a mapping.

    """
    try:
        entries = yaml.safe_load(scenes.read_text(encoding='utf-8'))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigurationError(
            expected=f'scenes of arms in {scenes}', found=str(error), remedy='write it as the benchmark describes'
        ) from error
    if not isinstance(entries, Mapping):
        raise ConfigurationError(expected=f'a mapping in {scenes}', found=repr(entries)[:80], remedy='name each arm')
    rows = []
    for name, scene in entries.items():
        if arms and name not in arms:
            continue
        row: dict[str, Any] = {'arm': name}
        for interface in ('position', 'trajectory'):
            try:
                row['joints'], row[f'{interface} error'] = move(scene, folder, interface)
                row[interface] = 'moves' if row[f'{interface} error'] <= TOLERANCE else 'does not follow'
            except VddError as error:
                row[interface] = str(error)
        rows.append(row)
    return rows


def move(scene: Mapping[str, Any], folder: Path, interface: str) -> tuple[int, float]:
    """Move every joint with a servo; return their number, and the maximum error [rad]."""
    joints = [joint for servos in scene.get('servos', ()) for joint in servos['joints']]
    values = {**scene, 'controllers': {'arm': {'type': interface, 'joints': joints}}}
    with tempfile.NamedTemporaryFile('w', suffix='.yaml', dir=folder) as file:
        file.write(yaml.safe_dump(values))
        file.flush()
        stage = open_stage('', file.name, 'arm', interface)
    simulation, controller = stage.simulation, stage.controllers['arm']
    simulation.step(_SECOND // 2 // simulation.timestep * simulation.timestep)
    controller.start()
    model = simulation.model
    ranges = np.array([model.joint(joint).range for joint in joints])
    limited = np.array([bool(model.jnt_limited[model.joint(joint).id]) for joint in joints])
    worst, period = 0.0, max(1, _PERIOD // simulation.timestep) * simulation.timestep
    for joint in range(len(joints)):
        start = simulation.position
        span = np.ptp(ranges[joint]) if limited[joint] else np.inf
        goal, change = start.copy(), min(REACH, span / 4)
        goal[joint] += change if not limited[joint] or start[joint] + change < ranges[joint, 1] else -change
        if limited.any():
            goal = np.where(limited, np.clip(goal, *ranges.T), goal)
        if interface == 'position':
            controller.accept(controller.check(goal), simulation.stamp)
        else:
            controller.accept(TrajectoryGoal(tuple(joints), 0, np.array([_SECOND]), goal[None]), simulation.stamp)
        for _ in range(3 * _SECOND // period):
            controller.update(simulation.stamp)
            simulation.step(period)
        worst = max(worst, float(np.abs(simulation.position - goal).max()))
    return len(joints), worst


if __name__ == '__main__':
    raise SystemExit(tyro.cli(main))
