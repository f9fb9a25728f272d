"""Point clouds of contracts of version 3: sets of points from the message to the network, in any order."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_making import rich_contract, rich_rows, write_rows
from benchmarks.bag_parity import in_process
from vdd_ros.contract.contract import Contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot.lerobot import frames_of
from vdd_ros.data.store import StoreWriter, load_store
from vdd_ros.data.windows import Demonstrations, observed
from vdd_ros.learning.jobs import distill, restored_student, shape_of, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings
from vdd_ros.learning.networks import ImageShape
from vdd_ros.learning.vision import PointEncoder, VisionEncoder, VisionSettings
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.observation import Observation
from vdd_ros.policy.policy import DistilledPolicy

POINTS = 48
CLOUD = ImageShape('cloud', POINTS, 1, 3, depth=True, points=True)


def rich(version: int, **cloud: Any) -> Contract:
    """Return the contract of all kinds of features, in a version."""
    values = rich_contract(without=('tool',)).model_dump(mode='json')
    for feature in values['observation']:
        if feature['name'] == 'cloud':
            feature |= cloud
    return Contract.model_validate({**values, 'schema_version': version})


def contract() -> Contract:
    """One joint and a cloud, chunks of two actions."""
    cloud = {'name': 'cloud', 'topic': 'points', 'type': 'PointCloud2', 'points': POINTS}
    return Contract.model_validate(
        {
            'schema_version': 3,
            'name': 'feeling',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': ['a']},
            'policy_rate': 10.0,
            'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}, cloud],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
            'observation_horizon': 2,
            'prediction_horizon': 2,
        }
    )


def test_points_are_a_set_beside_the_vector_since_version_3():
    before, since = rich(2), rich(3)
    assert before.arrays == () and [item.name for item in since.arrays] == ['camera', 'depth', 'cloud']
    assert before.observation_size - since.observation_size == 4 * 6 * 3 + 4 * 6 + 15
    assert [item.name for item in since.images] == ['camera', 'depth']
    cloud = next(item for item in shape_of(since).images if item.name == 'cloud')
    assert (cloud.height, cloud.width, cloud.channels, cloud.points) == (5, 1, 3, True)


def test_points_cannot_be_interpolated():
    rich(2, align={'method': 'interpolate', 'delay': 0.1})
    with pytest.raises(ValueError, match='point clouds can only be held'):
        rich(3, align={'method': 'interpolate', 'delay': 0.1})


@pytest.fixture(scope='module')
def recorded(tmp_path_factory: pytest.TempPathFactory) -> tuple[list, dict[int, Episode]]:
    """The messages of a recording, and what versions 2 and 3 make of them."""
    rows = rich_rows(3.0, seed=1, episodes=1)
    bag = write_rows(tmp_path_factory.mktemp('cloud') / 'bag', rows)
    found = {}
    for version in (2, 3):
        (found[version],) = convert(bag, rich(version), None, ConversionReport())
    return rows, found


def test_a_bag_gives_the_points_in_millimetres(recorded):
    _, episodes = recorded
    begin = sum(rich(2).width(item) for item in rich(2).observation if item.name in ('measured', 'commanded'))
    names = [item.name for item in rich(2).observation]
    for feature in rich(2).observation[2 : names.index('cloud')]:
        begin += rich(2).width(feature)
    meters = np.asarray(episodes[2].observation)[:, begin : begin + 15]
    points = np.stack(episodes[3].images['cloud'].rows)
    assert points.dtype == np.int16 and np.abs(points).max() > 1000
    np.testing.assert_array_equal(points, np.rint(1000 * meters))


def test_live_topics_give_the_points_of_the_bag(recorded):
    rows, episodes = recorded
    found = in_process(rich(3), rows, [episodes[3]])
    assert (found.ticks, found.unequal) == (len(episodes[3]), 0)
    assert found.values == len(episodes[3]) * rich(2).observation_size


def test_a_store_gives_the_points_back(recorded, tmp_path):
    _, episodes = recorded
    writer = StoreWriter(tmp_path / 'store', rich(3))
    writer.add('bag', 'print', [episodes[3]])
    writer.close()
    (found,) = load_store(tmp_path / 'store', rich(3))
    for one, other in zip(found.images['cloud'].rows, episodes[3].images['cloud'].rows, strict=True):
        assert one.dtype == other.dtype == np.int16
        np.testing.assert_array_equal(one, other)


def test_a_dataset_has_points_as_numbers_in_metres(recorded):
    _, episodes = recorded
    values = frames_of(episodes[3], rich(3))['observation.cloud']
    np.testing.assert_allclose(values * 1000, np.stack(episodes[3].images['cloud'].rows), atol=1e-3)


def cloud_at(place: float, chance: np.random.Generator) -> np.ndarray:
    """Return points of a table and of a ball at a place along x [m], in random order, shape (point, 3) [mm]."""
    table = chance.uniform((-0.5, -0.5, 0.0), (0.5, 0.5, 0.005), (POINTS - 12, 3))
    ball = np.array([place, 0.1, 0.15]) + chance.normal(scale=0.02, size=(12, 3))
    return chance.permutation(np.rint(1000 * np.concatenate([table, ball]))).astype(np.int16)


def test_features_do_not_depend_on_the_order_of_the_points():
    torch.manual_seed(0)
    encoder = VisionEncoder(VisionSettings(features=16), (CLOUD,)).eval()
    assert isinstance(encoder.encoders[0], PointEncoder)
    chance = np.random.default_rng(0)
    clouds = torch.as_tensor(np.stack([cloud_at(place, chance) for place in (-0.3, 0.0, 0.3)]))[:, None, :, None]
    shuffled = clouds[:, :, torch.randperm(POINTS)]
    assert not torch.equal(shuffled, clouds)
    with torch.no_grad():
        first, second = encoder.encode({'cloud': clouds}), encoder.encode({'cloud': shuffled})
    torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)
    assert (first[0] - first[2]).abs().max() > 1e-3


def episodes(count: int = 60, length: int = 6) -> list[Episode]:
    """Return episodes in which a ball shows where to go: the joint itself does not."""
    chance, found = np.random.default_rng(0), []
    for _ in range(count):
        place = chance.uniform(-0.4, 0.4)
        rows = [cloud_at(place, chance).ravel() for _ in range(length)]
        action = np.full((length, 1), place) + 0.01 * chance.normal(size=(length, 1))
        images = {'cloud': Frames(rows, 3 * POINTS)}
        found.append(Episode(chance.normal(size=(length, 1)), action, images=images))
    return found


def settings() -> LearningSettings:
    """Return settings that learn the ball within seconds."""
    return load_settings('learning_images').changed(
        [
            *(
                'precision=full',
                'threads=1',
                'teacher.trunk.kind=mlp',
                'teacher.trunk.width=64',
                'start=demonstrations',
            ),
            *('teacher.vision.features=16', 'teacher.calls=4', 'teacher_training.iterations=600'),
            *('teacher_training.batch=32', 'teacher_training.descent.learning_rate=0.003', 'student.trunk.width=32'),
            *('student.experts=2', 'distillation.iterations=400', 'distillation.batch=32'),
            *('distillation.labels.per_window=2', 'distillation.descent.learning_rate=0.01', 'student_ema=0.9'),
        ]
    )


@pytest.fixture(scope='module')
def learned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Demonstrations, Path]:
    """The demonstrations, and the folder of a student that has learned from them."""
    folder = tmp_path_factory.mktemp('points')
    shown = Demonstrations.from_episodes(episodes(), contract(), held_out=0.25)
    torch.manual_seed(0)
    train_teacher(shown, folder / 'teacher', settings())
    distill(shown, folder / 'teacher', folder / 'student', settings())
    return shown, folder / 'student'


def test_a_policy_acts_by_where_the_points_are(learned):
    """Who does not see the ball is wrong by .2 on the average."""
    shown, path = learned
    policy = DistilledPolicy.load(path)
    found = policy.act(observed(shown.held_out, slice(None), contract()))
    error = np.abs(found - shown.held_out.action).mean()
    assert error < 0.07 < 0.15 < np.abs(shown.held_out.action - shown.train.action.mean()).mean()


def test_the_exported_student_is_the_trained_one_in_any_order_of_the_points(learned):
    _, path = learned
    policy, network = DistilledPolicy.load(path), restored_student(load_artifact(path))
    chance = np.random.default_rng(3)
    clouds = np.stack([np.stack([cloud_at(place, chance)] * 2) for place in (-0.3, 0.2)])[:, :, :, None]
    given = Observation(chance.normal(size=(2, 2, 1)), {'cloud': clouds})
    experts = policy.experts(given)
    with torch.no_grad():
        features = network.vision.encode({'cloud': torch.as_tensor(clouds)})
    np.testing.assert_allclose(experts.features, features.numpy(), atol=1e-4)
    order = chance.permutation(POINTS)
    other = policy.experts(Observation(given.vector, {'cloud': clouds[:, :, order]}))
    np.testing.assert_allclose(other.mean, experts.mean, atol=1e-4)
    np.testing.assert_allclose(other.log_gating, experts.log_gating, atol=1e-4)


def test_a_cloud_without_the_ball_is_out_of_distribution(learned):
    _, path = learned
    policy = DistilledPolicy.load(path)
    far = np.full((1, 2, POINTS, 1, 3), 3000, dtype=np.int16)
    given = Observation(np.zeros((1, 2, 1)), {'cloud': far})
    assert policy.signals(given, policy.experts(given))['density'] < policy.calibration.threshold('density', 0.01)
