"""Collect the stamps of a topic without deserialising its messages."""

from __future__ import annotations

import numpy as np

from vdd_ros.data.bag.bag import Bag, TopicInfo
from vdd_ros.data.decode.serialized import Messages, serialization

_SHORTEST = 12
"""Number of bytes up to the end of a header stamp."""


class Stamps:
    """Collects the header stamps and reception times of one topic while a bag is read."""

    def __init__(self, info: TopicInfo, bag: Bag) -> None:
        """Determine whether the type of the topic begins with a header."""
        self.info = info
        self.foreign = info.foreign
        """Serialisation, if this package cannot decode it; else empty."""
        fields = bag.definitions(info.name).get(info.type, ())
        self._report = bag.report
        first = fields[0][1] if fields and info.decodable else None
        self._stamped = first is not None and first.base.endswith('/Header') and first.count is None
        self._received: list[np.ndarray] = []
        self._headers: list[np.ndarray] = []

    def take(self, messages: Messages) -> None:
        """Add messages."""
        if not (self._received or self.foreign or self.info.ros1) and len(messages):
            self.foreign = serialization(messages.data(0))
        if self._stamped and (short := messages.sizes < _SHORTEST).any():
            place = messages.place(int(np.flatnonzero(short)[0]))
            self._report.add('note', self.info.name, 'messages too short for a header', int(short.sum()), place)
            messages = messages.only(~short)
        self._received.append(messages.received)
        if self._stamped:
            self._headers.append(header_stamps(messages, ros1=self.info.ros1))

    @property
    def received(self) -> np.ndarray:
        """Reception times in the order of the bag, shape (message,) [ns]."""
        return np.concatenate(self._received) if self._received else np.zeros(0, dtype=np.int64)

    @property
    def headers(self) -> np.ndarray | None:
        """Header stamps; None if there are no headers, or all stamps are 0."""
        found = np.concatenate(self._headers) if self._headers else np.zeros(0, dtype=np.int64)
        return found if found.any() else None


def header_stamps(messages: Messages, *, ros1: bool) -> np.ndarray:
    """Return the stamps [ns] of messages that begin with a header, shape (message,), without deserialising them."""
    if not len(messages.buffer):
        return np.zeros(len(messages), dtype=np.int64)
    places = messages.offsets[:, None] + 4 + np.arange(8)
    places = np.minimum(places, len(messages.buffer) - 1)
    data = np.ascontiguousarray(messages.buffer[places])
    little = data.view('<u4').astype(np.int64)
    if not ros1:  # the second byte gives the byte order
        big = data.view('>u4').astype(np.int64)
        order = np.minimum(messages.offsets + 1, len(messages.buffer) - 1)
        little = np.where((messages.buffer[order] & 1)[:, None].astype(bool), little, big)
    return little[:, 0] * 1_000_000_000 + little[:, 1]
