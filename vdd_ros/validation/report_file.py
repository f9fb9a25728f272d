"""`report.json`: the values of a validation in a file with a digest that detects changes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vdd_ros.common.errors import GateError

REPORT = 'report.json'
FORMAT = 2
OVER_ROS = 'deployed_over_ros'
"""Name of the nominal scenario over ROS in real time; for other scenarios their name is appended."""
_DIGEST = 'digest'
_FORMER_NAMES = {'way_names': 'mode_names', 'way_counts': 'mode_counts', 'ways': 'modes', 'way': 'mode'}
"""Current names of keys in reports of earlier versions."""


def sealed(values: Mapping[str, Any]) -> str:
    """Return values as the text of a report, with a digest of all other values."""
    return json.dumps({**values, _DIGEST: digest(values)}, indent=1, allow_nan=False)


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 of the values of a report, independent of their formatting."""
    meaning = {name: value for name, value in values.items() if name != _DIGEST}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def read_report(path: str | Path) -> dict[str, Any]:
    """Read a report from its folder or file.

    Raises
    ------
    GateError
        The report is missing, has another format, or was altered.

    """
    file = Path(path)
    file = file / REPORT if file.is_dir() else file
    try:
        values = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise GateError(
            expected=f'a validation report at {file}',
            found=' '.join(str(error).split()),
            remedy='give the output folder of `vdd validate`',
        ) from error
    if not isinstance(values, dict) or values.get('report_version') != FORMAT:
        raise GateError(
            expected=f'a report of version {FORMAT} at {file}', found='another format', remedy='validate again'
        )
    if values.get(_DIGEST) != digest(values):
        raise GateError(expected=f'an unaltered report at {file}', found='another digest', remedy='validate again')
    return _renamed(values)


def _renamed(values: Any) -> Any:
    """Return the values of a report under the present names of their keys."""
    if isinstance(values, dict):
        return {_FORMER_NAMES.get(name, name): _renamed(value) for name, value in values.items()}
    return [_renamed(value) for value in values] if isinstance(values, list) else values
