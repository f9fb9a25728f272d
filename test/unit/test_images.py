"""Images of contracts of version 3: pixels from the message to the window, equal by every path."""

from __future__ import annotations

import io
import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Pillow

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_making import write_rows
from vdd_ros.common.errors import ContractError, TrainingError
from vdd_ros.contract.contract import Contract
from vdd_ros.contract.features import Image
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.data.bag import bag_messages as messages
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.convert import convert
from vdd_ros.data.decode import pictures
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.frames import Picture
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.data.episode import Episode
from vdd_ros.data.lerobot.lerobot import export_episodes
from vdd_ros.data.lerobot.lerobot_import import import_dataset
from vdd_ros.data.windows import windows_of
from vdd_ros.policy.observation import Observation

JOINTS = ['a', 'b']
SECOND = 10**9
PERIOD = SECOND // 20
TICKS = 12


def contract(version: int = 3, horizon: int = 1, **image: Any) -> Contract:
    """Two joints and two cameras, absolute commands at 20 Hz."""
    size = {'height': 6, 'width': 8, 'color': 'rgb', **image}
    return Contract.model_validate(
        {
            'schema_version': version,
            'name': 'seeing',
            'robot': {'model': 'panda', 'tool': 'tool_point', 'joints': JOINTS},
            'topics': {'commands': 'commands'},
            'policy_rate': 20.0,
            'observation': [
                {'name': 'front', 'topic': 'front/image_raw', 'type': 'Image', 'image': size},
                {'name': 'measured', 'source': 'measured', 'space': 'joint'},
                {'name': 'wrist', 'topic': 'wrist/compressed', 'type': 'CompressedImage', 'image': size},
            ],
            'action': {'name': 'target', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
            'observation_horizon': horizon,
        }
    )


def picture(seed: int, height: int = 12, width: int = 16) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(pixels: np.ndarray) -> bytes:
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, 'PNG')
    return data.getvalue()


def rows() -> list[tuple[str, int, str, bytes]]:
    """Return the messages of one episode; both cameras show the same."""
    found = [('episode', SECOND, messages.MARK, messages.mark(SECOND, 'start', index=0))]
    for tick in range(TICKS):
        stamp = SECOND + tick * PERIOD
        pixels = picture(tick)
        found += [
            ('joint_states', stamp, messages.JOINT_STATE, messages.joint_state(stamp, JOINTS, [0.1 * tick, 1.0])),
            ('front/image_raw', stamp, messages.IMAGE, messages.image(stamp, pixels)),
            (
                'wrist/compressed',
                stamp,
                messages.COMPRESSED_IMAGE,
                messages.compressed_image(stamp, png(pixels), 'png'),
            ),
            ('commands', stamp + 1, messages.NUMBERS, messages.numbers([0.1 * tick + 0.1, 1.0])),
        ]
    end = SECOND + TICKS * PERIOD
    return [*found, ('episode', end, messages.MARK, messages.mark(end, 'end', index=0))]


@pytest.fixture(scope='module')
def episode(tmp_path_factory: pytest.TempPathFactory) -> Episode:
    """What a bag of these messages gives."""
    path = write_rows(tmp_path_factory.mktemp('seen') / 'bag', [(t, s, k, d) for t, s, k, d in rows()])
    report = ConversionReport()
    (found,) = convert(path, contract(), None, report)
    assert not [loss for loss in report.entries if loss.kind == 'message'], report.entries
    return found


def raw(pixels: np.ndarray, wanted: Image) -> np.ndarray:
    height, width, channels = pixels.shape
    encoding = {1: 'mono8', 3: 'rgb8'}[channels]
    return pictures.raw_image(
        pixels.ravel(), height, width, width * channels, encoding, False, wanted, pixels=True
    ).reshape(wanted.shape)


def test_an_image_is_beside_the_vector_only_since_version_3():
    seeing, older = contract(), contract(version=2)
    assert (seeing.observation_size, [item.name for item in seeing.images]) == (2, ['front', 'wrist'])
    assert (older.observation_size, older.images) == (2 + 2 * 6 * 8 * 3, ())


@pytest.mark.parametrize('image', [{'crop': [0, 0, 1, 0.5]}, {'resize': 'cover'}, {'height': 300}])
def test_what_came_with_version_3_is_refused_before(image):
    contract(**image)
    with pytest.raises(ValueError, match='version 3'):
        contract(version=2, **image)


def test_new_keys_leave_the_hash_of_older_contracts_alone():
    """The hash of a contract of version 2 with an image, as it was computed before there was a version 3."""
    assert contract(version=2).hash == _HASH_OF_VERSION_2


def test_an_observation_of_images_alone_is_refused():
    values = contract().model_dump(mode='json')
    values['observation'] = [item for item in values['observation'] if 'topic' in item]
    with pytest.raises(ValueError, match='add the measured joints'):
        Contract.model_validate(values)


@pytest.mark.parametrize(
    ('image', 'part'),
    [
        ({}, (slice(0, 12), slice(0, 16))),
        ({'crop': [0.5, 0.25, 0.5, 0.5]}, (slice(6, 12), slice(4, 12))),
        ({'resize': 'cover', 'height': 6, 'width': 6}, (slice(0, 12), slice(2, 14))),
        ({'resize': 'cover', 'height': 3, 'width': 8}, (slice(3, 9), slice(0, 16))),
    ],
    ids=str,
)
def test_the_part_of_an_image_that_is_wanted_is_averaged(image, part):
    wanted = Image(**{'height': 6, 'width': 8, 'color': 'rgb', **image})
    pixels = picture(1)
    cut = pixels[part].astype(np.float64)
    share = cut.shape[0] // wanted.height, cut.shape[1] // wanted.width
    mean = cut.reshape(wanted.height, share[0], wanted.width, share[1], 3).mean(axis=(1, 3))
    np.testing.assert_allclose(raw(pixels, wanted), mean, atol=0.51)
    assert raw(pixels, wanted).dtype == np.uint8


def test_depth_is_whole_millimetres_and_unknown_is_zero():
    depth = np.array([[1.0, 3.0], [np.nan, 2.0], [np.nan, np.nan], [100.0, 100.0]], dtype=np.float32)
    wanted = Image(height=4, width=1, color='depth')
    data = depth.view(np.uint8).ravel()
    found = pictures.raw_image(data, 4, 2, 8, '32FC1', False, wanted, pixels=True)
    assert found.dtype == np.int16
    assert found.tolist() == [2000, 2000, 0, 32767]


def test_a_large_jpeg_is_reduced_as_the_whole_of_it():
    """By fewer coefficients: as near as the same picture reduced after it was decoded in full."""
    smooth = np.linspace(0, 255, 640)[None, :, None] * np.ones((480, 1, 3))
    pixels = smooth.astype(np.uint8)
    data = io.BytesIO()
    Pillow.fromarray(pixels).save(data, 'JPEG', quality=95)
    wanted = Image(height=96, width=96, color='rgb', crop=(0.0, 0.125, 1.0, 0.75))
    found = pictures.compressed_image(data.getvalue(), 'jpeg', wanted, pixels=True).reshape(wanted.shape)
    assert np.abs(found.astype(int) - raw(pixels, wanted)).max() <= 3


def test_a_bag_gives_equal_bytes_of_raw_and_compressed_images(episode):
    assert episode.observation.shape == (TICKS, 2)
    for tick in range(TICKS):
        expected = raw(picture(tick), contract().images[0].image)
        for name in ('front', 'wrist'):
            assert episode.images[name].rows[tick].tobytes() == expected.tobytes()


def test_an_episode_of_another_process_has_the_same_images(episode):
    """Labels and images are read-only by default, in a form that pickle refuses."""
    found = pickle.loads(pickle.dumps([episode, Episode(np.zeros((2, 1)), np.zeros((2, 1)))]))
    assert [each.labels for each in found] == [dict(episode.labels), {}] and not found[1].images
    for name, frames in episode.images.items():
        assert np.array_equal(found[0].images[name].rows, frames.rows)


def test_live_topics_give_the_bytes_of_the_bag(episode):
    live = LiveStreams(contract(), lambda topic: (standard(), False), arm=True)
    waiting = rows()
    live.begin(SECOND)
    for number, tick in enumerate(episode.stamps.tolist()):
        while waiting and waiting[0][1] <= tick:
            topic, stamp, _, data = waiting.pop(0)
            if topic in live.topics:
                live.take(topic, stamp, data)
        found, stale = live.observation(tick, None)
        assert isinstance(found, Observation) and not stale
        for name in ('front', 'wrist'):
            assert found.images[name].tobytes() == episode.images[name].rows[number].tobytes()
        assert found.vector.tobytes() == episode.observation[number].tobytes()


def test_a_live_image_waits_until_a_plan_needs_it():
    live = LiveStreams(contract(), lambda topic: (standard(), False))
    for topic, stamp, _, data in rows():
        if topic in live.topics:
            live.take(topic, stamp, data)
    tick = SECOND + 5 * PERIOD
    shown = live.at(tick).values['wrist']
    assert isinstance(shown, Picture) and shown.waits
    interface = PolicyInterface(contract(), None)
    interface.anchor(np.zeros(2))
    interface.note(np.zeros(2), live.at(tick).values)
    assert shown.waits
    window = interface.window()
    assert not shown.waits
    assert window.images['wrist'][0].tobytes() == raw(picture(5), contract().images[0].image).tobytes()
    assert live.at(SECOND - 1).stale == ('front', 'wrist')


def test_a_lossless_dataset_gives_the_bytes_back(episode, tmp_path):
    export_episodes([episode], contract(), tmp_path / 'dataset')
    imported = import_dataset(tmp_path / 'dataset', tmp_path / 'bag')
    values = contract().model_dump(mode='json')
    values['robot']['joints'] = ['a', 'b']
    values['observation'][2] |= {'topic': 'wrist/image_raw', 'type': 'sensor_msgs/msg/Image'}
    (found,) = convert(imported.bag, Contract.model_validate(values), None, ConversionReport())
    for name in ('front', 'wrist'):
        given, back = (each.images[name].rows for each in (episode, found))
        assert [row.tobytes() for row in back] == [row.tobytes() for row in given]


def test_windows_are_indices_into_the_images(episode):
    windows = windows_of([episode, episode], contract(horizon=2))
    front = windows.images['front']
    assert front.shape == (2 * TICKS, 2, 6 * 8 * 3)
    assert front.rows.parts[0].rows[3] is episode.images['front'].rows[3]
    assert front.places[[0, 1, TICKS]].tolist() == [[0, 0], [0, 1], [TICKS, TICKS]]
    assert windows[np.array([4])].images['wrist'].places.tolist() == [[3, 4]]


def test_an_episode_without_the_images_of_its_contract_is_refused(episode):
    bare = Episode(episode.observation, episode.action)
    with pytest.raises(TrainingError, match=r"images .*'front'"):
        windows_of([bare], contract())


class _Counted:
    """Pixels that count how often they were asked for."""

    def __init__(self, value: int | None) -> None:
        self.value, self.asked = value, 0

    def array(self) -> np.ndarray | None:
        self.asked += 1
        return None if self.value is None else np.full(6 * 8 * 3, self.value, dtype=np.uint8)


def _noted(values: list[int | None]) -> tuple[PolicyInterface, list[_Counted]]:
    interface = PolicyInterface(contract(horizon=2), None)
    interface.anchor(np.zeros(2))
    shown = [_Counted(value) for value in values]
    for item in shown:
        interface.note(np.zeros(2), {'front': item, 'wrist': np.zeros(6 * 8 * 3, dtype=np.uint8)})
    return interface, shown


def test_only_the_images_of_the_window_are_decoded():
    interface, shown = _noted([1, 2, 3, 4])
    assert [item.asked for item in shown] == [0, 0, 0, 0]
    window = interface.window()
    assert [item.asked for item in shown] == [0, 0, 1, 1]
    assert window.images['front'][:, 0, 0, 0].tolist() == [3, 4]
    assert window.images['front'].shape == (2, 6, 8, 3)


def test_the_image_before_stands_for_one_that_cannot_be_decoded():
    assert _noted([3, None])[0].window().images['front'][:, 0, 0, 0].tolist() == [3, 3]
    assert _noted([3, None, 5])[0].window().images['front'][:, 0, 0, 0].tolist() == [5, 5]
    with pytest.raises(ContractError, match='front that can be decoded'):
        _noted([None, None])[0].window()


_HASH_OF_VERSION_2 = '7a261cf8bd5b757653865b730251db5e105c6cb2a04798538029639fc06550da'
