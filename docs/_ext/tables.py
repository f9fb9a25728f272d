"""Directives that write tables from the code: parameters of nodes, keys of contracts and settings, modules of a folder.

```{parameters} vdd_ros.nodes.policy.policy_parameters
```
```{keys} vdd_ros.contract.contract.Robot
```
```{modules} vdd_ros.control
```
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from typing import Any, Literal, get_args, get_origin

from docutils import nodes
from pydantic import BaseModel
from pydantic_core import PydanticUndefined
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

from vdd_ros.common.settings_docs import attribute_docstrings


def resolve(path: str) -> Any:
    """Return the module, or the object of a module, at a dotted path."""
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError:
        module, _, name = path.rpartition('.')
        return getattr(importlib.import_module(module), name)


def type_text(annotation: Any) -> str:
    """Write a type as a user of YAML knows it."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if annotation is type(None):
        return 'none'
    if origin is None:
        names = {str: 'string', float: 'number', int: 'integer', bool: 'true or false'}
        return names.get(annotation, getattr(annotation, '__name__', str(annotation)))
    if origin.__name__ == 'Literal':
        return ', '.join(f'`{value}`' for value in arguments)
    if origin.__name__ == 'Annotated':
        return type_text(arguments[0])
    if origin.__name__ in ('Union', 'UnionType'):
        return ' or '.join(type_text(each) for each in arguments if each is not type(None))
    if origin is tuple and Ellipsis not in arguments:
        return f'list of {len(arguments)}'
    if origin in (tuple, list, frozenset):
        return f'list of {type_text(arguments[0])}'
    if origin is dict or origin.__name__ == 'Mapping':
        return 'mapping'
    return str(annotation)


def default_text(value: Any) -> str:
    """Write a default as YAML would have it."""
    if value is PydanticUndefined:
        return 'required'
    if value is None or (isinstance(value, (str, tuple)) and not value):
        return ''
    if isinstance(value, BaseModel):
        return 'defaults'
    if isinstance(value, bool):
        return f'`{str(value).lower()}`'
    if isinstance(value, (tuple, list, frozenset)):
        return f'`{list(value)}`'
    return f'`{value}`'


def cell(text: str) -> str:
    """Escape what would end a cell of a Markdown table."""
    return re.sub(r'\s+', ' ', text.replace('``', '`')).replace('|', r'\|').strip()


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return the lines of a Markdown table."""
    return [f'| {" | ".join(row)} |' for row in (head, ['---'] * len(head), *[[*map(cell, row)] for row in rows])]


class MarkdownDirective(SphinxDirective):
    """A directive with one argument whose content is written by `lines`, in Markdown."""

    required_arguments = 1

    def lines(self, path: str) -> list[str]:
        raise NotImplementedError

    def run(self) -> list[nodes.Node]:
        return self.parse_text_to_nodes('\n'.join(self.lines(self.arguments[0])), allow_section_headings=True)


class Keys(MarkdownDirective):
    """The keys of a pydantic model: name, type, default, description."""

    def lines(self, path: str) -> list[str]:
        model = resolve(path)
        texts = attribute_docstrings(model)
        for name, field in model.model_fields.items():
            if get_origin(field.annotation) is Literal and len(get_args(field.annotation)) == 1:
                texts.setdefault(name, 'Selects this kind.')
        missing = [name for name in model.model_fields if name not in texts]
        if missing:
            raise ExtensionError(
                f'{path}: expected a docstring below every field; found none below {", ".join(missing)}'
            )
        rows = [
            [
                f'`{field.alias or name}`',
                type_text(field.annotation),
                default_text(field.get_default(call_default_factory=True)),
                texts[name],
            ]
            for name, field in model.model_fields.items()
        ]
        return table(['key', 'type', 'default', 'description'], rows)


class Parameters(MarkdownDirective):
    """The ROS parameters of a node: the table `PARAMETERS` of its module."""

    def lines(self, path: str) -> list[str]:
        rows = []
        for row in resolve(path).PARAMETERS:
            default = 'empty list' if row.is_list else default_text(row.default)
            rows.append(
                [f'`{row.name}`', row.allowed, default, row.description + (' (dynamic)' if row.dynamic else '')]
            )
        return table(['parameter', 'values', 'default', 'description'], rows)


class Modules(SphinxDirective):
    """The public modules of a package, by their docstrings."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        package = importlib.import_module(self.arguments[0])
        found = []
        for info in pkgutil.walk_packages(package.__path__, f'{package.__name__}.'):
            if info.ispkg or info.name.rpartition('.')[2].startswith('_'):
                continue
            short = info.name.removeprefix('vdd_ros.')
            found += [f'## {short}', '', '```{eval-rst}', f'.. automodule:: {info.name}', '```', '']
        return self.parse_text_to_nodes('\n'.join(found), allow_section_headings=True)


class Public(MarkdownDirective):
    """The public names of a package (`__all__`), with the first line of their documentation."""

    def lines(self, path: str) -> list[str]:
        package, rows = resolve(path), []
        for name in package.__all__:
            value = getattr(package, name)
            summary = (inspect.getdoc(value) or '').split('\n')[0]
            rows.append([f'{{py:obj}}`{name} <{value.__module__}.{name}>`', summary])
        return table(['name', 'summary'], rows)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the directives."""
    app.add_directive('keys', Keys)
    app.add_directive('parameters', Parameters)
    app.add_directive('modules', Modules)
    app.add_directive('public', Public)
    return {'version': '1', 'parallel_read_safe': True}
