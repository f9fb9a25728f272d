"""Subscriptions of the recorder: serialised messages in bulk, of any type, with any offered quality of service."""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from pathlib import Path

from ament_index_python.packages import PackageNotFoundError, get_package_share_directory
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, ReliabilityPolicy
from rclpy.subscription import Subscription

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.data.bag.bag_writer import Definition
from vdd_ros.nodes import qos
from vdd_ros.nodes.recorder.streams import Stream

_PRIMITIVE = re.compile(r'^(bool|byte|char|float32|float64|u?int(8|16|32|64)|w?string)$')
_FIELD = re.compile(r'^\s*([A-Za-z][\w/]*)(?:<=\d+)?(?:\[[^\]]*\])?\s+[a-zA-Z]\w*')


class RawSubscription:
    """A subscription to serialised messages, which are read in bulk."""

    def __init__(self, node: Node, topic: str, stream: Stream) -> None:
        """Subscribe to the topic of a stream, with its remapped name."""
        self.topic = topic
        self.stream = stream
        self.count = 0
        """Number of messages taken."""
        self._node = node
        self._class = message_class(stream.type)
        self._reliability = ReliabilityPolicy.RELIABLE
        self._durability = DurabilityPolicy.VOLATILE
        self._subscription = self._subscribe()

    def take(self) -> Sequence[tuple[bytes, dict]]:
        """Return the messages that have arrived: serialised messages with their DDS metadata."""
        taken = []
        with self._subscription.handle:
            while (message := self._subscription.handle.take_message(self._class, True)) is not None:
                taken.append(message)
        self.count += len(taken)
        return taken

    @property
    def publishers(self) -> int:
        """Number of publishers matched with this subscription."""
        if hasattr(self._subscription, 'get_publisher_count'):
            return self._subscription.get_publisher_count()
        return self._node.count_publishers(self.topic)  # Humble has no count of matched publishers

    @property
    def is_latched(self) -> bool:
        """Whether the publishers are transient local, as for static transforms."""
        return self._durability == DurabilityPolicy.TRANSIENT_LOCAL

    def match_publishers(self) -> None:
        """Adapt the QoS to that of the publishers.

        A reliable subscription receives nothing from a best-effort publisher.
        """
        if self.count:
            return
        offers = [info.qos_profile for info in self._node.get_publishers_info_by_topic(self.topic)]
        if not offers:
            return
        reliable = any(offer.reliability == ReliabilityPolicy.RELIABLE for offer in offers)
        latched = all(offer.durability == DurabilityPolicy.TRANSIENT_LOCAL for offer in offers)
        wanted = (
            ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        if wanted != (self._reliability, self._durability):
            self._reliability, self._durability = wanted
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe()

    def _subscribe(self) -> Subscription:
        profile = qos.recording(self._reliability)
        profile.durability = self._durability
        return self._node.create_subscription(self._class, self.topic, lambda message: None, profile, raw=True)


def message_class(kind: str) -> type:
    """Return the Python class of a message type, such as sensor_msgs/msg/JointState.

    The messages of an action are attributes of its class.

    Raises
    ------
    ConfigurationError
        The package is not installed, or has no such message.

    """
    package, space, name = kind.split('/')
    try:
        module = importlib.import_module(f'{package}.{space}')
        if space != 'action':
            return getattr(module, name)
        action, _, part = name.rpartition('_')
        made = getattr(module, action)
        return getattr(made.Impl if part == 'FeedbackMessage' else made, part)
    except (ImportError, AttributeError) as error:
        raise ConfigurationError(
            expected=f'the message type {kind}',
            found=' '.join(str(error).split()),
            remedy=f'install the ROS package {package}, or source its workspace',
        ) from error


def installed_definition(kind: str) -> Definition | None:
    """Return the definition of a message type and its nested types; None if one of them is not installed."""
    texts: dict[str, str] = {}
    waiting = [kind]
    while waiting:
        name = waiting.pop(0)
        if name in texts:
            continue
        text = _installed_text(name)
        if text is None:
            return None
        texts[name] = text
        package = name.partition('/')[0]
        waiting += [inner for line in text.splitlines() if (inner := _inner_type(line, package))]
    first, *rest = texts
    parts = [texts[first], *(f'{"=" * 80}\nMSG: {name.replace("/msg/", "/")}\n{texts[name]}' for name in rest)]
    return Definition('\n'.join(parts))


def _installed_text(kind: str) -> str | None:
    package, space, name = kind.split('/')
    if space != 'msg':
        return None
    try:
        return Path(get_package_share_directory(package), 'msg', f'{name}.msg').read_text(encoding='utf-8')
    except (PackageNotFoundError, OSError):
        return None


def _inner_type(line: str, package: str) -> str | None:
    """Return the full name of the message type in a line of a definition, if it has one."""
    match = _FIELD.match(line)
    if match is None or _PRIMITIVE.match(match[1]):
        return None
    name = match[1] if '/' in match[1] else ('std_msgs/Header' if match[1] == 'Header' else f'{package}/{match[1]}')
    return f'{name.partition("/")[0]}/msg/{name.rpartition("/")[2]}'
