"""Convert a bag to episodes in one pass; memory holds about one episode at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_recording import WAITING, RecordingReader
from vdd_ros.data.dataset import cut, require_episodes
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.data.spans import Span, spans_of

_HELD = 8 << 20
"""Size of decoded messages above which complete episodes are cut and released [byte]."""
_SLACK = 5 * NANOSECONDS
"""Time after the end of an episode [ns] within which late messages of that episode are accepted."""


def convert(
    path: str | Path,
    contract: Contract,
    kinematics: ToolPoint | None,
    report: ConversionReport,
    progress: Callable[[float], None] | None = None,
    *,
    held: int = _HELD,
    waiting: int = WAITING,
) -> Iterator[Episode]:
    """Yield the episodes of a bag in order.

    Parameters
    ----------
    path
        The bag. A bag that a killed recorder left is accepted, too (`vdd recover` repairs it).
    contract, kinematics
        The contract, and the kinematics for features in tool space.
    report
        Receives what is dropped, with the reason.
    progress
        Called after each block of messages with the share of messages read, in [0, 1].
    held
        Limit of decoded bytes before complete episodes are cut. A smaller bag is read completely first, and its
        messages may have any order. In a larger bag, messages may be up to 5 s late. Later ones are reported.
    waiting
        Limit of bytes of images that are not decoded yet. Above the limit, images are decoded even if no tick needs
        them.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, a topic is missing or has no usable message, or there is no episode.

    """
    with Bag(path, report) as bag:
        reader = RecordingReader(bag, contract, waiting=waiting)
        done = _Done(contract, kinematics, report, bag.path.name)
        limit, newest = held, 0
        for block in bag.blocks(reader.topics, progress):
            reader.take(block)
            newest = max(newest, *(int(messages.received.max()) for messages in block.values() if len(messages)), 0)
            if reader.size > limit:
                yield from done.take(reader, newest - _SLACK)
                # Data that could not be released are examined again only after they have grown by half.
                limit = held + 3 * reader.size // 2
        reader.complete()
        yield from done.take(reader, None)
        if not done.count:
            require_episodes([], reader.recording(), contract, str(path))


class _Done:
    """Cuts each complete episode once."""

    def __init__(self, contract: Contract, kinematics: ToolPoint | None, report: ConversionReport, bag: str) -> None:
        self._arguments = (contract, kinematics, report)
        self._bag = bag
        self._until = -(1 << 62)
        self.count = 0

    def take(self, reader: RecordingReader, before: int | None) -> Iterator[Episode]:
        """Yield the episodes settled before a reception time [ns] (None: all), and drop their data from the reader."""
        contract, kinematics, report = self._arguments
        recording = reader.recording()
        for span in self._settled(
            spans_of(recording, contract, report if before is None else ConversionReport()), before
        ):
            for episode in cut(recording, contract, span, self.count, kinematics, report):
                yield replace(episode, bag=self._bag)
            self.count += 1
            self._until = max(self._until, span.end)
        if before is not None:
            reader.forget(self._until)

    def _settled(self, spans: list[Span], before: int | None) -> Iterator[Span]:
        for span in spans:
            if before is not None and (span.settled is None or span.settled > before):
                return
            if span.start >= self._until:
                yield span
