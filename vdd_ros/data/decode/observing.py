"""Observations from streams at given ticks, for bags and for the live arm."""

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
    """Measured and commanded joint positions at given ticks, and masks of the ticks at which a stream is stale."""

    measured: np.ndarray
    """Measured joint positions, shape (tick, joint) [rad]; commanded positions for joints without measurement."""
    commanded: np.ndarray
    """Joint commands, shape (tick, joint) [rad]; velocities of the robot's joints [rad/s] for velocity commands."""
    stale: Mapping[str, np.ndarray]
    """Masks of ticks without a recent message, by stream, shape (tick,). The stream of a further controller's commands
    is named `NAME (command)`."""


def joints_at(
    contract: Contract,
    streams: Mapping[str, Stream],
    ticks: np.ndarray,
    *,
    start: int,
    anchor: np.ndarray | None = None,
) -> Known:
    """Return the joint positions measured at ticks, and those commanded before the ticks.

    Parameters
    ----------
    contract
        Defines how the streams are aligned.
    streams
        Streams by name, see `sources.sources`.
    ticks
        Shape (tick,) [ns].
    start
        Start of the episode [ns]. Before the first command of the episode, the commanded position is the anchor.
        Earlier commands are ignored, except those of a controller whose joints are not measured.
    anchor
        Joint positions of shape (joint,) [rad]; by default those measured at the first tick.

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
        before_first = (
            known <= commands.stamps[first] if first < len(commands.stamps) else np.ones(len(ticks), dtype=bool)
        )
        if not controller.name and contract.commanded.quantity == 'velocity':
            begin = np.zeros(joints.shape[1])
        else:
            begin = joints[0] if anchor is None else anchor[controller.places]
        commanded.append(np.where(before_first[:, None], begin, values))
        stale[name] = missing & ~before_first
    return Known(np.concatenate(measured, axis=1), np.concatenate(commanded, axis=1), stale)


def observed_at(
    contract: Contract, streams: Mapping[str, Stream], ticks: np.ndarray, *, undecoded: bool = False
) -> tuple[dict[str, np.ndarray | Frames], dict[str, np.ndarray]]:
    """Return the topic features of the observation at ticks.

    Both results are keyed by name: values of shape (tick, width), and masks of shape (tick,) of missing values. A
    message at a tick on a topic that the action commands is the response to that tick. It is not included. With
    ``undecoded``, images are returned without decoding.
    """
    values, stale = {}, {}
    commands = {feature.topic for feature in contract.actions if isinstance(feature, TopicFeature)}
    for feature in contract.topic_features:
        inclusive = feature.topic not in commands
        values[feature.name], stale[feature.name] = topic_values(
            feature, streams, ticks, inclusive=inclusive, undecoded=undecoded
        )
    return values, stale
