"""Read joint limits: `<limit>` of a URDF, and joint_limits.yaml of MoveIt and of robot manufacturers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from math import inf, isnan, radians
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.common.yaml_file import read_document

_SWITCHES = {
    'has_position_limits': ('min_position', 'max_position'),
    'has_velocity_limits': ('max_velocity',),
    'has_acceleration_limits': ('max_acceleration',),
    'has_deceleration_limits': ('max_deceleration',),
    'has_jerk_limits': ('max_jerk',),
}
_VALUES = {value for values in _SWITCHES.values() for value in values}
_UNUSED = {
    'has_effort_limits',
    'max_effort',
    'has_soft_limits',
    'soft_lower_limit',
    'soft_upper_limit',
    'k_position',
    'k_velocity',
    'angle_wraparound',
}


# The same as attributes of a URDF `<limit>`, as in franka_description.
_ATTRIBUTES = {
    'lower': 'min_position',
    'upper': 'max_position',
    'velocity': 'max_velocity',
    'acceleration': 'max_acceleration',
    'deceleration': 'max_deceleration',
    'jerk': 'max_jerk',
}
_UNUSED_ATTRIBUTES = {'effort'}
_Reader = Callable[[str | Path, str, Any], 'JointLimit']


@dataclass(frozen=True)
class JointLimit:
    """The limits of one joint; infinity where unlimited."""

    lower: float = -inf
    """Lower position limit [rad]; for prismatic joints [m]."""
    upper: float = inf
    """Upper position limit [rad]."""
    velocity: float = inf
    """Maximum speed [rad/s]."""
    acceleration: float = inf
    """Maximum acceleration [rad/s^2]; the smaller of the limits for acceleration and deceleration."""
    jerk: float = inf
    """Maximum jerk [rad/s^3]."""


def urdf_joint_limits(file: str | Path) -> dict[str, JointLimit]:
    """Read the limits of the joints of a URDF: `<limit>`, and the soft limits of `<safety_controller>`.

    Joints are children of `<robot>`. Elements of the same name in `<ros2_control>` and `<transmission>` are references
    and ignored.

    Raises
    ------
    ModelError
        A limit is not a number.

    """
    found = {}
    for joint in ElementTree.parse(file).getroot().findall('joint'):
        limit, soft = joint.find('limit'), joint.find('safety_controller')
        hard = {} if limit is None else limit.attrib
        safe = {} if soft is None else soft.attrib
        turns = joint.get('type') == 'continuous'
        found[joint.get('name', '')] = JointLimit(
            lower=-inf if turns else max(_number(hard, 'lower', -inf), _number(safe, 'soft_lower_limit', -inf)),
            upper=inf if turns else min(_number(hard, 'upper', inf), _number(safe, 'soft_upper_limit', inf)),
            velocity=_number(hard, 'velocity', inf),
            acceleration=min(_number(hard, 'acceleration', inf), _number(hard, 'deceleration', inf)),
            jerk=_number(hard, 'jerk', inf),
        )
    return found


def _number(attributes: Mapping[str, str], name: str, silent: float) -> float:
    try:
        value = float(attributes.get(name, silent))
    except ValueError:
        value = float('nan')
    if isnan(value):
        raise ModelError(
            expected=f'a number for the {name} of a joint', found=repr(attributes[name]), remedy='correct the URDF'
        )
    return value


def load_joint_limits(path: str | Path, joints: Sequence[str]) -> dict[str, np.ndarray]:
    """Read a joint_limits.yaml.

    Parameters
    ----------
    path
        A file in one of two formats. MoveIt, ros2_control and ur_description: ``joint_limits``, with
        ``has_velocity_limits``, ``max_velocity`` and so on for each joint; a switch that is false disables a limit, a
        missing switch does not. franka_description: ``limit`` for each joint, with ``lower``, ``upper``, ``velocity``
        and further URDF attributes. Values are in SI units and radians; ``!degrees`` before a number converts degrees.
    joints
        The requested joints, in order.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``velocity``, ``acceleration``, ``jerk``, shape (joint,) each: the arguments of
        `vdd_ros.control.limits.Limits.tightened`.

    Raises
    ------
    ConfigurationError
        The file is missing, is not YAML, has an unknown key, lacks all joints, or has a value that is not a positive
        number.

    """
    document = read_document(path, 'joint limits in YAML', loader=_Loader).values
    read, entries = _form(path, document)
    if not any(joint in entries for joint in joints):
        raise ConfigurationError(
            expected=f'limits of {", ".join(joints)} in {path}',
            found=', '.join(map(str, entries)) or 'none',
            remedy='use the joint names of the contract in the file',
        )
    return by_kind([read(path, joint, entries.get(joint) or {}) for joint in joints])


def by_kind(rows: Sequence[JointLimit]) -> dict[str, np.ndarray]:
    """Return limits of joints as arrays of shape (joint,), by the field names of `JointLimit`."""
    names = [item.name for item in fields(JointLimit)]
    return {name: np.array([getattr(row, name) for row in rows], dtype=np.float64) for name in names}


class _Loader(yaml.SafeLoader):
    """YAML with the tags of xacro: ``!degrees`` and ``!radians``."""


def _with_unit(convert: Callable[[float], float]) -> Callable[[_Loader, yaml.ScalarNode], float]:
    def construct(loader: _Loader, node: yaml.ScalarNode) -> float:
        try:
            return convert(float(loader.construct_scalar(node)))
        except ValueError as error:
            problem = f'{node.tag} before {node.value!r}, which is not a number'
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    return construct


_Loader.add_constructor('!degrees', _with_unit(radians))
_Loader.add_constructor('!radians', _with_unit(float))


def _form(path: str | Path, document: Any) -> tuple[_Reader, Mapping[str, Any]]:
    """Return the function that reads a joint, and the joints of the file."""
    if isinstance(document, dict):
        if isinstance(entries := document.get('joint_limits'), dict):
            return _switched, entries
        if document and all(isinstance(entry, dict) and 'limit' in entry for entry in document.values()):
            return _attributed, document
    raise ConfigurationError(
        expected=f'joint_limits at the top of {path}, or a limit for each joint',
        found=str(document)[:80],
        remedy='put the joints below joint_limits',
    )


def _switched(path: str | Path, joint: str, entry: Any) -> JointLimit:
    """Read a joint in the format of MoveIt and ros2_control: values and switches."""
    _check_keys(path, joint, entry, {*_SWITCHES, *_VALUES}, _UNUSED)
    values = {}
    for switch, names in _SWITCHES.items():
        for name in names:
            if name in entry and entry.get(switch, True):
                values[name] = _value(path, joint, name, entry[name])
    return _limit(values)


def _attributed(path: str | Path, joint: str, entry: Any) -> JointLimit:
    """Read a joint in the format of franka_description: attributes of a `<limit>`."""
    limit = entry.get('limit') or {}
    _check_keys(path, joint, limit, set(_ATTRIBUTES), _UNUSED_ATTRIBUTES)
    return _limit(
        {value: _value(path, joint, value, limit[name], name) for name, value in _ATTRIBUTES.items() if name in limit}
    )


def _check_keys(path: str | Path, joint: str, entry: Any, known: set[str], unused: set[str]) -> None:
    if isinstance(entry, dict) and entry.keys() <= known | unused:
        return
    raise ConfigurationError(
        expected=f'known limits of {joint} in {path}',
        found=', '.join(sorted(map(str, entry.keys() - known - unused))) if isinstance(entry, dict) else str(entry),
        remedy=f'use some of {", ".join(sorted(known))}',
    )


def _limit(values: Mapping[str, float]) -> JointLimit:
    return JointLimit(
        lower=values.get('min_position', -inf),
        upper=values.get('max_position', inf),
        velocity=values.get('max_velocity', inf),
        acceleration=min(values.get('max_acceleration', inf), values.get('max_deceleration', inf)),
        jerk=values.get('max_jerk', inf),
    )


def _value(path: str | Path, joint: str, name: str, value: Any, written: str | None = None) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and not isnan(value)
    above = '' if name.endswith('_position') else ' above 0'
    if not number or (above and value <= 0):
        raise ConfigurationError(
            expected=f'a number{above} for {written or name} of {joint} in {path}',
            found=repr(value),
            remedy='use SI units and radians with a decimal point, or !degrees before the number',
        )
    return float(value)
