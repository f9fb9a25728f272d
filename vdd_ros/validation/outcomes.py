"""What is kept of every episode of a validation: enough for all its figures, and small enough for a report."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from vdd_ros.common.errors import GateError

_DIGITS = 6


@dataclass(frozen=True)
class Outcomes:
    """Episodes side by side; every array has shape (episode,). NaN where something was not measured."""

    success: np.ndarray
    """Whether it succeeded, bool."""
    way: np.ndarray
    """Index of the way that was taken, -1 where none was completed; int."""
    seconds: np.ndarray
    """How long it lasted [s]."""
    path: np.ndarray
    """Length of the tool point's path [m]."""
    jerk: np.ndarray
    """Root mean square of the tool point's jerk [m/s^3]: less is smoother."""
    clamped: np.ndarray
    """Share of the policy periods whose command a limit changed."""
    clearance: np.ndarray
    """How near the arm, or what it held, came to an obstacle [m]; negative where they touched."""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.success)

    def values(self) -> dict[str, list[Any]]:
        """Return plain values, which `outcomes_of` reads back to six digits."""
        return {field.name: [_plain(value) for value in getattr(self, field.name)] for field in fields(self)}


def outcomes_of(values: Mapping[str, Sequence[Any]]) -> Outcomes:
    """Read outcomes back from plain values.

    Raises
    ------
    GateError
        A list is absent, holds what it should not, or is of another length than the first.

    """
    kinds = {'success': bool, 'way': int}
    arrays = {}
    for field in fields(Outcomes):
        try:
            entries = [math.nan if entry is None else entry for entry in values[field.name]]
            arrays[field.name] = np.array(entries, dtype=kinds.get(field.name, float)).reshape(-1)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise GateError(
                expected=f'a list {field.name} of numbers for the episodes',
                found=f'{type(error).__name__}: {error}',
                remedy='validate again with this version',
            ) from error
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise GateError(
            expected='lists of one length, and at least one episode',
            found=f'lengths {sorted(lengths)}',
            remedy='validate again with this version',
        )
    return Outcomes(**arrays)


def path_length(path: np.ndarray) -> float:
    """Return the length [m] of a path of shape (stamp, 3) [m]."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def root_mean_square_jerk(path: np.ndarray, period: float) -> float:
    """Return the root mean square jerk [m/s^3] of a path of shape (stamp, 3) [m] with a stamp each period [s].

    NaN where there are fewer than four stamps.
    """
    if len(path) < 4:
        return math.nan
    jerk = np.diff(path, n=3, axis=0) / period**3
    return float(np.sqrt((jerk**2).sum(axis=1).mean()))


def _plain(value: Any) -> Any:
    value = value.item()
    if isinstance(value, float):
        return float(f'{value:.{_DIGITS}g}') if math.isfinite(value) else None
    return value
