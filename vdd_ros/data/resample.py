"""Causal resampling: what was known at a tick, never what came after it."""

from __future__ import annotations

import numpy as np

from vdd_ros.contract import NANOSECONDS
from vdd_ros.features import Alignment


def latest(stamps: np.ndarray, ticks: np.ndarray, *, inclusive: bool) -> np.ndarray:
    """Return, for every tick, the index of the newest message that was there by then; -1 where there was none.

    Parameters
    ----------
    stamps
        Shape (message,), ascending [ns].
    ticks
        Shape (tick,) [ns].
    inclusive
        Whether a message stamped exactly at the tick counts: yes for what is measured, which is known at its stamp;
        no for commands, since the command stamped at a tick is the answer to that tick.

    """
    return np.searchsorted(stamps, ticks, side='right' if inclusive else 'left') - 1


def aligned(
    stamps: np.ndarray, values: np.ndarray, ticks: np.ndarray, alignment: Alignment, *, inclusive: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return what stands for a stream at every tick, and at which ticks nothing does.

    Every row depends on the messages of stamps up to its tick alone: those that come later change nothing, so that a
    bag and the live arm give the same numbers.

    Parameters
    ----------
    stamps, values
        Shape (message,), ascending [ns], and shape (message, width).
    ticks
        Shape (tick,) [ns].
    alignment
        Which message, and how old it may be.
    inclusive
        As for `latest`.

    Returns
    -------
    Shape (tick, width), 0 where nothing stands for the stream; and shape (tick,): where that is.

    """
    latency, delay = nanoseconds(alignment.latency), nanoseconds(alignment.delay)
    newest = latest(stamps, ticks - latency, inclusive=inclusive)
    if not len(stamps):
        return np.zeros((len(ticks), values.shape[1])), np.ones(len(ticks), dtype=bool)
    if alignment.method == 'hold':
        index, found = newest, values[np.maximum(newest, 0)]
    else:
        wanted = ticks - latency - delay
        before = latest(stamps, wanted, inclusive=True)
        after = np.minimum(before + 1, newest)
        index, found = np.maximum(before, 0), values[np.maximum(before, 0)]
        between = (before >= 0) & (after > before)
        if alignment.method == 'interpolate':
            gap = stamps[after] - stamps[index]
            if alignment.max_age is not None:
                between &= gap <= nanoseconds(alignment.max_age)
            share = np.where(between, (wanted - stamps[index]) / np.maximum(gap, 1), 0.0)[:, None]
            found = np.where(between[:, None], found + share * (values[after] - found), found)
            index = before
        else:
            closer = (after >= 0) & (np.abs(stamps[after] - wanted) < np.abs(stamps[index] - wanted))
            index = np.where((before < 0) | closer, after, before)
            found = values[np.maximum(index, 0)]
            far = np.abs(stamps[np.maximum(index, 0)] - wanted) > nanoseconds(alignment.tolerance)
            index = np.where(far, -1, index)
    stale = index < 0
    if alignment.max_age is not None:
        stale |= ticks - stamps[np.maximum(index, 0)] > nanoseconds(alignment.max_age)
    return (np.where(stale[:, None], 0.0, found) if stale.any() else found), stale


def nanoseconds(seconds: float) -> int:
    """Return seconds as nanoseconds."""
    return round(seconds * NANOSECONDS)
