"""The commanding nodes according to the ROS graph, for log messages about missing commands."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node


class Commanders:
    """The nodes that publish on some topics, at the last update."""

    def __init__(self, node: Node, topics: Callable[[], Sequence[str]]) -> None:
        """Set the function that returns the topics currently used for commands."""
        self._node = node
        self._topics = topics
        self._known: set[str] = set()

    @property
    def topics(self) -> str:
        """The topics as text."""
        return ', '.join(self._topics())

    def left(self) -> list[str]:
        """Update, and return the names of nodes that have left since the last update."""
        before, self._known = self._known, self._look()
        return sorted(before - self._known)

    def __str__(self) -> str:
        """Return the expected commanders and topics."""
        return f'{", ".join(sorted(self._look())) or "a commander (no publisher)"} on {self.topics}'

    def _look(self) -> set[str]:
        offers = [info for topic in self._topics() for info in self._node.get_publishers_info_by_topic(topic)]
        # A node that is starting or stopping has no name for a moment.
        return {info.node_name for info in offers} - {'_NODE_NAME_UNKNOWN_'}
