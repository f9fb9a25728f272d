"""Locate the files that ship with the package: configuration, launch files, models."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def share_path(*parts: str) -> Path:
    """Return the path of a shipped file such as ``share_path('config', 'gate.yaml')``.

    The source tree, the share folder of a ROS installation, and the share folder of the Python environment are
    searched. The result is the first existing path, or the last candidate if none exists.
    """
    candidates = [_PACKAGE.parent.joinpath(*parts)]
    try:
        from ament_index_python.packages import get_package_share_directory

        candidates.append(Path(get_package_share_directory('vdd_ros')).joinpath(*parts))
    except (ImportError, LookupError, OSError):
        pass
    candidates.append(Path(sys.prefix, 'share', 'vdd_ros').joinpath(*parts))
    for candidate in candidates:
        if candidate.exists():
            return candidate
    return candidates[-1]


def model_path(model: str) -> Path:
    """Return the file of a robot or scene model: a path, or the name of a shipped model."""
    path = Path(model)
    return path if path.suffix else _PACKAGE / 'sim' / 'models' / f'{model}.xml'
