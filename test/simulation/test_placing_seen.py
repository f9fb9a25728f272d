"""Placing by two cameras: pan and trays elsewhere in every episode, recorded with images, and disturbed cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vdd_ros.commands.cli import main
from vdd_ros.common.errors import ConfigurationError, SimulationError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.observation import Observation
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.bag_demonstration import record_in_process
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.disturbances import Disturbances, SensorDisturbances, load_disturbances
from vdd_ros.sim.tasks import SuccessDetector, load_task, task_of
from vdd_ros.sim.tasks.placing.demonstrator import PlacingDemonstrator
from vdd_ros.sim.tasks.placing_seen.task import PAN_SHIFT, PAN_YAW, TRAY_SHIFT, PlacingSeen, poses
from vdd_ros.validation.rollout import rollout

SCENARIOS = ('dark_camera', 'tinted_camera', 'noisy_camera', 'late_camera', 'camera_drops_frames', 'moved_camera')


@pytest.fixture(scope='module')
def task() -> PlacingSeen:
    """Return the task."""
    return load_task('placing_seen')


@pytest.fixture(scope='module')
def contract(task: PlacingSeen) -> Contract:
    """Return its contract."""
    return load_contract(task.contract)


def test_the_task_of_a_contract_is_the_one_of_its_name():
    for name in ('placing_seen', 'avoiding_seen'):
        assert task_of(load_contract(name)).name == name
    assert task_of(load_contract('placing_joint')).name == 'placing'


def test_pan_and_trays_are_put_by_the_number_of_the_episode(task):
    pans = np.array([poses(episode)[0] for episode in range(200)]) - (0.5, -0.26, 0.0)
    largest = np.array([PAN_SHIFT, PAN_SHIFT, PAN_YAW])
    assert (np.abs(pans) <= largest).all() and (np.ptp(pans, axis=0) > 1.9 * largest).all()
    sides = np.array([poses(episode)[1]['far'][1] for episode in range(200)]) - 0.3
    assert (np.abs(sides) <= TRAY_SHIFT).all() and np.ptp(sides) > 1.9 * TRAY_SHIFT
    simulation = task.simulation()
    for episode in (3, 8, 3):
        task.reset(simulation, episode)
        pan, trays = poses(episode)
        np.testing.assert_allclose(simulation.body_position('pan')[:2], pan[:2], atol=1e-12)
        turned = simulation.data.body('pan').xmat.reshape(3, 3)
        assert np.arctan2(turned[1, 0], turned[0, 0]) == pytest.approx(pan[2])
        for name, place in trays.items():
            np.testing.assert_allclose(simulation.body_position(f'tray_{name}')[:2], place)


def test_who_sees_the_scene_places_the_pan_in_all_modes_and_who_does_not_fails(task):
    state = load_contract('placing_cartesian')
    seeing = demonstrate(task, state, 12, 0)
    assert all(episode.success for episode in seeing)
    assert len({episode.labels['mode'] for episode in seeing}) == 12
    blind = demonstrate(task, state, 12, 0, demonstrator=PlacingDemonstrator(np.random.default_rng(0)))
    assert sum(bool(episode.success) for episode in blind) <= 6


def test_a_demonstrator_that_did_not_look_is_refused(task):
    with pytest.raises(ConfigurationError, match='sees where pan and trays are'):
        task.new_demonstrator(np.random.default_rng(0)).begin(np.zeros(4))


@pytest.mark.parametrize('name', ['placing_seen', 'avoiding_seen'])
def test_a_recorded_bag_is_what_is_demonstrated_in_process(name, tmp_path):
    task = load_task(name)
    contract = load_contract(task.contract)
    seen: list[tuple[int, int, int]] = []
    record_in_process(
        tmp_path / 'bag', task, contract, episodes=2, seed=5, progress=lambda *counts: seen.append(counts)
    )
    assert seen == [(1, 0, 1), (2, 0, 2)]
    report = ConversionReport()
    recorded = list(convert(tmp_path / 'bag', contract, Kinematics.from_contract(contract), report))
    shown = demonstrate(task, contract, 2, 5)
    assert not report.lines() and len(recorded) == 2
    # The time of the second reset is another one, and with it when its images are due.
    for one, other in zip(recorded[:1], shown[:1]):
        assert one.success and one.labels['mode'] == other.labels['mode']
        np.testing.assert_array_equal(one.observation, other.observation)
        np.testing.assert_array_equal(one.action, other.action)
        for camera, frames in other.images.items():
            for row, expected in zip(one.images[camera].rows, frames.rows, strict=True):
                np.testing.assert_array_equal(row, expected)


def test_the_command_records_a_task_with_cameras(task, contract, tmp_path, capsys):
    assert main(['record', '--output', str(tmp_path / 'bag'), '--task', task.name, '--episodes', '1']) == 0
    (episode,) = convert(tmp_path / 'bag', contract, Kinematics.from_contract(contract), ConversionReport())
    assert episode.success and len(episode) > 100
    assert {len(frames) for frames in episode.images.values()} == {len(episode)}
    assert 'recorded' in capsys.readouterr().out


class _Failing(SuccessDetector):
    def judge(self, simulation: object) -> str:
        return 'failure'


class _Impossible(PlacingSeen):
    def new_success_detector(self) -> SuccessDetector:
        return _Failing()


def test_recording_with_cameras_ends_if_no_demonstration_succeeds(contract, tmp_path):
    task = _Impossible()
    counts: list[tuple[int, int, int]] = []
    with pytest.raises(
        SimulationError, match=r'20 failures and 0 successes: the success detector returned failure \(20'
    ):
        record_in_process(
            tmp_path / 'bag', task, contract, episodes=1, seed=0, progress=lambda *each: counts.append(each)
        )
    assert counts[-1] == (0, 19, 0)


def test_a_contract_of_other_topics_is_refused(task, tmp_path):
    values = load_contract('placing_seen').model_dump(mode='json')
    values['observation'].append({'name': 'force', 'topic': 'wrench', 'type': 'WrenchStamped'})
    with pytest.raises(ConfigurationError, match='of joints and of raw colour images'):
        record_in_process(tmp_path / 'bag', task, Contract.model_validate(values), episodes=1, seed=0)
    assert not list(Path(tmp_path).iterdir())


class _Looking:
    """A policy that stands still and remembers the images that it was asked about."""

    def __init__(self) -> None:
        self.images: list[dict[str, np.ndarray]] = []

    def plan(self, observation: Observation, generator: np.random.Generator) -> Plan:
        self.images.append(dict(observation.images))
        action = np.zeros((len(observation), 12, 4))
        return Plan(action, np.full(len(observation), -1))


def looked(contract: Contract, disturbances: Disturbances) -> dict[str, np.ndarray]:
    """Return the first images of a rollout by camera, shape (row, column, 3)."""
    policy, task = _Looking(), PlacingSeen()
    task.max_steps = 9
    rollout(task, contract, lambda: policy, 1, 0, disturbances=disturbances)
    return {name: images[0, -1].astype(float) for name, images in policy.images[0].items()}


def test_disturbances_of_a_camera_change_what_a_policy_sees_of_it_alone(contract):
    plain = looked(contract, Disturbances())
    assert {name: image.shape for name, image in plain.items()} == dict.fromkeys(('wrist', 'front'), (96, 96, 3))
    tinted = looked(contract, Disturbances(sensors={'front': SensorDisturbances(color=(0.5, 1.0, 0.25))}))
    np.testing.assert_array_equal(tinted['wrist'], plain['wrist'])
    np.testing.assert_allclose(tinted['front'], plain['front'] * (0.5, 1.0, 0.25), atol=0.51)
    covered = looked(contract, Disturbances(sensors={'wrist': SensorDisturbances(covered=True)}))
    assert not covered['wrist'].any() and covered['front'].any()


@pytest.mark.parametrize('name', ['placing_seen', 'avoiding_seen'])
def test_scenarios_of_cameras_are_those_of_the_task(name):
    task = load_task(name)
    for scenario in SCENARIOS:
        found = load_disturbances(scenario, task.scenarios_beside)
        cameras = set(found.sensors) | set(found.randomization.cameras.of if scenario == 'moved_camera' else ())
        assert cameras == set(task.settings.cameras), scenario
    with pytest.raises(ConfigurationError):
        load_disturbances('dark_camera', load_task('placing').scenarios_beside)


@pytest.mark.parametrize('scenario', ['dark_camera', 'tinted_camera', 'noisy_camera', 'moved_camera'])
def test_a_scenario_changes_the_images(contract, scenario, task):
    plain = looked(contract, Disturbances())
    found = looked(contract, load_disturbances(scenario, task.scenarios_beside))
    assert all(np.abs(found[name] - plain[name]).mean() > 1.0 for name in plain)
