"""Time, machine and versions of a measurement."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

_LIBRARIES = ('vdd_ros', 'numpy', 'torch', 'onnxruntime', 'mujoco', 'daqp', 'rosbags')


def environment() -> dict[str, Any]:
    """Return time, machine and package versions of this process: ``created``, ``machine`` and ``versions``."""
    return {
        'created': datetime.now(timezone.utc).isoformat(timespec='seconds'),
        'machine': {
            'system': platform.platform(),
            'processor': platform.machine(),
            'cores': os.cpu_count(),
            'python': platform.python_version(),
        },
        'versions': {name: _version(name) for name in _LIBRARIES},
    }


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return 'absent'
