"""Pictures with depth: held against where things are."""

from __future__ import annotations

from collections.abc import Iterator

import mujoco
import numpy as np
import pytest

from vdd_ros.common.errors import ModelError
from vdd_ros.sim.camera import pinhole_of
from vdd_ros.sim.renderer import Renderer, save_compiled
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.snapshot import snapshot

# A white ball before a dark wall; one camera by its field of view, one by its sensor, off centre and not square.
_SCENE = """
<mujoco>
  <visual><headlight ambient="1 1 1" diffuse="0 0 0" specular="0 0 0"/></visual>
  <statistic extent="2"/>
  <worldbody>
    <body name="wall" pos="0 2 0"><geom type="box" size="0.8 0.1 0.8" rgba="0.1 0.1 0.1 1"/></body>
    <body name="ball" pos="0.3 1 0.2"><freejoint/><geom size="0.1" rgba="1 0 0 1"/></body>
    <body name="cart"><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.01" pos="0 -1 0"/>
      <camera name="plain" euler="90 0 0" fovy="60"/>
      <camera name="sensor" euler="90 0 0" resolution="160 120" sensorsize="0.04 0.03" focal="0.03 0.025"
              principal="0.004 0.003"/>
    </body>
  </worldbody>
  <actuator><position joint="slide" kp="1"/></actuator>
</mujoco>
"""

_SIZE = (160, 120)


@pytest.fixture(scope='module')
def simulation() -> Simulation:
    """Return the scene."""
    return Simulation(mujoco.MjModel.from_xml_string(_SCENE), ('slide',))


@pytest.fixture(scope='module')
def renderer(simulation: Simulation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Renderer]:
    """Yield who draws it."""
    file = tmp_path_factory.mktemp('compiled') / 'scene.mjb'
    save_compiled(simulation, file)
    renderer = Renderer(file, [(_SIZE, True), (_SIZE, False)])
    yield renderer
    renderer.close()


def in_world(renderer: Renderer, camera: str, points: np.ndarray) -> np.ndarray:
    """Move points of an optical frame into the world."""
    place, matrix = renderer.place(camera), np.empty(9)
    mujoco.mju_quat2Mat(matrix, place.orientation)
    return points @ matrix.reshape(3, 3).T + place.position


@pytest.mark.parametrize('camera', ['plain', 'sensor'])
def test_points_of_an_image_lie_where_the_things_are_and_have_their_colours(simulation, renderer, camera):
    renderer.take(snapshot(simulation))
    picture, depth = renderer.draw(camera, _SIZE, deep=True)
    points = in_world(renderer, camera, renderer.pinhole(camera, _SIZE).points(depth).astype(float))
    red = picture[..., 0] > 150
    ball = points[red]
    assert len(ball) > 50
    # The others lie on the sphere, as flat as its facets are; half a pixel would be 4 mm.
    distance = np.linalg.norm(ball - [0.3, 1, 0.2], axis=1)
    assert np.mean(np.abs(distance - 0.1) < 2e-3) > 0.95
    seen = np.isfinite(points).all(axis=-1) & ~red
    wall = points[seen & (points[..., 1] > 1.5)]
    np.testing.assert_allclose(wall[:, 1], 1.9, atol=2e-3)
    assert wall[:, 0].min() == pytest.approx(-0.8, abs=0.04) and wall[:, 2].max() <= 0.84
    assert np.isinf(depth).any() and np.isnan(points[np.isinf(depth)]).all()


def test_the_middle_of_an_image_is_straight_ahead_and_a_stride_takes_every_so_many_pixels():
    model = mujoco.MjModel.from_xml_string(_SCENE)
    pinhole = pinhole_of(model, model.camera('plain').id, 161, 121)
    assert pinhole.centre == (80.0, 60.0)
    assert pinhole.focal[0] == pytest.approx(60.5 / np.tan(np.deg2rad(30)))
    depth = np.full((121, 161), 2.0, dtype=np.float32)
    points = pinhole.points(depth, 20)
    assert points.shape == (7, 9, 3)
    np.testing.assert_allclose(points[3, 4], [0, 0, 2])
    np.testing.assert_array_equal(points, pinhole.points(depth)[::20, ::20])


def test_a_snapshot_takes_the_drawing_to_where_the_scene_is(simulation, renderer):
    simulation.reset(np.array([0.5]))
    renderer.take(snapshot(simulation))
    np.testing.assert_allclose(renderer.place('plain').position, [0.5, 0, 0], atol=1e-12)
    moved = renderer.draw('plain', _SIZE, deep=False)[0]
    simulation.reset()
    renderer.take(snapshot(simulation))
    still = renderer.draw('plain', _SIZE, deep=False)[0]
    columns = [np.argwhere(picture[..., 0] > 150)[:, 1].mean() for picture in (still, moved)]
    # Half a metre to the right of the camera at one metre's distance, in pixels of its focal length.
    assert columns[0] - columns[1] == pytest.approx(0.5 * renderer.pinhole('plain', _SIZE).focal[0], rel=0.03)
    with pytest.raises(ModelError, match='a snapshot of the rendered model; found 3 numbers'):
        renderer.take(np.zeros(3))
