"""An episode of a bag as a player needs it: its commands, and its messages as they were recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract
from vdd_ros.control.playback import Track
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_recording import RecordingReader, find_topic
from vdd_ros.data.bag.recovery import settle
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.recording import Recording
from vdd_ros.data.spans import Span, spans_of


@dataclass(frozen=True)
class Said:
    """A message of the episode, as it was recorded."""

    received: int
    """When the bag got it [ns]."""
    topic: str
    """By the contract's name."""
    data: bytes
    """Serialised."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One episode."""

    span: Span
    track: Track
    """Its commands, from 0 on."""
    begin: int
    """When the first of them was received [ns]: 0 of the track, in the time of `said`."""
    recording: Recording
    """All of the bag, decoded."""
    said: tuple[Said, ...]
    """Its messages of the wanted topics, in the order of their reception."""


def read_episode(
    path: str, contract: Contract, number: int, topics: Sequence[str] = (), before: int = 0
) -> RecordedEpisode:
    """Read one episode of a bag.

    Parameters
    ----------
    path
        The bag.
    contract
        What it holds.
    number
        Of the episode, from 0; -1 is the last.
    topics
        Whose messages are wanted as they were recorded, by the contract's names.
    before
        How far before the episode such messages are wanted, too [ns].

    Raises
    ------
    BagError
        There is no such bag or episode, or it has no commands.

    """
    settle(path)
    report = ConversionReport()
    kept: list[tuple[int, str, bytes]] = []
    with Bag(path, report) as bag:
        reader = RecordingReader(bag, contract)
        names = {find_topic(bag.topics, topic): topic for topic in topics}
        names.pop(None, None)
        for block in bag.blocks({*reader.topics, *names}):
            reader.take({topic: messages for topic, messages in block.items() if topic in reader.topics})
            for topic, messages in block.items():
                if topic in names:
                    kept += [
                        (int(messages.received[index]), names[topic], messages.data(index))
                        for index in range(len(messages))
                    ]
        reader.complete()
        recording = reader.recording()
    spans = [span for span in spans_of(recording, contract, report) if not span.dropped]
    if not -len(spans) <= number < len(spans):
        raise BagError(
            expected=f'episode {number} in {path}',
            found=f'{len(spans)} episodes',
            remedy='choose another; the first is 0',
        )
    span = spans[number]
    # A command that is stamped as a state is the answer to it: it was said after the state.
    said = [item for item in kept if span.start - before <= item[0] <= span.end]
    said.sort(key=lambda item: (item[0], item[1] == contract.topics.commands))
    track, begin = _track(recording, contract, span, path)
    return RecordedEpisode(span, track, begin, recording, tuple(Said(*item) for item in said))


def _track(recording: Recording, contract: Contract, span: Span, path: str) -> tuple[Track, int]:
    if contract.commanded.quantity != 'position':
        raise BagError(
            expected=f'commands of positions in {path}',
            found=f'commands of {contract.commanded.quantity}',
            remedy='a player needs positions; let the contract say `commanded: {source: measured}`',
        )
    stream = recording.commanded
    inside = slice(*np.searchsorted(stream.stamps, [span.start, span.end]))
    stamps, index = np.unique(stream.stamps[inside], return_index=True)
    if len(stamps) < 2:
        raise BagError(
            expected=f'commands in the episode at {span.start / 1e9:.3f} s of {path}',
            found=f'{len(stamps)}',
            remedy='choose another episode, or let the contract say `commanded: {source: measured}`',
        )
    return Track(stamps - stamps[0], stream.values[inside][index]), int(stream.received[inside][index][0])
