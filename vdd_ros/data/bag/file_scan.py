"""What is found in a file of a bag by reading all of it: what is sound, and what is not."""

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
    """Least stamp [ns]."""
    last: int
    """Greatest stamp [ns]."""

    def __str__(self) -> str:
        """Say it in a few words."""
        return f'{self.count} of {self.topic} from {self.first / NANOSECONDS:.3f} to {self.last / NANOSECONDS:.3f} s'


@dataclass
class DamagedPart:
    """A part of a file that cannot be read."""

    offset: int
    """Where it begins [byte]."""
    size: int
    """How much it is [byte]; 0 where the file lacks something there."""
    reason: str
    messages: int = 0
    """How many messages are known to be lost with it."""
    dropped: tuple[DroppedMessages, ...] = ()
    """Which these are, where that is known."""
    unverified: int = 0
    """How many messages of it are kept though some of its bytes are not what was recorded."""

    @property
    def contents(self) -> str:
        """Which messages are known to be lost with it, in words."""
        return 'messages: ' + ', '.join(map(str, self.dropped)) if self.dropped else ''


@dataclass
class FileScan:
    """What a file holds, found by reading all of it."""

    path: Path
    channels: Mapping[int, Channel] = field(default_factory=dict)
    schemas: Mapping[int, Schema] = field(default_factory=dict)
    counts: Counter[int] = field(default_factory=Counter)
    """Sound messages by channel."""
    span: tuple[int, int] | None = None
    """Least and greatest stamp [ns]."""
    chunks: list[tuple[int, int]] = field(default_factory=list)
    """Begin and end of each sound chunk in the file that was read [byte]."""
    damages: list[DamagedPart] = field(default_factory=list)
    closed: bool = False
    """Whether it ends as a file that was closed."""
    complete: bool = False
    """Whether it was closed as it should be, and all of it can be read."""
    torn_at: int | None = None
    """Where it breaks off [byte], if all before can be read and is indexed, so that an end makes it whole."""

    @property
    def count(self) -> int:
        """Sound messages."""
        return sum(self.counts.values())
