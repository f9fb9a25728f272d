"""What is known at ticks: the one way from streams to observations, for a bag and for the live arm."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract, TopicFeature
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.decode.resample import aligned, nanoseconds
from vdd_ros.data.decode.sources import COMMANDED, measured_stream, topic_values
from vdd_ros.data.recording import Stream


@dataclass(frozen=True)
class Known:
    """Values at some ticks."""

    measured: np.ndarray
    """Shape (tick, joint) [rad], of the joints of the contract; where nothing measures one, what was commanded."""
    commanded: np.ndarray
    """Shape (tick, joint) [rad]; of contracts whose commands say velocities, those of the robot's joints [rad/s]."""
    stale: Mapping[str, np.ndarray]
    """By stream, shape (tick,): where nothing stands for it that is young enough. The commands of a further controller
    are called `NAME (command)`."""


def joints_at(
    contract: Contract,
    streams: Mapping[str, Stream],
    ticks: np.ndarray,
    *,
    start: int,
    anchor: np.ndarray | None = None,
) -> Known:
    """Return the joints that are measured at ticks, and those that were commanded before them.

    Parameters
    ----------
    contract
        How the streams are aligned.
    streams
        By the names that `sources.sources` gives them.
    ticks
        Shape (tick,) [ns].
    start
        When the episode began [ns]: before its first command, an arm counts as commanded to be where it was. What was
        commanded before the episode does not count, but for a controller whose joints nobody measures.
    anchor
        Where the arm was, shape (joint,) [rad]; left out, what is measured at the first of these ticks.

    """
    measured, commanded, stale = [], [], {}
    for controller in contract.controllers:
        name = f'{controller.name} (command)' if controller.name else COMMANDED
        align = controller.reading.align
        commands = streams.get(controller.name or COMMANDED)
        if not controller.measured:
            values, missing = aligned(commands.stamps, commands.values, ticks, align, inclusive=False)
            measured.append(values)
            commanded.append(values)
            stale[name] = missing
            continue
        states = streams[measured_stream(controller)]
        joints, unmeasured = aligned(states.stamps, states.values, ticks, contract.measured.align)
        stale[measured_stream(controller)] = unmeasured
        measured.append(joints)
        if not controller.name and contract.commanded.source == 'measured':
            commanded.append(joints)
            stale[name] = unmeasured
            continue
        values, missing = aligned(commands.stamps, commands.values, ticks, align, inclusive=False)
        first = np.searchsorted(commands.stamps, start)
        known = ticks - nanoseconds(align.latency)
        unheard = known <= commands.stamps[first] if first < len(commands.stamps) else np.ones(len(ticks), dtype=bool)
        if not controller.name and contract.commanded.quantity == 'velocity':
            begin = np.zeros(joints.shape[1])
        else:
            begin = joints[0] if anchor is None else anchor[controller.places]
        commanded.append(np.where(unheard[:, None], begin, values))
        stale[name] = missing & ~unheard
    return Known(np.concatenate(measured, axis=1), np.concatenate(commanded, axis=1), stale)


def observed_at(
    contract: Contract, streams: Mapping[str, Stream], ticks: np.ndarray
) -> tuple[dict[str, np.ndarray | Frames], dict[str, np.ndarray]]:
    """Return the features of the observation that have a topic of their own, at ticks.

    By name, the values, shape (tick, width), and at which ticks nothing stands for them, shape (tick,). What is said at
    a tick on a topic that the action commands is the answer to that tick, and not known by then.
    """
    values, stale = {}, {}
    commands = {feature.topic for feature in contract.actions if isinstance(feature, TopicFeature)}
    for feature in contract.topic_features:
        inclusive = feature.topic not in commands
        values[feature.name], stale[feature.name] = topic_values(feature, streams, ticks, inclusive=inclusive)
    return values, stale
