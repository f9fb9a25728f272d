"""Limits of joints as robots come with them: `<limit>` of a URDF, joint_limits.yaml of MoveIt and ros2_control."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isnan
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import yaml

from vdd_ros.errors import ConfigurationError, ModelError

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


@dataclass(frozen=True)
class JointLimit:
    """Of one joint; infinity where nothing is said."""

    lower: float = -inf
    """[rad], [m] of a slide."""
    upper: float = inf
    """[rad]."""
    velocity: float = inf
    """[rad/s]."""
    acceleration: float = inf
    """[rad/s^2]; the lesser of speeding up and slowing down."""
    jerk: float = inf
    """[rad/s^3]."""


def urdf_joint_limits(file: str | Path) -> dict[str, JointLimit]:
    """Read the limits of a URDF by joint: `<limit>`, and the soft limits of `<safety_controller>`.

    Raises
    ------
    ModelError
        A limit is no number.

    """
    found = {}
    for joint in ElementTree.parse(file).getroot().iter('joint'):
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
        return float(attributes.get(name, silent))
    except ValueError as error:
        raise ModelError(
            expected=f'a number for the {name} of a joint', found=repr(attributes[name]), remedy='mend the URDF'
        ) from error


def load_joint_limits(path: str | Path, joints: Sequence[str]) -> dict[str, np.ndarray]:
    """Read a joint_limits.yaml.

    Parameters
    ----------
    path
        Holds ``joint_limits``, by joint ``has_velocity_limits``, ``max_velocity`` and so on, in SI units. What a switch
        turns off is not limited; a value without its switch is.
    joints
        The joints that are asked for, in order.

    Returns
    -------
    dict
        ``lower``, ``upper``, ``velocity``, ``acceleration``, ``jerk``, shape (joint,) each: the arguments of
        `vdd_ros.control.limits.Limits.tightened`.

    Raises
    ------
    ConfigurationError
        The file is absent, is not YAML, has an unknown key, or a value that is no positive number.

    """
    try:
        document = yaml.safe_load(Path(path).read_text(encoding='utf-8'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(
            expected=f'joint limits in YAML at {path}', found=' '.join(str(error).split()), remedy='mend the file'
        ) from error
    entries = document.get('joint_limits') if isinstance(document, dict) else None
    if not isinstance(entries, dict):
        raise ConfigurationError(
            expected=f'joint_limits at the top of {path}', found=str(document)[:80], remedy='put the joints below it'
        )
    rows = [_limit(path, joint, entries.get(joint) or {}) for joint in joints]
    return {
        name: np.array([getattr(row, name) for row in rows])
        for name in ('lower', 'upper', 'velocity', 'acceleration', 'jerk')
    }


def _limit(path: str | Path, joint: str, entry: Mapping[str, Any]) -> JointLimit:
    if not isinstance(entry, dict) or (strange := sorted(entry.keys() - _SWITCHES.keys() - _VALUES - _UNUSED)):
        raise ConfigurationError(
            expected=f'known limits of {joint} in {path}',
            found=', '.join(strange) if isinstance(entry, dict) else str(entry),
            remedy=f'use some of {", ".join(sorted(_SWITCHES.keys() | _VALUES))}',
        )
    values = {}
    for switch, names in _SWITCHES.items():
        for name in names:
            if name in entry and entry.get(switch, True):
                values[name] = _value(path, joint, name, entry[name])
    return JointLimit(
        lower=values.get('min_position', -inf),
        upper=values.get('max_position', inf),
        velocity=values.get('max_velocity', inf),
        acceleration=min(values.get('max_acceleration', inf), values.get('max_deceleration', inf)),
        jerk=values.get('max_jerk', inf),
    )


def _value(path: str | Path, joint: str, name: str, value: Any) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool) and not isnan(value)
    if not number or (value <= 0 and not name.endswith('_position')):
        raise ConfigurationError(
            expected=f'a number{"" if name.endswith("_position") else " above 0"} for {name} of {joint} in {path}',
            found=repr(value),
            remedy='write it in SI units and radians, with a decimal point',
        )
    return float(value)
