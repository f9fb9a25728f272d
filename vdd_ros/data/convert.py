"""From a bag to episodes in one pass, with no more in memory than an episode needs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.bag.bag import Bag
from vdd_ros.data.bag.bag_recording import WAITING, RecordingReader
from vdd_ros.data.dataset import cut, refuse_none
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decode import ToolPoint
from vdd_ros.data.episode import Episode
from vdd_ros.data.spans import Span, spans_of

_HELD = 8 << 20
"""Decoded bytes over which the episodes that are complete are cut, and let go of."""
_SLACK = 5 * NANOSECONDS
"""How long after its end [ns] a message may still arrive that belongs to an episode."""


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
    """Yield the episodes of a bag, in their order.

    Parameters
    ----------
    path
        The bag; also one that a killed recorder has left (`vdd recover` makes it whole).
    contract, kinematics
        What to read, and the kinematics that features in tool space need.
    report
        Where to note what is dropped, and why.
    progress
        Told the share of the messages that are read, in [0, 1].
    held
        Decoded bytes that may be held before complete episodes are cut. A bag that holds less is read as a whole first,
        and its messages may lie in any order; of a larger one they may be late by 5 s, and later ones are noted.
    waiting
        Bytes of pictures that may wait to be decoded until a tick needs them. What waits longer is decoded in any case.

    Raises
    ------
    BagError
        There is no bag, it cannot be read, lacks a topic, has no message of one that can be used, or no episode.

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
                # What could not be let go of is looked through again only when it is half as much again.
                limit = held + 3 * reader.size // 2
        reader.complete()
        yield from done.take(reader, None)
        if not done.count:
            refuse_none([], reader.recording(), contract, str(path))


class _Done:
    """Cuts the episodes that are complete, once each."""

    def __init__(self, contract: Contract, kinematics: ToolPoint | None, report: ConversionReport, bag: str) -> None:
        self._arguments = (contract, kinematics, report)
        self._bag = bag
        self._until = -(1 << 62)
        self.count = 0

    def take(self, reader: RecordingReader, before: int | None) -> Iterator[Episode]:
        """Yield the episodes that were settled before a time of reception [ns], or all; the reader forgets them."""
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
