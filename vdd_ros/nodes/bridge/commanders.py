"""Who commands: looked up in the ROS graph, so that one that is silent or gone can be named."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from rclpy.node import Node


class Commanders:
    """The nodes that publish on some topics, as of the last look."""

    def __init__(self, node: Node, topics: Callable[[], Sequence[str]]) -> None:
        """Watch the topics that are commanded on at any time, through a node."""
        self._node = node
        self._topics = topics
        self._known: set[str] = set()

    @property
    def topics(self) -> str:
        """The topics in words."""
        return ', '.join(self._topics())

    def left(self) -> list[str]:
        """Look again, and return the names of those that are no longer there."""
        before, self._known = self._known, self._look()
        return sorted(before - self._known)

    def __str__(self) -> str:
        """Say who should speak, and where."""
        return f'{", ".join(sorted(self._look())) or "a commander: nobody publishes"} on {self.topics}'

    def _look(self) -> set[str]:
        offers = [info for topic in self._topics() for info in self._node.get_publishers_info_by_topic(topic)]
        # One that is just leaving, or just coming, has no name for a moment.
        return {info.node_name for info in offers} - {'_NODE_NAME_UNKNOWN_'}
