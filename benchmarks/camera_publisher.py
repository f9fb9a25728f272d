"""Cameras of `benchmarks.vision`: publishes prepared JPEG images of 640 x 480 pixels, in a process of its own.

Run as `python -m benchmarks.camera_publisher RATE CAMERA...`. The topics are `CAMERA/compressed`. Once a second it
prints how many images each camera has sent.
"""

from __future__ import annotations

import json
import os
import sys
import time
from array import array

import rclpy
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CompressedImage

from benchmarks.vision_conversion import jpegs
from vdd_ros.nodes import messages
from vdd_ros.nodes.pacing import Pacer

_DISTINCT = 60
"""Different images of a camera; they are sent in turn."""


class CameraPublisher(Node):
    """Publishes images of all cameras at the same times, as synchronised cameras do."""

    def __init__(self, rate: float, cameras: list[str]) -> None:
        """Prepare images for cameras at a rate [Hz]."""
        super().__init__('benchmark_cameras')
        profile = QoSProfile(depth=5, reliability=ReliabilityPolicy.BEST_EFFORT)
        self._publishers = [
            self.create_publisher(CompressedImage, f'{camera}/compressed', profile) for camera in cameras
        ]
        # An array is taken as it is; of bytes, rclpy checks each one in Python.
        self._images = [array('B', image) for image in jpegs(_DISTINCT)]
        self.sent = 0
        self.pacer = Pacer(1 / rate, self._publish, name='images')

    def _publish(self) -> None:
        if not rclpy.ok():
            return
        message = CompressedImage(format='rgb8; jpeg compressed bgr8')
        message.header.stamp = messages.to_time(time.time_ns())
        message.data = self._images[self.sent % len(self._images)]
        for publisher in self._publishers:
            publisher.publish(message)
        self.sent += 1


def main() -> None:
    """Publish until the process, or the one that started it, is ended."""
    parent = os.getppid()
    rclpy.init()
    node = CameraPublisher(float(sys.argv[1]), sys.argv[2:])
    node.pacer.start()
    try:
        while rclpy.ok() and os.getppid() == parent:
            time.sleep(1)
            sys.stdout.write(json.dumps({'sent': node.sent}) + '\n')
            sys.stdout.flush()
    finally:
        node.pacer.stop()


if __name__ == '__main__':
    main()
