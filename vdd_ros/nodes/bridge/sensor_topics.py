"""The topics of simulated sensors: one publisher per sensor, with the topic names of ros2_control broadcasters."""

from __future__ import annotations

from collections.abc import Mapping

from geometry_msgs.msg import PoseStamped, WrenchStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from sensor_msgs.msg import Imu
from visualization_msgs.msg import MarkerArray

from vdd_ros.nodes.bridge import sensor_messages as convert
from vdd_ros.sim import scene
from vdd_ros.sim.frames import WORLD_FRAME
from vdd_ros.sim.sensors import Reading


class SensorTopics:
    """Publishes sensor readings on the topics of their sensors."""

    def __init__(self, node: Node, sensors: Mapping[str, scene.Sensor]) -> None:
        """Create a publisher for each sensor of a scene."""
        self._publishers = {}
        for name, sensor in sensors.items():
            if isinstance(sensor, scene.ForceTorque):
                kind, topic, to, frame = WrenchStamped, 'wrench', convert.to_wrench, sensor.site
            elif isinstance(sensor, scene.Imu):
                kind, topic, to, frame = Imu, 'imu', convert.to_imu, sensor.site
            elif isinstance(sensor, scene.Contacts):
                kind, topic, to, frame = MarkerArray, 'contacts', convert.to_contacts, WORLD_FRAME
            else:
                kind, topic, to, frame = PoseStamped, 'pose', convert.to_pose, WORLD_FRAME
            publisher = node.create_publisher(kind, f'{name}/{topic}', qos_profile_sensor_data)
            self._publishers[name] = publisher, to, frame

    def publish(self, reading: Reading) -> None:
        """Publish a reading, stamped with its time of measurement."""
        publisher, to, frame = self._publishers[reading.name]
        publisher.publish(to(reading.stamp, frame, reading.value))
