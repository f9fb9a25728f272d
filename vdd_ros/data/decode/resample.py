"""Causal resampling: a tick depends on earlier messages only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.contract.features import Alignment
from vdd_ros.data.decode.frames import Frames, real


def latest(stamps: np.ndarray, ticks: np.ndarray, *, inclusive: bool) -> np.ndarray:
    """Return, for every tick, the index of the last message known at the tick; -1 if there is none.

    Parameters
    ----------
    stamps
        Shape (message,), ascending [ns].
    ticks
        Shape (tick,) [ns].
    inclusive
        Whether a message stamped exactly at the tick counts: true for measurements, which are known at their stamp.
        False for commands, since a command stamped at a tick is the response to that tick.

    """
    return np.searchsorted(stamps, ticks, side='right' if inclusive else 'left') - 1


@dataclass(frozen=True)
class Choice:
    """The messages used for a stream at given ticks."""

    index: np.ndarray
    """Index of the message, shape (tick,); negative if there is none."""
    stale: np.ndarray
    """Shape (tick,): whether there is no recent message."""
    after: np.ndarray | None = None
    """For interpolation: index of the following message, shape (tick,)."""
    share: np.ndarray | None = None
    """For interpolation: weight of the following message, in [0, 1], shape (tick,)."""


def choose(stamps: np.ndarray, ticks: np.ndarray, alignment: Alignment, *, inclusive: bool = True) -> Choice:
    """Return the messages used for a stream at every tick.

    Each result depends only on messages with stamps up to its tick. Later messages change nothing, so bags and the live
    arm give the same values.

    Parameters
    ----------
    stamps
        Shape (message,), ascending [ns].
    ticks
        Shape (tick,) [ns].
    alignment
        Defines which message is used, and its maximum age.
    inclusive
        See `latest`.

    """
    if not len(stamps):
        return Choice(np.full(len(ticks), -1), np.ones(len(ticks), dtype=bool))
    latency, delay = nanoseconds(alignment.latency), nanoseconds(alignment.delay)
    newest = latest(stamps, ticks - latency, inclusive=inclusive)
    after, share = None, None
    if alignment.method == 'hold':
        index = newest
    else:
        wanted = ticks - latency - delay
        before = latest(stamps, wanted, inclusive=True)
        after = np.minimum(before + 1, newest)
        if alignment.method == 'interpolate':
            index = before
            gap = stamps[after] - stamps[np.maximum(index, 0)]
            between = (before >= 0) & (after > before)
            if alignment.max_age is not None:
                between &= gap <= nanoseconds(alignment.max_age)
            share = np.where(between, (wanted - stamps[np.maximum(index, 0)]) / np.maximum(gap, 1), 0.0)
        else:
            closer = (after >= 0) & (np.abs(stamps[after] - wanted) < np.abs(stamps[before] - wanted))
            index = np.where((before < 0) | closer, after, before)
            far = np.abs(stamps[np.maximum(index, 0)] - wanted) > nanoseconds(alignment.tolerance)
            index, after = np.where(far, -1, index), None
    stale = index < 0
    if alignment.max_age is not None:
        stale |= ticks - stamps[np.maximum(index, 0)] > nanoseconds(alignment.max_age)
    return Choice(index, stale, after, share)


def aligned(
    stamps: np.ndarray, values: np.ndarray, ticks: np.ndarray, alignment: Alignment, *, inclusive: bool = True
) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of a stream at every tick, and a mask of the missing ones: see `choose`.

    Returns
    -------
    Shape (tick, width), 0 for missing values; and the mask, shape (tick,).

    """
    choice = choose(stamps, ticks, alignment, inclusive=inclusive)
    if not len(stamps):
        return np.zeros((len(ticks), values.shape[1])), choice.stale
    found = values[np.maximum(choice.index, 0)]
    if choice.share is not None:
        between = (choice.share != 0)[:, None]
        found = np.where(between, found + choice.share[:, None] * (values[choice.after] - found), found)
    return (np.where(choice.stale[:, None], 0.0, found) if choice.stale.any() else found), choice.stale


def aligned_frames(
    stamps: np.ndarray, frames: Frames, ticks: np.ndarray, alignment: Alignment, *, undecoded: bool = False
) -> tuple[Frames, np.ndarray]:
    """Return the images of a stream at every tick, and a mask of the missing ones; same numbers as `aligned`.

    Only images at ticks are decoded. An image that cannot be decoded is treated as missing. An image that is valid at
    several ticks is stored once. Only interpolated images are computed. With
    ``undecoded``, images that are not interpolated are returned without decoding.
    """
    if undecoded:
        choice = choose(stamps, ticks, alignment)
        return frames.pick(np.where(choice.stale, -1, choice.index)), choice.stale
    left = np.arange(len(stamps))
    while True:
        choice = choose(stamps[left], ticks, alignment)
        index = _places(left, choice.index, ~choice.stale)
        found, refused = frames.decoded(index)
        if choice.share is not None:
            between = (choice.share != 0) & ~choice.stale
            later, more = frames.decoded(_places(left, choice.after, between))
            refused = np.union1d(refused, more)
        if not len(refused):
            break
        left = np.setdiff1d(left, refused)
    if choice.share is not None:
        for tick in np.flatnonzero(between).tolist():
            before, after = real(found.rows[tick]), real(later.rows[tick])
            found.rows[tick] = before + choice.share[tick] * (after - before)
    return found, choice.stale


def _places(left: np.ndarray, index: np.ndarray, used: np.ndarray) -> np.ndarray:
    """Map indices into the remaining messages to indices into all messages; -1 where unused."""
    places = np.full(len(index), -1)
    places[used] = left[index[used]]
    return places


def nanoseconds(seconds: float) -> int:
    """Convert seconds to nanoseconds."""
    return round(seconds * NANOSECONDS)
