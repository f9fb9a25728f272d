"""Documentation of settings: name, type, range, default and docstring, read from the models."""

from __future__ import annotations

import ast
import inspect
import itertools
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from vdd_ros.common.settings import model_of


@dataclass(frozen=True)
class Setting:
    """Documentation of one setting: name, type and range, default and meaning."""

    name: str
    """Full dotted name: ``teacher.trunk.width``."""
    kind: str
    """Type and range in words."""
    default: str
    """Default value in YAML; empty for required settings."""
    text: str
    """Docstring of the setting, on one line."""


def settings_of(model: BaseModel, prefix: str = '') -> Iterator[Setting]:
    """Yield every setting of a group recursively, with the values of the group as defaults."""
    texts = attribute_docstrings(type(model))
    for name, field in type(model).model_fields.items():
        value, inner = getattr(model, name), model_of(field.annotation)
        if inner is not None and value is not None:
            yield from settings_of(value, f'{prefix}{name}.')
        else:
            yield Setting(f'{prefix}{name}', type_text(field), yaml_text(value), texts.get(name, ''))


def attribute_docstrings(kind: type) -> dict[str, str]:
    """Return the docstrings of the attributes of a class and its bases, each on one line."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        if not issubclass(base, BaseModel) or base is BaseModel:
            continue
        (tree,) = ast.parse(textwrap.dedent(inspect.getsource(base))).body
        body = tree.body if isinstance(tree, ast.ClassDef) else []
        for attribute, text in itertools.pairwise(body):
            if (
                isinstance(attribute, ast.AnnAssign)
                and isinstance(attribute.target, ast.Name)
                and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            ):
                found[attribute.target.id] = ' '.join(str(text.value.value).split())
    return found


def type_text(field: FieldInfo) -> str:
    """Return type and range of a field in the terms of YAML."""
    return ', '.join([_type(field.annotation), *_range(field.metadata)])


def yaml_text(value: Any) -> str:
    """Return a value as YAML on one line."""
    if value is PydanticUndefined:
        return ''
    if value is None:
        return 'null'
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, BaseModel):
        return '{}'
    if isinstance(value, (tuple, list, frozenset, set)):
        return f'[{", ".join(map(yaml_text, value))}]'
    return str(value) if value != '' else "''"


def _type(annotation: Any) -> str:
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return 'null'
    if origin is None:
        names = {str: 'text', float: 'number', int: 'integer', bool: 'true or false'}
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return 'group'
        return names.get(annotation, getattr(annotation, '__name__', str(annotation)))
    name = getattr(origin, '__name__', str(origin))
    if name == 'Literal':
        return ' or '.join(str(value) for value in arguments)
    if name == 'Annotated':
        return ', '.join([_type(arguments[0]), *_range(arguments[1:])])
    if name in ('Union', 'UnionType'):
        return ' or '.join(_type(each) for each in arguments)
    if origin is tuple and Ellipsis not in arguments:
        return f'list of {len(arguments)}'
    if origin in (tuple, list, frozenset):
        return f'list of {_type(arguments[0])}'
    return 'mapping' if name in ('dict', 'Mapping') else str(annotation)


def _range(metadata: Any) -> list[str]:
    words = {
        annotated_types.Ge: ('ge', 'at least'),
        annotated_types.Gt: ('gt', 'above'),
        annotated_types.Le: ('le', 'at most'),
        annotated_types.Lt: ('lt', 'below'),
    }
    found = []
    for item in metadata:
        if type(item) in words:
            attribute, text = words[type(item)]
            found.append(f'{text} {getattr(item, attribute):g}')
    return found
