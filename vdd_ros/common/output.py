"""Where results go: a free place, whose folder is there."""

from __future__ import annotations

from pathlib import Path

from vdd_ros.common.errors import OutputError


def claim_output(path: str | Path) -> Path:
    """Check that an output path is free, and make its parent.

    Raises
    ------
    OutputError
        Something is there, or the parent cannot be made.

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
    except OSError as error:
        raise OutputError(
            expected=f'a folder at {path.parent}', found=str(error.strerror), remedy='choose another path'
        ) from error
    return path
