"""YAML with places: every error about a file names its line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vdd_ros.common.errors import ConfigurationError, VddError


class Document:
    """The values of a YAML file, and where in it each of them stands."""

    def __init__(
        self,
        file: str | Path,
        text: str,
        error: type[VddError] = ConfigurationError,
        loader: type[yaml.SafeLoader] = yaml.SafeLoader,
        what: str = 'YAML',
    ) -> None:
        """Read a text.

        Parameters
        ----------
        file
            Its name in errors.
        text
            What it holds.
        error
            Raised as which kind of error.
        loader
            A safe loader, with tags of its own if need be.
        what
            What the text should be, for errors.

        Raises
        ------
        VddError
            The text is no YAML, or a key stands twice in one mapping: YAML itself would drop the first in silence.

        """
        self.file, self._error = file, error
        try:
            reader = loader(text)
            try:
                self._root = reader.get_single_node()
                self._refuse_twins(self._root)
                self.values: Any = None if self._root is None else reader.construct_document(self._root)
            finally:
                reader.dispose()
        except (yaml.YAMLError, RecursionError) as problem:
            mark = getattr(problem, 'problem_mark', None)
            raise error(
                expected=f'{what} in {self.place(mark.line if mark else None)}',
                found=' '.join(str(getattr(problem, 'problem', None) or problem).split()),
                remedy='correct the file',
            ) from problem

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
                        raise self._error(
                            expected=f'every key once in {self.place(key.start_mark.line)}',
                            found=f'{key.value} a second time',
                            remedy='keep one of the two',
                        )
                    keys.add(key.value if isinstance(key.value, str) else repr(key.value))
                    waiting.append(value)


def read_document(
    file: str | Path,
    what: str,
    error: type[VddError] = ConfigurationError,
    loader: type[yaml.SafeLoader] = yaml.SafeLoader,
    *,
    remedy: str = 'correct the path',
) -> Document:
    """Read a YAML file.

    Parameters
    ----------
    file
        Its path.
    what
        What it should hold, for errors: ``settings``.
    error, loader
        As for `Document`.
    remedy
        What to do where there is no such file.

    Raises
    ------
    VddError
        The file cannot be read, is no YAML, or has a key twice.

    """
    try:
        text = Path(file).read_text(encoding='utf-8')
    except OSError as problem:
        raise error(expected=f'{what} at {file}', found=str(problem.strerror), remedy=remedy) from problem
    except UnicodeDecodeError as problem:
        raise error(
            expected=f'{what} as text in UTF-8 at {file}', found=str(problem), remedy='save the file as UTF-8'
        ) from problem
    return Document(file, text, error, loader, what)


def _child(node: yaml.Node | None, part: str | int) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == part:
                return key.start_mark.line, value
    elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line, node.value[part]
    return None
