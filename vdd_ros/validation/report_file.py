"""`report.json`: the figures of a validation as a file that tells when it was altered."""

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
"""Scenario of a report: the nominal world over ROS in real time; for others their name stands behind it."""
_DIGEST = 'digest'


def sealed(values: Mapping[str, Any]) -> str:
    """Return values as the text of a report, with a digest over all the others."""
    return json.dumps({**values, _DIGEST: digest(values)}, indent=1, allow_nan=False)


def digest(values: Mapping[str, Any]) -> str:
    """Return the SHA-256 over the meaning of a report, whatever its file looks like."""
    meaning = {name: value for name, value in values.items() if name != _DIGEST}
    return hashlib.sha256(json.dumps(meaning, sort_keys=True, separators=(',', ':')).encode()).hexdigest()


def read_report(path: str | Path) -> dict[str, Any]:
    """Read a report, from its folder or its file.

    Raises
    ------
    GateError
        It is absent, no report of this format, or was altered since it was written.

    """
    file = Path(path)
    file = file / REPORT if file.is_dir() else file
    try:
        values = json.loads(file.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise GateError(
            expected=f'the report of a validation at {file}',
            found=' '.join(str(error).split()),
            remedy='give the folder that `vdd validate` wrote',
        ) from error
    if not isinstance(values, dict) or values.get('report_version') != FORMAT:
        raise GateError(
            expected=f'a report of version {FORMAT} at {file}', found='another file', remedy='validate again'
        )
    if values.get(_DIGEST) != digest(values):
        raise GateError(
            expected=f'the report at {file} as it was written', found='another digest', remedy='validate again'
        )
    return values
