"""YAML with places: every complaint about a file names its line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from vdd_ros.common.errors import ContractError


class Document:
    """The values of a YAML file, and where in it each of them stands."""

    def __init__(self, file: str | Path, text: str) -> None:
        """Read a text; `file` is what complaints call it.

        Raises
        ------
        ContractError
            The text is no YAML, or a key stands twice in one mapping: YAML itself would drop the first in silence.

        """
        self.file = file
        try:
            self._root = yaml.compose(text, Loader=yaml.SafeLoader)
            self.values: Any = yaml.safe_load(text)
        except (yaml.YAMLError, RecursionError) as error:
            mark = getattr(error, 'problem_mark', None)
            raise ContractError(
                expected=f'YAML in {self.place(mark.line if mark else None)}',
                found=' '.join(str(getattr(error, 'problem', None) or error).split()),
                remedy='mend the file',
            ) from error
        self._refuse_twins(self._root)

    def line(self, path: Sequence[str | int]) -> int | None:
        """Return the line, from 0, of the deepest entry on a path that is there; parts that are not are passed over."""
        node, line = self._root, None
        for part in path:
            found = _child(node, part)
            if found is not None:
                line, node = found
        return line

    def place(self, line: int | None) -> str:
        """Return how to name a line, counted from 0, or the file where none is known."""
        return f'{self.file}' if line is None else f'{self.file}, line {line + 1}'

    def complaint(
        self, error: ValidationError, models: Mapping[str, type[BaseModel]], whole: type[BaseModel]
    ) -> ContractError:
        """Say in one line what is wrong with the values, and in which line of the file.

        ``models`` are the parts of ``whole`` by the key, or the tag of a union, that they stand under.
        """
        first = error.errors()[0]
        path = list(first.get('ctx', {}).get('path', first['loc']))
        known = ''
        if first['type'] == 'extra_forbidden':
            model = next((models[part] for part in reversed(path[:-1]) if part in models), whole)
            known = f' (known keys: {", ".join(model.model_fields)})'
        if len(path) > 2 and path[2] in ('arm', 'topic') and isinstance(path[1], int):
            del path[2]  # which of a union it was; no key of the file
        if isinstance(self.values, dict) and isinstance(self.values.get('action'), list):
            if path[:1] == ['further_actions'] and len(path) > 1:
                path = ['action', path[1] + 1, *path[2:]]
            elif path[:1] == ['action'] and len(path) > 1:
                path = ['action', 0, *path[1:]]
        name = '.'.join(str(part) for part in path) or 'the contract'
        return ContractError(
            expected=f'a valid contract in {self.place(self.line(path))}',
            found=f'{name}: {first["msg"].removeprefix("Value error, ")}',
            remedy=f'mend that entry{known}',
        )

    def _refuse_twins(self, node: yaml.Node | None) -> None:
        waiting, seen = [node], set()
        while waiting:
            node = waiting.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, yaml.SequenceNode):
                waiting += node.value
            elif isinstance(node, yaml.MappingNode):
                keys: set[str] = set()
                for key, value in node.value:
                    if key.value in keys:
                        raise ContractError(
                            expected=f'every key once in {self.place(key.start_mark.line)}',
                            found=f'{key.value} a second time',
                            remedy='keep one of the two',
                        )
                    keys.add(key.value if isinstance(key.value, str) else repr(key.value))
                    waiting.append(value)


def misplaced(text: str, *path: str | int) -> PydanticCustomError:
    """Return what a validator of a whole raises to complain of one of its parts."""
    return PydanticCustomError('misplaced', '{text}', {'text': text, 'path': path})


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None
