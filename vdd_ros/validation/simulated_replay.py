"""A recorded episode on the simulated robot of its contract: bridge and replay as processes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.common.processes import NodeGraph, Value
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import Contract, Topics, load_contract
from vdd_ros.contract.features import JointStream
from vdd_ros.sim.robot_scene import robot_scene
from vdd_ros.sim.scene import load_scene
from vdd_ros.sim.tasks import load_task, robot_differs, task_of
from vdd_ros.validation.recorded_episode import read_episode

SCENE_FILE = 'scene.yaml'
"""The scene of a robot by itself, among the logs: a start for a scene file of one's own."""


def replay_simulated(
    bag: Path,
    *,
    contract: str,
    episode: int = 0,
    task: str = '',
    scene: str = '',
    logs: Path,
    report: Callable[[str], None],
) -> None:
    """Play an episode's commands on the simulated robot that they were recorded of.

    Parameters
    ----------
    bag, contract, episode
        What is played.
    task
        The scene, and who judges; empty: the task that ships with the robot of the contract, if it is of one.
    scene
        A scene file with that robot. With neither, the robot stands by itself in a scene made from its model, and
        nobody judges.
    logs
        Folder for the output of the nodes, and for that scene.
    report
        Called with each line of the result.

    Raises
    ------
    ConfigurationError
        Task or scene have another robot than the contract, or both are given.
    ModelError
        The robot's model cannot be simulated.
    BagError
        There is no such bag or episode.
    InterfaceError
        A node failed, or others take part in the ROS domain.

    """
    agreed = load_contract(contract)
    if task and scene:
        raise ConfigurationError(expected='a task or a scene', found='both', remedy='leave one of them out')
    logs.mkdir(parents=True, exist_ok=True)
    bridge: dict[str, Value] = {'mode': 'lockstep'}
    player: dict[str, Value] = {'bag': str(bag.absolute()), 'contract': contract, 'episode': episode}
    if scene:
        settings, _ = load_scene(scene)
        bridge['scene'] = str(Path(scene).absolute()) if Path(scene).suffix else scene
        player['control_rate'] = settings.command_rate
        report(f'the robot of {scene}')
    else:
        judged = load_task(task) if task else task_of(agreed)
        player['arm_contract'] = _written(_plain(agreed), logs / 'arm_contract.yaml')
        if judged is not None:
            remedy = 'leave --task out: the robot of the contract is simulated; or give --scene'
            if differs := robot_differs(judged, agreed, remedy):
                raise differs
            bridge['task'] = judged.reference
            report(f'the robot of the task {judged.name}')
        else:
            robot = agreed.robot
            track = read_episode(str(bag), agreed, episode).track
            start = dict(zip(robot.joints, track.positions[0].tolist()))
            described = robot_scene(model_path(robot.model), robot.joints, start)
            bridge['scene'] = _written(described, logs / SCENE_FILE)
            player['control_rate'] = described.command_rate
            report(f'the robot of the contract by itself, as in {logs / SCENE_FILE}')
        left = [item.topic for item in agreed.further_actions if item.source == 'topic']
        if left:
            report(f'not simulated: {", ".join(left)}; a scene file (--scene) may have what is commanded there')
    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', bridge)
        graph.start(
            'replay',
            {**player, 'autostart': True, 'reset': 'mujoco_bridge/reset', 'use_sim_time': True},
            listen=lambda line: report(line) if 'played' in line else None,
        )
        graph.wait('replay')


def _plain(contract: Contract) -> Contract:
    """Return the contract of the bridge's own arm: names, units and topics are those of the model and of the bridge."""
    kept = tuple(item for item in contract.further_actions if item.source != 'topic')
    changes = {'topics': Topics(), 'measured': JointStream(), 'commanded': JointStream(), 'further_actions': kept}
    return contract.model_copy(update=changes)


def _written(values: Any, file: Path) -> str:
    """Write what a model says to YAML; return the path."""
    dumped = json.loads(values.model_dump_json(exclude_defaults=True))
    file.write_text(yaml.safe_dump(dumped, sort_keys=False), encoding='utf-8')
    return str(file.absolute())
