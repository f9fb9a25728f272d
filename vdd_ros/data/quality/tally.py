"""Count the demonstrations of a recording by kind, for inspection, check and training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vdd_ros.data.episode import Episode
from vdd_ros.data.spans import Span


@dataclass(frozen=True)
class Tally:
    """Counts of demonstrations; each is counted once, even if gaps split it."""

    success: int = 0
    """Successful, with usable ticks."""
    failure: int = 0
    """Failed, with usable ticks."""
    unlabelled: int = 0
    """Without outcome, with usable ticks."""
    discarded: int = 0
    """Excluded on purpose: discarded, or shorter than allowed by the contract."""
    unusable: int = 0
    """Without usable ticks, because a stream is missing."""
    parts: int = 0
    """Number of uninterrupted parts of the usable demonstrations."""
    ticks: int = 0
    """Number of policy ticks in these parts."""

    @property
    def training(self) -> int:
        """Number of demonstrations used for training: usable and not failed."""
        return self.success + self.unlabelled

    @property
    def kinds(self) -> dict[str, int]:
        """The nonzero counts by name."""
        named = {
            'success': self.success,
            'failure': self.failure,
            'without outcome': self.unlabelled,
            'discarded': self.discarded,
            'unusable': self.unusable,
        }
        return {name: count for name, count in named.items() if count}

    def __str__(self) -> str:
        """Return the counts in one line."""
        return ', '.join(f'{count} {name}' for name, count in self.kinds.items()) or 'none'


def tally(spans: Sequence[Span], episodes: Sequence[Episode]) -> Tally:
    """Count demonstrations.

    Parameters
    ----------
    spans
        All demonstrations of a recording in order.
    episodes
        The episodes cut from them; `Episode.index` is the index of a span.

    """
    ticks: Counter[int] = Counter()
    for episode in episodes:
        ticks[episode.index] += len(episode)
    kinds: Counter[str] = Counter()
    for index, span in enumerate(spans):
        outcome = span.labels.get('outcome')
        if span.dropped:
            kinds['discarded'] += 1
        elif not ticks[index]:
            kinds['unusable'] += 1
        else:
            kinds['unlabelled' if outcome is None else 'success' if outcome == 'success' else 'failure'] += 1
    return Tally(**kinds, parts=len(episodes), ticks=sum(ticks.values()))
