"""The streams of a contract as they come over the wire: at a tick, the numbers that a bag of them would give."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint, observation_values
from vdd_ros.data.decode.frames import real
from vdd_ros.data.decode.observing import joints_at, observed_at
from vdd_ros.data.decode.serialized import Messages
from vdd_ros.data.decode.sources import COMMANDED, MEASURED, Described, alignment, decoder, sources
from vdd_ros.data.recording import Stream

_SLACK = NANOSECONDS
"""How long a message may be late [ns] and still come to its place among the others."""


@dataclass(frozen=True)
class Sample:
    """What is known at a tick."""

    values: Mapping[str, np.ndarray]
    """By feature with a topic of its own, shape (width,)."""
    stale: tuple[str, ...]
    """The features for which nothing stands that is young enough: there is nothing to act by then."""


class LiveStreams:
    """Decodes and keeps what streams say, as long as a tick may need it.

    The way from bytes to observations is that of `vdd_ros.data.convert`, function by function. Made for one thread, or
    for several under one lock.
    """

    def __init__(self, contract: Contract, described: Described, *, arm: bool = False) -> None:
        """Prepare for the topics of a contract.

        Parameters
        ----------
        contract
            Which topics, and what they become.
        described
            The definitions of their types.
        arm
            Whether joint states and commands are taken from their topics too: in the shadow of another commander.

        """
        self.report = ConversionReport()
        """What was not taken in, and why."""
        self._contract = contract
        self._arm = arm
        wanted = {feature.name for feature in contract.topic_features}
        if arm:
            wanted |= {MEASURED, COMMANDED, *(controller.name for controller in contract.controllers)}
        chosen = [source for source in sources(contract) if source.stream.partition('/')[0] in wanted]
        self.topics = {source.topic: source.type for source in chosen}
        """Message type by topic."""
        self._readers = [(source, decoder(contract, source, described)) for source in chosen]
        self._tracks = {}
        for source in chosen:
            align = alignment(contract, source.stream)
            back = _SLACK + round((align.latency + align.delay) * NANOSECONDS)
            self._tracks[source.stream] = _LiveTrack(source.width, back)
        self._start = 0
        self._anchor: np.ndarray | None = None

    def take(self, topic: str, received: int, data: bytes) -> None:
        """Take in a serialised message of a topic, by the contract's name, that was received at a time [ns]."""
        messages = Messages.of([data], [received])
        for source, reader in self._readers:
            if source.topic == topic:
                found = reader.decode(messages, self.report, topic)
                if len(found.stamps):
                    self._tracks[source.stream].add(int(found.stamps[0]), real(found.values[0]))

    def begin(self, start: int) -> None:
        """Begin an episode at a stamp [ns]: what was commanded before does not count."""
        self._start, self._anchor = start, None

    def forget(self) -> None:
        """Forget everything: time was set back."""
        for track in self._tracks.values():
            track.clear()

    def stamp(self, stream: str) -> int | None:
        """Return the newest stamp of a stream [ns]; None if it has said nothing."""
        return self._tracks[stream].newest

    def at(self, tick: int) -> Sample:
        """Return the features with topics of their own at a tick [ns]."""
        values, stale = observed_at(self._contract, self._streams(tick), np.array([tick], dtype=np.int64))
        return Sample({name: value[0] for name, value in values.items()}, _stale(stale))

    def observation(self, tick: int, kinematics: ToolPoint | None) -> tuple[np.ndarray | None, tuple[str, ...]]:
        """Return the whole observation at a tick [ns], joints by their topics, or why there is none.

        Only in the shadow of another commander (`arm`): who commands knows its own commands better than their topic.
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
        return observation_values(self._contract, known.measured, known.commanded, kinematics, topics)[0], ()

    def _streams(self, tick: int) -> dict[str, Stream]:
        return {name: track.stream(tick) for name, track in self._tracks.items()}


def _stale(stale: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    return tuple(name for name, missing in stale.items() if missing[0])


class _LiveTrack:
    """The newest messages of one stream, in the order of their stamps; of equal ones, in that of their arrival."""

    def __init__(self, width: int, back: int) -> None:
        self._back = back
        self._stamps = np.zeros(16, dtype=np.int64)
        self._values = np.zeros((16, width))
        self._count = 0

    @property
    def newest(self) -> int | None:
        return int(self._stamps[self._count - 1]) if self._count else None

    def add(self, stamp: int, values: np.ndarray) -> None:
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
        """Return what is held, and let go of what no later tick needs."""
        first = int(np.searchsorted(self._stamps[: self._count], tick - self._back)) - 1
        if first > self._count // 2:
            left = self._count - first
            self._stamps[:left] = self._stamps[first : self._count].copy()
            self._values[:left] = self._values[first : self._count].copy()
            self._count = left
        return Stream(self._stamps[: self._count], self._values[: self._count])

    def clear(self) -> None:
        self._count = 0
