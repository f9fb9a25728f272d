"""Subscriptions for the streams of a contract, with serialised messages as in a bag."""

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
    """Return the live streams of a contract, with the message definitions of this ROS installation.

    Raises
    ------
    ConfigurationError
        A message type is not installed.

    """
    kinds = {source.topic: source.type for source in sources(contract)}
    return LiveStreams(contract, lambda topic: (definitions_of(kinds[topic]), False), arm=arm)


def definitions_of(kind: str) -> Definitions:
    """Return the fields of an installed message type and of nested types.

    Raises
    ------
    ConfigurationError
        The type is not installed.

    """
    found: dict = {}
    waiting = [kind]
    while waiting:
        name = waiting.pop()
        if name in found:
            continue
        fields = message_class(name).get_fields_and_field_types()
        found[name] = tuple((field, _field_type(text, name)) for field, text in fields.items())
        waiting += [item.base for _, item in found[name] if '/' in item.base]
    return found


def _field_type(text: str, owner: str) -> FieldType:
    if match := _SEQUENCE.match(text):
        return FieldType(_base(match[1], owner), 0)
    if match := _ARRAY.match(text):
        return FieldType(_base(match[1], owner), int(match[2]))
    return FieldType(_base(text, owner))


def _base(text: str, owner: str) -> str:
    """Return the name of a type by the short one that a message class has for it."""
    if _TEXT.match(text):
        return 'string'
    package, _, name = text.partition('/')
    if not name:
        return _NAMES.get(text, text)
    of_action = owner == f'{package}/action/{name}Message'  # the feedback within its message
    return f'{package}/{"action" if of_action else "msg"}/{name}'


class Listening:
    """Passes messages from subscriptions of a node to live streams."""

    def __init__(
        self, node: Node, streams: LiveStreams, on_message: Callable[[str, int, bytes], None] | None = None
    ) -> None:
        """Subscribe to all topics of the streams.

        Parameters
        ----------
        node
            The node, whose clock gives the reception times.
        streams
            The streams.
        on_message
            Replaces the streams as the receiver of topic, reception time [ns] and message, for use with a lock.

        """
        self._node = node
        self._take = on_message or streams.take
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
