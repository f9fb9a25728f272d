"""Avoiding by a camera: posts that stand elsewhere in every episode, and images as the loop receives them."""

from __future__ import annotations

import numpy as np
import pytest

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.observation import Observation
from vdd_ros.sim.cameras import CameraRenderer, SimulatedCameras
from vdd_ros.sim.demonstration import demonstrate
from vdd_ros.sim.disturbances import Disturbances, SensorDisturbances
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Demonstrator, load_task
from vdd_ros.sim.tasks.avoiding.demonstrator import AvoidingDemonstrator
from vdd_ros.sim.tasks.avoiding_seen.task import SHIFTS, AvoidingSeen, rows_of, shifts
from vdd_ros.validation.rollout import rollout

SECOND = 10**9


@pytest.fixture(scope='module')
def task() -> AvoidingSeen:
    """Return the task."""
    return load_task('avoiding_seen')


@pytest.fixture(scope='module')
def contract(task: AvoidingSeen) -> Contract:
    """Return its contract."""
    return load_contract(task.contract)


@pytest.fixture(scope='module')
def renderer(task: AvoidingSeen, contract: Contract) -> CameraRenderer:
    """Return what draws its camera."""
    return CameraRenderer(task.simulation(), task.settings.cameras, contract)


def test_rows_are_shifted_by_the_number_of_the_episode(task):
    simulation = task.simulation()
    drawn = np.array([shifts(episode) for episode in range(200)])
    low, high = np.array(SHIFTS).T
    assert (drawn >= low).all() and (drawn <= high).all() and (np.ptp(drawn, axis=0) > 0.9 * (high - low)).all()
    for episode in (0, 7, 0):
        task.reset(simulation, episode)
        found = [row.posts[0] for row in rows_of(simulation)]
        np.testing.assert_allclose(found, np.array([0.5, 0.425, 0.35]) + shifts(episode))


def test_who_sees_the_posts_passes_them_and_who_does_not_touches_them(task):
    state = load_contract('avoiding_cartesian')
    seeing = demonstrate(task, state, 6, 0)
    assert all(episode.success for episode in seeing)
    assert len({episode.labels['mode'] for episode in seeing}) == 6
    blind = demonstrate(task, state, 6, 0, demonstrator=AvoidingDemonstrator(np.random.default_rng(0)))
    assert sum(bool(episode.success) for episode in blind) <= 3


def test_a_demonstrator_that_did_not_look_is_refused(task):
    with pytest.raises(ConfigurationError, match='sees where the posts stand'):
        task.new_demonstrator(np.random.default_rng(0)).begin(np.zeros(3))


def _blue(image: np.ndarray) -> np.ndarray:
    """Return where posts are in an image, bool."""
    red, _, blue = np.moveaxis(image.astype(int), -1, 0)
    return blue > red + 60


def _seen(task: AvoidingSeen, renderer: CameraRenderer, episode: int) -> tuple[Simulation, SimulatedCameras]:
    simulation = task.simulation()
    task.reset(simulation, episode)
    cameras = SimulatedCameras(renderer, simulation)
    cameras.begin()
    return simulation, cameras


def test_the_camera_shows_the_shift_of_the_last_row(task, renderer):
    """Its posts stand at a y that nothing else stands at: one column of the image, 1.05 cm for each row of it."""
    places = []
    for episode in (0, 1, 2, 3):
        simulation, cameras = _seen(task, renderer, episode)
        image = cameras.at(simulation.stamp).values['above'].array().reshape(96, 96, 3)
        rows = np.flatnonzero(_blue(image)[:, 68:74].any(axis=1))
        places.append((rows.mean(), shifts(episode)[2]))
    pixel, shift = np.array(places).T
    slope = np.polyfit(shift, pixel, 1)[0]
    assert 75 < abs(slope) < 115
    assert np.abs(np.polyval(np.polyfit(shift, pixel, 1), shift) - pixel).max() < 1.5


def test_images_are_those_of_the_time_of_their_stamps(task, contract, renderer):
    simulation, cameras = _seen(task, renderer, 0)
    begin, home = simulation.stamp, simulation.position
    first = cameras.at(begin).values['above']
    simulation.set_command(home + 0.2)
    while simulation.stamp < begin + SECOND // 2:
        simulation.step(5_000_000)
        cameras.look()
    align = contract.images[0].align
    assert cameras.stamp('above') > simulation.stamp - SECOND // 25
    assert cameras.at(simulation.stamp).values['above'] is not first
    late = cameras.at(simulation.stamp + round(SECOND * align.max_age) + SECOND // 30)
    assert late.stale == ('above',)
    # Drawn only now, the first image shows where the arm was then.
    again, fresh = _seen(task, renderer, 0)
    assert first.array().tobytes() == fresh.at(again.stamp).values['above'].array().tobytes()


class _Straight(Demonstrator):
    """Goes on along y for some policy periods."""

    def begin(self, hand: np.ndarray) -> None:
        self._left = 12

    def command(self, hand: np.ndarray) -> np.ndarray:
        self._left -= 1
        return hand + np.array([0.0, 0.004, 0.0])

    @property
    def finished(self) -> bool:
        return self._left <= 0


def test_a_demonstration_holds_what_the_camera_shows(task, contract, renderer):
    (episode,) = demonstrate(task, contract, 1, 0, demonstrator=_Straight())
    simulation, cameras = _seen(task, renderer, task.demonstrated_from)
    shown = episode.images['above'].rows
    assert shown[0].tobytes() == cameras.at(simulation.stamp).values['above'].array().tobytes()
    assert len(episode) * 0.8 < len({id(row) for row in shown}) <= len(episode)


class _Looking:
    """A policy that moves on and remembers the images that it was asked about."""

    def __init__(self) -> None:
        self.images: list[np.ndarray] = []

    def plan(self, observation: Observation, generator: np.random.Generator) -> Plan:
        self.images.append(observation.images['above'])
        return Plan(np.tile([0.0, 0.004], (len(observation), 12, 1)), np.full(len(observation), -1))


def _looked(contract: Contract, **trouble: object) -> list[np.ndarray]:
    policy, task = _Looking(), AvoidingSeen()
    task.max_steps = 5
    disturbances = Disturbances(sensors={'above': SensorDisturbances(**trouble)})
    rollout(task, contract, lambda: policy, 2, 0, disturbances=disturbances)
    return policy.images


def test_policies_in_rollouts_see_the_camera_and_its_disturbances(task, contract, renderer):
    plain = _looked(contract)
    assert plain[0].shape == (2, 2, 96, 96, 3) and plain[0].dtype == np.uint8
    for episode in (0, 1):
        simulation, cameras = _seen(task, renderer, episode)
        expected = cameras.at(simulation.stamp).values['above'].array().reshape(96, 96, 3)
        assert (plain[0][episode] == expected).all()
    assert not np.array_equal(plain[1][0, 0], plain[1][0, 1])
    covered = _looked(contract, covered=True)
    assert not covered[0].any()
    dark = _looked(contract, brightness=0.5)
    np.testing.assert_allclose(dark[0], np.rint(plain[0] / 2), atol=1)
