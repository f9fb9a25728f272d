"""A LeRobot dataset, version 3, as a bag with a contract: demonstrations of others, for the whole pipeline."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vdd_ros.artifact import claim_output
from vdd_ros.contract import load_contract
from vdd_ros.data import bag_messages as messages
from vdd_ros.data.bag_writer import BagWriter
from vdd_ros.data.lerobot_dataset import ACTION, STATE, Dataset, Vector

_PAUSE = 2_000_000_000
_PICTURE = 24
"""Pixels that the longer side of a picture is shrunk to by the drafted contract."""
_COMMANDS = 'commands'


@dataclass(frozen=True)
class Imported:
    """What became of a dataset."""

    bag: Path
    contract: Path
    """A contract for the bag, to begin with."""
    model: Path
    """The robot's model in it: the one that was given, or a stand-in."""
    episodes: int
    frames: int


def import_dataset(
    path: str | Path,
    output: str | Path,
    *,
    model: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Write a LeRobot dataset as a bag, with a contract beside it.

    The action becomes position commands; ``observation.state`` becomes joint states if it has as many numbers, else a
    topic of its own, as do all other observations. Instructions and outcomes become labels of the episodes.

    Parameters
    ----------
    path
        The dataset's folder.
    output
        The bag to write; must not exist. Beside it ``OUTPUT.yaml`` is the contract.
    model
        MJCF or URDF of the robot, whose joints have the names of the action. Without it a stand-in is written to
        ``OUTPUT.model.xml``: enough to learn from, nothing to move.
    progress
        Told the episodes so far.

    Raises
    ------
    BagError
        There is no such dataset, or it cannot be read.
    OutputError
        An output is occupied.

    """
    dataset = Dataset(path)
    output = claim_output(output)
    contract = claim_output(output.with_name(f'{output.name}.yaml'))
    stand_in = output.with_name(f'{output.name}.model.xml') if model is None else model
    joints = tuple(_joint_name(name) for name in dataset.action.names)
    vectors = [item for item in dataset.vectors if not _is_measured(dataset, item)]
    pictures = (*dataset.images, *dataset.videos)
    topics = {'/joint_states': messages.JOINT_STATE, f'/{_COMMANDS}': messages.NUMBERS, '/episode': messages.MARK}
    topics |= {f'/{item.topic}': messages.NUMBERS for item in vectors}
    topics |= {f'/{_image_topic(key)}': messages.IMAGE for key in pictures}
    partial = output.with_name(f'.{output.name}.import')
    shutil.rmtree(partial, ignore_errors=True)
    try:
        with BagWriter(partial, topics) as bag:
            filled = _fill(bag, dataset, joints, vectors, progress)
        partial.rename(output)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    if model is None:
        _write(stand_in, _stand_in(joints, filled.low, filled.high))
    _write(contract, _contract(dataset, output.name, stand_in, joints, vectors, filled.shapes))
    load_contract(contract)
    return Imported(output, contract, stand_in, filled.episodes, filled.frames)


@dataclass
class _Filled:
    """What was written."""

    low: np.ndarray
    high: np.ndarray
    episodes: int = 0
    frames: int = 0
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)


def _fill(
    bag: BagWriter,
    dataset: Dataset,
    joints: tuple[str, ...],
    vectors: list[Vector],
    progress: Callable[[int], None] | None,
) -> _Filled:
    """Write every episode into a bag."""
    found = _Filled(np.full(len(joints), np.inf), np.full(len(joints), -np.inf))
    pictures = (*dataset.images, *dataset.videos)
    has_state = any(_is_measured(dataset, item) for item in dataset.vectors)
    stamp = _PAUSE
    for entry, values in dataset.episodes():
        action = values[ACTION]
        measured = values[STATE] if has_state else action
        found.low = np.minimum(found.low, action.min(axis=0))
        found.high = np.maximum(found.high, action.max(axis=0))
        begin = stamp
        bag.write('/episode', stamp, messages.mark(stamp, 'start', index=found.episodes))
        for row in range(len(action)):
            stamp = begin + round(row * 1e9 / dataset.rate)
            bag.write('/joint_states', stamp, messages.joint_state(stamp, joints, measured[row]))
            for item in vectors:
                bag.write(f'/{item.topic}', stamp, messages.numbers(values[item.key][row]))
            for key in pictures:
                found.shapes[key] = values[key][row].shape[:2]
                bag.write(f'/{_image_topic(key)}', stamp, messages.image(stamp, values[key][row]))
            bag.write(f'/{_COMMANDS}', stamp, messages.numbers(action[row]))
        stamp = begin + round(len(action) * 1e9 / dataset.rate)
        bag.write('/episode', stamp, messages.mark(stamp, 'end', index=found.episodes, **_labels(entry)))
        stamp += _PAUSE
        found.episodes += 1
        found.frames += len(action)
        if progress is not None:
            progress(found.episodes)
    return found


def _is_measured(dataset: Dataset, item: Vector) -> bool:
    return item.key == STATE and len(item.names) == len(dataset.action.names)


def _labels(entry: Mapping[str, Any]) -> dict[str, str]:
    """Return what is said of an episode: its instruction, and what this package added when it wrote the dataset."""
    labels = json.loads(entry['labels']) if entry.get('labels') else {}
    labels.pop('index', None)
    tasks = entry.get('tasks') or []
    found = {**labels, **({'language': str(tasks[0])} if tasks and 'language' not in labels else {})}
    return found | ({'outcome': entry['outcome']} if entry.get('outcome') else {})


def _joint_name(name: str) -> str:
    """Return the name of a joint without what LeRobot adds to it: ``elbow_flex.pos`` is ``elbow_flex``."""
    return re.sub(r'[^A-Za-z0-9_]+', '_', name.removesuffix('.pos')).strip('_') or 'joint'


def _image_topic(key: str) -> str:
    return f'{key.rpartition(".")[2]}/image_raw'


def _contract(
    dataset: Dataset,
    name: str,
    model: Path,
    joints: tuple[str, ...],
    vectors: list[Vector],
    shapes: Mapping[str, tuple[int, int]],
) -> str:
    observation: list[dict[str, Any]] = []
    if any(_is_measured(dataset, item) for item in dataset.vectors):
        observation.append({'name': 'measured', 'source': 'measured', 'space': 'joint'})
    for item in vectors:
        fields = [f'data[0:{len(item.names)}]']
        entry = {'name': item.name, 'topic': item.topic, 'type': 'Float64MultiArray', 'fields': fields}
        observation.append({**entry, 'stamp': 'receive'})
    for key, (height, width) in shapes.items():
        shrink = min(1.0, _PICTURE / max(height, width))
        image = {'height': max(1, round(height * shrink)), 'width': max(1, round(width * shrink)), 'color': 'rgb'}
        topic = {'name': key.rpartition('.')[2], 'topic': _image_topic(key), 'type': 'sensor_msgs/msg/Image'}
        observation.append({**topic, 'image': image})
    values = {
        'schema_version': 2,
        'name': _joint_name(name),
        'robot': {'model': str(model), 'tool': 'tool_point', 'joints': list(joints)},
        'topics': {'joint_states': 'joint_states', 'commands': _COMMANDS, 'episode': 'episode'},
        'policy_rate': dataset.rate,
        'observation': observation,
        'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
        'action_mode': 'absolute',
    }
    head = f'# Drafted from the LeRobot dataset {dataset.path.name}: look through it before you learn from it.\n'
    return head + yaml.safe_dump(values, sort_keys=False, width=110)


def _stand_in(joints: tuple[str, ...], low: np.ndarray, high: np.ndarray) -> str:
    """Return a model that has such joints, one upon the other, and means nothing else."""
    room = 0.1 * np.maximum(high - low, 1e-3)
    opened = ''.join(
        f'<body><joint name="{name}" type="slide" range="{first:.6g} {last:.6g}"/><geom size="0.01" mass="1"/>'
        for name, first, last in zip(joints, low - room, high + room)
    )
    closed = '<site name="tool_point"/>' + '</body>' * len(joints)
    comment = '<!-- Stands in for a robot that the dataset does not tell: its joints have the names of the actions. -->'
    return f'{comment}\n<mujoco>\n  <worldbody>{opened}{closed}</worldbody>\n</mujoco>\n'


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f'.{path.name}.partial')
    aside.write_text(text, encoding='utf-8')
    aside.replace(path)
