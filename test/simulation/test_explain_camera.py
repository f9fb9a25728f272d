"""Paths over a camera image: projections held against rendered images of a scene, and the page of `vdd explain`."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np
import pytest
from PIL import Image

from benchmarks.constant_student import save_student
from vdd_ros.commands.cli import main
from vdd_ros.common.errors import BagError
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag import bag_messages
from vdd_ros.data.bag.bag_views import read_views
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.decode.pinhole import Pinhole
from vdd_ros.policy.labels import default_colour
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.robot.urdf import model_frame
from vdd_ros.sim.camera import pinhole_of
from vdd_ros.sim.frames import FrameTree, Link
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import load_task

# A red ball before a dark wall, seen by a camera on a cart; its sensor is off centre and its pixels are not square.
_SCENE = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <statistic extent="2"/>
  <worldbody>
    <body name="wall" pos="0.1 2 0" euler="0 0 20"><geom type="box" size="0.8 0.1 0.8" rgba="0.1 0.1 0.1 1"/></body>
    <body name="ball" pos="0.2 1 0.1"><geom size="0.03" rgba="1 0 0 1"/></body>
    <body name="cart"><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.01" pos="0 -1 0"/>
      <camera name="eye" pos="0 0.1 0" euler="90 5 0" resolution="160 120" sensorsize="0.04 0.03" focal="0.03 0.025"
              principal="0.004 0.003"/>
    </body>
  </worldbody>
  <actuator><position joint="slide" kp="1"/></actuator>
</mujoco>
"""
_SIZE = (160, 120)
_OPTICAL = 'eye_optical_frame'
_TOPICS = {
    '/eye/image_raw': bag_messages.IMAGE,
    '/eye/camera_info': bag_messages.CAMERA_INFO,
    '/tf': bag_messages.TRANSFORMS,
    '/tf_static': bag_messages.TRANSFORMS,
}
SECOND = 1_000_000_000


def as_pose(link: Link) -> tuple[str, str, list[float]]:
    """Return a link as `bag_messages.transforms` takes it."""
    w, x, y, z = link.placement.orientation.tolist()
    return link.parent, link.child, [*link.placement.position.tolist(), x, y, z, w]


def write_view(
    writer: BagWriter, stamp: int, simulation: Simulation, camera: str, moving: Sequence[str], pinhole: Pinhole
) -> np.ndarray:
    """Write what the camera of a scene shows, and all transforms; return the image."""
    links = [as_pose(link) for link in FrameTree(simulation, (), {_OPTICAL: camera}).links()]
    moved, still = ([link for link in links if (link[1] in moving) == wanted] for wanted in (True, False))
    writer.write('/tf_static', stamp, bag_messages.transforms(stamp, still))
    writer.write('/tf', stamp, bag_messages.transforms(stamp, moved))
    picture = simulation.render(camera, *_SIZE)
    writer.write('/eye/camera_info', stamp, bag_messages.camera_info(stamp, _OPTICAL, _SIZE, pinhole))
    writer.write('/eye/image_raw', stamp, bag_messages.image(stamp, picture))
    return picture


@pytest.fixture(scope='module')
def cart(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float], Simulation]:
    """Return a bag of a moving camera, where the cart was at each time, and the scene."""
    simulation = Simulation(mujoco.MjModel.from_xml_string(_SCENE), ('slide',))
    folder, places = tmp_path_factory.mktemp('cart'), {SECOND: -0.2, 2 * SECOND: 0.0, 3 * SECOND: 0.25}
    pinhole = pinhole_of(simulation.model, simulation.model.camera('eye').id, *_SIZE)
    with BagWriter(folder / 'bag', _TOPICS) as writer:
        for stamp, place in places.items():
            simulation.reset(np.array([place]))
            write_view(writer, stamp, simulation, 'eye', ['cart'], pinhole)
    return folder / 'bag', places, simulation


def test_a_point_of_the_robot_frame_is_projected_to_where_a_moving_camera_shows_it(cart):
    bag, places, simulation = cart
    points = np.random.default_rng(0).uniform([-0.3, 0.8, -0.3], [0.5, 1.5, 0.3], (20, 3))
    # At each time the newest image up to it, and before the first one that.
    wanted = {SECOND // 2: SECOND, SECOND + 5: SECOND, 2 * SECOND: 2 * SECOND, 9 * SECOND: 3 * SECOND}
    views = read_views(bag, 'world', list(wanted))
    for view, stamp in zip(views, wanted.values(), strict=True):
        simulation.reset(np.array([places[stamp]]))
        np.testing.assert_allclose(view.pixels(points), simulation.pixels('eye', points, *_SIZE), atol=1e-6)
        assert view.image.shape == (120, 160, 3)
        rows, columns = np.nonzero((view.image[..., 0] > 150) & (view.image[..., 1] < 90))
        assert len(rows) > 5
        np.testing.assert_allclose(view.pixels(np.array([[0.2, 1.0, 0.1]]))[0], [columns.mean(), rows.mean()], atol=0.7)
        assert np.isnan(view.pixels(np.array([[0.0, -1.0, 0.0]]))).all()  # behind the camera
    # The frame of the robot may be any frame of the tree, against the direction of its transform, too.
    wall = simulation.model.body('wall')
    turn = np.empty(9)
    mujoco.mju_quat2Mat(turn, wall.quat)
    (view,) = read_views(bag, '/wall'.lstrip('/'), [2 * SECOND], 'eye/image_raw')
    inside = (points - wall.pos) @ turn.reshape(3, 3)
    np.testing.assert_allclose(view.pixels(inside), views[2].pixels(points), atol=1e-6)


def test_what_lacks_for_a_camera_image_is_said(cart, tmp_path):
    bag, _, _ = cart
    with pytest.raises(BagError, match='between base, .*, and eye_optical_frame, .*found transforms of ball'):
        read_views(bag, 'base', [0])
    with pytest.raises(BagError, match='expected front/image_raw with camera_info beside it.*found /eye/camera_info'):
        read_views(bag, 'world', [0], 'front/image_raw')
    picture = bag_messages.image(1, np.zeros((4, 6, 3), dtype=np.uint8))
    for name, pinhole, model, complaint in (
        ('fisheye', Pinhole((5.0, 5.0), (3.0, 2.0), (0.1, 0.2, 0.0, 0.0)), 'equidistant', "found 'equidistant'"),
        ('uncalibrated', Pinhole((0.0, 0.0), (0.0, 0.0)), '', 'a calibrated camera on /eye/camera_info'),
        ('empty', None, '', 'no readable message'),
    ):
        with BagWriter(tmp_path / name, _TOPICS) as writer:
            writer.write('/eye/image_raw', 1, picture)
            if pinhole is not None:
                writer.write('/eye/camera_info', 1, bag_messages.camera_info(1, 'eye', (6, 4), pinhole, model))
        with pytest.raises(BagError, match=complaint):
            read_views(tmp_path / name, 'eye', [1])


def test_distortion_is_that_of_the_models_of_camera_info():
    points = np.array([[0.5, 0.0, 1.0], [0.4, -0.6, 2.0]])
    radial = Pinhole((100.0, 80.0), (60.0, 40.0), (0.1,))
    np.testing.assert_allclose(radial.pixels(points)[0], [60 + 100 * 0.5 * (1 + 0.1 * 0.25), 40])
    x, y, square = 0.2, -0.3, 0.13
    all_of_it = Pinhole((100.0, 80.0), (60.0, 40.0), (0.1, -0.2, 0.01, -0.02, 0.3, 0.2, 0.1, 0.05))
    factor = (1 + 0.1 * square - 0.2 * square**2 + 0.3 * square**3) / (
        1 + 0.2 * square + 0.1 * square**2 + 0.05 * square**3
    )
    across = x * factor + 2 * 0.01 * x * y - 0.02 * (square + 2 * x * x)
    along = y * factor + 0.01 * (square + 2 * y * y) - 2 * 0.02 * x * y
    np.testing.assert_allclose(all_of_it.pixels(points)[1], [60 + 100 * across, 40 + 80 * along])
    # Beyond r = sqrt(2 / 3), r (1 - r^2 / 2) falls: what lies there would appear among what lies ahead.
    barrel = Pinhole((100.0, 100.0), (0.0, 0.0), (-0.5,))
    seen = barrel.pixels(np.array([[0.80, 0.0, 1.0], [0.83, 0.0, 1.0]]))
    assert np.isfinite(seen[0]).all() and np.isnan(seen[1]).all()
    halved = all_of_it.scaled(0.5, 0.25).pixels(points)
    np.testing.assert_allclose(halved, (all_of_it.pixels(points) + 0.5) * [0.5, 0.25] - 0.5)


def test_the_page_draws_the_paths_of_each_expert_over_the_image_of_a_camera(tmp_path, capsys):
    contract, task = load_contract('avoiding_cartesian'), load_task('avoiding')
    kinematics, simulation = Kinematics.from_contract(contract), task.simulation()
    save_student(tmp_path / 'student', [[0.004, 0.0], [0.0, 0.004]])
    camera = simulation.model.camera(0).name
    pinhole = pinhole_of(simulation.model, 0, *_SIZE)
    task.reset(simulation, 0)
    joints = np.array(simulation.position)
    begin, orientation = kinematics.tool_position(joints), kinematics.tool_orientation(joints)
    arm = {'/joint_states': bag_messages.JOINT_STATE, '/arm_controller/commands': bag_messages.NUMBERS}
    stamp = SECOND
    with BagWriter(tmp_path / 'bag', {**arm, '/episode': bag_messages.MARK, **_TOPICS}) as writer:
        shown = write_view(writer, stamp, simulation, camera, [], pinhole)
        for index, direction in enumerate(([1.0, 0.0, 0.0], [0.0, 1.0, 0.0])):
            writer.write('/episode', stamp, bag_messages.mark(stamp, 'start', index=index))
            now = joints
            for tick in range(30):
                writer.write('/joint_states', stamp, bag_messages.joint_state(stamp, contract.robot.joints, now))
                now = kinematics.solve(begin + 0.004 * (tick + 1) * np.array(direction), orientation, now)
                writer.write('/arm_controller/commands', stamp, bag_messages.numbers(now))
                stamp += contract.period
            writer.write('/episode', stamp, bag_messages.mark(stamp, 'end', index=index))
            stamp += 10 * contract.period
    target = tmp_path / 'page.html'
    assert main(['explain', str(tmp_path / 'student'), str(tmp_path / 'bag'), '--html', str(target)]) == 0
    found = re.findall(r'<img src="data:image/png;base64,([^"]+)" alt="[^"]*over a camera image"', target.read_text())
    pictures = [np.array(Image.open(io.BytesIO(base64.b64decode(each)))).astype(int) for each in found]
    assert len(pictures) == 2 and 'No camera image' not in target.read_text()
    shares = []
    for number, picture in enumerate(pictures):  # both experts have half of the actions: the order is that of numbers
        path = begin + np.linspace(0, 0.11, 40)[:, None] * np.eye(3)[number]
        pixels = 3 * simulation.pixels(camera, path, *_SIZE) + 1  # the image of 160 pixels is enlarged to 480
        drawn = np.argwhere((picture != np.kron(shown, np.ones((3, 3, 1)))).any(axis=-1))[:, ::-1]
        assert len(drawn) > 10
        distance = np.linalg.norm(drawn[:, None] - pixels[None], axis=-1).min(axis=1)
        shares.append((distance < 4).mean())
        colour = [int(default_colour(number)[place : place + 2], 16) for place in (1, 3, 5)]
        assert (picture == colour).all(axis=-1).any() and (picture == 255).all(axis=-1).any()
    assert min(shares) > 0.95, shares
    assert main(['explain', *(str(tmp_path / name) for name in ('student', 'bag')), '--camera', 'front/image_raw']) == 2
    assert 'expected front/image_raw with camera_info beside it' in capsys.readouterr().err


def test_a_page_without_a_camera_says_why(tmp_path):
    save_student(tmp_path / 'student', [[0.004, 0.0]])
    contract = load_contract('avoiding_cartesian')
    home = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
    topics = {'/joint_states': bag_messages.JOINT_STATE, '/arm_controller/commands': bag_messages.NUMBERS}
    with BagWriter(tmp_path / 'bag', {**topics, '/episode': bag_messages.MARK}) as writer:
        writer.write('/episode', 1, bag_messages.mark(1, 'start', index=0))
        for stamp in range(1, 20 * contract.period, contract.period):
            writer.write('/joint_states', stamp, bag_messages.joint_state(stamp, contract.robot.joints, home))
            writer.write('/arm_controller/commands', stamp, bag_messages.numbers(home))
        writer.write('/episode', 20 * contract.period, bag_messages.mark(20 * contract.period, 'end', index=0))
    target = tmp_path / 'page.html'
    assert main(['explain', str(tmp_path / 'student'), str(tmp_path / 'bag'), '--html', str(target)]) == 0
    assert 'No camera image: expected an image topic with camera_info beside it' in target.read_text()


def test_the_frame_of_a_robot_model_is_the_root_of_its_links(tmp_path):
    urdf = tmp_path / 'arm.urdf'
    urdf.write_text(
        '<robot name="arm"><link name="tip"/><link name="base"/>'
        '<joint name="one" type="fixed"><parent link="base"/><child link="tip"/></joint></robot>'
    )
    (tmp_path / 'arm.xml').write_text('<mujoco/>')
    assert model_frame(urdf) == 'base' and model_frame(tmp_path / 'arm.xml') == 'world'
