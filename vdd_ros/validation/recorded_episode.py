"""An episode of a bag for replay: its commands, and its messages as recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import TopicFeature
from vdd_ros.control.playback import Track
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_recording import RecordingReader, find_topic
from vdd_ros.data.bag.recovery import settle
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.sources import measured_stream
from vdd_ros.data.recording import Recording, Stream
from vdd_ros.data.spans import Span, spans_of


@dataclass(frozen=True)
class RecordedMessage:
    """A recorded message of the episode."""

    received: int
    """Reception time [ns]."""
    topic: str
    """Topic name in the contract."""
    data: bytes
    """The serialised message."""


@dataclass(frozen=True)
class RecordedEpisode:
    """One recorded episode with what its replay needs: commands, and messages of the requested topics."""

    span: Span
    commanded: Stream
    """Commands of the episode for all joints of the contract."""
    begin: int
    """Reception time of the first command [ns]: time 0 of the track."""
    recording: Recording
    """The complete decoded bag."""
    messages: tuple[RecordedMessage, ...]
    """Messages of the requested topics, in the order of reception."""

    @property
    def track(self) -> Track:
        """Commands of the episode, with times from 0."""
        return Track(self.commanded.stamps - self.commanded.stamps[0], self.commanded.values)


def driven(contract: Contract) -> Contract:
    """Return a contract without the actions whose recorded messages are replayed unchanged.

    These are actions without a controller, and actions of controllers whose joints are not measured and therefore
    cannot be checked.
    """
    kept = []
    for feature in contract.further_actions:
        controller = contract.controller_of(feature) if isinstance(feature, TopicFeature) else None
        if not isinstance(feature, TopicFeature) or (controller is not None and controller.measured):
            kept.append(feature)
    return contract.model_copy(update={'further_actions': tuple(kept)})


def read_episode(
    path: str, contract: Contract, number: int, topics: Sequence[str] = (), before: int = 0
) -> RecordedEpisode:
    """Read one episode of a bag.

    Parameters
    ----------
    path
        The bag.
    contract
        The contract of the bag. The joints of all its controllers are measured (see `driven`).
    number
        Index of the episode, from 0; -1 is the last.
    topics
        Topics whose recorded messages are returned, by contract name.
    before
        Time before the episode from which messages are included [ns].

    Raises
    ------
    BagError
        There is no such bag or episode, or the episode has no commands.

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
            remedy='choose another number, from 0',
        )
    span = spans[number]
    # A command with the stamp of a state is the response to it, so it comes after the state.
    messages = [item for item in kept if span.start - before <= item[0] <= span.end]
    commands = {each.topic for each in contract.controllers}
    messages.sort(key=lambda item: (item[0], item[1] in commands))
    commanded, begin = _commanded(recording, contract, span, path)
    return RecordedEpisode(span, commanded, begin, recording, tuple(RecordedMessage(*item) for item in messages))


def _commanded(recording: Recording, contract: Contract, span: Span, path: str) -> tuple[Stream, int]:
    if contract.commanded.quantity != 'position':
        raise BagError(
            expected=f'position commands in {path}',
            found=f'commands of {contract.commanded.quantity}',
            remedy='replay needs positions: set `commanded: {source: measured}` in the contract',
        )
    stream = recording.commanded
    inside = slice(*np.searchsorted(stream.stamps, [span.start, span.end]))
    of_the_arm, first = np.unique(stream.stamps[inside], return_index=True)
    if len(of_the_arm) < 2:
        raise BagError(
            expected=f'commands in the episode at {span.start / 1e9:.3f} s of {path}',
            found=f'{len(of_the_arm)}',
            remedy='choose another episode, or set `commanded: {source: measured}` in the contract',
        )
    begin, further = int(of_the_arm[0]), []
    for controller in contract.controllers[1:]:
        states = recording.streams[measured_stream(controller)]
        commands = _since(recording.streams[controller.name], span.start, states)
        if not len(commands.stamps):
            raise BagError(
                expected=f'commands on {controller.topic} in {path}, or states of {", ".join(controller.joints)}',
                found='neither',
                remedy='choose another episode',
            )
        further.append(commands)
    # Every command of every controller; between two of its own, a controller holds the earlier one.
    moments = [each.stamps[slice(*np.searchsorted(each.stamps, [begin, span.end]))] for each in further]
    stamps = np.unique(np.concatenate([of_the_arm, *moments]))
    positions = np.concatenate([_held(each, stamps) for each in (stream, *further)], axis=1)
    return Stream(stamps, positions), int(stream.received[inside][first][0])


def _held(stream: Stream, stamps: np.ndarray) -> np.ndarray:
    """Return the newest values at some stamps, shape (stamp, joint); before the first one, that."""
    return stream.values[np.maximum(np.searchsorted(stream.stamps, stamps, side='right') - 1, 0)]


def _since(commands: Stream, start: int, measured: Stream) -> Stream:
    """Return the commands from a stamp on; before the first of them counts what was measured at the stamp."""
    first = int(np.searchsorted(commands.stamps, start))
    here = int(np.searchsorted(measured.stamps, start))
    stamps, values = commands.stamps[first:], commands.values[first:]
    if here < len(measured.stamps):
        stamps = np.concatenate([[start], stamps])
        values = np.concatenate([measured.values[here : here + 1], values])
    return Stream(stamps, values)
