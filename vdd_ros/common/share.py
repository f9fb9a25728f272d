"""Where the files that ship with the package lie: configuration, launch files, models."""

from __future__ import annotations

import sys
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def share_path(*parts: str) -> Path:
    """Return the path of a shipped file such as ``share_path('config', 'gate.yaml')``.

    Looked for in the source tree, then in the share folder of a ROS installation, then in that of the environment
    that python runs in. The first that exists wins; if none does, the last candidate is returned for the caller to
    report.
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
    """Return the file of a robot or scene: a path as it is, or the bare name of a model that ships."""
    path = Path(model)
    return path if path.suffix else _PACKAGE / 'sim' / 'models' / f'{model}.xml'
