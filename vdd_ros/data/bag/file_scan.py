"""The result of reading a bag file completely: sound and damaged parts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.data.bag.mcap_records import Channel, Schema


@dataclass(frozen=True)
class DroppedMessages:
    """Messages of one topic that cannot be read."""

    topic: str
    count: int
    first: int
    """Lowest stamp [ns]."""
    last: int
    """Highest stamp [ns]."""

    def __str__(self) -> str:
        """Return a short description."""
        return f'{self.count} of {self.topic} from {self.first / NANOSECONDS:.3f} to {self.last / NANOSECONDS:.3f} s'


@dataclass
class DamagedPart:
    """A part of a file that cannot be read."""

    offset: int
    """Offset in the file [byte]."""
    size: int
    """Size [byte]; 0 if data are missing at this offset."""
    reason: str
    messages: int = 0
    """Number of messages known to be lost with this part."""
    dropped: tuple[DroppedMessages, ...] = ()
    """The lost messages, if known."""
    unverified: int = 0
    """Number of messages of this part that are kept although some bytes differ from the recording."""

    @property
    def contents(self) -> str:
        """Description of the messages known to be lost with this part."""
        return 'messages: ' + ', '.join(map(str, self.dropped)) if self.dropped else ''


@dataclass
class FileScan:
    """The content of a file, found by reading all of it."""

    path: Path
    channels: Mapping[int, Channel] = field(default_factory=dict)
    schemas: Mapping[int, Schema] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    """Sound messages by channel."""
    span: tuple[int, int] | None = None
    """First and last stamp [ns]."""
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of each sound MCAP chunk in the file [byte]."""
    damages: list[DamagedPart] = field(default_factory=list)
    closed: bool = False
    """Whether the file has the end of a closed file."""
    complete: bool = False
    """Whether the file was closed correctly and can be read completely."""
    torn_at: int | None = None
    """Offset at which the file is truncated [byte], if only its end is missing: all data before can be read and are
    indexed. None otherwise."""

    @property
    def count(self) -> int:
        """Number of sound messages."""
        return sum(self.counts.values())
