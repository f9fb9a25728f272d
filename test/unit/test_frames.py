"""Pictures that are held compactly read as the arrays that they stand for."""

from __future__ import annotations

import io
import pickle
import tracemalloc
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow
from ros_messages import SECOND, header, make, mark, write_bag
from test_convert import contract, stretch

from vdd_ros.common.errors import BagError, TrainingError
from vdd_ros.contract.features import Alignment
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded
from vdd_ros.data.decode.frames import Frames, Picture, Rows, RowWindows, joined, real
from vdd_ros.data.decode.resample import aligned, aligned_frames
from vdd_ros.data.decode.serialized import Undecodable
from vdd_ros.data.recording import Track
from vdd_ros.data.windows import windows_of
from vdd_ros.learning.row_windows import NormalizedRowWindows
from vdd_ros.policy.normalization import Normalizer

CHANCE = np.random.default_rng(0)
NUMBERS = CHANCE.normal(size=(5, 2))
EIGHT, SIXTEEN = (CHANCE.integers(0, np.iinfo(kind).max, (5, 3)).astype(kind) for kind in ('u1', 'u2'))
DEPTH = CHANCE.normal(size=(5, 4)).astype(np.float32)
ROWS = Rows([NUMBERS, Frames(EIGHT, 3), NUMBERS[:, :1], Frames([*SIXTEEN[:2], *EIGHT[2:]], 3), Frames(DEPTH, 4)])
DENSE = np.hstack([NUMBERS, EIGHT / 255, NUMBERS[:, :1], SIXTEEN / 65535, DEPTH])
DENSE[2:, 6:9] = EIGHT[2:] / 255


@pytest.mark.parametrize(
    'key',
    [
        *(0, -1, 4, slice(1, 4), slice(None, None, 2), [3, 0, 3], np.array([[0, 1], [4, 4]]), np.array([], dtype=int)),
        *((2, 5), (slice(None), slice(1, 7)), (slice(1, 3), [0, 8, 4]), (Ellipsis, 3), (slice(None), DENSE[0] > 0)),
        *(([1, 2], slice(None)), ([1, 2], 5), (slice(2, 2), slice(None)), (slice(None, None, 2), slice(0, 3)), (3,)),
        DENSE[:, 0] > 0,
    ],
    ids=str,
)
def test_rows_give_what_an_array_gives(key):
    found, expected = ROWS[key], DENSE[key]
    assert found.shape == expected.shape
    np.testing.assert_array_equal(np.asarray(found), expected)


def test_rows_are_as_an_array_as_a_whole():
    assert (ROWS.shape, ROWS.ndim, ROWS.size, len(ROWS), ROWS.dtype) == ((5, 13), 2, 65, 5, DENSE.dtype)
    np.testing.assert_array_equal(ROWS, DENSE)
    np.testing.assert_array_equal([*ROWS], DENSE)
    np.testing.assert_array_equal(ROWS - DENSE[0], DENSE - DENSE[0])
    assert ROWS.tobytes() == DENSE.tobytes() and pickle.loads(pickle.dumps(ROWS)).tobytes() == DENSE.tobytes()
    for wrong in ((slice(None), 0, 0), ([0, 1], [0, 1]), ([0, 1], np.array([0, 1])), 9, (0, 99)):
        with pytest.raises(IndexError):
            ROWS[wrong]


PLACES = np.array([[0, 0], [0, 1], [1, 2], [2, 3], [3, 4]])


@pytest.mark.parametrize(
    'key', [0, slice(1, 3), [4, 0], (slice(None), -1), (2, 1), (slice(None), 0, slice(2, 9)), (1, 1, 3), (Ellipsis,)]
)
def test_windows_of_rows_give_what_an_array_gives(key):
    windows, dense = RowWindows(ROWS, PLACES), DENSE[PLACES]
    assert (windows.shape, windows.ndim, len(windows), windows.dtype) == (dense.shape, 3, 5, dense.dtype)
    assert windows[key].shape == dense[key].shape
    np.testing.assert_array_equal(np.asarray(windows[key]), dense[key])
    both = RowWindows.joined([windows, windows[1:3]])
    np.testing.assert_array_equal(both - DENSE[0], np.concatenate([dense, dense[1:3]]) - DENSE[0])


def test_a_normalizer_of_rows_is_that_of_their_numbers():
    found, expected = (Normalizer.fit(values) for values in (RowWindows(ROWS, PLACES)[:, -1], DENSE[PLACES[:, -1]]))
    np.testing.assert_allclose(found.offset, expected.offset, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.scale, expected.scale, rtol=1e-12)
    depth = DEPTH.copy()
    depth[3, 2] = np.inf
    with pytest.raises(TrainingError, match='NaN or infinity'), np.errstate(invalid='ignore'):
        Normalizer.fit(Rows([NUMBERS, Frames(depth, 4)]))


@pytest.mark.parametrize('index', [torch.tensor([4, 0, 0]), slice(1, 3)])
def test_windows_on_a_device_hold_each_image_once_and_give_the_normalised_numbers(index):
    shared = [SIXTEEN[0], SIXTEEN[0], SIXTEEN[1], SIXTEEN[0], SIXTEEN[1]]
    rows = Rows([*ROWS.parts, Frames(shared, 3), Frames([*EIGHT[:4], np.full(3, 0.5)], 3)])
    windows = RowWindows(rows, PLACES)
    normalizer = Normalizer.fit(windows[:, -1])
    found = NormalizedRowWindows(windows, normalizer)
    expected = normalizer.normalize(np.asarray(windows))
    assert found.shape == expected.shape and len(found) == len(expected)
    np.testing.assert_allclose(found[index].numpy(), torch.as_tensor(expected)[index], rtol=1e-5, atol=1e-5)


def test_what_is_not_finite_is_found_by_row_and_column():
    assert ROWS.strange() is None
    numbers, depth = NUMBERS.copy(), DEPTH.copy()
    depth[3, 2] = np.inf
    assert Rows([NUMBERS, Frames(EIGHT, 3), Frames(depth, 4)]).strange() == (3, 7)
    numbers[1, 1] = np.nan
    assert Rows([numbers, Frames(depth, 4)]).strange() == (1, 1)


def test_shares_of_eight_and_of_sixteen_bits_are_joined_as_the_numbers_that_they_are():
    np.testing.assert_array_equal(real(joined([EIGHT, SIXTEEN])), np.vstack([EIGHT / 255, SIXTEEN / 65535]))
    assert joined([EIGHT, EIGHT]).dtype == np.uint8


ALIGNMENTS = [
    Alignment(),
    Alignment(max_age=2e-9, latency=1e-9),
    Alignment(method='nearest', tolerance=3e-9, delay=2e-9),
    Alignment(method='interpolate', delay=3e-9, max_age=9e-9),
]


@given(st.lists(st.integers(0, 40), max_size=9), st.lists(st.integers(0, 60), min_size=1, max_size=9))
@pytest.mark.parametrize('alignment', ALIGNMENTS, ids=str)
def test_images_are_aligned_as_their_numbers_are(alignment, stamps, ticks):
    stamps, ticks = np.sort(np.array(stamps, dtype=np.int64)), np.array(ticks, dtype=np.int64)
    pictures = np.random.default_rng(0).integers(0, 255, (len(stamps), 3)).astype(np.uint8)
    expected, stale = aligned(stamps, pictures / 255, ticks, alignment)
    found, missing = aligned_frames(stamps, Frames(pictures, 3), ticks, alignment)
    np.testing.assert_array_equal(missing, stale)
    assert np.asarray(Rows([found])).tobytes() == expected.tobytes()


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30), st.sets(st.integers(0, 29)))
@pytest.mark.parametrize('pictures', [False, True])
def test_a_stream_is_in_the_order_of_stamps_then_of_arrival_however_often_it_is_looked_at(pictures, pairs, looks):
    track, whole = Track('it', 1, pictures=pictures), []
    for number, (stamp, received) in enumerate(pairs):
        part = Decoded(np.array([stamp]), np.array([received]), np.array([[number]], dtype=np.uint8))
        track.add(part, ConversionReport())
        whole.append((stamp, received, number))
        if number in looks:
            track.stream()
    stream, expected = track.stream(), sorted(whole, key=lambda item: item[:2])
    values = np.asarray(Rows([stream.values]))[:, 0] if pairs else []
    assert [*zip(stream.stamps.tolist(), stream.received.tolist())] == [item[:2] for item in expected]
    np.testing.assert_array_equal(values, [item[2] / 255 for item in expected])


def camera(stamp: int, number: int) -> tuple:
    """Make a picture that nobody has made before."""
    pixels = np.random.default_rng(number).integers(0, 256, (48, 64 * 3), dtype=np.uint8)
    return ('/camera', stamp, make('sensor_msgs/msg/Image', header(stamp), 48, 64, 'rgb8', 0, 192, pixels.ravel()))


CAMERA = {'name': 'camera', 'topic': 'camera', 'type': 'Image', 'image': {'height': 24, 'width': 64, 'color': 'rgb'}}


def test_an_episode_with_images_takes_a_fraction_of_its_dense_numbers(tmp_path):
    seconds = 10
    rows = [*stretch(0, seconds), *(camera(SECOND * number // 10, number) for number in range(10 * seconds))]
    rows += [('/episode', 0, mark(0, 'start')), ('/episode', seconds * SECOND, mark(seconds * SECOND, 'end'))]
    path = write_bag(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    bound = contract(policy_rate=100.0, observation=[*contract().model_dump(mode='json')['observation'], CAMERA])
    for held in (8 << 20, 1 << 16):
        report = ConversionReport()
        tracemalloc.start()
        (episode,) = convert(path, bound, None, report, held=held)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(episode) == 100 * seconds and not report.entries
        assert peak < episode.observation.size * 8 / 3
        frames = episode.observation.parts[-1]
        assert len({id(row) for row in frames.rows}) == 10 * seconds  # a picture that stands at ten ticks is held once
        for tick in (0, 1, 77, 999):
            pixels = np.random.default_rng(tick // 10).integers(0, 256, (24, 2, 64, 3), dtype=np.uint8)
            expected = pixels.mean(axis=1).ravel() / 255
            np.testing.assert_allclose(episode.observation[tick][4:], expected, atol=0.51 / 65535)
    tracemalloc.start()
    windows = windows_of([episode, episode], bound).observation
    normalizer = Normalizer.fit(windows[:, -1])
    drawn = NormalizedRowWindows(windows, normalizer)[:7]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < windows.rows.size * 8 / 3  # twice as much as the episode, and as often as the horizon in each window
    np.testing.assert_array_equal(windows[1000:, -1], episode.observation)
    np.testing.assert_allclose(drawn, normalizer.normalize(np.asarray(windows[:7])), rtol=1e-4, atol=1e-4)


def jpeg(stamp: int, number: int, *, whole: bool = True) -> tuple:
    """Make a JPEG of one grey, whose level tells which it is; or what is none."""
    data = io.BytesIO()
    noise = np.random.default_rng(number).integers(0, 9, (48, 64), dtype=np.uint8)
    Pillow.fromarray(noise + np.uint8(number)).save(data, 'JPEG', quality=95)
    content = np.frombuffer(data.getvalue() if whole else bytes(9000), dtype=np.uint8)
    message = make('sensor_msgs/msg/CompressedImage', header(stamp), 'mono8; jpeg compressed', content)
    return ('/camera', stamp, message)


SEEN = {'name': 'camera', 'topic': 'camera', 'type': 'CompressedImage', 'stamp': 'header'}
SEEN |= {'image': {'height': 1, 'width': 1, 'color': 'gray'}}
SIGNAL = {'topic': 'flag', 'type': 'Bool'}
RULES = {
    'marks': {'by': 'marks'},
    'topic': {'by': 'topic', 'signal': SIGNAL},
    'button': {'by': 'button', 'signal': SIGNAL},
    'gaps': {'by': 'gaps', 'gap': 0.5},
    'motion': {'by': 'motion', 'speed': 0.1, 'rest': 0.5},
    'bag': {'by': 'bag'},
}
BROKEN = (4, 33, 34, 35, 67)
"""Pictures that are damaged. Ticks of 10 Hz need every third of 30 Hz: those that leave no rest by 3, of the first."""


@pytest.mark.parametrize('by', RULES)
def test_only_images_that_a_tick_needs_are_decoded_and_a_damaged_one_counts_as_if_it_never_came(tmp_path, by):
    rows = [*stretch(0, 3), *stretch(4 * SECOND, 3)]
    rows += [jpeg(SECOND * number // 30, number, whole=number not in BROKEN) for number in range(90)]
    rows += [jpeg(4 * SECOND + SECOND * number // 30, 100 + number) for number in range(90)]
    flag = 'std_msgs/msg/Bool'
    for at, end in ((0, 3 * SECOND), (4 * SECOND, 7 * SECOND)):
        rows += [('/episode', at, mark(at, 'start', index=str(at))), ('/episode', end, mark(end, 'end', index=str(at)))]
        presses = ((at, True), (end, False)) if by == 'topic' else ((at, 1), (at + 1, 0), (end, 1), (end + 1, 0))
        rows += [('/flag', stamp, make(flag, bool(value))) for stamp, value in presses]
    # What is said at the end moves the ticks of the second episode, of which other pictures were needed till then.
    trim = mark(7 * SECOND, 'trim', index=str(4 * SECOND), begin='0.35', end='0')
    rows += [('/episode', 7 * SECOND + 2, trim)]
    path = write_bag(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    bound = contract(policy_rate=10.0, episodes=RULES[by], observation=[*joints(), SEEN])
    found, dropped = [], []
    for waiting in (0, 4000, 1 << 26):
        report = ConversionReport()
        found.append([*convert(path, bound, None, report, waiting=waiting)])
        assert all(isinstance(row, np.ndarray) for item in found[-1] for row in item.observation.parts[-1].rows)
        dropped.append(report.dropped('message'))
        assert report.read['/camera'] == 180 - dropped[-1]
        # A tick that found the first damaged picture needs the one before.
        assert {item.why.partition(':')[0] for item in report.entries if item.kind == 'message'} <= {'no JPEG or PNG'}
    assert dropped[0] == len(BROKEN) and dropped[-1] == 1  # of 33, 34 and 35 the first is needed, the others are not
    for other in found[1:]:
        for one, two in zip(found[0], other, strict=True):
            assert one.observation.tobytes() == two.observation.tobytes()
    first = np.rint(255 * found[0][0].observation[:30, 4] - 4).astype(int)
    expected = [number - 1 if number == 33 else number for number in range(0, 90, 3)]
    assert np.abs(first[: len(expected)] - expected[: len(first)]).max() <= 1 and first[11] < 33
    if by == 'marks':
        levels = 255 * found[0][1].observation[:, 4] - 4
        np.testing.assert_allclose(levels, 100 + np.arange(10.5, 90, 3), atol=1.1)


def joints() -> list:
    """Return the features of the observation that are joints."""
    return contract().model_dump(mode='json')['observation']


def test_a_stream_without_a_single_whole_image_is_refused_with_the_reason(tmp_path):
    rows = [*stretch(0, 2), *(jpeg(SECOND * number // 30, number, whole=False) for number in range(60))]
    path = write_bag(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    with pytest.raises(BagError, match='60 messages dropped: no JPEG or PNG'):
        [*convert(path, contract(episodes={'by': 'bag'}, observation=[*joints(), SEEN]), None, ConversionReport())]


def test_an_image_that_is_at_the_begin_of_what_is_kept_is_a_whole_one():
    track = Track('it', 1, pictures=True)
    for number, good in enumerate((True, False, False, True)):
        values = np.empty((1, 1), dtype=object)
        values[0, 0] = Picture(partial(level, number, good), 100, lambda why: None)
        track.add(Decoded(np.array([number]), np.array([number]), values), ConversionReport())
    track.forget(3)
    stream = track.stream()
    assert stream.stamps[0] == 0 and track.size == 4 * 16 + 2 * 100
    found, stale = aligned_frames(stream.stamps, stream.values, np.array([2, 3]), Alignment())
    assert not stale.any() and [row.tolist() for row in found.rows] == [[0], [3]]


def level(number: int, good: bool) -> np.ndarray:
    """Stand in for the decoding of a picture."""
    if not good:
        raise Undecodable('no picture')
    return np.array([number], dtype=np.uint8)
