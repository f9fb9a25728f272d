"""Checks of output paths."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vdd_ros.common.errors import OutputError, remedied


def claim_output(path: str | Path) -> Path:
    """Check that an output path is free and its parent folder writable; the parent is created if necessary.

    Raises
    ------
    OutputError
        The path exists, or its parent cannot be created or written.

    """
    path = Path(path)
    if path.exists():
        raise OutputError(
            expected=f'a free place at {path}',
            found='an existing file or folder',
            remedy='choose another path or remove it',
        )
    with remedied(OutputError, expected=f'a writable folder at {path.parent}', remedy='choose another path'):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    return path


def write_whole(path: Path, text: str) -> None:
    """Write a text file atomically: readers find either the complete file or the previous one.

    Raises
    ------
    OSError
        The folder cannot be written to.

    """
    aside = path.with_name(f'.{path.name}.partial')
    aside.write_text(text, encoding='utf-8')
    aside.replace(path)
