"""Errors in contract files; each error names the line."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from vdd_ros.common.errors import ContractError
from vdd_ros.common.settings import first_error
from vdd_ros.common.yaml_file import Document


def complaint(
    document: Document, error: ValidationError, models: Mapping[str, type[BaseModel]], whole: type[BaseModel]
) -> ContractError:
    """Return the first validation error of a contract as a one-line error that names the line of the file.

    ``models`` contains the models of the parts of ``whole``, by their key or, in unions, their tag.
    """
    first = first_error(error)
    path = list(first.get('ctx', {}).get('path', first['loc']))
    known, what = '', first['msg'].removeprefix('Value error, ')
    if first['type'] == 'extra_forbidden':
        what = 'an unknown key'
        model = next((models[part] for part in reversed(path[:-1]) if part in models), whole)
        known = f' (known keys: {", ".join(model.model_fields)})'
    if len(path) > 2 and path[2] in ('arm', 'topic') and isinstance(path[1], int):
        del path[2]  # which of a union it was; no key of the file
    if isinstance(document.values, dict) and isinstance(document.values.get('action'), list):
        if path[:1] == ['further_actions'] and len(path) > 1:
            path = ['action', path[1] + 1, *path[2:]]
        elif path[:1] == ['action'] and len(path) > 1:
            path = ['action', 0, *path[1:]]
    name = '.'.join(str(part) for part in path) or 'the contract'
    return ContractError(
        expected=f'a valid contract in {document.place(document.line(path))}',
        found=f'{name}: {what}',
        remedy=f'correct that entry{known}',
    )


def misplaced(text: str, *path: str | int) -> PydanticCustomError:
    """Return the error that a model validator raises about one of its parts, at ``path`` relative to the model."""
    return PydanticCustomError('misplaced', '{text}', {'text': text, 'path': path})
