"""Parameters of the nodes: declared from a table with units and ranges, and checked with one-line errors."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.exceptions import (
    InvalidParameterTypeException,
    InvalidParameterValueException,
    InvalidTopicNameException,
)
from rclpy.node import Node
from rclpy.parameter import Parameter as RclpyParameter
from rclpy.validate_topic_name import validate_topic_name

from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.common.settings import Settings

Value = bool | int | float | str | Sequence[str] | Sequence[int]

STRINGS = RclpyParameter.Type.STRING_ARRAY
INTEGERS = RclpyParameter.Type.INTEGER_ARRAY

# Declared by rclpy, or not addressed to the node.
_FOREIGN = ('use_sim_time', 'start_type_description_service', 'qos_overrides.')
_TYPES = {
    bool: 'true or false',
    int: 'an integer',
    float: 'a number',
    str: 'a string',
    STRINGS: 'a list of strings',
    INTEGERS: 'a list of integers',
}


@dataclass(frozen=True)
class Parameter:
    """Declaration of one node parameter: name, type, default, allowed values and description."""

    name: str
    default: Value | RclpyParameter.Type
    """Default value, which defines the type. `STRINGS` or `INTEGERS`: an empty list."""
    description: str
    """Description, with the unit in brackets."""
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    """Allowed values; empty if all values of the type are allowed."""
    dynamic: bool = False
    """Whether the value can be changed at run time."""
    path: bool = False
    """Whether the value is a path, in which a leading ``~`` is the home folder of the user."""
    topic: bool = False
    """Whether the value is a topic, service or node name, or the prefix of such a name."""
    former_name: str = ''
    """A former name, which is still accepted with a warning."""

    @property
    def type(self) -> str:
        """Type in words."""
        return _TYPES[self.default if self.is_list else type(self.default)]

    @property
    def is_list(self) -> bool:
        """Whether the value is a list."""
        return isinstance(self.default, RclpyParameter.Type)

    @property
    def allowed(self) -> str:
        """Type and allowed values in words."""
        if self.choices:
            return f'one of {", ".join(self.choices)}'
        if self.topic:
            return f'{self.type}, a valid ROS name'
        return self.type if self.minimum is None else f'{self.type} from {self.minimum:g} to {self.maximum:g}'

    def checked(self, value: Any, node: str) -> Value:
        """Return a value in the form used by the node: exact type, lists as tuples, paths without ``~``.

        Raises
        ------
        ConfigurationError
            The type is wrong, or the value is not allowed.

        """
        if not self._fits(value):
            raise ConfigurationError(
                expected=f'{self.allowed} for parameter {self.name} of {node}',
                found='no value' if value is None else repr(value),
                remedy=f'correct it ({self.description})',
            )
        if self.is_list:
            return tuple(map(_expanded, value)) if self.path else tuple(value)
        if self.path:
            return _expanded(value)
        return type(self.default)(value)

    def _fits(self, value: Any) -> bool:
        if self.is_list:
            kind = str if self.default is STRINGS else int
            if value is None or isinstance(value, (str, bytes, bool, int, float)):
                return False
            return all(_is(each, kind) and (not self.topic or _is_name(each)) for each in value)
        if not _is(value, type(self.default)):
            return False
        if self.choices:
            return value in self.choices
        if self.topic:
            return (not value and not self.default) or _is_name(value)
        if isinstance(self.default, float) and not math.isfinite(value):
            return False
        return self.minimum is None or self.minimum <= value <= self.maximum


def parameters_of(model: type[Settings], names: Sequence[str]) -> tuple[Parameter, ...]:
    """Return parameters for fields of a model, with name, default, description, range and choices.

    The properties ``path`` and ``dynamic`` are read from ``json_schema_extra`` of a field.
    """
    former = {present: name for name, present in model.former_names.items()}
    return tuple(_parameter_of(name, model.model_fields[name], former.get(name, '')) for name in names)


def _parameter_of(name: str, field: FieldInfo, former_name: str) -> Parameter:
    extra = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
    bounds: dict[str, float] = {}
    for item in field.metadata:
        for limit, which in (('ge', 'minimum'), ('le', 'maximum')):
            if hasattr(item, limit):
                bounds[which] = getattr(item, limit)
    default = field.default
    if get_origin(field.annotation) is tuple:
        default = STRINGS if get_args(field.annotation)[0] is str else INTEGERS
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return Parameter(
        name,
        default,
        field.description or '',
        choices=choices,
        dynamic=bool(extra.get('dynamic')),
        path=bool(extra.get('path')),
        former_name=former_name,
        **bounds,
    )


def _is(value: Any, kind: type) -> bool:
    """Return whether a value has a type; integers are accepted as numbers, as in `-p speed:=2`."""
    return isinstance(value, (int, float) if kind is float else kind) and isinstance(value, bool) == (kind is bool)


def _is_name(value: str) -> bool:
    try:
        return validate_topic_name(value)
    except InvalidTopicNameException:
        return False


def _expanded(path: str) -> str:
    return os.path.expanduser(path)


def declare(
    node: Node,
    table: Sequence[Parameter],
    apply: Callable[[Mapping[str, Value]], None] | None = None,
    prefix: str = '',
) -> Mapping[str, Value]:
    """Declare a table of parameters and return their values by name.

    Parameters
    ----------
    node
        The node.
    table
        The parameter table.
    apply
        Called with checked values by name when dynamic parameters are set at run time. If it raises a `VddError`, the
        old values are kept and the caller gets the error.
    prefix
        Prefix of further parameters ``PREFIX.NAME``, which the node declares later. Values set at the start are
        returned under the key ``prefix`` as a mapping. Later values are passed to ``apply`` with their full names.

    Raises
    ------
    ConfigurationError
        A value has a wrong type or is not allowed, or a parameter is unknown.

    """
    rows = {row.name: row for row in table}
    _rename(node, table)
    overrides = getattr(node, '_parameter_overrides', {})
    unknown = sorted(
        name
        for name in overrides
        if name not in rows and not name.startswith(_FOREIGN) and not (prefix and name.startswith(f'{prefix}.'))
    )
    if unknown:
        raise ConfigurationError(
            expected=f'known parameters of {node.get_name()}',
            found=', '.join(unknown),
            remedy=f'use some of {", ".join(rows)}',
        )
    declared: dict[str, Any] = {name: _declare(node, row) for name, row in rows.items()}
    if prefix:
        further = (name for name in overrides if name.startswith(f'{prefix}.'))
        declared[prefix] = {name.removeprefix(f'{prefix}.'): overrides[name].value for name in further}
    values = MappingProxyType(declared)

    def on_set(parameters: list[RclpyParameter]) -> SetParametersResult:
        try:
            changed = {
                each.name: rows[each.name].checked(each.value, node.get_name())
                for each in parameters
                if each.name in rows
            }
            if prefix:
                changed |= {each.name: each.value for each in parameters if each.name.startswith(f'{prefix}.')}
            if changed and apply is not None:
                apply(changed)
        except VddError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
    return values


def _rename(node: Node, table: Sequence[Parameter]) -> None:
    """Assign values set by a former name to the parameter of the present name."""
    overrides = getattr(node, '_parameter_overrides', {})
    former = {row.former_name: row.name for row in table if row.former_name in overrides}
    for name, present in former.items():
        if present in overrides:
            raise ConfigurationError(
                expected=f'one value for {present} of {node.get_name()}',
                found=f'another for {name}, its former name',
                remedy=f'remove {name}',
            )
        node.get_logger().warning(f'parameter {name} is now named {present}; rename it')
        overrides[present] = RclpyParameter(present, value=overrides.pop(name).value)


def _declare(node: Node, row: Parameter) -> Value:
    descriptor = ParameterDescriptor(description=row.description, read_only=not row.dynamic)
    if row.choices:
        descriptor.additional_constraints = f'one of: {", ".join(row.choices)}'
    elif isinstance(row.default, float):
        # A double may be given as an integer, as in `-p speed:=2`.
        descriptor.dynamic_typing = True
        if row.minimum is not None:
            bounds = FloatingPointRange(from_value=float(row.minimum), to_value=float(row.maximum))
            descriptor.floating_point_range = [bounds]
    elif isinstance(row.default, int) and row.minimum is not None:
        descriptor.integer_range = [IntegerRange(from_value=int(row.minimum), to_value=int(row.maximum), step=1)]
    if row.is_list:
        return _declare_list(node, row, descriptor)
    try:
        value = node.declare_parameter(row.name, row.default, descriptor).value
    except (InvalidParameterTypeException, InvalidParameterValueException):
        override = node._parameter_overrides[row.name].value
        row.checked(override, node.get_name())  # raises a specific error
        raise
    return row.checked(value, node.get_name())


def _declare_list(node: Node, row: Parameter, descriptor: ParameterDescriptor) -> tuple:
    """Declare a list. rclpy would leave an unset one without a value, and fail for all parameters."""
    override = getattr(node, '_parameter_overrides', {}).get(row.name)
    value = row.checked(() if override is None or override.value is None else override.value, node.get_name())
    node.declare_parameter(row.name, row.default, ParameterDescriptor(), ignore_override=True)
    node.set_parameters([RclpyParameter(row.name, row.default, list(value))])
    descriptor.type = row.default.value
    node.set_descriptor(row.name, descriptor)
    return value
