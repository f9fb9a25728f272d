"""Trouble on purpose: what arrives when, what is drawn, and that a seed says it all."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError, ModelError
from vdd_ros.common.share import model_path
from vdd_ros.sim.arm import SimulatedArm
from vdd_ros.sim.disturbances import Channel, Delivery, Disturbances, load_disturbances
from vdd_ros.sim.randomization import Randomization
from vdd_ros.sim.simulation import Simulation

_JOINTS = tuple(f'joint{number}' for number in range(1, 8))
_MS = 1_000_000
_PERIOD = 35 * _MS

_ALL = {
    'joint_states': {'position_noise': 1e-3, 'velocity_noise': 1e-2, 'latency': 0.007, 'jitter': 0.01, 'drop': 0.2},
    'commands': {'latency': 0.004, 'jitter': 0.02, 'drop': 0.2},
    'randomization': {
        'mass': {'between': [0.8, 1.2]},
        'stiffness': {'between': [0.7, 1.3]},
        'damping': {'between': [0.7, 1.3], 'of': ['joint[1-4]']},
        'payload': {'mass': [0.2, 1.0], 'position': [0, 0, 0.1]},
    },
}

_OBJECTS = """
<mujoco>
  <worldbody>
    <camera name="top" pos="0 0 2"/>
    <geom name="floor" type="plane" size="1 1 0.1"/>
    <body name="shelf" pos="1 0 0.5"><geom name="board" size="0.1" mass="1"/></body>
    <body name="cube" pos="0 0 0.05"><freejoint/><geom name="cube" type="box" size="0.05 0.05 0.05" mass="2"/></body>
    <body name="link" pos="0 0 1" gravcomp="1">
      <joint name="slide" type="slide" axis="0 0 1"/>
      <geom name="link" type="box" size="0.1 0.1 0.1" mass="3"/>
      <body name="plate" pos="0 0 0.2" gravcomp="1"><geom size="0.1" mass="1"/></body>
    </body>
  </worldbody>
  <actuator><position name="slide" joint="slide" kp="1000" kv="100"/></actuator>
</mujoco>
"""


def arm(disturbances: dict, seed: int = 0, **settings: object) -> SimulatedArm:
    """Return the arm at home with disturbances, an episode begun."""
    simulation = Simulation(model_path('panda'), _JOINTS)
    simulation.reset('home')
    disturbed = SimulatedArm(simulation, Disturbances.parse(disturbances), **settings)
    disturbed.begin(seed)
    return disturbed


def motion(disturbed: SimulatedArm, seed: int) -> bytes:
    """Return all that is measured of an episode, to the last bit."""
    disturbed.simulation.reset('home')
    disturbed.begin(seed)
    start, stamp, printed = disturbed.simulation.position, disturbed.simulation.stamp, b''
    for tick in range(40):
        measured = disturbed.measured
        printed += (measured.stamp - stamp).to_bytes(8, 'little') + measured.position.tobytes()
        printed += measured.velocity.tobytes() + measured.effort.tobytes() + disturbed.simulation.position.tobytes()
        disturbed.command(start + 0.005 * tick)
        disturbed.step(_PERIOD)
    return printed


def objects(settings: dict, seed: int = 0) -> Simulation:
    """Return the scene of objects in one of its randomised worlds."""
    simulation = Simulation(mujoco.MjModel.from_xml_string(_OBJECTS), ('slide',))
    SimulatedArm(simulation, Disturbances(randomization=Randomization.parse(settings))).begin(seed)
    return simulation


def test_a_channel_keeps_order_delays_within_its_bounds_and_loses_its_share():
    channel: Channel[int] = Channel(Delivery(latency=0.01, jitter=0.03, drop=0.25), np.random.default_rng(0))
    sent, arrived = range(4000), []
    for number in sent:
        channel.send(number * _MS, number)
        arrived += [(number, item) for item in channel.receive(number * _MS)]
    items = [item for _, item in arrived]
    assert items == sorted(items) and len(set(items)) == len(items)
    delays = np.array([now - item for now, item in arrived])
    assert delays.min() >= 10 and delays.max() <= 40 + 1
    # Binomial: four standard deviations of the count.
    assert abs(channel.dropped - 1000) < 4 * np.sqrt(4000 * 0.25 * 0.75)


def test_without_disturbances_the_arm_is_the_simulation_to_the_last_bit():
    plain, disturbed = Simulation(model_path('panda'), _JOINTS), arm({})
    plain.reset('home')
    for tick in range(20):
        for each in (plain.set_command, disturbed.command):
            each(disturbed.measured.position + 0.01 * tick)
        plain.step(_PERIOD)
        disturbed.step(_PERIOD)
        measured = disturbed.measured
        assert measured.stamp == plain.stamp
        np.testing.assert_array_equal(measured.position, plain.position)
        np.testing.assert_array_equal(measured.effort, plain.effort)


def test_one_seed_gives_one_trajectory_to_the_last_bit_and_another_seed_another():
    first, second = arm(_ALL), arm(_ALL)
    expected = motion(first, 3)
    assert motion(first, 4) != expected
    assert motion(first, 3) == expected == motion(second, 3)


def test_a_state_is_as_old_as_its_latency_and_the_rate_make_it():
    disturbed = arm({'joint_states': {'latency': 0.012}})
    disturbed.step(100 * _MS)
    # States of 200 Hz: that of 85 ms arrived at 97 ms, that of 90 ms is under way.
    assert disturbed.measured.stamp == 85 * _MS
    disturbed.step(2_500_000)
    assert disturbed.measured.stamp == 90 * _MS


def test_a_command_takes_effect_at_the_first_physics_step_after_its_latency():
    disturbed = arm({'commands': {'latency': 0.011}})
    before = disturbed.simulation.command
    disturbed.command(before + 0.1)
    disturbed.step(10 * _MS)
    np.testing.assert_array_equal(disturbed.simulation.command, before)
    disturbed.step(_PERIOD)
    np.testing.assert_array_equal(disturbed.simulation.command, before + 0.1)

    other = Simulation(disturbed.simulation.model, _JOINTS)
    other.reset('home')
    other.step(12_500_000)
    other.set_command(before + 0.1)
    other.step(32_500_000)
    np.testing.assert_array_equal(disturbed.simulation.position, other.position)


def test_the_chance_of_one_stream_does_not_depend_on_that_of_another():
    noisy = {'joint_states': {'position_noise': 1e-3}}
    alone, beside = arm(noisy, 7), arm({**noisy, 'commands': {'drop': 0.5}}, 7)
    for each in (alone, beside):
        each.command(each.simulation.position)
        each.step(_PERIOD)
    np.testing.assert_array_equal(alone.measured.position, beside.measured.position)


def test_noise_has_the_deviation_that_it_is_given():
    disturbed = arm({'joint_states': {'position_noise': 1e-3}})
    truth, errors = disturbed.simulation.position, []
    for _ in range(600):
        disturbed.step(5 * _MS)
        errors.append(disturbed.measured.position - truth)
    # 4200 draws: the deviation is known to 1.1 %; at home the arm itself stays where it is to 1e-9 rad.
    assert np.std(errors) == pytest.approx(1e-3, rel=0.05)
    assert abs(np.mean(errors)) < 1e-3 * 4 / np.sqrt(4200)


def test_randomising_leaves_the_shared_model_alone_and_always_starts_from_it():
    one = arm({'randomization': {'mass': {'between': [2.0, 2.0]}, 'stiffness': {'between': [0.5, 0.5]}}})
    simulation, shared = one.simulation, one.simulation.shared_model
    for episode in range(3):
        simulation.reset('home')
        one.begin(episode)
        np.testing.assert_array_equal(simulation.model.body_mass, 2 * shared.body_mass)
        np.testing.assert_array_equal(simulation.model.actuator_gainprm[:, 0], shared.actuator_gainprm[:, 0] / 2)
        np.testing.assert_array_equal(simulation.model.actuator_biasprm[:, 1], shared.actuator_biasprm[:, 1] / 2)
    assert shared.actuator_gainprm[0, 0] == 5000


def test_a_payload_pulls_at_the_arm_with_its_weight():
    """A servo without integral sags by the weight over its stiffness; the arm's own weight is compensated."""
    loaded = objects({'payload': {'mass': [2.0, 2.0], 'position': [0.3, 0, 0]}})
    loaded.step(3_000_000_000)
    np.testing.assert_allclose(loaded.position, [-2.0 * 9.81 / 1000], rtol=1e-3)
    body = loaded.model.body('link')
    np.testing.assert_allclose(body.mass, [5.0])
    np.testing.assert_allclose(body.ipos, [0.12, 0, 0], atol=1e-12)
    # A cube of 3 kg and 0.2 m, and two point masses about their common centre: parallel axes.
    cube, shift = 3 * 0.2**2 / 6, 3 * 0.12**2 + 2 * 0.18**2
    np.testing.assert_allclose(np.sort(body.inertia), [cube, cube + shift, cube + shift], rtol=1e-12)


def test_objects_and_cameras_are_displaced_within_their_bounds():
    free = {'body': 'cube', 'x': [0.1, 0.2], 'yaw': [0.5, 0.5]}
    fixed = {'body': 'sh*', 'y': [-0.2, -0.1]}
    camera = {'position': 0.05, 'rotation': 0.1}
    places = set()
    for seed in range(5):
        simulation = objects({'objects': [free, fixed], 'cameras': camera}, seed)
        cube, shelf, top = (simulation.data.body('cube'), simulation.data.body('shelf'), simulation.data.camera('top'))
        assert 0.1 <= cube.xpos[0] <= 0.2 and cube.xpos[1] == 0
        np.testing.assert_allclose(cube.xquat, [np.cos(0.25), 0, 0, np.sin(0.25)], atol=1e-12)
        assert -0.2 <= shelf.xpos[1] <= -0.1 and shelf.xpos[0] == 1
        offset = top.xpos - [0, 0, 2]
        assert 0 < np.abs(offset).max() <= 0.05
        assert 0 < np.arccos(np.clip((np.trace(top.xmat.reshape(3, 3)) - 1) / 2, -1, 1)) <= 0.1 * np.sqrt(3)
        places.add((cube.xpos[0], shelf.xpos[1], *offset))
    assert len(places) == 5


@pytest.mark.parametrize(
    ('settings', 'named'),
    [
        ({'mass': {'between': [0.9, 1.1], 'of': ['elbow*']}}, r'body elbow\* in the scene; found world, shelf'),
        ({'objects': [{'body': 'ball'}]}, 'body ball'),
        ({'payload': {'mass': [1, 1], 'body': 'hand'}}, 'body hand'),
        ({'payload': {'mass': [1, 1], 'body': 'cube'}}, 'body with simple="false"'),
        ({'cameras': {'position': 1.0, 'of': ['side']}}, 'camera side in the scene; found top'),
    ],
)
def test_what_is_to_be_randomised_and_is_not_there_is_named(settings: dict, named: str):
    with pytest.raises(ModelError, match=named):
        objects(settings)


def test_disturbances_are_read_from_a_file_and_what_it_cannot_express_is_refused(tmp_path: Path):
    file = tmp_path / 'trouble.yaml'
    file.write_text('joint_states: {latency: 0.01}\nrandomization: {mass: {between: [0.9, 1.1]}}\n', encoding='utf-8')
    disturbances = load_disturbances(file)
    assert disturbances.joint_states.latency == 0.01 and disturbances.randomization.mass.between == (0.9, 1.1)
    assert load_disturbances('').is_nominal and not disturbances.is_nominal
    for text, named in (
        ('joint_state: {}', 'joint_state'),
        ('commands: {drop: 1.5}', 'commands.drop'),
        ('randomization: {mass: {between: [2, 1]}}', 'low <= high'),
        ('randomization: {mass: {between: [0, 1]}}', 'factors above zero'),
        ('- 3', 'keys and values'),
        ('{', 'trouble.yaml'),
    ):
        file.write_text(text, encoding='utf-8')
        with pytest.raises(ConfigurationError, match=named):
            load_disturbances(file)
    with pytest.raises(ConfigurationError, match='absent.yaml'):
        load_disturbances('absent.yaml')
