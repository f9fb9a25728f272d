"""Encoders of images: closed forms, published weights, crops, and one network from pixels to experts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from vdd_ros.common.errors import ArtifactError, ConfigurationError, ContractError
from vdd_ros.contract.contract import Contract
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.episode import Episode
from vdd_ros.data.windows import Demonstrations, observed
from vdd_ros.learning.draws import Draws
from vdd_ros.learning.export import ExportedGroupNorm
from vdd_ros.learning.image_windows import ImageWindows, Seeing
from vdd_ros.learning.jobs import distill, evaluate, restored_student, restored_teacher, shape_of, train_teacher
from vdd_ros.learning.learning_settings import LearningSettings, load_settings, preset
from vdd_ros.learning.networks import ImageShape
from vdd_ros.learning.observation import SeenWindows
from vdd_ros.learning.vision import ResNet18, SpatialSoftmax, VisionEncoder, VisionSettings, central, jittered
from vdd_ros.policy.artifact import load_artifact
from vdd_ros.policy.observation import Observation
from vdd_ros.policy.policy import DistilledPolicy, TeacherPolicy

SIZE, SEEN = 24, 18
LIGHT = VisionSettings(encoder='light', keypoints=4, features=6, crop=0.75, jitter=0.0)


def contract(*cameras: str) -> Contract:
    """One joint and cameras, chunks of two actions."""
    image = {'height': SIZE, 'width': SIZE, 'color': 'rgb'}
    seen = [{'name': name, 'topic': f'{name}/image_raw', 'type': 'Image', 'image': image} for name in cameras]
    seen += [{'name': 'depth', 'topic': 'depth/image_raw', 'type': 'Image', 'image': {**image, 'color': 'depth'}}]
    return Contract.model_validate(
        {
            'schema_version': 3,
            'name': 'seeing',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': ['a']},
            'policy_rate': 10.0,
            'observation': [{'name': 'measured', 'source': 'measured', 'space': 'joint'}, *seen],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
            'observation_horizon': 2,
            'prediction_horizon': 2,
        }
    )


CONTRACT = contract('front')
BRIEF = ('distillation.iterations=5',)


def episodes(count: int = 40, length: int = 6) -> list[Episode]:
    """Return episodes in which a bright column shows where to go: the joint itself does not."""
    chance, found = np.random.default_rng(0), []
    for _ in range(count):
        place = chance.integers(2, SIZE - 2)
        pixels = chance.integers(0, 30, (length, SIZE, SIZE, 3), dtype=np.uint8)
        pixels[:, :, place - 1 : place + 2] += 200
        depth = np.full((length, SIZE * SIZE), 900, dtype=np.int16)
        images = {
            'front': Frames([row.ravel() for row in pixels], 3 * SIZE**2),
            'depth': Frames([*depth], SIZE**2),
        }
        action = np.full((length, 1), place / SIZE) + 0.01 * chance.normal(size=(length, 1))
        found.append(Episode(chance.normal(size=(length, 1)), action, images=images))
    return found


def settings(encoder: str = 'teacher') -> LearningSettings:
    """Return settings that learn the column within a second."""
    return load_settings('learning_images').changed(
        [
            *(
                'precision=full',
                'threads=1',
                'teacher.trunk.kind=mlp',
                'teacher.trunk.width=64',
                'start=demonstrations',
            ),
            *('teacher.vision.encoder=light', 'teacher.vision.keypoints=4', 'teacher.vision.features=6'),
            *('teacher.vision.crop=0.9', 'teacher_training.iterations=60', 'teacher_training.batch=16'),
            *('teacher_training.descent.learning_rate=0.01', 'teacher.calls=4', 'student.trunk.width=32'),
            *('student.experts=2', 'student.vision.keypoints=4', 'student.vision.features=6'),
            *(f'student.encoder={encoder}', 'distillation.iterations=200', 'distillation.batch=32'),
            *('distillation.labels.per_window=2', 'distillation.descent.learning_rate=0.01', 'student_ema=0.9'),
        ]
    )


@pytest.fixture(scope='module')
def demonstrations() -> Demonstrations:
    """What the policies of this file learn from."""
    return Demonstrations.from_episodes(episodes(), CONTRACT, held_out=0.25)


@pytest.fixture(scope='module')
def teacher(demonstrations: Demonstrations, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a trained teacher."""
    path = tmp_path_factory.mktemp('vision') / 'teacher'
    train_teacher(demonstrations, path, settings())
    return path


@pytest.fixture(scope='module')
def student(demonstrations: Demonstrations, teacher, tmp_path_factory: pytest.TempPathFactory):
    """The folder of a student that keeps the teacher's encoder."""
    path = tmp_path_factory.mktemp('vision') / 'student'
    distill(demonstrations, teacher, path, settings())
    return path


def window(batch: int = 3) -> Observation:
    chance = np.random.default_rng(1)
    return Observation(
        chance.normal(size=(batch, 2, 1)),
        {
            'front': chance.integers(0, 256, (batch, 2, SIZE, SIZE, 3), dtype=np.uint8),
            'depth': chance.integers(0, 3000, (batch, 2, SIZE, SIZE, 1), dtype=np.int16),
        },
    )


def test_the_spatial_softmax_finds_where_a_map_is_highest():
    softmax = SpatialSoftmax(2, 2)
    with torch.no_grad():
        softmax.score.weight.copy_(torch.eye(2)[..., None, None])
        softmax.score.bias.zero_()
    maps = torch.zeros(1, 2, 5, 9)
    maps[0, 0, 1, 8] = maps[0, 1, 4, 2] = 50.0
    torch.testing.assert_close(softmax(maps), torch.tensor([[-0.5, 1.0, 1.0, -0.5]]))


def published(channels: int = 3) -> dict[str, torch.Tensor]:
    """Return weights by the names of torchvision and timm, with what this network has no place for."""
    torch.manual_seed(3)
    state = {name: torch.randn_like(value) for name, value in ResNet18(channels).state_dict().items()}
    norms = [name.removesuffix('.weight') for name in state if 'bn' in name and name.endswith('weight')]
    extra = {f'{name}.running_mean': torch.zeros(1) for name in norms}
    return {**state, **extra, 'fc.weight': torch.zeros(1000, 512), 'fc.bias': torch.zeros(1000)}


def test_the_names_of_resnet_18_are_those_of_torchvision():
    """Its convolutions and norms, in the order of the forward pass, as `torchvision.models.resnet18` lists them."""
    names = [name for name in ResNet18(3).state_dict() if name.endswith('weight')]
    assert names[:2] == ['conv1.weight', 'bn1.weight']
    assert {'layer1.1.conv2.weight', 'layer2.0.downsample.0.weight', 'layer4.1.bn2.weight'} <= set(names)
    assert (len(names), sum(value.numel() for value in ResNet18(3).parameters())) == (40, 11_176_512)


@pytest.mark.parametrize('ending', ['safetensors', 'pt'])
def test_published_weights_are_taken_over(tmp_path, ending):
    file, given = tmp_path / f'weights.{ending}', published()
    save_file(given, file) if ending == 'safetensors' else torch.save({'state_dict': given}, file)
    network, gray = ResNet18(3), ResNet18(1)
    network.load(file)
    gray.load(file)
    assert all(torch.equal(value, given[name]) for name, value in network.state_dict().items())
    torch.testing.assert_close(gray.conv1.weight, given['conv1.weight'].mean(dim=1, keepdim=True))


def test_weights_of_another_network_are_refused(tmp_path):
    given = published()
    del given['layer3.0.conv1.weight']
    save_file(given, tmp_path / 'weights.safetensors')
    with pytest.raises(ConfigurationError, match=r'layer3.0.conv1.weight'):
        ResNet18(3).load(tmp_path / 'weights.safetensors')
    with pytest.raises(ConfigurationError, match='a file of weights'):
        ResNet18(3).load(tmp_path / 'absent.pt')


def test_a_whole_image_and_its_central_part_have_the_same_features():
    vision = VisionEncoder(LIGHT, shape_of(CONTRACT).images)
    images = {name: torch.as_tensor(held) for name, held in window().images.items()}
    cut = {name: central(image, (SEEN, SEEN)) for name, image in images.items()}
    assert cut['front'].shape == (3, 2, SEEN, SEEN, 3)
    torch.testing.assert_close(vision.encode(images), vision.encode(cut), rtol=0, atol=0)


def test_a_shared_encoder_has_the_weights_of_one():
    images = tuple(ImageShape(name, 8, 8, 3) for name in 'ab')
    one, two = (VisionEncoder(LIGHT.model_copy(update={'shared': shared}), images) for shared in (True, False))
    count = [sum(value.numel() for value in each.parameters()) for each in (one, two)]
    assert count[1] == 2 * count[0]


def test_jitter_leaves_gray_gray_and_nothing_alone_without_strength():
    pixels = torch.full((4, 2, 3, 3, 3), 100, dtype=torch.uint8)
    draws = Draws(torch.Generator().manual_seed(0))
    assert torch.equal(jittered(pixels, 0.0, draws), pixels)
    varied = jittered(pixels, 0.5, draws)
    assert (varied == varied[..., :1]).all() and len(varied[:, 0, 0, 0, 0].unique()) == 4
    assert varied.min() >= 50 and varied.max() <= 150


def test_crops_are_parts_of_the_image_and_equal_in_a_window(demonstrations):
    images = ImageWindows(demonstrations.train.images, shape_of(CONTRACT).images, LIGHT)
    index = torch.arange(50)
    whole = np.asarray(demonstrations.train.images['front'][np.arange(50)])  # as shares of full brightness
    whole = torch.as_tensor(np.rint(255 * whole)).reshape(50, 2, SIZE, SIZE, 3)
    seen = images.draw(index, torch.Generator().manual_seed(0))['front']
    assert seen.shape == (50, 2, SEEN, SEEN, 3)
    room = range(SIZE - SEEN + 1)
    places = set()
    for number in range(50):
        options = [(r, c) for r in room for c in room]
        cut = [whole[number, :, r : r + SEEN, c : c + SEEN] for r, c in options]
        fitting = [place for place, part in zip(options, cut) if torch.equal(part.to(torch.uint8), seen[number])]
        assert len(fitting) == 1
        places.add(fitting[0])
    assert len(places) > 20


def test_features_are_those_of_the_encoder(demonstrations):
    vision = VisionEncoder(LIGHT, shape_of(CONTRACT).images)
    images = ImageWindows(demonstrations.train.images, vision.images, LIGHT)
    index = torch.arange(10)
    with torch.no_grad():
        expected = vision.encode(images.draw(index, None))
    torch.testing.assert_close(images.encoded(vision, None).draw(index, None), expected)


def test_images_that_are_too_many_for_the_device_are_read_for_each_batch(demonstrations):
    given = demonstrations.train.images, shape_of(CONTRACT).images, LIGHT
    index = torch.tensor([3, 3, 0, 90])
    held, mapped = (ImageWindows(*given, room=room).draw(index, torch.Generator().manual_seed(0)) for room in (None, 0))
    assert all(torch.equal(held[name], mapped[name]) for name in held)


def test_images_have_settings_of_their_own():
    assert preset(CONTRACT) == 'learning_images'
    assert settings().augmentation.displacement == 0


def test_a_policy_acts_by_what_it_sees(student, demonstrations):
    """The column is in the image alone: who does not see it is wrong by a standard deviation, about a quarter."""
    policy = DistilledPolicy.load(student)
    held_out = demonstrations.held_out
    found = policy.act(observed(held_out, slice(None), CONTRACT))
    error = np.abs(found - held_out.action).mean()
    assert error < 0.15 < np.abs(held_out.action - demonstrations.train.action.mean()).mean()


def test_the_exported_student_is_the_trained_one(student):
    policy, network = DistilledPolicy.load(student), restored_student(load_artifact(student))
    given = window()
    experts = policy.experts(given)
    seeing = Seeing(network.vision, load_artifact(student).manifest.normalizers.observation, torch.device('cpu'))
    with torch.no_grad():
        mixture = network(seeing(given))
    normalizer = load_artifact(student).manifest.normalizers.action
    mean = normalizer.denormalize(mixture.mean.numpy().reshape(3, -1, 2, 1))
    np.testing.assert_allclose(experts.mean, mean, atol=2e-4)
    np.testing.assert_allclose(experts.log_gating, mixture.log_gating.numpy(), atol=2e-4)
    one = policy.experts(given[1:2])
    np.testing.assert_allclose(one.mean, experts.mean[1:2], atol=1e-5)


def test_a_group_normalisation_for_export_equals_the_trained_one():
    """Shape and weights as in a network: scales and shifts of each channel, groups of several channels."""
    norm = torch.nn.GroupNorm(3, 12)
    with torch.no_grad():
        norm.weight.uniform_(0.5, 2.0)
        norm.bias.normal_()
    maps = 3 + 2 * torch.randn(2, 12, 5, 7)
    with torch.no_grad():
        torch.testing.assert_close(ExportedGroupNorm(norm)(maps), norm(maps), atol=1e-5, rtol=1e-5)


def test_the_exported_teacher_encodes_a_window_once(teacher):
    policy, network = TeacherPolicy.load(teacher), restored_teacher(load_artifact(teacher))
    given = window()
    seeing = Seeing(network.vision, load_artifact(teacher).manifest.normalizers.observation, torch.device('cpu'))
    inputs = {'observation': given.vector.astype(np.float32), **{f'image_{k}': v for k, v in given.images.items()}}
    with torch.no_grad():
        expected = network.denoiser.encode(seeing(given)).flatten(start_dim=1)
    np.testing.assert_allclose(policy._encoder(inputs)[0], expected.numpy(), atol=2e-4)
    assert 'image_front' not in policy._network.inputs
    assert policy.act(given, np.random.default_rng(0)).shape == (3, 2, 1)


def test_a_covered_lens_is_out_of_distribution(student, demonstrations):
    policy = DistilledPolicy.load(student)
    threshold = policy.calibration.threshold('density', 0.01)
    covered = Observation(
        np.zeros((1, 2, 1)),
        {'front': np.zeros((1, 2, SIZE, SIZE, 3), np.uint8), 'depth': np.full((1, 2, SIZE, SIZE, 1), 900, np.int16)},
    )
    assert policy.signals(covered, policy.experts(covered))['density'] < threshold


def test_a_kept_encoder_is_the_teachers_and_a_finetuned_one_is_not(student, teacher, demonstrations, tmp_path):
    given = restored_teacher(load_artifact(teacher)).vision.state_dict()
    kept = restored_student(load_artifact(student)).vision.state_dict()
    assert all(torch.equal(value, given[name]) for name, value in kept.items())
    distill(demonstrations, teacher, tmp_path / 'tuned', settings('finetuned').changed(BRIEF))
    tuned = restored_student(load_artifact(tmp_path / 'tuned')).vision.state_dict()
    assert not torch.equal(tuned['encoders.0.features.weight'], given['encoders.0.features.weight'])


def test_a_student_may_have_an_encoder_of_its_own(teacher, demonstrations, tmp_path):
    distill(demonstrations, teacher, tmp_path / 'own', settings('own').changed(BRIEF))
    artifact = load_artifact(tmp_path / 'own')
    assert artifact.manifest.network['vision']['crop'] == 0.9
    assert np.isfinite(evaluate(artifact, demonstrations.held_out)['held_out_log_likelihood'])
    assert DistilledPolicy.load(tmp_path / 'own').act(window()).shape == (3, 2, 1)


def test_images_that_are_not_those_of_the_contract_are_refused(student):
    policy = DistilledPolicy.load(student)
    with pytest.raises(ContractError, match='images of the shapes'):
        policy.act(window().vector)
    wrong = window()
    images = {**wrong.images, 'front': wrong.images['front'][:, :, :5]}
    with pytest.raises(ContractError, match='images of the shapes'):
        policy.act(Observation(wrong.vector, images))


def test_an_artifact_of_a_contract_without_the_image_does_not_load(student):
    with pytest.raises(ArtifactError, match='an artifact of contract'):
        DistilledPolicy.load(student, contract=contract('front', 'wrist'))


def test_windows_of_numbers_and_images_are_indexed_together():
    seen = SeenWindows(torch.arange(6.0).reshape(3, 2, 1), {'a': torch.arange(3)})
    assert (len(seen[1:]), seen[1:].images['a'].tolist()) == (2, [1, 2])
