"""Replay a recorded episode on the simulated robot of its contract, with bridge and replay node as processes."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
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
from vdd_ros.sim.tasks import Task, load_task, robot_differs, task_of
from vdd_ros.validation.recorded_episode import driven, read_episode

SCENE_FILE = 'scene.yaml'
"""The generated scene of a robot, in the log folder; it can serve as a template for a scene file."""


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
    """Replay the commands of an episode on the simulated robot.

    Parameters
    ----------
    bag, contract, episode
        The recording, its contract, and the episode number.
    task
        A task with scene and success detector; empty: the shipped task for the contract's robot, if any.
    scene
        A scene file with the robot. Without task and scene, a scene with the robot alone is generated from its
        model, without a success detector.
    logs
        Folder for the output of the nodes, and for the generated scene.
    report
        Called with each line of the result.

    Raises
    ------
    ConfigurationError
        Task or scene have another robot than the contract, or both are given.
    ModelError
        The model of the robot cannot be simulated.
    BagError
        There is no such bag or episode.
    InterfaceError
        A node failed, or the ROS domain has other participants.

    """
    agreed = load_contract(contract)
    if task and scene:
        raise ConfigurationError(expected='a task or a scene', found='both', remedy='give only one of them')
    logs.mkdir(parents=True, exist_ok=True)
    player: dict[str, Value] = {'bag': str(bag.absolute()), 'contract': contract, 'episode': episode}
    if scene:
        setup = _scene_of_file(scene)
    else:
        judged = load_task(task) if task else task_of(agreed)
        simulated = _simulated(agreed, judged)
        setup = (
            _scene_of_robot(player, agreed, simulated, logs) if judged is None else _scene_of_task(judged, simulated)
        )
        written = _written(simulated, logs / 'arm_contract.yaml')
        setup.bridge['contract'] = setup.player['arm_contract'] = written
        setup.notes += _left_out(agreed, simulated)
    for note in setup.notes:
        report(note)
    with NodeGraph(logs) as graph:
        graph.start('mujoco_bridge', {'mode': 'lockstep', **setup.bridge})
        graph.start(
            'replay',
            {**player, **setup.player, 'autostart': True, 'reset': 'mujoco_bridge/reset', 'use_sim_time': True},
            listen=lambda line: report(line) if 'played' in line else None,
        )
        graph.wait('replay')


@dataclass
class _Setup:
    """Parameters of the bridge and of the replay node, and lines for the user."""

    bridge: dict[str, Value]
    player: dict[str, Value]
    notes: list[str]


def _scene_of_file(scene: str) -> _Setup:
    settings, _ = load_scene(scene)
    file = str(Path(scene).absolute()) if Path(scene).suffix else scene
    return _Setup({'scene': file}, {'control_rate': settings.command_rate}, [f'the robot of {scene}'])


def _scene_of_task(task: Task, simulated: Contract) -> _Setup:
    remedy = 'omit --task to simulate the robot of the contract, or give --scene'
    if differs := robot_differs(task, simulated, remedy):
        raise differs
    return _Setup({'task': task.reference}, {}, [f'the robot of the task {task.name}'])


def _scene_of_robot(recorded: Mapping[str, Any], agreed: Contract, simulated: Contract, logs: Path) -> _Setup:
    """Write a scene with the robot alone, which starts where the recorded episode does."""
    known = driven(agreed)
    begin = read_episode(recorded['bag'], known, recorded['episode']).commanded.values[0]
    start = {joint: float(begin[known.joints.index(joint)]) for joint in simulated.joints}
    scene = robot_scene(model_path(agreed.robot.model), simulated.joints, start)
    scene = scene.model_copy(update={'controllers': controllers_of(simulated)})
    note = f'the robot of the contract alone, see {logs / SCENE_FILE}'
    return _Setup({'scene': _written(scene, logs / SCENE_FILE)}, {'control_rate': scene.command_rate}, [note])


def _simulated(agreed: Contract, task: Task | None) -> Contract:
    """Return the contract of the joints that a task simulates; without task, those of the model of the robot."""
    kinematics = Kinematics.from_contract(agreed)
    return _plain(driven(agreed), lambda joint: kinematics.has_joint(joint) if task is None else joint in task.joints)


def _left_out(agreed: Contract, simulated: Contract) -> list[str]:
    """Return a line about the recorded commands that nothing receives, if there are any."""
    there = [each.name for each in simulated.further_actions]
    features = [each for each in agreed.further_actions if isinstance(each, TopicFeature)]
    left = [each.topic for each in features if each.name not in there]
    return [f'not simulated: {", ".join(left)}; a scene file (--scene) can add it'] if left else []


def _plain(contract: Contract, is_simulated: Callable[[str], bool]) -> Contract:
    """Return the contract of the bridge for this robot: names, units and topics of model and bridge.

    Further controllers are kept if all their joints are simulated.
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


def _written(values: Any, file: Path) -> str:
    """Write values to a YAML file; return its path."""
    dumped = json.loads(values.model_dump_json(exclude_defaults=True))
    file.write_text(yaml.safe_dump(dumped, sort_keys=False), encoding='utf-8')
    return str(file.absolute())
