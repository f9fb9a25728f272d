"""Replay a recording to the live decoder and compare with the conversion: every feature of every tick."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.bag_making import Row
from vdd_ros.contract.contract import Contract
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.data.episode import Episode
from vdd_ros.policy.observation import images_of, vector_of

_PATIENCE = 30.0


@dataclass(frozen=True)
class Parity:
    """The result of a replay."""

    ticks: int
    values: int
    """Number of values compared."""
    unequal: int
    """Number of values with different bits."""


def in_process(contract: Contract, rows: list[Row], episodes: list[Episode]) -> Parity:
    """Replay without ROS."""
    live = LiveStreams(contract, lambda topic: (standard(), False), arm=True)
    return _replayed(live, rows, episodes, lambda row: live.take(row[0], row[1], row[3]))


def over_dds(
    contract: Contract, rows: list[Row], episodes: list[Episode], node: Any, spin: Callable[[], None]
) -> Parity:
    """Replay over DDS: a publisher for each topic and the clock, and the subscriptions of a policy.

    Parameters
    ----------
    contract, rows, episodes
        The contract, the messages of a recording in the order of reception, and the episodes converted from them.
    node
        A node in simulated time, which publishes and subscribes.
    spin
        Runs callbacks for a moment.

    """
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from rosgraph_msgs.msg import Clock

    from vdd_ros.nodes import messages, qos
    from vdd_ros.nodes.listening import Listening, live_streams
    from vdd_ros.nodes.recorder.raw_subscription import message_class

    live, received_topics = live_streams(contract, arm=True), []

    def on_message(topic: str, received: int, data: bytes) -> None:
        live.take(topic, received, data)
        received_topics.append(topic)

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError('a message did not arrive')
            spin()

    Listening(node, live, on_message)
    clock = node.create_publisher(Clock, '/clock', qos.CLOCK)
    publishers = {}
    for topic, kind in live.topics.items():
        latched = DurabilityPolicy.TRANSIENT_LOCAL if topic.endswith('_static') else DurabilityPolicy.VOLATILE
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=latched)
        publishers[topic] = node.create_publisher(message_class(kind), topic, profile)
    until(lambda: all(item.get_subscription_count() for item in publishers.values()))

    def say(row: Row) -> None:
        def reached() -> bool:
            if node.get_clock().now().nanoseconds != row[1]:
                clock.publish(messages.to_clock(row[1]))
            return node.get_clock().now().nanoseconds == row[1]

        until(reached)
        count = len(received_topics)
        publishers[row[0]].publish(row[3])
        until(lambda: len(received_topics) > count)

    return _replayed(live, rows, episodes, say)


def _replayed(live: LiveStreams, rows: list[Row], episodes: list[Episode], say: Callable[[Row], None]) -> Parity:
    starts = [stamp for topic, stamp, _, data in rows if topic == 'episode' and b'start' in data]
    waiting = [row for row in rows if row[0] in live.topics][::-1]
    ticks = values = unequal = 0
    for start, episode in zip(starts, episodes):
        for number, tick in enumerate(episode.stamps.tolist()):
            while waiting and waiting[-1][1] <= tick:
                say(waiting.pop())
            if number == 0:
                live.begin(start)
            found, stale = live.observation(tick, None)
            expected = episode.observation[number]
            images = {name: frames.rows[number] for name, frames in episode.images.items()}
            size = len(expected) + sum(image.size for image in images.values())
            ticks, values = ticks + 1, values + size
            if stale:
                unequal += size
                continue
            unequal += int((vector_of(found).view(np.int64) != expected.view(np.int64)).sum())
            unequal += sum(unequal_bytes(images_of(found)[name], image) for name, image in images.items())
    return Parity(ticks, values, unequal)


def unequal_bytes(one: np.ndarray, other: np.ndarray) -> int:
    """Return how many pixels of two images of one size differ, or have another type."""
    if one.dtype != other.dtype or one.size != other.size:
        return other.size
    return int((one.ravel() != other.ravel()).sum())
