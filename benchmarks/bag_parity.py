"""Replays a recording into what a policy observes by, and compares with its conversion: every feature of every tick."""

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

_PATIENCE = 30.0


@dataclass(frozen=True)
class Parity:
    """What a replay gave."""

    ticks: int
    values: int
    """Numbers compared."""
    unequal: int
    """Numbers of which some bit differs."""


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
        The contract, the messages of a recording in the order of their reception, and what the bag of them gave.
    node
        A node in simulated time, which publishes and subscribes.
    spin
        Lets callbacks run for a moment.

    """
    from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
    from rosgraph_msgs.msg import Clock

    from vdd_ros.nodes import messages, qos
    from vdd_ros.nodes.listening import Listening, live_streams
    from vdd_ros.nodes.recorder.raw_subscription import message_class

    live, heard = live_streams(contract, arm=True), []

    def hear(topic: str, received: int, data: bytes) -> None:
        live.take(topic, received, data)
        heard.append(topic)

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError('a message did not arrive')
            spin()

    Listening(node, live, hear)
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
        count = len(heard)
        publishers[row[0]].publish(row[3])
        until(lambda: len(heard) > count)

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
            ticks, values = ticks + 1, values + len(expected)
            if stale:
                unequal += len(expected)
            else:
                unequal += int((found.view(np.int64) != expected.view(np.int64)).sum())
    return Parity(ticks, values, unequal)
