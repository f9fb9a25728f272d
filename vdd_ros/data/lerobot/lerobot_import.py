"""Import a LeRobot dataset, version 3, as a bag with a contract."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from vdd_ros.common.errors import OutputError
from vdd_ros.common.output import claim_output
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_metadata import partial_path
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.lerobot.lerobot_dataset import ACTION, STATE, Dataset, Demonstration, Vector

_PAUSE = 2_000_000_000
_PICTURE = 96
"""Length of the longer image side in the drafted contract [pixel]."""
_COMMANDS = 'commands'
_RESERVED = ('measured', 'commanded', 'joint_states', 'episode', _COMMANDS)


@dataclass(frozen=True)
class Imported:
    """The result of the import of a dataset: the bag, its drafted contract, and the dropped data."""

    bag: Path
    contract: Path
    """The drafted contract of the bag."""
    model: Path
    """The robot model in the contract: the given one, or a placeholder."""
    episodes: int
    frames: int
    report: ConversionReport = field(default_factory=ConversionReport)
    """Data that were dropped or changed during the import."""


def import_dataset(
    path: str | Path,
    output: str | Path,
    *,
    model: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Imported:
    """Write a LeRobot dataset as a bag and a contract.

    The action becomes position commands. ``observation.state`` becomes joint states if it has as many values as the
    action, in the order of the action names if both have the same names. Otherwise ``observation.state`` becomes a
    separate topic, as do all other numeric features, including integers and booleans. Images become image messages.
    Instructions and outcomes become episode labels. Frames keep their timestamps, including pauses.

    Parameters
    ----------
    path
        The folder of the dataset.
    output
        The bag to write; it must not exist. The contract is written to ``OUTPUT.yaml``.
    model
        MJCF or URDF of the robot, whose joints have the names of the action. Without a model, a placeholder is written
        to ``OUTPUT.model.xml``. It suffices for training, but not for commanding an arm.
    progress
        Called with the number of episodes written.

    Raises
    ------
    BagError
        There is no such dataset, or it cannot be read. No files are left behind.
    OutputError
        An output exists or cannot be written.

    """
    report = ConversionReport()
    dataset = Dataset(path, report)
    output = claim_output(output)
    contract = claim_output(output.with_name(f'{output.name}.yaml'))
    made = [output, partial_path(output), contract]
    if model is None:
        made.append(claim_output(output.with_name(f'{output.name}.model.xml')))
    plan = _Plan(dataset, report)
    try:
        with BagWriter(output, plan.topics()) as bag:
            filled = _fill(bag, dataset, plan, progress)
            if model is None:
                _write(made[-1], _stand_in(plan.joints, filled.low, filled.high))
            _write(contract, _contract(plan, output.name, model or made[-1], filled))
            load_contract(contract)
    except BaseException as error:
        for item in made:
            shutil.rmtree(item, ignore_errors=True)
            item.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise OutputError(
                expected=f'a place for the bag at {output}', found=str(error), remedy='choose another path'
            ) from error
        raise
    return Imported(output, contract, model or made[-1], filled.episodes, filled.frames, report)


class _Plan:
    """The unique names of the features of a dataset in the bag and in the contract."""

    def __init__(self, dataset: Dataset, report: ConversionReport) -> None:
        self.dataset = dataset
        taken: set[str] = set()
        self.joints = tuple(_unique(_joint_name(name), taken) for name in dataset.action.names)
        cleaned = [_joint_name(name) for name in dataset.action.names]
        for name, joint in zip(cleaned, self.joints):
            report.add(
                'note', ACTION, f'two values have the name {name}: one is renamed to {joint}', int(name != joint)
            )
        states = [item for item in dataset.vectors if item.key == STATE and len(item.names) == len(self.joints)]
        self.state = states[0] if states else None
        self.order = np.arange(len(self.joints))
        """Index of the state value of each joint."""
        if self.state is not None and self.state.named and dataset.action.named:
            names = list(self.state.names)
            if set(names) == set(dataset.action.names):
                self.order = np.array([names.index(name) for name in dataset.action.names])
            else:
                shown = f'{", ".join(names)[:60]} instead of {", ".join(dataset.action.names)[:60]}'
                report.add(
                    'note', STATE, f'its names differ from those of the action: used in the same order ({shown})'
                )
        vectors = [item for item in dataset.vectors if item is not self.state]
        pictures = (*dataset.images, *dataset.videos)
        taken = set(_RESERVED)
        names = {key: _unique(_feature_name(key), taken) for key in (*(item.key for item in vectors), *pictures)}
        self.vectors: dict[str, tuple[Vector, str]] = {item.key: (item, names[item.key]) for item in vectors}
        """Numeric features with a topic of their own, and their names."""
        self.pictures = {key: names[key] for key in pictures}
        """Names of the image features."""

    def topic(self, key: str) -> str:
        """Return the topic of a feature, without the leading slash."""
        if key in self.pictures:
            return f'{self.pictures[key]}/image_raw'
        place = 'observation' if key.startswith('observation.') else 'dataset'
        return f'{place}/{self.vectors[key][1]}'

    def topics(self) -> dict[str, str]:
        """Return the message type of every topic of the bag."""
        topics = {'/joint_states': messages.JOINT_STATE, f'/{_COMMANDS}': messages.NUMBERS, '/episode': messages.MARK}
        topics |= {f'/{self.topic(key)}': messages.NUMBERS for key in self.vectors}
        return topics | {f'/{self.topic(key)}': messages.IMAGE for key in self.pictures}


@dataclass
class _Filled:
    """What was written."""

    low: np.ndarray
    high: np.ndarray
    episodes: int = 0
    frames: int = 0
    paused: bool = False
    """Whether frames are missing: two are further apart than a period."""
    even: bool = True
    """Whether every frame is a multiple of the period after the first of its episode."""
    shapes: dict[str, tuple[int, int]] = field(default_factory=dict)


def _fill(bag: BagWriter, dataset: Dataset, plan: _Plan, progress: Callable[[int], None] | None) -> _Filled:
    """Write all episodes into a bag."""
    size = len(plan.joints)
    found = _Filled(np.full(size, np.inf), np.full(size, -np.inf))
    begin = _PAUSE
    for episode in dataset.episodes():
        action = episode.numbers[ACTION]
        measured = action if plan.state is None else episode.numbers[STATE][:, plan.order]
        found.low, found.high = np.fmin(found.low, action.min(axis=0)), np.fmax(found.high, action.max(axis=0))
        pauses = np.diff(episode.stamps) > 3 * dataset.period // 2
        found.paused |= bool(pauses.any())
        found.even &= not (episode.stamps % dataset.period).any()
        why = 'pauses between two frames: no usable ticks'
        place = f'frame {int(pauses.argmax())}' if pauses.any() else ''
        dataset.report.add('note', f'episode {episode.number}', why, int(pauses.sum()), place)
        bag.write('/episode', begin, messages.mark(begin, 'start', index=found.episodes))
        for row, stamp in enumerate((begin + episode.stamps).tolist()):
            bag.write('/joint_states', stamp, messages.joint_state(stamp, plan.joints, measured[row]))
            for key in plan.vectors:
                bag.write(f'/{plan.topic(key)}', stamp, messages.numbers(episode.numbers[key][row]))
            for key, pictures in episode.pictures.items():
                pixels = next(pictures)
                found.shapes.setdefault(key, pixels.shape[:2])
                bag.write(f'/{plan.topic(key)}', stamp, messages.image(stamp, pixels))
            bag.write(f'/{_COMMANDS}', stamp, messages.numbers(action[row]))
        end = begin + int(episode.stamps[-1]) + dataset.period
        bag.write('/episode', end, messages.mark(end, 'end', index=found.episodes, **_labels(episode)))
        begin = end + _PAUSE
        found.episodes += 1
        found.frames += len(action)
        if progress is not None:
            progress(found.episodes)
    return found


def _labels(episode: Demonstration) -> dict[str, str]:
    """Return the labels of an episode: its instructions, and those stored by the export of this package."""
    entry = episode.entry
    labels = json.loads(entry['labels']) if entry.get('labels') else {}
    labels.pop('index', None)
    found = {str(key): str(value) for key, value in labels.items()}
    if episode.tasks and 'language' not in found:
        found['language'] = '; '.join(episode.tasks)
        if len(episode.tasks) > 1:
            found['tasks'] = json.dumps(episode.tasks)
    return found | ({'outcome': str(entry['outcome'])} if entry.get('outcome') else {})


def _joint_name(name: str) -> str:
    """Return the name of a joint without the LeRobot suffix: ``elbow_flex.pos`` becomes ``elbow_flex``."""
    return _cleaned(name.removesuffix('.pos')) or 'joint'


def _feature_name(key: str) -> str:
    """Return the contract name of a feature: ``observation.images.top`` becomes ``top``."""
    name = _cleaned(key.removeprefix('observation.').removeprefix('images.')) or 'feature'
    return name if name[0].isalpha() else f'feature_{name}'


def _cleaned(name: str) -> str:
    return re.sub(r'[^A-Za-z0-9_]+', '_', name).strip('_')


def _unique(name: str, taken: set[str]) -> str:
    """Return an unused name and reserve it."""
    number, found = 1, name
    while found in taken:
        number += 1
        found = f'{name}_{number}'
    taken.add(found)
    return found


def _contract(plan: _Plan, name: str, model: Path, filled: _Filled) -> str:
    dataset = plan.dataset
    observation: list[dict[str, Any]] = []
    if plan.state is not None:
        observation.append({'name': 'measured', 'source': 'measured', 'space': 'joint'})
    for key, (item, called) in plan.vectors.items():
        if key.startswith('observation.'):
            fields = [f'data[0:{len(item.names)}]']
            entry = {'name': called, 'topic': plan.topic(key), 'type': 'Float64MultiArray', 'fields': fields}
            observation.append({**entry, 'stamp': 'receive'})
    for key, (height, width) in filled.shapes.items():
        shrink = min(1.0, _PICTURE / max(height, width))
        image = {'height': max(1, round(height * shrink)), 'width': max(1, round(width * shrink)), 'color': 'rgb'}
        topic = {'name': plan.pictures[key], 'topic': plan.topic(key), 'type': 'sensor_msgs/msg/Image'}
        observation.append({**topic, 'image': image})
    if not any('image' not in item for item in observation):
        dataset.report.add(
            'note', dataset.path.name, 'no numbers are observed: the action of the previous step is used'
        )
        observation.insert(0, {'name': 'commanded', 'source': 'commanded', 'space': 'joint'})
    # Missing frames cannot be used for training: every tick needs a frame of its own.
    oldest = 0.5 if filled.even else 1.5
    values = {
        'schema_version': 3 if filled.shapes else 2,
        'name': _joint_name(name),
        'robot': {'model': str(model), 'tool': 'tool_point', 'joints': list(plan.joints)},
        'topics': {'joint_states': 'joint_states', 'commands': _COMMANDS, 'episode': 'episode'},
        **({'measured': {'align': {'max_age': round(oldest * dataset.period * 1e-9, 6)}}} if filled.paused else {}),
        'policy_rate': dataset.rate,
        'observation': observation,
        'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
        'action_mode': 'absolute',
    }
    head = f'# Drafted from the LeRobot dataset {dataset.path.name}: review it before training.\n'
    return head + yaml.safe_dump(values, sort_keys=False, width=110)


def _stand_in(joints: tuple[str, ...], low: np.ndarray, high: np.ndarray) -> str:
    """Return a placeholder model with the given joints in series."""
    low, high = (np.where(np.isfinite(values), values, 0.0) for values in (low, high))
    room = 0.1 * np.maximum(high - low, 1e-3)
    opened = ''.join(
        f'<body><joint name="{name}" type="slide" range="{first:.6g} {last:.6g}"/><geom size="0.01" mass="1"/>'
        for name, first, last in zip(joints, low - room, high + room)
    )
    closed = '<site name="tool_point"/>' + '</body>' * len(joints)
    comment = (
        '<!-- Placeholder for a robot that the dataset does not define: its joints have the names of the actions. -->'
    )
    return f'{comment}\n<mujoco>\n  <worldbody>{opened}{closed}</worldbody>\n</mujoco>\n'


def _write(path: Path, text: str) -> None:
    aside = path.with_name(f'.{path.name}.partial')
    aside.write_text(text, encoding='utf-8')
    aside.replace(path)
