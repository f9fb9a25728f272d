"""What lies in a bag that nobody described: topics, rhythms, and what the first messages say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from vdd_ros.data.account import Account
from vdd_ros.data.bag import Bag, TopicInfo
from vdd_ros.data.decoders import Decoded, JointDecoder, ScalarDecoder
from vdd_ros.data.quality import StreamQuality, measure_stream
from vdd_ros.data.serialized import Layout, Undecodable, walk
from vdd_ros.data.stamps import Stamps
from vdd_ros.features import JointStream

JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
ARRAYS = ('std_msgs/msg/Float64MultiArray', 'std_msgs/msg/Float32MultiArray')
_MAX_ROWS = 20_000


@dataclass
class Seen:
    """One topic of a bag."""

    info: TopicInfo
    quality: StreamQuality
    stamped: bool
    """Whether its messages carry the time of a header."""
    layout: Layout | None
    """Where the fields of its first message lie; None if it cannot be told."""
    names: tuple[str, ...] = ()
    """The joints it speaks of."""
    size: int = 0
    """Numbers in each of its messages, of an array."""
    parts: list[Decoded] = field(default_factory=list)
    """What joints and arrays say, at the beginning of the bag."""

    @property
    def latency(self) -> float | None:
        """How long its messages take, most of them [s]; None where clocks do not allow to tell."""
        offset, delay = self.quality.clock_offset, self.quality.delay
        if offset is None or delay is None or not -0.001 < offset < 1.0:
            return None
        return max(offset, 0.0) + 3 * delay

    def values(self) -> tuple[np.ndarray, np.ndarray]:
        """Return stamps and numbers of the messages at the beginning."""
        if not self.parts:
            return np.zeros(0, dtype=np.int64), np.zeros((0, self.size))
        stamps = np.concatenate([part.stamps for part in self.parts])
        order = np.argsort(stamps, kind='stable')
        return stamps[order], np.concatenate([part.values for part in self.parts])[order]


def survey(path: str | Path, progress: Callable[[float], None] | None = None) -> dict[str, Seen]:
    """Read a bag and tell what is in it, by topic.

    Raises
    ------
    BagError
        There is none, or it cannot be read.

    """
    account = Account()
    with Bag(path, account) as bag:
        stamps = {name: Stamps(info, bag) for name, info in bag.topics.items()}
        looks = {name: _Look(bag, name) for name in bag.topics}
        for block in bag.blocks(bag.topics, progress):
            for name, messages in block.items():
                stamps[name].take(messages)
                looks[name].take(messages, account)
    found = {}
    for name, item in stamps.items():
        sensor = item.headers is not None
        quality = measure_stream(name, item.info.type, item.received, item.headers, sensor=sensor)
        look = looks[name]
        found[name] = Seen(item.info, quality, sensor, look.layout, look.names, look.size, look.parts)
    return found


class _Look:
    """Looks at the first messages of a topic, and reads the joints and arrays among them."""

    def __init__(self, bag: Bag, topic: str) -> None:
        self._info, self._bag, self._topic = bag.topics[topic], bag, topic
        self.layout: Layout | None = None
        self.names: tuple[str, ...] = ()
        self.size = 0
        self.parts: list[Decoded] = []
        self._rows = 0
        self._decoder: JointDecoder | ScalarDecoder | None = None

    def take(self, messages, account: Account) -> None:
        if self.layout is None and len(messages):
            try:
                definitions = self._bag.definitions(self._topic)
                self.layout = walk(messages.data(0), self._info.type, definitions, self._info.ros1)
            except Undecodable:
                return
            self._prepare(self.layout, definitions)
        if self._decoder is not None and self._rows < _MAX_ROWS:
            self.parts.append(self._decoder.decode(messages, account, self._topic))
            self._rows += len(self.parts[-1].stamps)

    def _prepare(self, layout: Layout, definitions) -> None:
        kind, ros1 = self._info.type, self._info.ros1
        names = 'name' if kind == JOINT_STATE else 'joint_names'
        if kind in (JOINT_STATE, TRAJECTORY) and layout.counts.get(names):
            self.names = tuple(layout.texts[f'{names}[{place}]'] for place in range(layout.counts[names]))
            self.size = len(self.names)
            self._decoder = JointDecoder(
                kind, definitions, JointStream(), by_header=True, ros1=ros1, joints=self.names
            )
        elif kind in ARRAYS and layout.counts.get('data'):
            self.size = layout.counts['data']
            paths = [f'data[{place}]' for place in range(self.size)]
            self._decoder = ScalarDecoder(kind, definitions, JointStream(), by_header=False, ros1=ros1, paths=paths)
