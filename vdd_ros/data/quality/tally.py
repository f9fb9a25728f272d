"""How many demonstrations a recording has, of which kind: one way of counting for inspection, check and training."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from vdd_ros.data.episode import Episode
from vdd_ros.data.spans import Span


@dataclass(frozen=True)
class Tally:
    """Counts of demonstrations; every one is counted once, whether gaps split it or not."""

    success: int = 0
    """Those that succeeded and have ticks to learn from."""
    failure: int = 0
    """Those that failed and have ticks to learn from."""
    unlabelled: int = 0
    """Those without an outcome that have ticks to learn from."""
    discarded: int = 0
    """Those that are left out on purpose: discarded, or shorter than the contract wants."""
    unusable: int = 0
    """Those without a tick to learn from, since some stream is missing."""
    parts: int = 0
    """The stretches without a gap that the usable ones consist of."""
    ticks: int = 0
    """Policy periods of these stretches."""

    @property
    def training(self) -> int:
        """Demonstrations that training uses: all that are usable and did not fail."""
        return self.success + self.unlabelled

    @property
    def kinds(self) -> dict[str, int]:
        """The counts by their names, without those that are zero."""
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
        All demonstrations of a recording, in their order.
    episodes
        What was cut out of them; `Episode.index` is the place of a span.

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
