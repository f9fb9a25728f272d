"""Draft a contract from a bag. Comments in the file mark what was guessed, with the reason."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract import message_types as types
from vdd_ros.data.quality.draft_arm import COMMANDING, GRIPPER, Arm, Limits, Unit, find_arm, unit_of
from vdd_ros.data.quality.quality import StreamQuality, measure_stream
from vdd_ros.data.quality.survey import ARRAYS, JOINT_STATE, MARKS, OTHER_CLOCK, TRAJECTORY, Seen, Survey, Table

_PLAIN_RATE = 20.0
_POSE = 6
"""Degrees of freedom of a pose: an arm with fewer joints cannot reach every pose."""
_FEW_JOINTS = (
    '  # tool_weights: {rotation: [1, 1, 0]}   # free rotation about the tool z axis, for arms with five joints'
)
_PAUSE = 1.0
_NUMBERS = {f'std_msgs/msg/{name}' for name in 'Float64 Float32 Int32 Int64 UInt8 Bool'.split()}
_NO_LIMITS: Limits = MappingProxyType({})


@dataclass(frozen=True)
class Model:
    """The robot model of a drafted contract: file, tool and joint limits."""

    path: str
    tool: str
    limits: Limits
    """Lower and upper limit of each joint [rad, m]."""


def draft(found: Survey, model: Model | None = None) -> str:
    """Return the YAML of a contract for a bag.

    Parameters
    ----------
    found
        The result of `survey` with `values`.
    model
        The robot; without one the draft has a placeholder.

    Raises
    ------
    BagError
        No joint state has a position.

    """
    arm = find_arm(found, model.limits if model is not None else _NO_LIMITS)
    if arm is None:
        there = any(seen.info.type == JOINT_STATE and seen.quality.foreign for seen in found.topics.values())
        raise BagError(
            expected=f'sensor_msgs/msg/JointState with positions in {found.path}',
            found=', '.join(map(_described, found.topics.values())) or 'no topics',
            remedy='record the joint states with rosbag2 as plain CDR, or convert the bag' * there
            or 'record the joint states of the arm',
        )
    return '\n'.join(_Draft(found, arm, model).lines()) + '\n'


def _described(seen: Seen) -> str:
    problem = f'; no message can be decoded: {seen.problem}' if seen.problem else ''
    return f'{seen.info.name} ({seen.info.type}{problem})'


class _Draft:
    """Writes the lines of one draft."""

    def __init__(self, found: Survey, arm: Arm, model: Model | None) -> None:
        self._found, self._arm, self._model = found, arm, model
        self._limits = model.limits if model is not None else _NO_LIMITS
        self._commands = arm.commands
        self._marks = _marks(found.topics)
        self._grippers = [*self._gripper_commands()]
        used = [arm.seen, *([self._commands.seen] if self._commands else []), *self._grippers]
        # If one stream is stamped by reception, all others must use the same clock.
        self._by_reception = any(_is_unstamped(seen) for seen in used) or self._marks is not None
        self._by_reception |= len({round(_offset(seen) / OTHER_CLOCK) for seen in used if not _is_unstamped(seen)}) > 1

    def lines(self) -> list[str]:
        arm, commands, path = self._arm, self._commands, self._found.path
        name = ''.join(c if c.isalnum() or c in '_-' else '_' for c in path.stem) or 'arm'
        remark = commands.remark if commands else 'in the order of the joint states'
        return [
            f'# Drafted from {path.name}. Review it: guesses are marked. Then run: vdd contract check',
            f'schema_version: {3 if self._sees else 2}',
            f'name: {name}',
            'robot:',
            f'  model: {self._model.path}' if self._model else
            '  model: robot.urdf        # path of the MJCF or URDF of the arm',
            f'  tool: {self._model.tool}' if self._model and self._model.tool else
            '  tool: tool0              # link or site of the tool point',
            f'  joints: [{", ".join(map(_quoted, arm.joints))}]' + (f'   # {remark}' if remark else ''),
            *([_FEW_JOINTS] if len(arm.joints) < _POSE else []),
            'topics:',
            f'  joint_states: {arm.seen.info.name.lstrip("/")}',
            *([f'  commands: {commands.seen.info.name.lstrip("/")}'] if commands else []),
            *([f'  episode: {self._marks.info.name.lstrip("/")}'] if self._marks else []),
            *self._measured(),
            *self._commanded(),
            f'policy_rate: {self._policy_rate():g}          # [Hz]',
            'observation:',
            '  - {name: measured, source: measured, space: joint}',
            *(['  - {name: commanded, source: commanded, space: joint}'] if commands else []),
            *self._gripper_states(),
            *self._others(),
            *self._actions(),
            '# Or the tool pose, which requires the model of the arm:',
            '# action: {name: step, source: commanded, space: tool, axes: [x, y, z], rotation: 6d}',
            'action_mode: delta         # or absolute, or velocity',
            'observation_horizon: 2',
            'prediction_horizon: 8      # chunks: --settings learning_chunked; with 1: learning_joint',
            'action_horizon: 4',
            *_episodes(self._found.topics, self._marks, arm),
        ]  # fmt: skip

    @property
    def _sees(self) -> bool:
        """Whether images were recorded, which version 3 of contracts keeps beside the vector."""
        return any(types.kind(seen.info.type) == 'image' for seen in self._found.topics.values())

    # How streams are read

    def _measured(self) -> list[str]:
        table = self._arm.table
        values = table.values[:, [table.names.index(name) for name in self._arm.joints]]
        return self._stream('measured', self._arm.seen, self._units(self._arm.joints, values), aged=True)

    def _commanded(self) -> list[str]:
        commands = self._commands
        if commands is None:
            return ['commanded: {source: measured}   # no commands found: the next measured state is used instead']
        lines = [] if commands.seen.info.type == ARRAYS[0] else [f'  type: {commands.seen.info.type}']
        if commands.names:
            lines.append(f'  names: [{", ".join(map(_quoted, commands.names))}]')
        table = self._arm.table
        units = self._columns(self._arm.joints, table.values[:, [table.names.index(name) for name in self._arm.joints]])
        if all(ratio == 1.0 for ratio in commands.ratios):
            shown = _unit_lines(units)
        else:
            shown = _unit_lines([_divided(unit, ratio) for unit, ratio in zip(units, commands.ratios)])
        return self._stream('commanded', commands.seen, [*lines, *shown], aged=False)

    def _stream(self, name: str, seen: Seen, lines: list[str], *, aged: bool) -> list[str]:
        quality, rule = _timed(seen), self._stamp_rule(seen)
        parts = []
        if rule:
            lines = [*lines, f'  stamp: receive           # {rule}']
        if aged and quality.rate:
            parts.append(f'max_age: {_rounded(max(5 / quality.rate, 2 * (quality.jitter or 0))):g}')
        if not rule and seen.latency is not None and seen.latency > 0.001:
            parts.append(f'latency: {_rounded(seen.latency):g}')
        if parts:
            lines = [*lines, f'  align: {{method: hold, {", ".join(parts)}}}   # [s]']
        if quality.rate:
            lines = [*lines, f'  rate: {quality.rate:.4g}               # [Hz]']
        return [f'{name}:', *lines] if lines else []

    def _stamp_rule(self, seen: Seen) -> str:
        """Return why a stream must be stamped by reception; empty if its headers are usable."""
        if not types.has_header(seen.info.type):
            return ''
        if _is_unstamped(seen):
            return 'its headers have no stamp'
        if self._by_reception and abs(_offset(seen)) > OTHER_CLOCK:
            return f'its headers use another clock, {_offset(seen):.3g} s behind'
        return ''

    def _units(self, names: Iterable[str], values: np.ndarray) -> list[str]:
        return _unit_lines(self._columns(names, values))

    def _columns(self, names: Iterable[str], values: np.ndarray) -> list[Unit]:
        most = np.nan_to_num(np.abs(values), nan=0.0).max(axis=0, initial=0.0)
        return [
            unit_of(name, values[:, place], float(np.delete(most, place).max(initial=0.0)), self._limits)
            for place, name in enumerate(names)
        ]

    def _policy_rate(self) -> float:
        rate = _timed(self._commands.seen).rate if self._commands is not None else None
        return float(f'{rate:.4g}') if rate and 4 < rate < 60 else _PLAIN_RATE

    # The gripper, and other topics

    def _gripper_commands(self) -> Iterable[Seen]:
        for name, seen in self._found.topics.items():
            kind, commands = seen.info.type, self._commands
            if not seen.quality.count or (commands is not None and seen is commands.seen) or seen is self._arm.seen:
                continue
            joints = [joint for table in seen.tables for joint in table.names]
            about = GRIPPER.search(name) or (joints and all(GRIPPER.search(joint) for joint in joints))
            if not about or not (COMMANDING.search(name) or kind == TRAJECTORY):
                continue
            if kind in _NUMBERS or kind == types.GRIPPER_COMMAND or (kind in (TRAJECTORY, *ARRAYS) and seen.tables):
                yield seen

    def _actions(self) -> list[str]:
        first = '{name: step, source: commanded, space: joint}'
        if not self._grippers:
            return [f'action: {first}']
        return ['action:', f'  - {first}', *(f'  - {self._gripper_action(seen)}' for seen in self._grippers)]

    def _gripper_action(self, seen: Seen) -> str:
        kind, topic = seen.info.type, seen.info.name.lstrip('/')
        parts = [f'name: {_short(topic)}', f'topic: {topic}', f'type: {kind}']
        if kind == TRAJECTORY:
            parts.append(f'joints: [{", ".join(map(_quoted, seen.tables[0].names))}]')
            parts += self._scale(seen.tables[0])
        elif kind in ARRAYS:
            parts.append(f"fields: ['data[0:{seen.tables[0].size}]']")
            parts += self._scale(seen.tables[0])
        elif kind == types.GRIPPER_COMMAND:
            parts += ['fields: [position]', 'stamp: receive']
        if kind == TRAJECTORY and self._stamp_rule(seen):
            parts.append('stamp: receive')
        return f'{{{", ".join([*parts, "mode: absolute"])}}}   # guessed: the gripper command'

    def _scale(self, table: Table) -> list[str]:
        names = table.names or ('gripper',) * table.size
        factors = [unit.factor for unit in self._columns(names, table.values)]
        return [f'scale: [{", ".join(f"{factor:.6g}" for factor in factors)}]'] if set(factors) != {1.0} else []

    def _gripper_states(self) -> list[str]:
        """Return the states of the commanded gripper, which the policy should observe."""
        if not self._grippers:
            return []
        lines = []
        for name, seen in self._found.topics.items():
            for table in seen.tables if seen.info.type == JOINT_STATE else ():
                if table is self._arm.table or set(table.names) & set(self._arm.joints):
                    continue
                if GRIPPER.search(name) or all(GRIPPER.search(joint) for joint in table.names):
                    lines.append(f'  - {self._joints_feature(seen, table, "gripper_state")}')
        return lines[:1]

    def _joints_feature(self, seen: Seen, table: Table, name: str) -> str:
        topic = seen.info.name.lstrip('/')
        finite = np.isfinite(table.values).all(axis=0)
        joints = ', '.join(_quoted(joint) for joint, known in zip(table.names, finite) if known)
        parts = [f'name: {name}', f'topic: {topic}', f'type: {seen.info.type}', f'joints: [{joints}]']
        parts += self._scale(table)
        return f'{{{", ".join([*parts, *self._timing(seen)])}}}'

    def _timing(self, seen: Seen) -> list[str]:
        quality, rule, parts = _timed(seen), self._stamp_rule(seen), []
        if quality.rate:
            parts.append(f'max_age: {_rounded(max(5 / quality.rate, 2 * (quality.jitter or 0))):g}')
        if not rule and seen.latency is not None and seen.latency > 0.001:
            parts.append(f'latency: {_rounded(seen.latency):g}')
        return ['stamp: receive'] * bool(rule) + ([f'align: {{{", ".join(parts)}}}'] if parts else [])

    def _others(self) -> list[str]:
        """Return further possible observations, as comments."""
        lines = []
        for name, seen in self._found.topics.items():
            kind, topic = seen.info.type, name.lstrip('/')
            commands = self._commands.seen if self._commands else None
            if seen is commands or seen in self._grippers or kind == MARKS or not seen.quality.count:
                continue
            head = [f'name: {_short(topic)}', f'topic: {topic}', f'type: {kind}']
            if kind == JOINT_STATE:
                rest = [table for table in seen.tables if table is not self._arm.table]
                lines += [
                    f'  # - {self._joints_feature(seen, table, _short(topic) + (f"_{place + 1}" if place else ""))}'
                    for place, table in enumerate(rest)
                    if (np.isfinite(table.values).all(axis=0).any() and not set(table.names) & set(self._arm.joints))
                    or seen is not self._arm.seen
                ]  # fmt: skip
                continue
            what = _content(seen, topic)
            if what is not None:
                lines.append(f'  # - {{{", ".join([*head, *what, *self._timing(seen)])}}}')
        return ['  # Other recorded topics; uncomment what the policy should observe:', *lines] if lines else []


def _content(seen: Seen, topic: str) -> list[str] | None:
    """Return the content of a message type that would be observed; None for types that are not offered."""
    kind = seen.info.type
    if types.kind(kind) == 'image':
        return [f'image: {{height: 96, width: 96, color: {"depth" if "depth" in topic else "rgb"}}}']
    if types.kind(kind) == 'points':
        return ['points: 64']
    if types.kind(kind) == 'frames':
        return None if topic.endswith('_static') else [f'frames: [{", ".join(map(_quoted, _frames(seen)))}]']
    if kind in ARRAYS:
        return [f"fields: ['data[0:{seen.tables[0].size}]']"] if seen.tables else None
    return [] if types.default_fields(kind) else None


def _timed(seen: Seen) -> StreamQuality:
    """Return the quality of a stream by usable stamps: those of the headers, or the reception times."""
    if not _is_unstamped(seen) or seen.headers is None:
        return seen.quality
    return measure_stream(seen.info.name, seen.info.type, seen.received, sensor=True)


def _is_unstamped(seen: Seen) -> bool:
    """Return whether a stream can only be stamped by reception: no headers, or headers without a time."""
    headers = seen.headers
    if headers is None or (len(headers) > 1 and np.ptp(headers) == 0):
        return True
    return bool(((headers == 0) & (seen.received != 0)).any())


def _offset(seen: Seen) -> float:
    """Return by how much the headers are behind the reception [s]."""
    return float(np.median(seen.received - seen.headers)) / 1e9 if seen.headers is not None else 0.0


def _divided(unit: Unit, ratio: float) -> Unit:
    """Return the unit of a command, given the unit of the state and the number of commands per state unit."""
    if ratio == 1.0:
        return unit
    factor = unit.factor / ratio
    degree = abs(factor * 180 / np.pi - 1) < 1e-6
    name = 'degree' if degree else 'si' if abs(factor - 1) < 1e-6 else ''
    return Unit(name, factor, '' if name == 'si' else f'one unit of the states is {ratio:.4g} units of the commands')


def _unit_lines(units: list[Unit]) -> list[str]:
    """Return the unit lines of a stream: one common unit, or one factor for each joint."""
    reasons = '; '.join(dict.fromkeys(unit.why for unit in units if unit.why))
    names = {unit.name for unit in units}
    if names == {'si'}:
        return [f'  # guessed: {reasons}'] if reasons else []
    if len(names) == 1 and '' not in names:
        return [f'  unit: {units[0].name}             # guessed: {reasons}']
    factors = ', '.join(f'{unit.factor:.7g}' for unit in units)
    return [f'  scale: [{factors}]   # guessed: {reasons}']


def _short(topic: str) -> str:
    return topic.replace('/', '_')


def _quoted(name: str) -> str:
    """Return a name as an element of a YAML list."""
    return name if name and all(c.isalnum() or c in '_-./' for c in name) and not name[0].isdigit() else f"'{name}'"


def _frames(seen: Seen) -> list[str]:
    texts = seen.layout.texts if seen.layout else {}
    parent = texts.get('transforms[0].header.frame_id', 'base_link')
    return [parent.lstrip('/'), texts.get('transforms[0].child_frame_id', 'tool0').lstrip('/')]


def _marks(topics: Mapping[str, Seen]) -> Seen | None:
    for name, seen in topics.items():
        texts = seen.layout.texts if seen.layout else {}
        if seen.info.type == MARKS and (texts.get('status[0].name') == 'episode' or name.endswith('/episode')):
            return seen
    return None


def _episodes(topics: Mapping[str, Seen], marks: Seen | None, arm: Arm) -> list[str]:
    if marks is not None:
        return ['episodes: {by: marks}']
    signals = {
        seen.info.type: name.lstrip('/') for name, seen in topics.items() if seen.quality.count and seen is not arm.seen
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
    elif any(gap.seconds > _PAUSE for gap in _timed(arm.seen).gaps):
        head = f'  by: gaps                 # guessed: joint states pause\n  gap: {_PAUSE:g}'
    else:
        head = '  by: motion               # guessed: no other rule applies; or bag, for one per bag'
    return ['episodes:', head, *lines]


def _rounded(seconds: float) -> float:
    """Round up to two digits."""
    digits = 10.0 ** (np.floor(np.log10(max(seconds, 1e-6))) - 1)
    return float(f'{np.ceil(seconds / digits - 1e-9) * digits:.2g}')
