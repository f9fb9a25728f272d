"""Parameters of the nodes: declared from a table, with units and ranges, and refused in one line."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Mapping, Sequence, Union

from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.node import Node
from rclpy.parameter import Parameter as RclpyParameter

from vdd_ros.errors import ConfigurationError

Value = Union[bool, int, float, str, Sequence[str], Sequence[int]]

STRINGS = RclpyParameter.Type.STRING_ARRAY
INTEGERS = RclpyParameter.Type.INTEGER_ARRAY

# Declared by rclpy itself, or not meant for the node.
_FOREIGN = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')


@dataclass(frozen=True)
class Parameter:
    """One row of a node's table of parameters."""

    name: str
    default: Value | RclpyParameter.Type
    """The value unless told otherwise; its type is the parameter's type. `STRINGS` or `INTEGERS`: an empty list."""
    description: str
    """What it does, with its unit in brackets."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    """The only values, if it is a choice."""
    dynamic: bool = False
    """Whether it may be set while the node runs; who declares it then heeds changes of it."""


def declare(node: Node, table: Sequence[Parameter]) -> Mapping[str, Value]:
    """Declare a table of parameters and return their values by name.

    Raises
    ------
    ConfigurationError
        A value has another type, is out of range or no choice, or a parameter is unknown.

    """
    unknown = sorted(
        name
        for name in getattr(node, '_parameter_overrides', {})
        if name not in {row.name for row in table} and not name.startswith(_FOREIGN)
    )
    if unknown:
        raise ConfigurationError(
            expected=f'known parameters of {node.get_name()}',
            found=', '.join(unknown),
            remedy=f'use some of {", ".join(row.name for row in table)}',
        )
    return MappingProxyType({row.name: _declare(node, row) for row in table})


def _declare(node: Node, row: Parameter) -> Value:
    descriptor = ParameterDescriptor(description=row.description, read_only=not row.dynamic)
    bounded = row.minimum is not None
    if row.choices:
        descriptor.additional_constraints = f'one of: {", ".join(row.choices)}'
    elif isinstance(row.default, float):
        # A person writes `-p speed:=2`; a double may be given as an integer.
        descriptor.dynamic_typing = True
        if bounded:
            descriptor.floating_point_range = [FloatingPointRange(from_value=row.minimum, to_value=row.maximum)]
    elif isinstance(row.default, int) and bounded:
        descriptor.integer_range = [IntegerRange(from_value=int(row.minimum), to_value=int(row.maximum), step=1)]
    try:
        value = node.declare_parameter(row.name, row.default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise _refusal(node, row, ' '.join(str(error).split())) from error
    if isinstance(row.default, RclpyParameter.Type):
        return tuple(value or ())
    if isinstance(row.default, float):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise _refusal(node, row, f'{value!r}')
        value = float(value)
        if bounded and not row.minimum <= value <= row.maximum:
            raise _refusal(node, row, f'{value:g}')
    if row.choices and value not in row.choices:
        raise _refusal(node, row, f'{value!r}')
    return value


def _refusal(node: Node, row: Parameter, found: str) -> ConfigurationError:
    listed = isinstance(row.default, RclpyParameter.Type)
    expected = f'{row.default.name.lower()}' if listed else type(row.default).__name__
    if row.choices:
        expected = f'one of {", ".join(row.choices)}'
    elif row.minimum is not None:
        expected = f'{expected} from {row.minimum:g} to {row.maximum:g}'
    return ConfigurationError(
        expected=f'{expected} for parameter {row.name} of {node.get_name()}',
        found=found,
        remedy=f'set it right ({row.description})',
    )
