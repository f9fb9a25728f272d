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
from vdd_ros.contract.contract import Contract, Feature, Topics, load_contract
from vdd_ros.contract.features import JointStream, TopicFeature
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.robot_scene import robot_scene
from vdd_ros.sim.scene import load_scene
from vdd_ros.sim.stage import controllers_of
from vdd_ros.sim.tasks import load_task, task_of
from vdd_ros.validation.recorded_episode import driven, read_episode

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
        judged, robot, known = load_task(task) if task else task_of(agreed), agreed.robot, driven(agreed)
        kinematics = Kinematics.from_contract(agreed)
        simulated = _plain(
            known, lambda joint: kinematics.has_joint(joint) if judged is None else joint in judged.joints
        )
        player['arm_contract'] = _written(simulated, logs / 'arm_contract.yaml')
        if judged is not None:
            _refuse_other_joints(simulated, judged.joints, judged.name)
            bridge |= {'task': judged.name, 'contract': player['arm_contract']}
            report(f'the robot of the task {judged.name}')
        else:
            begin = read_episode(str(bag), known, episode).commanded.values[0]
            start = {joint: float(begin[known.joints.index(joint)]) for joint in simulated.joints}
            described = robot_scene(model_path(robot.model), simulated.joints, start)
            described = described.model_copy(update={'controllers': controllers_of(simulated)})
            bridge['scene'] = _written(described, logs / SCENE_FILE)
            bridge['lockstep_controllers'] = f'[{", ".join(described.controllers)}]'
            player['control_rate'] = described.command_rate
            report(f'the robot of the contract by itself, as in {logs / SCENE_FILE}')
        there = [each.name for each in simulated.further_actions]
        features = [each for each in agreed.further_actions if isinstance(each, TopicFeature)]
        left = [each.topic for each in features if each.name not in there]
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


def _plain(contract: Contract, is_simulated: Callable[[str], bool]) -> Contract:
    """Return the contract of the bridge's own robot: names, units and topics are those of the model and of the bridge.

    Further controllers stay whose joints are all simulated.
    """
    kept: list[Feature | TopicFeature] = []
    for feature in contract.further_actions:
        if not isinstance(feature, TopicFeature):
            kept.append(feature)
        elif all(map(is_simulated, feature.joints)):
            topic = f'{feature.name}/commands'
            kept.append(TopicFeature(name=feature.name, topic=topic, type='Float64MultiArray', joints=feature.joints))
    changes = {'topics': Topics(), 'measured': JointStream(), 'commanded': JointStream()}
    return contract.model_copy(update={**changes, 'further_actions': tuple(kept)})


def _refuse_other_joints(contract: Contract, joints: tuple[str, ...], task: str) -> None:
    if set(contract.joints) != set(joints):
        raise ConfigurationError(
            expected=f'a contract of the robot of {task}, with the joints {", ".join(joints)}',
            found=f'the joints {", ".join(contract.joints)} of {contract.name}',
            remedy='leave --task out: the robot of the contract is simulated; or give --scene',
        )


def _written(values: Any, file: Path) -> str:
    """Write what a model says to YAML; return the path."""
    dumped = json.loads(values.model_dump_json(exclude_defaults=True))
    file.write_text(yaml.safe_dump(dumped, sort_keys=False), encoding='utf-8')
    return str(file.absolute())
