"""The world behind the bridge, without a graph: what it refuses to simulate, and how lockstep waits."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from test_bridge_controllers import MODEL, SCENE

from vdd_ros.common.errors import ConfigurationError, VddError
from vdd_ros.nodes.bridge.lockstep import Lockstep
from vdd_ros.nodes.bridge.world import World
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.stage import open_stage

_MS = 1_000_000


def world(folder: Path, old: str = '', new: str = '', rate: float = 200.0, disturbances: dict | None = None) -> World:
    """Return the world of the scene of the bridge's tests, some of whose text is replaced."""
    (folder / 'arm.xml').write_text(MODEL, encoding='utf-8')
    (folder / 'scene.yaml').write_text(SCENE.replace(old, new, 1), encoding='utf-8')
    stage = open_stage('', folder / 'scene.yaml', 'arm_controller', 'position')
    return World(stage, rate, Disturbances.parse(disturbances or {}))


@pytest.mark.parametrize(
    ('old', 'new', 'complaint'),
    [
        ('command_rate: 50', 'command_rate: 70', 'command_rate whose period is a whole number of physics steps'),
        ('active: false', 'active: true', 'one active controller for every joint; found second under arm and forward'),
        ('[second, first]', '[second, second]', 'distinct joints for controller forward; found second twice'),
        ('[second, first]', '[second, third]', 'expected a joint third in the scene; found first, second'),
        ('rate: 50}', 'rate: 250}', 'at most 200 Hz for wrist, the rate of joint states; found 250 Hz'),
    ],
)
def test_a_scene_that_cannot_be_simulated_is_refused(tmp_path, old, new, complaint):
    with pytest.raises(VddError, match=complaint):
        world(tmp_path, old, new)


def test_states_cannot_come_oftener_than_physics_steps(tmp_path):
    with pytest.raises(ConfigurationError, match='at most 500 Hz, one state for each physics step; found 600 Hz'):
        world(tmp_path, rate=600.0)
    assert world(tmp_path, rate=500.0).chunks == 10


def test_lockstep_waits_for_all_that_it_is_configured_to_wait_for_and_for_no_other(tmp_path):
    place = world(tmp_path)
    with pytest.raises(ConfigurationError, match='to wait for in lockstep; found leg; use some of arm, forward'):
        Lockstep(place, ['gripper', 'leg'], place.advance)
    usual, controllers = Lockstep(place, [], place.advance), place.stage.controllers
    assert usual.awaited == ('arm',)
    place.switch(controllers['arm'], False)
    place.switch(controllers['forward'], True)
    assert usual.awaited == ('forward',)

    def advance() -> None:
        place.advance()
        place.states()

    both = Lockstep(place, ['arm', 'gripper'], advance)
    place.reset()
    place.states()
    start = place.stamp
    for controller, stamp in (('arm', 0), ('forward', 0), ('gripper', 20), ('gripper', 20), ('arm', 40)):
        both.on_command(controller)
        assert place.stamp - start == stamp * _MS


@pytest.mark.parametrize(('disturbances', 'lag'), [({}, 0), ({'latency': 0.012}, 14)])
def test_a_period_ends_when_a_state_of_its_end_has_arrived(tmp_path, disturbances, lag):
    place = world(tmp_path, disturbances={'joint_states': disturbances})
    stamps = []

    def advance() -> None:
        place.advance()
        stamps.extend(state.stamp for state in place.states())

    lockstep = Lockstep(place, [], advance)
    place.reset()
    place.states()
    start = place.stamp
    for period in range(1, 4):
        lockstep.go_on()
        assert stamps[-1] == start + period * 20 * _MS
        assert place.stamp == stamps[-1] + lag * _MS


def test_a_reset_that_cannot_be_leaves_everything_as_it_is(tmp_path):
    place = world(tmp_path)
    place.reset()
    place.advance()
    before = place.stamp, place.index, place.simulation.data.qpos.copy()
    with pytest.raises(VddError, match='joint third'):
        place.reset(place.changed(None, type(place.simulation.home)(position={'third': 0.0})))
    assert (place.stamp, place.index) == before[:2] and place.running
    np.testing.assert_array_equal(place.simulation.data.qpos, before[2])
