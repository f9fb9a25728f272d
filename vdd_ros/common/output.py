"""Where results go: a free place, whose folder is there."""

from __future__ import annotations

import tempfile
from pathlib import Path

from vdd_ros.common.errors import OutputError


def claim_output(path: str | Path) -> Path:
    """Check that an output path is free and that its parent can be written to, which is made if need be.

    Raises
    ------
    OutputError
        Something is there, or the parent cannot be made or written to.

    """
    path = Path(path)
    if path.exists():
        raise OutputError(
            expected=f'a free place at {path}',
            found='something there already',
            remedy='choose another path or remove it',
        )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise OutputError(
            expected=f'a folder at {path.parent} that can be written to',
            found=str(error.strerror),
            remedy='choose another path',
        ) from error
    return path
