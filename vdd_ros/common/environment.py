"""Where figures were measured: a figure without its machine and versions says little."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from importlib import metadata
from typing import Any

_LIBRARIES = ('vdd_ros', 'numpy', 'torch', 'onnxruntime', 'mujoco', 'daqp', 'rosbags')


def environment() -> dict[str, Any]:
    """Return when, on what machine and with which versions this runs: ``created``, ``machine`` and ``versions``."""
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
