"""The frames of the simulated robot on /tf, if tf2_msgs is installed."""

from __future__ import annotations

from collections.abc import Sequence

from geometry_msgs.msg import Transform, TransformStamped
from rclpy.node import Node

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.nodes import qos
from vdd_ros.nodes.bridge.sensor_messages import to_header, to_quaternion, to_vector
from vdd_ros.sim.frames import FrameTree, Link

try:
    from tf2_msgs.msg import TFMessage
except ModuleNotFoundError:  # missing in the ROS wheels
    TFMessage = None

_PERIOD = NANOSECONDS // 50


class Transforms:
    """Publishes the frames of a scene to subscribers, at most 50 times per simulated second."""

    def __init__(self, node: Node, tree: FrameTree) -> None:
        """Create the publisher; without tf2_msgs nothing is published."""
        self._tree = tree
        self._last: int | None = None
        self._publisher = node.create_publisher(TFMessage, '/tf', qos.TRANSFORMS) if TFMessage else None

    def publish(self, stamp: int) -> None:
        """Publish the frames at the present time [ns] if due."""
        if self._publisher is None or (self._last is not None and stamp - self._last < _PERIOD):
            return
        if self._publisher.get_subscription_count():
            self._last = stamp
            self._publisher.publish(TFMessage(transforms=to_transforms(stamp, self._tree.links())))


def to_transforms(stamp: int, links: Sequence[Link]) -> list[TransformStamped]:
    """Convert the links of a frame tree with one stamp [ns]."""
    return [
        TransformStamped(
            header=to_header(stamp, link.parent),
            child_frame_id=link.child,
            transform=Transform(
                translation=to_vector(link.placement.position), rotation=to_quaternion(link.placement.orientation)
            ),
        )
        for link in links
    ]
