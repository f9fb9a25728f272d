"""Drafts a contract from what is found in a bag: a file to begin with, whose comments say what was guessed, and why."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vdd_ros import message_types as types
from vdd_ros.data.survey import ARRAYS, JOINT_STATE, TRAJECTORY, Seen
from vdd_ros.errors import BagError

_MARKS = 'diagnostic_msgs/msg/DiagnosticArray'
_MOST_RADIANS = 7.0
"""More than a turn and a bit: whoever says so counts in degrees."""
_PLAIN_RATE = 20.0
_POSE = 6
"""Numbers of a pose: an arm of fewer joints cannot reach all of them."""
_FEW_JOINTS = (
    '  # tool_weights: {rotation: [1, 1, 0]}   # about its own z the tool may turn: five joints keep no whole pose'
)
_PAUSE = 1.0


def draft(path: str | Path, found: Mapping[str, Seen]) -> str:
    """Return the YAML of a contract for a bag.

    Parameters
    ----------
    path
        The bag.
    found
        What `survey` tells of it.

    Raises
    ------
    BagError
        There are no joint states in it.

    """
    states = [seen for seen in found.values() if seen.info.type == JOINT_STATE and seen.names]
    if not states:
        raise BagError(
            expected=f'sensor_msgs/msg/JointState in {path}',
            found=', '.join(f'{name} ({seen.info.type})' for name, seen in found.items()) or 'no topics',
            remedy='record the joint states of the arm',
        )
    arm = max(states, key=lambda seen: ('command' not in seen.info.name, seen.size, seen.quality.count))
    commands = _commands(found, arm)
    joints, remark = _joints(arm, commands)
    commands = commands if joints else None
    joints = joints or arm.names
    lines = [
        f'# Drafted from {Path(path).name}. Read it through: what was guessed says so. Then: vdd contract check',
        'schema_version: 2',
        f'name: {"".join(c if c.isalnum() or c in "_-" else "_" for c in Path(path).stem) or "arm"}',
        'robot:',
        '  model: robot.urdf        # give the path of the MJCF or URDF of the arm',
        '  tool: tool0              # the link or site that is the tool point',
        f'  joints: [{", ".join(joints)}]' + (f'   # {remark}' if remark else ''),
        *([_FEW_JOINTS] if len(joints) < _POSE else []),
        'topics:',
        f'  joint_states: {arm.info.name.lstrip("/")}',
        *([f'  commands: {commands.info.name.lstrip("/")}'] if commands else []),
        *([f'  episode: {marks.info.name.lstrip("/")}'] if (marks := _marks(found)) else []),
        *_stream('measured', arm, _unit(arm)),
        *_commanded(commands),
        f'policy_rate: {_rate(commands):g}          # [Hz]',
        'observation:',
        '  - {name: measured, source: measured, space: joint}',
        *(['  - {name: commanded, source: commanded, space: joint}'] if commands else []),
        *_others(found, arm, commands),
        'action: {name: step, source: commanded, space: joint}',
        '# Or the pose of the tool, which needs the model of the arm:',
        '# action: {name: step, source: commanded, space: tool, axes: [x, y, z], rotation: 6d}',
        'action_mode: delta         # or absolute, or velocity',
        'observation_horizon: 2',
        'prediction_horizon: 8',
        'action_horizon: 4',
        *_episodes(found, arm),
    ]
    return '\n'.join(lines) + '\n'


def _commands(found: Mapping[str, Seen], arm: Seen) -> Seen | None:
    """Return the topic that most likely commands the arm."""
    candidates = [
        seen
        for seen in found.values()
        if seen is not arm
        and seen.quality.count > 1
        and (
            (seen.info.type in ARRAYS and 0 < seen.size <= arm.size)
            or (seen.info.type in (TRAJECTORY, JOINT_STATE) and set(seen.names) & set(arm.names))
        )
    ]
    named = [seen for seen in candidates if seen.info.type != JOINT_STATE or 'command' in seen.info.name]
    return max(named, key=lambda seen: ('command' in seen.info.name, seen.size, seen.quality.count), default=None)


def _joints(arm: Seen, commands: Seen | None) -> tuple[tuple[str, ...], str]:
    """Return the joints of the arm in the order of the commands, and how sure that is."""
    if commands is None:
        return arm.names, 'in the order of the joint states'
    if commands.names:
        return tuple(name for name in commands.names if name in arm.names), ''
    stamps, measured = arm.values()
    times, wanted = commands.values()
    place = np.searchsorted(stamps, times) - 1
    known = (place >= 0) & (times <= stamps[-1])
    if known.sum() < 2:
        return arm.names[: commands.size], 'guessed: the order of the joint states; look at that of the controller'
    cost = np.abs(wanted[known][:, :, None] - measured[place[known]][:, None, :]).mean(axis=0)
    chosen: list[int] = [-1] * commands.size
    sure = True
    for _ in chosen:  # the pair that is nearest first
        row, column = np.unravel_index(int(np.argmin(cost)), cost.shape)
        others = np.delete(cost[row], column)
        sure &= not (np.isfinite(others).any() and others.min() < 2 * cost[row, column])
        chosen[row] = int(column)
        cost[row, :], cost[:, column] = np.inf, np.inf
    names = tuple(arm.names[column] for column in chosen)
    return names, 'each joint follows its command most closely' + ('' if sure else ', but not clearly: look at it')


def _unit(seen: Seen) -> list[str]:
    _, values = seen.values()
    most = float(np.abs(values).max(initial=0.0))
    return [f'  unit: degree             # guessed: it says up to {most:.0f}'] if most > _MOST_RADIANS else []


def _stream(name: str, seen: Seen, unit: list[str]) -> list[str]:
    lines = list(unit)
    rate, latency = seen.quality.rate, seen.latency
    parts = []
    if name == 'measured' and rate:
        parts.append(f'max_age: {_rounded(max(5 / rate, 2 * seen.quality.jitter if seen.quality.jitter else 0)):g}')
    if latency is not None and latency > 0.001:
        parts.append(f'latency: {_rounded(latency):g}')
    if parts:
        lines.append(f'  align: {{method: hold, {", ".join(parts)}}}   # [s]')
    if rate:
        lines.append(f'  rate: {rate:.4g}               # [Hz]')
    return [f'{name}:', *lines] if lines else []


def _commanded(commands: Seen | None) -> list[str]:
    if commands is None:
        return ['commanded: {source: measured}   # no commands were found: the next measured state counts as one']
    lines = [] if commands.info.type == ARRAYS[0] else [f'  type: {commands.info.type}']
    return _stream('commanded', commands, [*lines, *_unit(commands)])


def _rate(commands: Seen | None) -> float:
    rate = commands.quality.rate if commands is not None else None
    return float(f'{rate:.4g}') if rate and 4 < rate < 60 else _PLAIN_RATE


def _others(found: Mapping[str, Seen], arm: Seen, commands: Seen | None) -> list[str]:
    """Return what else could be observed, as comments."""
    lines = []
    for name, seen in found.items():
        topic, kind = name.lstrip('/'), seen.info.type
        short = topic.replace('/', '_')
        head = f'  # - {{name: {short}, topic: {topic}, type: {kind}'
        age = f', align: {{max_age: {_rounded(5 / seen.quality.rate):g}}}' if seen.quality.rate else ''
        if seen is arm or seen is commands or kind == _MARKS or not seen.quality.count:
            continue
        if kind == JOINT_STATE:
            lines.append(f'{head}, joints: [{", ".join(seen.names)}]{age}}}')
        elif types.kind(kind) == 'image':
            color = 'depth' if 'depth' in topic else 'rgb'
            lines.append(f'{head}, image: {{height: 24, width: 32, color: {color}}}{age}}}')
        elif types.kind(kind) == 'points':
            lines.append(f'{head}, points: 64{age}}}')
        elif types.kind(kind) == 'frames' and not topic.endswith('_static'):
            lines.append(f'{head}, frames: [{", ".join(_frames(seen))}]{age}}}')
        elif types.default_fields(kind):
            lines.append(f'{head}{age}}}')
        elif kind in ARRAYS:
            lines.append(f"{head}, fields: ['data[0:{seen.size}]']{age}}}")
    return ['  # What else was recorded; take what the policy should see:', *lines] if lines else []


def _frames(seen: Seen) -> list[str]:
    texts = seen.layout.texts if seen.layout else {}
    parent = texts.get('transforms[0].header.frame_id', 'base_link')
    return [parent.lstrip('/'), texts.get('transforms[0].child_frame_id', 'tool0').lstrip('/')]


def _marks(found: Mapping[str, Seen]) -> Seen | None:
    for name, seen in found.items():
        texts = seen.layout.texts if seen.layout else {}
        if seen.info.type == _MARKS and (texts.get('status[0].name') == 'episode' or name.endswith('/episode')):
            return seen
    return None


def _episodes(found: Mapping[str, Seen], arm: Seen) -> list[str]:
    if _marks(found) is not None:
        return ['episodes: {by: marks}']
    signals = {
        seen.info.type: name.lstrip('/') for name, seen in found.items() if seen.quality.count and seen is not arm
    }
    lines = []
    for kind, topic in signals.items():
        if kind == 'std_msgs/msg/String':
            lines.append(f'  # language: {{topic: {topic}, type: String}}   # or outcome')
    if 'std_msgs/msg/Bool' in signals:
        head = f'  by: topic                # guessed\n  signal: {{topic: {signals["std_msgs/msg/Bool"]}, type: Bool}}'
    elif 'sensor_msgs/msg/Joy' in signals:
        topic = signals['sensor_msgs/msg/Joy']
        head = f"  by: button               # guessed\n  signal: {{topic: {topic}, type: Joy, field: 'buttons[0]'}}"
    elif any(gap.seconds > _PAUSE for gap in arm.quality.gaps):
        head = f'  by: gaps                 # guessed: joint states pause\n  gap: {_PAUSE:g}'
    else:
        head = '  by: motion               # guessed: nothing else tells demonstrations apart; or bag, for one a bag'
    return ['episodes:', head, *lines]


def _rounded(seconds: float) -> float:
    """Round up to two digits."""
    digits = 10.0 ** (np.floor(np.log10(max(seconds, 1e-6))) - 1)
    return float(f'{np.ceil(seconds / digits - 1e-9) * digits:.2g}')
