"""Causal resampling: what was known at a tick, never what came after it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.contract.features import Alignment
from vdd_ros.data.decode.frames import Frames, real


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


@dataclass(frozen=True)
class Choice:
    """Which messages stand for a stream at some ticks."""

    index: np.ndarray
    """Shape (tick,): the message; negative where there is none."""
    stale: np.ndarray
    """Shape (tick,): where none stands that is young enough."""
    after: np.ndarray | None = None
    """Of interpolation, shape (tick,): the message after it."""
    share: np.ndarray | None = None
    """Of interpolation, shape (tick,): how far it goes from the one to the other, in [0, 1]."""


def choose(stamps: np.ndarray, ticks: np.ndarray, alignment: Alignment, *, inclusive: bool = True) -> Choice:
    """Return which messages stand for a stream at every tick.

    Every row depends on the messages of stamps up to its tick alone: those that come later change nothing, so that a
    bag and the live arm give the same numbers.

    Parameters
    ----------
    stamps
        Shape (message,), ascending [ns].
    ticks
        Shape (tick,) [ns].
    alignment
        Which message, and how old it may be.
    inclusive
        As for `latest`.

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
    """Return what stands for a stream at every tick, and at which ticks nothing does: see `choose`.

    Returns
    -------
    Shape (tick, width), 0 where nothing stands for the stream; and shape (tick,): where that is.

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
    stamps: np.ndarray, frames: Frames, ticks: np.ndarray, alignment: Alignment
) -> tuple[Frames, np.ndarray]:
    """Return which pictures stand for a stream at every tick, and at which ticks none does: the numbers of `aligned`.

    Pictures that stand at a tick are decoded, others are not. One that cannot be decoded counts as if it had never
    come. A picture that stands at several ticks is held once. Only interpolated pictures are computed.
    """
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
    """Return which of all messages an index into those that are left means, where it is used; else -1."""
    places = np.full(len(index), -1)
    places[used] = left[index[used]]
    return places


def nanoseconds(seconds: float) -> int:
    """Return seconds as nanoseconds."""
    return round(seconds * NANOSECONDS)
