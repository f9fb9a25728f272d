"""Record what was dropped between a bag and its episodes, and why."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal['message', 'part', 'tick', 'episode', 'note']


@dataclass(frozen=True)
class DroppedData:
    """Dropped items of one kind with a common reason."""

    kind: Kind
    """`message`: messages that were not decoded. `part`: a part of a file with an unknown number of messages.
    `tick`, `episode`: excluded from the windows. `note`: nothing was dropped, but something is unusual."""
    where: str
    """Topic, file, stream or episode."""
    why: str
    """The reason."""
    count: int
    """Number of items."""
    place: str
    """Location of the first item, for example a byte offset, a message or a stamp."""

    def __str__(self) -> str:
        """Return a description in one line."""
        count = '' if self.kind == 'note' else f'{self.count} {self.kind}{"s" * (self.count != 1)} dropped: '
        return f'{self.where}: {count}{self.why}' + f' (first at {self.place})' * bool(self.place)


@dataclass
class ConversionReport:
    """Counts what is used and dropped while a bag is converted."""

    entries: list[DroppedData] = field(default_factory=list)
    """The dropped data, in the order of their first occurrence."""
    read: dict[str, int] = field(default_factory=dict)
    """Number of decoded messages by topic."""

    def add(self, kind: Kind, where: str, why: str, count: int = 1, place: str = '') -> None:
        """Add dropped items. Entries that differ only in count and location are merged."""
        if count < 1:
            return
        for index, entry in enumerate(self.entries):
            if (entry.kind, entry.where, entry.why) == (kind, where, why):
                self.entries[index] = replace(entry, count=entry.count + count)
                return
        self.entries.append(DroppedData(kind, where, why, int(count), place))

    def took(self, topic: str, count: int) -> None:
        """Add decoded messages."""
        self.read[topic] = self.read.get(topic, 0) + count

    def dropped(self, kind: Kind, where: str | None = None) -> int:
        """Return the number of dropped items of a kind, for one topic, file, stream or episode, or in total."""
        return sum(entry.count for entry in self.entries if entry.kind == kind and where in (None, entry.where))

    def lines(self) -> list[str]:
        """Return a summary in few lines: one line for each reason shared by several episodes."""
        lines, shared = [], {}
        for entry in self.entries:
            if entry.kind in ('tick', 'episode'):
                count, places = shared.get((entry.kind, entry.why), (0, 0))
                shared[entry.kind, entry.why] = (count + entry.count, places + 1)
            elif entry.kind != 'note':
                lines.append(str(entry))
        for (kind, why), (count, places) in shared.items():
            among = f' in {places} episodes' * (kind == 'tick' and places > 1)
            lines.append(f'{count} {kind}{"s" * (count != 1)}{among} dropped: {why}')
        return lines

    def merge(self, other: ConversionReport) -> None:
        """Add the counts of another report."""
        for entry in other.entries:
            self.add(entry.kind, entry.where, entry.why, entry.count, entry.place)
        for topic, count in other.read.items():
            self.took(topic, count)
