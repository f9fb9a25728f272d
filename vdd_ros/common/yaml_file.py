"""YAML documents with line numbers for error messages."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from vdd_ros.common.errors import ConfigurationError, VddError


class Document:
    """The values of a YAML file, with the line of each value for error messages."""

    def __init__(
        self,
        file: str | Path,
        text: str,
        error: type[VddError] = ConfigurationError,
        loader: type[yaml.SafeLoader] = yaml.SafeLoader,
        what: str = 'YAML',
    ) -> None:
        """Parse a text.

        Parameters
        ----------
        file
            File name for errors.
        text
            The content.
        error
            Type of the errors raised.
        loader
            A safe loader, with custom tags if necessary.
        what
            Description of the expected content, for errors.

        Raises
        ------
        VddError
            The text is not valid YAML, or a key occurs twice in a mapping (PyYAML would silently drop the first value).

        """
        self.file, self._error = file, error
        try:
            reader = loader(text)
            try:
                self._root = reader.get_single_node()
                self._check_unique_keys(self._root)
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
        """Return the line, from 0, of the deepest existing entry on a path; missing parts are skipped."""
        node, line = self._root, None
        for part in path:
            found = _child(node, part)
            if found is not None:
                line, node = found
        return line

    def place(self, line: int | None) -> str:
        """Return the description of a line, counted from 0, or of the file if the line is unknown."""
        return f'{self.file}' if line is None else f'{self.file}, line {line + 1}'

    def _check_unique_keys(self, node: yaml.Node | None) -> None:
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
                            expected=f'distinct keys in {self.place(key.start_mark.line)}',
                            found=f'{key.value} twice',
                            remedy='remove one of them',
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
        Path of the file.
    what
        Description of the expected content, for errors: ``settings``.
    error, loader
        See `Document`.
    remedy
        Remedy if the file does not exist.

    Raises
    ------
    VddError
        The file cannot be read, is not valid YAML, or has a duplicate key.

    """
    try:
        text = Path(file).read_text(encoding='utf-8')
    except OSError as problem:
        raise error(expected=f'{what} at {file}', found=str(problem.strerror), remedy=remedy) from problem
    except UnicodeDecodeError as problem:
        raise error(
            expected=f'{what} in UTF-8 at {file}', found=str(problem), remedy='save the file as UTF-8'
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
