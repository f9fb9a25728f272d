"""A bag that is replayed over real DDS is observed as it was converted: every feature of every tick, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosgraph_msgs.msg import Clock

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_making import rich_contract, rich_rows, write_rows  # noqa: E402
from vdd_ros.data.account import Account  # noqa: E402
from vdd_ros.data.convert import convert  # noqa: E402
from vdd_ros.nodes import messages, qos  # noqa: E402
from vdd_ros.nodes.listening import Listening, live_streams  # noqa: E402
from vdd_ros.nodes.tap import message_class  # noqa: E402


class Replay:
    """Publishes a recording message by message, each when the clock says that it was received."""

    def __init__(self, graph, kinds: dict[str, str]) -> None:
        """Offer topics of some types."""
        self._graph = graph
        node = graph.node('replay')
        self._clock = node.create_publisher(Clock, '/clock', qos.CLOCK)
        self._publishers = {}
        for topic, kind in kinds.items():
            latched = DurabilityPolicy.TRANSIENT_LOCAL if topic.endswith('_static') else DurabilityPolicy.VOLATILE
            profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=latched)
            self._publishers[topic] = node.create_publisher(message_class(kind), topic, profile)

    def wait(self) -> None:
        """Wait until somebody listens to every topic."""
        self._graph.until(lambda: all(item.get_subscription_count() for item in self._publishers.values()))

    def say(self, topic: str, received: int, data: bytes, listener, heard: list) -> None:
        """Let the listener's clock reach a time, then let it hear a message."""
        clock = listener.get_clock()

        def reached() -> bool:
            if clock.now().nanoseconds != received:
                self._clock.publish(messages.to_clock(received))
            return clock.now().nanoseconds == received

        self._graph.until(reached)
        count = len(heard)
        self._publishers[topic].publish(data)
        self._graph.until(lambda: len(heard) > count)


def test_every_feature_of_every_tick_is_equal_bit_for_bit_over_dds(graph, tmp_path):
    contract = rich_contract(without=('tool',))  # there are no wheels of tf2_msgs
    rows = rich_rows(3.0, seed=1, episodes=1)
    account = Account()
    (episode,) = convert(write_rows(tmp_path / 'bag', rows), contract, None, account)
    assert len(episode) > 30 and not account.lost('message')

    node = graph.node('listener')
    node.set_parameters([Parameter('use_sim_time', value=True)])
    streams, heard = live_streams(contract, arm=True), []

    def hear(topic: str, received: int, data: bytes) -> None:
        streams.take(topic, received, data)
        heard.append(topic)

    Listening(node, streams, hear)
    replay = Replay(graph, streams.topics)
    replay.wait()
    (start,) = (stamp for topic, stamp, _, data in rows if topic == 'episode' and b'start' in data)
    streams.begin(start)
    waiting = [row for row in rows if row[0] in streams.topics]
    for number, tick in enumerate(episode.stamps.tolist()):
        while waiting and waiting[0][1] <= tick:
            topic, received, _, data = waiting.pop(0)
            replay.say(topic, received, data, node, heard)
        found, stale = streams.observation(tick, None)
        assert not stale
        assert found.tobytes() == episode.observation[number].tobytes()
    assert not streams.account.lost('message')
