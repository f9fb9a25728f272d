"""Does a bag fit a contract: stream by stream, and as demonstrations."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vdd_ros.contract import Contract, TopicFeature
from vdd_ros.data.account import Account
from vdd_ros.data.bag import Bag
from vdd_ros.data.bag_recording import find_topic
from vdd_ros.data.convert import convert
from vdd_ros.data.decoders import Decoder
from vdd_ros.data.quality import measure_stream
from vdd_ros.data.recording import Track
from vdd_ros.data.sources import COMMANDED, MEASURED, Source, decoder, sources, topic_features
from vdd_ros.errors import BagError
from vdd_ros.features import Alignment

_TOLERANCE = 0.2
"""By which share the rate of a stream may differ from what the contract expects."""


@dataclass(frozen=True)
class Fit:
    """How one stream of a contract fits a bag."""

    stream: str
    topic: str
    """In the bag, or as the contract calls it where it is not there."""
    type: str
    read: int
    """Messages that became values."""
    dropped: int
    rate: float | None
    """[Hz]"""
    longest: float
    """The longest pause [s]."""
    late: float | None
    """How long messages take to arrive, all but one in a hundred [s]; None where the clocks do not allow to tell."""
    complaints: tuple[str, ...]
    """What does not fit."""
    remarks: tuple[str, ...]
    """What fits, but should be known."""


@dataclass(frozen=True)
class Verdict:
    """How a bag fits a contract."""

    fits: tuple[Fit, ...]
    unused: tuple[str, ...]
    """Topics of the bag that the contract does not name."""
    episodes: int
    ticks: int
    account: Account
    """What was dropped on the way to episodes."""
    refusal: str
    """Why there are no episodes, if so."""

    @property
    def complaints(self) -> tuple[str, ...]:
        """Everything that does not fit."""
        found = [f'{fit.stream}: {complaint}' for fit in self.fits for complaint in fit.complaints]
        return (*found, *([self.refusal] if self.refusal and not found else []))


class _Nowhere:
    """Stands in for kinematics: whether a bag fits does not depend on where the tool is."""

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        return np.zeros((*joints.shape[:-1], 3))

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        return np.broadcast_to([1.0, 0.0, 0.0, 0.0], (*joints.shape[:-1], 4))


def check(path: str | Path, contract: Contract, progress: Callable[[float], None] | None = None) -> Verdict:
    """Read a bag by a contract, and tell what fits.

    Parameters
    ----------
    path, contract
        The bag and the contract.
    progress
        Told the share that is done, in [0, 1].

    Raises
    ------
    BagError
        There is no bag, or nothing of it can be read.

    """
    with Bag(path) as bag:
        looks = [_Look(bag, contract, source) for source in sources(contract)]
        topics = {look.topic for look in looks if look.decoder is not None}
        for block in bag.blocks(topics, None if progress is None else lambda share: progress(share / 2)):
            for look in looks:
                if look.decoder is not None and (messages := block.get(look.topic)) is not None:
                    look.track.add(look.decoder.decode(messages, look.account, look.topic), look.account)
        lost = {topic: bag.account.lost('message', topic) for topic in topics}
        named = topics | {find_topic(bag.topics, name) for name in _named(contract)}
        unused = tuple(sorted(set(bag.topics) - named))
    fits = tuple(look.fit(lost.get(look.topic, 0)) for look in looks)
    account, episodes, ticks, refusal = Account(), 0, 0, ''
    try:
        half = None if progress is None else lambda share: progress(0.5 + share / 2)
        for episode in convert(path, contract, _Nowhere(), account, half):
            episodes, ticks = episodes + 1, ticks + len(episode)
    except BagError as error:
        refusal = f'expected {error.expected}; found {error.found}'
    if not episodes and not refusal:
        refusal = 'every episode was dropped'
    return Verdict(fits, unused, episodes, ticks, account, refusal)


def _named(contract: Contract) -> list[str]:
    rules = contract.episodes
    signals = (rules.signal, rules.discard, rules.outcome, rules.language)
    return [contract.topics.episode, *(item.topic for item in signals if item is not None)]


class _Look:
    """Reads one stream."""

    def __init__(self, bag: Bag, contract: Contract, source: Source) -> None:
        self._source, self._contract = source, contract
        self.account = Account()
        self.track = Track(source.stream, source.width, pictures=source.pictures)
        self.decoder: Decoder | None = None
        self._complaints: list[str] = []
        name = find_topic(bag.topics, source.topic)
        self.topic = name or source.topic
        if name is None:
            if not source.optional:
                self._complaints.append(f'no topic of that name; there are {", ".join(sorted(bag.topics))}')
        elif bag.topics[name].type != source.type:
            self._complaints.append(f'it is of type {bag.topics[name].type}')
        else:
            described = (bag.definitions(name), bag.topics[name].ros1)
            self.decoder = decoder(contract, source, lambda topic: described)

    def fit(self, lost: int) -> Fit:
        """Judge what was read."""
        stream, source = self.track.stream(), self._source
        remarks = [f'{loss.count} of {loss.why}' for loss in self.account.losses if loss.kind == 'note']
        complaints = list(self._complaints)
        complaints += [str(loss).partition(': ')[2] for loss in self.account.losses if loss.kind == 'message']
        if self.decoder is not None and not len(stream.stamps) and not source.optional and not complaints:
            complaints.append('no message')
        align, rate = self._wanted()
        by_header = len(stream.stamps) and not np.array_equal(stream.stamps, stream.received)
        quality = measure_stream(source.topic, source.type, stream.received, stream.stamps, expected_rate=rate)
        if rate and quality.rate and abs(quality.rate / rate - 1) > _TOLERANCE:
            complaints.append(f'{quality.rate:.3g} messages a second, not {rate:.3g}')
        if align.max_age is not None and quality.longest_interval > align.max_age:
            pause = quality.longest_interval
            remarks.append(f'pauses of up to {pause:.3g} s; they cost ticks over {align.max_age:g} s')
        late = float(np.quantile(stream.received - stream.stamps, 0.99)) / 1e9 if by_header else None
        if late is not None and not -0.1 < late < 60:
            remarks.append(f'the clock of its headers is {late:.3g} s off that of the bag')
            late = None
        elif late is not None and late > align.latency + self._contract.period / 1e9:
            remarks.append(f'it comes later than the policy is taken to have it: set `latency: {late:.2g}`')
        read, dropped = len(stream.stamps), lost + self.account.lost('message')
        return Fit(
            *(source.stream, self.topic, source.type, read, dropped, quality.rate, quality.longest_interval, late),
            tuple(complaints),
            tuple(remarks),
        )

    def _wanted(self) -> tuple[Alignment, float | None]:
        name = self._source.stream.partition('/')[0]
        if name in (MEASURED, COMMANDED):
            stream = getattr(self._contract, name)
            return stream.align, stream.rate
        feature: TopicFeature = next(item for item in topic_features(self._contract) if item.name == name)
        return feature.align, feature.rate
