"""The process that renders the images of the bridge's cameras; the bridge starts and ends this process."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PoseStamped
from rclpy.node import Node
from rclpy.qos import qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2
from std_msgs.msg import Header

from vdd_ros.common.errors import SimulationError
from vdd_ros.nodes.bridge.cameras import DRAWN, FAILED, READY, REQUEST, WIDEST
from vdd_ros.nodes.bridge.image_messages import (
    to_camera_info,
    to_compressed,
    to_compressed_depth,
    to_image,
    to_points,
)
from vdd_ros.nodes.bridge.sensor_messages import to_header, to_pose
from vdd_ros.sim.camera import disturbed
from vdd_ros.sim.disturbances import LIGHT
from vdd_ros.sim.renderer import Renderer

_NICENESS = 5
_KINDS = {
    'image_raw': Image,
    'image_raw/compressed': CompressedImage,
    'camera_info': CameraInfo,
    'depth/image_raw': Image,
    'depth/image_raw/compressedDepth': CompressedImage,
    'depth/camera_info': CameraInfo,
    'points': PointCloud2,
    'pose': PoseStamped,
}


class _CameraTopics:
    """One camera: draws a scene and publishes the messages that have subscribers, all with one stamp."""

    def __init__(self, node: Node, renderer: Renderer, description: dict[str, Any]) -> None:
        self._description = description
        self._renderer = renderer
        self._camera = description['camera']
        self._size = description['width'], description['height']
        self._deep = description['depth'] or description['points']
        self._pinhole = renderer.pinhole(self._camera, self._size)
        unwanted = set() if description['depth'] else {topic for topic in _KINDS if topic.startswith('depth/')}
        unwanted |= set() if description['points'] else {'points'}
        self._publishers = {
            topic: node.create_publisher(kind, description['topics'][topic], qos_profile_sensor_data)
            for topic, kind in _KINDS.items()
            if topic not in unwanted
        }

    def publish(self, stamp: int, seed: int) -> None:
        """Render the scene, and publish the messages that have subscribers."""
        wanted = {topic for topic, publisher in self._publishers.items() if publisher.get_subscription_count()}
        header = to_header(stamp, self._description['frame'])
        info = to_camera_info(header, *self._size, self._pinhole)
        place = to_pose(stamp, self._description['world'], self._renderer.place(self._camera))
        messages: dict[str, Any] = {'camera_info': info, 'depth/camera_info': info, 'pose': place}
        if wanted - set(messages):
            messages |= self._pictures(header, seed, wanted)
        for topic in wanted:
            self._publishers[topic].publish(messages[topic])

    def _pictures(self, header: Header, seed: int, wanted: set[str]) -> dict[str, Any]:
        noise, (intensity, distance) = np.random.default_rng(seed), (*self._description['noise'], 0.0, 0.0)[:2]
        picture, depth = self._renderer.draw(self._camera, self._size, deep=self._deep)
        light = {name: self._description[name] for name in LIGHT}
        picture = disturbed(picture, noise, deviation=intensity, **light)
        messages: dict[str, Any] = {'image_raw': to_image(header, picture)}
        if 'image_raw/compressed' in wanted:
            messages['image_raw/compressed'] = to_compressed(header, picture)
        if depth is not None:
            if distance:
                depth = depth + noise.normal(scale=distance, size=depth.shape).astype(np.float32)
            messages['depth/image_raw'] = to_image(header, depth)
        if 'depth/image_raw/compressedDepth' in wanted:
            messages['depth/image_raw/compressedDepth'] = to_compressed_depth(header, depth)
        if 'points' in wanted:
            stride = self._description['stride']
            points = self._pinhole.points(depth, stride)
            messages['points'] = to_points(header, points, picture[::stride, ::stride])
        return messages


def serve(connection: socket.socket, model: Path, descriptions: list[dict[str, Any]]) -> None:
    """Render snapshots until the other end of the connection is closed.

    Raises
    ------
    SimulationError
        This machine cannot render images.

    """
    kinds = [((each['width'], each['height']), each['depth'] or each['points']) for each in descriptions]
    renderer = Renderer(model, kinds)
    node = Node('mujoco_bridge_cameras', use_global_arguments=False, start_parameter_services=False)
    cameras = [_CameraTopics(node, renderer, description) for description in descriptions]
    connection.send(READY)
    while request := connection.recv(WIDEST):
        number, stamp, seed = REQUEST.unpack_from(request)
        renderer.take(np.frombuffer(request, dtype=np.float64, offset=REQUEST.size))
        cameras[number].publish(stamp, seed)
        connection.send(DRAWN + bytes([number]))
    renderer.close()
    node.destroy_node()


def main() -> int:
    """Run as a process, with the number of an open socket, the model and the camera descriptions as arguments."""
    # Ctrl-C reaches every process of the terminal; this one ends when the bridge closes the socket.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    descriptor, model, descriptions = sys.argv[1:]
    connection = socket.socket(fileno=int(descriptor))
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        serve(connection, Path(model), json.loads(descriptions))
    except SimulationError as error:
        connection.send(FAILED + json.dumps([error.expected, error.found, error.remedy]).encode())
        return 2
    except (BrokenPipeError, ConnectionResetError):
        return 0
    finally:
        rclpy.try_shutdown()
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
