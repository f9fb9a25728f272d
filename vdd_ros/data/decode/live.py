"""Live streams of a contract: at a tick, they give the same values as a bag with the same messages."""

from __future__ import annotations

import bisect
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint, observation_values
from vdd_ros.data.decode.frames import Frames, Picture, real
from vdd_ros.data.decode.observing import joints_at, observed_at
from vdd_ros.data.decode.serialized import Messages
from vdd_ros.data.decode.sources import COMMANDED, MEASURED, Described, alignment, decoder, sources
from vdd_ros.data.recording import Stream
from vdd_ros.policy.observation import AnyObservation, Observation

_SLACK = NANOSECONDS
"""Maximum delay of a message that is still accepted out of order [ns]."""


@dataclass(frozen=True)
class Sample:
    """The values of the topic features at a policy tick, and the features without a recent value."""

    values: Mapping[str, np.ndarray | Picture]
    """Values of the topic features by name, shape (width,). Images of version 3 are stored as messages, and decoded
    when their pixels are needed."""
    stale: tuple[str, ...]
    """Features without a recent value. If there are any, the policy must not act."""


class LiveStreams:
    """Decodes messages and keeps them as long as a tick may need them.

    The decoding functions are those of `vdd_ros.data.convert`. Use the object from one thread, or from several threads
    under one lock.
    """

    def __init__(self, contract: Contract, described: Described, *, arm: bool = False) -> None:
        """Prepare for the topics of a contract.

        Parameters
        ----------
        contract
            Defines the topics and features.
        described
            The definitions of the message types.
        arm
            Whether joint states and commands are also decoded from their topics, for shadow mode.

        """
        self.report = ConversionReport()
        """Dropped data, with reasons."""
        self._contract = contract
        self._arm = arm
        wanted = {feature.name for feature in contract.topic_features}
        if arm:
            wanted |= {MEASURED, COMMANDED, *(controller.name for controller in contract.controllers)}
        chosen = [source for source in sources(contract) if source.stream.partition('/')[0] in wanted]
        self.topics = {source.topic: source.type for source in chosen}
        """Message type by topic."""
        images = {feature.name for feature in contract.arrays}
        self._readers = [
            (source, decoder(contract, source, described, deferred=source.stream in images)) for source in chosen
        ]
        self._tracks: dict[str, _LiveTrack | _LiveImages] = {}
        for source in chosen:
            align = alignment(contract, source.stream)
            back = _SLACK + round((align.latency + align.delay) * NANOSECONDS)
            kind = _LiveImages if source.stream in images else _LiveTrack
            self._tracks[source.stream] = kind(source.width, back)
        self._start = 0
        self._anchor: np.ndarray | None = None

    def take(self, topic: str, received: int, data: bytes) -> None:
        """Add a serialised message of a topic (contract name) that was received at a time [ns]."""
        messages = Messages.of([data], [received])
        for source, reader in self._readers:
            if source.topic == topic:
                found = reader.decode(messages, self.report, topic)
                if len(found.stamps):
                    self._tracks[source.stream].add(int(found.stamps[0]), found.values[0])

    def begin(self, start: int) -> None:
        """Begin an episode at a stamp [ns]; older commands are ignored."""
        self._start, self._anchor = start, None

    def forget(self) -> None:
        """Drop all messages, after a reset of the clock."""
        for track in self._tracks.values():
            track.clear()

    def stamp(self, stream: str) -> int | None:
        """Return the last stamp of a stream [ns]; None if no message has arrived."""
        return self._tracks[stream].newest

    def at(self, tick: int) -> Sample:
        """Return the topic features at a tick [ns]."""
        ticks = np.array([tick], dtype=np.int64)
        values, stale = observed_at(self._contract, self._streams(tick), ticks, undecoded=True)
        return Sample(
            {name: value.rows[0] if isinstance(value, Frames) else value[0] for name, value in values.items()},
            _stale(stale),
        )

    def observation(self, tick: int, kinematics: ToolPoint | None) -> tuple[AnyObservation | None, tuple[str, ...]]:
        """Return the complete observation at a tick [ns], or None and the names of the features without a recent value.

        For shadow mode only (`arm`), since joint commands are read from their topic. A node that commands the arm uses
        the commands that it sends.
        """
        ticks = np.array([tick], dtype=np.int64)
        streams = self._streams(tick)
        known = joints_at(self._contract, streams, ticks, start=self._start, anchor=self._anchor)
        topics, stale = observed_at(self._contract, streams, ticks)
        unseen = {
            f'{each.name} (command)' for each in self._contract.controllers[1:] if not self._contract.observes(each)
        }
        missing = tuple(name for name in _stale({**known.stale, **stale}) if name not in unseen)
        if self._anchor is None and not any(known.stale[name][0] for name in known.stale if name.startswith(MEASURED)):
            self._anchor = known.measured[0].copy()
        if missing:
            return None, missing
        vector = observation_values(self._contract, known.measured, known.commanded, kinematics, topics)[0]
        images = {item.name: topics[item.name].rows[0].reshape(item.shape) for item in self._contract.arrays}
        return (Observation(vector, images) if images else vector), ()

    def _streams(self, tick: int) -> dict[str, Stream]:
        return {name: track.stream(tick) for name, track in self._tracks.items()}


def _stale(stale: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    return tuple(name for name, missing in stale.items() if missing[0])


class _LiveTrack:
    """The newest messages of one stream, sorted by stamp; equal stamps keep the order of arrival."""

    def __init__(self, width: int, back: int) -> None:
        self._back = back
        self._stamps = np.zeros(16, dtype=np.int64)
        self._values = np.zeros((16, width))
        self._count = 0

    @property
    def newest(self) -> int | None:
        return int(self._stamps[self._count - 1]) if self._count else None

    def add(self, stamp: int, values: np.ndarray) -> None:
        values = real(values)
        if self._count == len(self._stamps):
            self._stamps = np.concatenate([self._stamps, np.zeros_like(self._stamps)])
            self._values = np.concatenate([self._values, np.zeros_like(self._values)])
        place, end = self._count, self._count + 1
        if place and stamp < self._stamps[place - 1]:
            place = int(np.searchsorted(self._stamps[:place], stamp, side='right'))
            self._stamps[place + 1 : end] = self._stamps[place : end - 1].copy()
            self._values[place + 1 : end] = self._values[place : end - 1].copy()
        self._stamps[place], self._values[place] = stamp, values
        self._count = end

    def stream(self, tick: int) -> Stream:
        """Return the messages, and drop those that no later tick needs."""
        first = int(np.searchsorted(self._stamps[: self._count], tick - self._back)) - 1
        if first > self._count // 2:
            left = self._count - first
            self._stamps[:left] = self._stamps[first : self._count].copy()
            self._values[:left] = self._values[first : self._count].copy()
            self._count = left
        return Stream(self._stamps[: self._count], self._values[: self._count])

    def clear(self) -> None:
        self._count = 0


class _LiveImages:
    """The newest images of one stream as their messages, in the order of their stamps."""

    def __init__(self, width: int, back: int) -> None:
        self._width, self._back = width, back
        self._stamps: list[int] = []
        self._rows: list[np.ndarray | Picture] = []

    @property
    def newest(self) -> int | None:
        return self._stamps[-1] if self._stamps else None

    def add(self, stamp: int, values: np.ndarray) -> None:
        place = bisect.bisect_right(self._stamps, stamp)
        self._stamps.insert(place, stamp)
        self._rows.insert(place, values[0])

    def stream(self, tick: int) -> Stream:
        """Return the stored images, and drop those that no later tick needs."""
        first = bisect.bisect_left(self._stamps, tick - self._back) - 1
        if first > 0:
            del self._stamps[:first], self._rows[:first]
        return Stream(np.array(self._stamps, dtype=np.int64), Frames(self._rows, self._width))

    def clear(self) -> None:
        self._stamps.clear()
        self._rows.clear()
