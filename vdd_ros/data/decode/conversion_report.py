"""What was dropped on the way from a bag to episodes, and why: nothing is lost, mended or left out in silence."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

Kind = Literal['message', 'part', 'tick', 'episode', 'note']


@dataclass(frozen=True)
class DroppedData:
    """Some things of one kind that share the reason for which they were dropped."""

    kind: Kind
    """`message`: messages that did not become values. `part`: a stretch of a file, with messages unknown in number.
    `tick`, `episode`: they do not become windows. `note`: nothing was dropped, but something was odd."""
    where: str
    """Topic, file, stream or episode."""
    why: str
    """What was wrong."""
    count: int
    """How many."""
    place: str
    """Where the first of them is: a byte of a file, a message, a stamp."""

    def __str__(self) -> str:
        """Say it in a line."""
        count = '' if self.kind == 'note' else f'{self.count} {self.kind}{"s" * (self.count != 1)} dropped: '
        return f'{self.where}: {count}{self.why}' + f' (first at {self.place})' * bool(self.place)


@dataclass
class ConversionReport:
    """Keeps count while a bag is converted."""

    entries: list[DroppedData] = field(default_factory=list)
    """In the order of their first occurrence."""
    read: dict[str, int] = field(default_factory=dict)
    """Messages that became values, by topic."""

    def add(self, kind: Kind, where: str, why: str, count: int = 1, place: str = '') -> None:
        """Note a loss; those that differ in count and place alone become one."""
        if count < 1:
            return
        for index, loss in enumerate(self.entries):
            if (loss.kind, loss.where, loss.why) == (kind, where, why):
                self.entries[index] = replace(loss, count=loss.count + count)
                return
        self.entries.append(DroppedData(kind, where, why, int(count), place))

    def took(self, topic: str, count: int) -> None:
        """Note messages that became values."""
        self.read[topic] = self.read.get(topic, 0) + count

    def lost(self, kind: Kind, where: str | None = None) -> int:
        """Return how many of a kind were dropped, of one place or of all."""
        return sum(loss.count for loss in self.entries if loss.kind == kind and where in (None, loss.where))

    def lines(self) -> list[str]:
        """Say in a few lines what was dropped: what befell several episodes for one reason is one line."""
        lines, shared = [], {}
        for loss in self.entries:
            if loss.kind in ('tick', 'episode'):
                count, places = shared.get((loss.kind, loss.why), (0, 0))
                shared[loss.kind, loss.why] = (count + loss.count, places + 1)
            elif loss.kind != 'note':
                lines.append(str(loss))
        for (kind, why), (count, places) in shared.items():
            among = f' in {places} episodes' * (kind == 'tick' and places > 1)
            lines.append(f'{count} {kind}{"s" * (count != 1)}{among} dropped: {why}')
        return lines

    def merge(self, other: ConversionReport) -> None:
        """Add what another one has counted."""
        for loss in other.entries:
            self.add(loss.kind, loss.where, loss.why, loss.count, loss.place)
        for topic, count in other.read.items():
            self.took(topic, count)
