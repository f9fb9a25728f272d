"""The tree of frames of a scene."""

from __future__ import annotations

import mujoco
import numpy as np
import pytest

from vdd_ros.common.errors import ModelError
from vdd_ros.nodes.bridge.transforms import to_transforms
from vdd_ros.sim.frames import WORLD_FRAME, FrameTree
from vdd_ros.sim.simulation import Simulation

SCENE = """
<mujoco>
  <worldbody>
    <body name="upper" pos="0 0 1" euler="0 0 90">
      <joint name="hinge" axis="0 1 0"/><geom size="0.1"/>
      <body name="lower" pos="0.5 0 0">
        <joint name="elbow" axis="0 0 1"/><geom size="0.1"/>
        <site name="tool" pos="0.1 0.2 0.3" euler="10 20 30"/><camera name="eye" pos="0 0 0.2" euler="30 0 0"/>
      </body>
    </body>
  </worldbody>
  <actuator><position joint="hinge"/><position joint="elbow"/></actuator>
</mujoco>
"""


@pytest.fixture
def simulation() -> Simulation:
    """Two links, bent."""
    simulation = Simulation(mujoco.MjModel.from_xml_string(SCENE), ['hinge', 'elbow'])
    simulation.reset(np.array([0.4, -0.9]))
    return simulation


def in_world(tree: FrameTree) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return the position and rotation matrix of every frame by going from the root to the leaves."""
    found = {WORLD_FRAME: (np.zeros(3), np.eye(3))}
    for link in tree.links():
        position, rotation = found[link.parent]
        matrix = np.empty(9)
        mujoco.mju_quat2Mat(matrix, link.placement.orientation)
        found[link.child] = position + rotation @ link.placement.position, rotation @ matrix.reshape(3, 3)
    return found


def test_the_links_of_the_tree_lead_to_where_mujoco_has_bodies_sites_and_cameras(simulation):
    found = in_world(FrameTree(simulation, ['tool'], {'eye_optical_frame': 'eye'}))
    model, data = simulation.model, mujoco.MjData(simulation.model)
    data.qpos[:] = simulation.data.qpos
    mujoco.mj_forward(model, data)
    assert set(found) == {WORLD_FRAME, 'upper', 'lower', 'tool', 'eye_optical_frame'}
    for name in ('upper', 'lower'):
        np.testing.assert_allclose(found[name][0], data.body(name).xpos, atol=1e-12)
        np.testing.assert_allclose(found[name][1].ravel(), data.body(name).xmat, atol=1e-12)
    np.testing.assert_allclose(found['tool'][0], data.site('tool').xpos, atol=1e-12)
    np.testing.assert_allclose(found['tool'][1].ravel(), data.site('tool').xmat, atol=1e-12)
    position, rotation = found['eye_optical_frame']
    np.testing.assert_allclose(position, data.cam('eye').xpos, atol=1e-12)
    # MuJoCo looks along -z with y up, an optical frame along z with y down.
    np.testing.assert_allclose(rotation, data.cam('eye').xmat.reshape(3, 3) @ np.diag([1, -1, -1]), atol=1e-12)


def test_evaluating_the_frames_changes_nothing_of_the_motion(simulation):
    other = Simulation(mujoco.MjModel.from_xml_string(SCENE), ['hinge', 'elbow'])
    other.reset(np.array([0.4, -0.9]))
    tree = FrameTree(simulation, ['tool'])
    for _ in range(20):
        simulation.step(simulation.timestep)
        other.step(other.timestep)
        tree.links()
    assert simulation.position.tobytes() == other.position.tobytes()


def test_a_site_that_is_not_there_is_refused(simulation):
    with pytest.raises(ModelError):
        FrameTree(simulation, ['gone'])


def test_transforms_name_parent_child_and_stamp_and_turn_quaternions_round(simulation):
    links = FrameTree(simulation).links()
    first, second = to_transforms(1_500_000_000, links)
    assert (first.header.frame_id, first.child_frame_id) == (WORLD_FRAME, 'upper')
    assert (second.header.frame_id, second.child_frame_id) == ('upper', 'lower')
    assert (first.header.stamp.sec, first.header.stamp.nanosec) == (1, 500_000_000)
    rotation = second.transform.rotation
    np.testing.assert_allclose([rotation.w, rotation.x, rotation.y, rotation.z], links[1].placement.orientation)
