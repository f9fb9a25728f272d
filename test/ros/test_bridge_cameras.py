"""Cameras of the bridge: one stamp for each picture, and physics that does not wait for pictures."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from commander import PERIOD, Commander
from geometry_msgs.msg import PoseStamped
from PIL import Image as Pillow
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, PointCloud2

from vdd_ros.nodes import messages
from vdd_ros.nodes.bridge.image_messages import to_compressed_depth

_SENSORS = QoSProfile(depth=100, reliability=ReliabilityPolicy.BEST_EFFORT)
_TOPICS = {
    'image_raw': Image,
    'image_raw/compressed': CompressedImage,
    'camera_info': CameraInfo,
    'depth/image_raw': Image,
    'depth/image_raw/compressedDepth': CompressedImage,
    'depth/camera_info': CameraInfo,
    'points': PointCloud2,
    'pose': PoseStamped,
}


def camera(folder: Path, **settings: object) -> Path:
    """Write a scene file with the camera that looks at the task from an angle."""
    values = {'width': 160, 'height': 120, 'rate': 10, 'depth': True, 'points': True, **settings}
    text = ', '.join(f'{name}: {str(value).lower()}' for name, value in values.items())
    (folder / 'scene.yaml').write_text(f'cameras: {{eye: {{camera: angle, {text}}}}}\n', encoding='utf-8')
    return folder / 'scene.yaml'


class Watcher:
    """Looks at all that a camera tells."""

    def __init__(self, graph, topics: dict[str, type] = _TOPICS) -> None:
        """Take part in the test's graph."""
        node = graph.node('watcher')
        self.received: dict[str, list] = {topic: [] for topic in topics}
        for topic, kind in topics.items():
            node.create_subscription(kind, f'eye/{topic}', self.received[topic].append, _SENSORS)
        graph.until(lambda: all(node.count_publishers(f'/eye/{topic}') for topic in topics))

    def stamps(self, topic: str) -> list[int]:
        """Return the stamps that a topic had."""
        return [messages.from_time(message.header.stamp) for message in self.received[topic]]


def test_in_lockstep_every_image_comes_with_depth_cloud_and_calibration_of_one_stamp(graph, tmp_path):
    bridge = graph.start('mujoco_bridge', scene=camera(tmp_path), step_timeout=20.0)
    watcher, commander = Watcher(graph), Commander(graph)
    # A picture of before everybody has found everybody is lost to who had not.
    graph.until(lambda: commander.reset() and all(watcher.received.values()))
    start = commander.reset()
    for _ in range(9):
        commander.step(commander.position)
    wanted = [start.stamp + tick * 100_000_000 for tick in range(4)]
    for topic in _TOPICS:
        graph.until(lambda topic=topic: watcher.stamps(topic)[-1:] == wanted[-1:])
        assert [stamp for stamp in watcher.stamps(topic) if stamp >= start.stamp] == wanted
    wanted = ('image_raw', 'depth/image_raw', 'points', 'camera_info')
    picture, depth, cloud, info = (watcher.received[topic][-1] for topic in wanted)
    assert (picture.encoding, picture.height, picture.width, picture.step) == ('rgb8', 120, 160, 480)
    assert (depth.encoding, depth.step) == ('32FC1', 640)
    assert {each.header.frame_id for each in (picture, depth, cloud, info)} == {'eye_optical_frame'}
    compressed = watcher.received['image_raw/compressed'][-1]
    assert compressed.format == 'rgb8; jpeg compressed bgr8' and compressed.header == picture.header
    pixels = np.asarray(Pillow.open(io.BytesIO(bytes(compressed.data)), formats=['JPEG'])).astype(int)
    assert np.abs(pixels - np.frombuffer(picture.data, dtype='u1').reshape(pixels.shape)).mean() < 3
    packed = watcher.received['depth/image_raw/compressedDepth'][-1]
    assert packed.header == depth.header and bytes(packed.data) == bytes(
        to_compressed_depth(depth.header, np.frombuffer(depth.data, dtype='<f4').reshape(120, 160)).data
    )
    assert watcher.received['pose'][-1].header.frame_id == 'world'

    # The cloud is the depth, thinned out, through the calibration.
    metres = np.frombuffer(depth.data, dtype='<f4').reshape(120, 160)[::2, ::2]
    points = np.frombuffer(cloud.data, dtype=[('xyz', '<f4', 3), ('rgb', 'u1', 4)]).reshape(60, 80)
    assert (cloud.height, cloud.width, [field.name for field in cloud.fields]) == (60, 80, ['x', 'y', 'z', 'rgb'])
    seen = np.isfinite(metres)
    np.testing.assert_array_equal(points['xyz'][..., 2][seen], metres[seen])
    columns = np.broadcast_to(np.arange(0, 160, 2), metres.shape)
    x = (columns - info.k[2]) / info.k[0] * metres
    np.testing.assert_allclose(points['xyz'][..., 0][seen], x[seen], rtol=1e-5, atol=1e-6)
    colours = np.frombuffer(picture.data, dtype='u1').reshape(120, 160, 3)[::2, ::2]
    np.testing.assert_array_equal(points['rgb'][..., :3], colours[..., ::-1])
    assert bridge.stop() == 0


def test_a_camera_with_other_colours_publishes_what_a_policy_would_see(graph, tmp_path):
    file = tmp_path / 'disturbances.yaml'
    file.write_text('sensors: {eye: {color: [0.0, 1.0, 1.0]}}\n', encoding='utf-8')
    scene = camera(tmp_path, depth=False, points=False)
    graph.start('mujoco_bridge', scene=scene, disturbances=file, step_timeout=20.0)
    watcher, commander = Watcher(graph, {'image_raw': Image}), Commander(graph)
    graph.until(lambda: commander.reset() and watcher.received['image_raw'])
    pixels = np.frombuffer(watcher.received['image_raw'][-1].data, dtype='u1').reshape(120, 160, 3)
    assert not pixels[..., 0].any() and pixels[..., 1].mean() > 50 and pixels[..., 2].mean() > 50


def test_images_that_cannot_be_drawn_in_time_are_dropped_and_counted_while_time_continues(graph, tmp_path):
    scene = camera(tmp_path, width=1280, height=960, rate=200, points=False)
    graph.start('mujoco_bridge', scene=scene, mode='realtime')
    watcher, commander = Watcher(graph, {'image_raw': Image}), Commander(graph)
    graph.until(lambda: 'pictures, ' in commander.diagnostics.get('eye', ''))

    def counted() -> tuple[int, int]:
        drawn, _, dropped, _ = commander.diagnostics['eye'].replace(',', '').split()
        return int(drawn), int(dropped)

    graph.until(lambda: min(counted()) > 3 and watcher.received['image_raw'])
    # What was due is drawn, dropped, or just being drawn: nothing piles up.
    due = (commander.stamp - PERIOD) // 5_000_000 + 1
    assert sum(counted()) <= due
    stamps = np.array([messages.from_time(state.header.stamp) for state in commander.states])
    assert set(np.diff(stamps)) == {5_000_000}


def test_a_machine_without_opengl_gets_the_remedy(graph, tmp_path, monkeypatch):
    monkeypatch.setenv('PYOPENGL_PLATFORM', 'osmesa')
    monkeypatch.setenv('MUJOCO_GL', 'disable')
    bridge = graph.start('mujoco_bridge', scene=camera(tmp_path))
    assert bridge.wait() == 2
    assert 'expected an OpenGL context' in bridge.text and 'libegl1' in bridge.text
    assert len(bridge.text.strip().splitlines()) == 1


def test_a_camera_that_is_not_there_is_named(graph, tmp_path):
    text = camera(tmp_path).read_text(encoding='utf-8').replace('camera: angle', 'camera: below')
    (tmp_path / 'scene.yaml').write_text(text, encoding='utf-8')
    bridge = graph.start('mujoco_bridge', scene=tmp_path / 'scene.yaml')
    assert bridge.wait() == 2
    assert 'expected a camera below in the scene; found above, angle' in bridge.text
