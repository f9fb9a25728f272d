"""Compact outcomes of validation episodes, which determine all metrics and are stored in the report."""

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
    """The outcomes of episodes; every array has shape (episode,). NaN for values that were not measured."""

    success: np.ndarray
    """Whether the episode succeeded, bool."""
    mode: np.ndarray
    """Index of the mode, -1 if none was completed; int."""
    seconds: np.ndarray
    """Duration [s]."""
    path: np.ndarray
    """Path length of the tool point [m]."""
    jerk: np.ndarray
    """Root mean square jerk of the tool point [m/s^3]."""
    clamped: np.ndarray
    """Share of the policy periods in which a limit changed the command."""
    clearance: np.ndarray
    """Minimum distance of the arm, or of the object it holds, to an obstacle [m]; negative for penetration."""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.success)

    def values(self) -> dict[str, list[Any]]:
        """Return plain values, rounded to six digits; `outcomes_of` reads them."""
        return {field.name: [_plain(value) for value in getattr(self, field.name)] for field in fields(self)}


def outcomes_of(values: Mapping[str, Sequence[Any]]) -> Outcomes:
    """Read outcomes from plain values.

    Raises
    ------
    GateError
        A list is missing, has invalid entries, or differs from the first list in length.

    """
    kinds = {'success': bool, 'mode': int}
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
            expected='lists of equal length with at least one episode',
            found=f'lengths {sorted(lengths)}',
            remedy='validate again with this version',
        )
    return Outcomes(**arrays)


def path_length(path: np.ndarray) -> float:
    """Return the length of a path of shape (stamp, 3) [m]."""
    return float(np.linalg.norm(np.diff(path, axis=0), axis=1).sum())


def root_mean_square_jerk(path: np.ndarray, period: float) -> float:
    """Return the root mean square jerk [m/s^3] of a path of shape (stamp, 3) [m], sampled every ``period`` [s].

    NaN for fewer than four samples.
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
