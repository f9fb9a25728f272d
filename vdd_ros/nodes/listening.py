"""Subscriptions that feed the streams of a contract, serialised as they come: what a bag of them would hold."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.subscription import Subscription

from vdd_ros.contract.contract import Contract
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.data.decode.serialized import Definitions, FieldType
from vdd_ros.data.decode.sources import sources
from vdd_ros.nodes.recorder.raw_subscription import message_class

_STREAM = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_LATCHED = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
_NAMES = {'boolean': 'bool', 'octet': 'byte', 'float': 'float32', 'double': 'float64'}
_SEQUENCE = re.compile(r'^sequence<(.+?)(?:, *\d+)?>$')
_ARRAY = re.compile(r'^(.+)\[(\d+)\]$')
_TEXT = re.compile(r'^string<\d+>$')


def live_streams(contract: Contract, *, arm: bool = False) -> LiveStreams:
    """Return the live streams of a contract, by the message definitions of this ROS installation.

    Raises
    ------
    ConfigurationError
        A message type is not installed.

    """
    kinds = {source.topic: source.type for source in sources(contract)}
    return LiveStreams(contract, lambda topic: (definitions_of(kinds[topic]), False), arm=arm)


def definitions_of(kind: str) -> Definitions:
    """Return the fields of an installed message type and of all types within it.

    Raises
    ------
    ConfigurationError
        It is not installed.

    """
    found: dict = {}
    waiting = [kind]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        told = message_class(name).get_fields_and_field_types()
        found[name] = tuple((field, _field_type(text)) for field, text in told.items())
        waiting += [item.base for _, item in found[name] if '/' in item.base]
    return found


def _field_type(text: str) -> FieldType:
    if match := _SEQUENCE.match(text):
        return FieldType(_base(match[1]), 0)
    if match := _ARRAY.match(text):
        return FieldType(_base(match[1]), int(match[2]))
    return FieldType(_base(text))


def _base(text: str) -> str:
    if _TEXT.match(text):
        return 'string'
    package, _, name = text.partition('/')
    return f'{package}/msg/{name}' if name else _NAMES.get(text, text)


class Listening:
    """Feeds live streams from subscriptions of a node."""

    def __init__(
        self, node: Node, streams: LiveStreams, heard: Callable[[str, int, bytes], None] | None = None
    ) -> None:
        """Subscribe to every topic of some streams.

        Parameters
        ----------
        node
            The node, whose clock tells when a message was received.
        streams
            What is fed.
        heard
            Called instead with topic, time of reception [ns] and message: for who feeds them under a lock of its own.

        """
        self._node = node
        self._take = heard or streams.take
        self._subscriptions = [self._subscribe(topic, kind) for topic, kind in streams.topics.items()]

    def close(self) -> None:
        """Unsubscribe."""
        for subscription in self._subscriptions:
            self._node.destroy_subscription(subscription)
        self._subscriptions = []

    def _subscribe(self, topic: str, kind: str) -> Subscription:
        profile = _LATCHED if topic.endswith('_static') else _STREAM
        callback = partial(self._on_message, topic)
        return self._node.create_subscription(message_class(kind), topic, callback, profile, raw=True)

    def _on_message(self, topic: str, data: bytes) -> None:
        self._take(topic, self._node.get_clock().now().nanoseconds, data)
