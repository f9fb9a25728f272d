"""What is known at ticks: the one way from streams to observations, for a bag and for the live arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract, TopicFeature
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.decode.resample import aligned, nanoseconds
from vdd_ros.data.decode.sources import topic_values
from vdd_ros.data.recording import Stream


@dataclass(frozen=True)
class Known:
    """Values at some ticks."""

    measured: np.ndarray
    """Shape (tick, joint) [rad]."""
    commanded: np.ndarray
    """Shape (tick, joint) [rad]; of contracts whose commands say velocities [rad/s]."""
    stale: Mapping[str, np.ndarray]
    """By stream, shape (tick,): where nothing stands for it that is young enough."""


def joints_at(
    contract: Contract,
    measured: Stream,
    commanded: Stream,
    ticks: np.ndarray,
    *,
    start: int,
    anchor: np.ndarray | None = None,
) -> Known:
    """Return the joints that are measured at ticks, and those that were commanded before them.

    Parameters
    ----------
    contract, measured, commanded
        The streams, and how they are aligned.
    ticks
        Shape (tick,) [ns].
    start
        When the episode began [ns]: before its first command, the arm counts as commanded to be where it was.
    anchor
        Where that is, shape (joint,) [rad]; left out, what is measured at the first of these ticks.

    """
    joints, unmeasured = aligned(measured.stamps, measured.values, ticks, contract.measured.align)
    if contract.commanded.source == 'measured':
        return Known(joints, joints, {'measured': unmeasured, 'commanded': unmeasured})
    commands, uncommanded = aligned(
        commanded.stamps, commanded.values, ticks, contract.commanded.align, inclusive=False
    )
    # What was commanded before the episode does not count.
    first = np.searchsorted(commanded.stamps, start)
    known = ticks - nanoseconds(contract.commanded.align.latency)
    unheard = known <= commanded.stamps[first] if first < len(commanded.stamps) else np.ones(len(ticks), dtype=bool)
    if contract.commanded.quantity == 'velocity':
        anchor = np.zeros(joints.shape[1])
    elif anchor is None:
        anchor = joints[0]
    commands = np.where(unheard[:, None], anchor, commands)
    return Known(joints, commands, {'measured': unmeasured, 'commanded': uncommanded & ~unheard})


def observed_at(
    contract: Contract, streams: Mapping[str, Stream], ticks: np.ndarray
) -> tuple[dict[str, np.ndarray | Frames], dict[str, np.ndarray]]:
    """Return the features of the observation that have a topic of their own, at ticks.

    By name, the values, shape (tick, width), and at which ticks nothing stands for them, shape (tick,).
    """
    values, stale = {}, {}
    for feature in contract.observation:
        if isinstance(feature, TopicFeature):
            values[feature.name], stale[feature.name] = topic_values(feature, streams, ticks)
    return values, stale
