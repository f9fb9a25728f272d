"""From bytes to numbers: every type, beside what rosbags makes of the same bytes."""

from __future__ import annotations

import contextlib
import io
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image as Pillow
from ros_messages import COMMAND, JOINT_STATE, STORE1, cdr, command, header, make, state, vector

from vdd_ros.contract.contract import Contract, load_contract
from vdd_ros.contract.features import Image
from vdd_ros.data.bag.bag_definitions import standard
from vdd_ros.data.decode import frames, pictures
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.data.decode.decoders import Decoded
from vdd_ros.data.decode.serialized import Messages, Undecodable, walk
from vdd_ros.data.decode.sources import decoder, sources, topic_values
from vdd_ros.data.recording import Stream

JOINTS = ['a', 'b']


def contract(**feature: object) -> Contract:
    """A contract with one feature that has a topic of its own, called `it`."""
    values = load_contract('avoiding_joint').model_dump(mode='json')
    values['robot']['joints'] = JOINTS
    observation = [*values['observation'], {'name': 'it', 'topic': 'it', **feature}] if feature else []
    return Contract.model_validate({**values, 'schema_version': 2, 'observation': observation or values['observation']})


def decode(bound: Contract, data: list[bytes], stream: str = 'it', report: ConversionReport | None = None) -> Decoded:
    """Read messages of a stream of a contract."""
    source = next(item for item in sources(bound) if item.stream == stream)
    reader = decoder(bound, source, lambda topic: (standard(), False))
    return reader.decode(Messages.of(data, range(len(data))), ConversionReport() if report is None else report, 'it')


def values(data: list[bytes], **feature: object) -> np.ndarray:
    """Read messages of a feature, all of which must be good."""
    report = ConversionReport()
    found = decode(contract(**feature), data, report=report).values
    assert not report.entries and len(found) == len(data)
    return frames.real(found)


text = st.text(st.characters(codec='ascii', exclude_characters='\0'), max_size=9)
real = st.floats(allow_nan=False, width=64)


item = st.tuples(text, st.lists(text, max_size=4), st.lists(real, max_size=4))


@given(st.lists(item, min_size=1, max_size=8), st.booleans())
@settings(deadline=None, max_examples=50)
def test_numbers_and_words_lie_where_rosbags_finds_them(items, little):
    for frame, names, numbers in items:
        arrays = [np.array(part, dtype=np.float64) for part in (numbers, numbers[::-1], [])]
        message = make(JOINT_STATE, header(7, frame), names, *arrays)
        data = cdr(message, little_endian=little)
        layout = walk(data, JOINT_STATE, standard())
        assert [layout.texts[f'name[{place}]'] for place in range(len(names))] == names
        assert layout.texts['header.frame_id'] == frame
        for place, number in enumerate(numbers):
            offset, code = layout.place(f'position[{place}]')
            assert np.frombuffer(data, code, 1, offset)[0] == number
        packed = bytes(STORE1.serialize_ros1(_ros1(message), JOINT_STATE))
        layout = walk(packed, JOINT_STATE, standard(ros1=True), ros1=True)
        for place, number in enumerate(numbers):
            offset, code = layout.place(f'position[{place}]')
            assert np.frombuffer(packed, code, 1, offset)[0] == number


def _ros1(message):
    top = make('std_msgs/msg/Header', 3, make('builtin_interfaces/msg/Time', 0, 7, store=STORE1), 'f', store=STORE1)
    return make(JOINT_STATE, top, message.name, message.position, message.velocity, message.effort, store=STORE1)


@given(st.binary(max_size=200), st.sampled_from(sorted(standard())))
@settings(deadline=None, max_examples=300)
def test_bytes_of_any_kind_are_walked_or_refused(data, kind):
    for content in (data, b'\0\1\0\0' + data):
        with contextlib.suppress(Undecodable):
            walk(content, kind, standard())


def test_a_length_that_points_beyond_the_end_costs_no_time_and_no_memory():
    data = bytearray(cdr(state(1, ['a'], [1.0])))
    data[24:28] = b'\xff\xff\xff\xff'
    with pytest.raises(Undecodable, match='4294967295'):
        walk(bytes(data), JOINT_STATE, standard())


def test_messages_of_many_patterns_keep_their_order():
    rows = [state(n, JOINTS, [n, -n]) if n % 3 else state(n, ['b', 'c' * (n % 5), 'a'], [-n, 9, n]) for n in range(99)]
    found = decode(contract(), [cdr(row) for row in rows], 'measured')
    np.testing.assert_array_equal(found.values, [[n, -n] for n in range(99)])
    np.testing.assert_array_equal(found.stamps, np.arange(99))
    np.testing.assert_array_equal(found.received, np.arange(99))


def test_hundreds_of_patterns_of_one_size_are_read_too():
    names = [f'{number:04d}' for number in range(500)]
    found = decode(contract(), [cdr(state(1, ['a', name, 'b'], [1, 2, 3])) for name in names], 'measured')
    np.testing.assert_array_equal(found.values, [[1, 3]] * 500)


def test_what_is_not_taken_in_is_counted_with_its_reason():
    report = ConversionReport()
    good, other = cdr(state(1, JOINTS, [1, 2])), cdr(state(1, ['c'], [1]))
    late = bytearray(good)
    late[8:12] = b'\xff\xff\xff\xff'
    some, nan = cdr(state(1, ['a'], [1])), cdr(state(1, JOINTS, [1, math.nan]))
    data = [good, b'', good[:40], some, nan, other, bytes(late), good]
    found = decode(contract(), data, 'measured', report)
    assert len(found.values) == 2 and report.read == {'it': 3}
    reported = {entry.why: (entry.kind, entry.count) for entry in report.entries}
    assert reported.pop('messages without the requested fields') == ('note', 1)
    assert set(reported.values()) == {('message', 1)} and len(reported) == 5
    for part in ('empty', 'in the remaining', "no joint 'b' among a", 'not finite', 'stamp is invalid'):
        assert any(part in why for why in reported), part


def test_units_signs_scales_and_offsets_bring_a_robot_to_radians():
    bound = contract()
    stream = {'unit': 'degree', 'sign': [1, -1], 'scale': 2, 'offset': [0.5, 0]}
    bound = Contract.model_validate({**bound.model_dump(mode='json'), 'measured': stream})
    found = decode(bound, [cdr(state(1, JOINTS, [90, 45]))], 'measured').values
    np.testing.assert_allclose(found, [[math.pi + 0.5, -math.pi / 2]], rtol=1e-15)


def test_joints_of_another_name_are_read_by_it():
    bound = Contract.model_validate({**contract().model_dump(mode='json'), 'measured': {'names': ['x', 'y']}})
    np.testing.assert_array_equal(decode(bound, [cdr(state(1, ['y', 'x'], [2, 1]))], 'measured').values, [[1, 2]])


def test_the_last_point_of_a_trajectory_is_the_command():
    duration = make('builtin_interfaces/msg/Duration', 1, 0)
    empty = np.zeros(0)
    points = [
        make('trajectory_msgs/msg/JointTrajectoryPoint', np.array(row), empty, empty, empty, duration)
        for row in ([1.0, 2.0], [3.0, 4.0])
    ]
    data = cdr(make('trajectory_msgs/msg/JointTrajectory', header(5), ['b', 'a'], points))
    bound = Contract.model_validate({**contract().model_dump(mode='json'), 'commanded': {'type': 'JointTrajectory'}})
    found = decode(bound, [data], 'commanded')
    np.testing.assert_array_equal(found.values, [[4, 3]])
    assert found.stamps.tolist() == [5]


def test_a_command_of_another_length_is_refused():
    report = ConversionReport()
    assert not len(decode(contract(), [cdr(command([1, 2, 3]))], 'commanded', report).values)
    assert '3 values where the contract has 2 values' in str(report.entries[0])


def quaternion(angle: float) -> object:
    """Turn about z."""
    return vector('Quaternion', 0, 0, math.sin(angle / 2), math.cos(angle / 2))


def pose(x: float, angle: float, stamp: int = 3) -> object:
    """Make a pose."""
    inner = make('geometry_msgs/msg/Pose', vector('Point', x, 2, 3), quaternion(angle))
    return make('geometry_msgs/msg/PoseStamped', header(stamp), inner)


def test_an_orientation_becomes_six_numbers_or_a_quaternion_of_one_sign():
    data = [cdr(pose(1, 0.3)), cdr(pose(2, 0.3 + 2 * math.pi))]
    six = values(data, type='PoseStamped')
    row = [2, 3, math.cos(0.3), math.sin(0.3), 0, -math.sin(0.3), math.cos(0.3), 0]
    np.testing.assert_allclose(six[:, 1:], [row, row], atol=1e-15)
    plain = values(data, type='PoseStamped', rotation='quaternion', fields=['pose.orientation'])
    np.testing.assert_allclose(plain, [[0, 0, math.sin(0.15), math.cos(0.15)]] * 2, atol=1e-15)


SIX = (vector('Vector3', 1, 2, 3), vector('Vector3', 4, 5, 6))


@pytest.mark.parametrize(
    ('message', 'expected'),
    [
        (make('geometry_msgs/msg/WrenchStamped', header(1), make('geometry_msgs/msg/Wrench', *SIX)), range(1, 7)),
        (make('geometry_msgs/msg/TwistStamped', header(1), make('geometry_msgs/msg/Twist', *SIX)), range(1, 7)),
        (make('geometry_msgs/msg/Twist', *SIX), range(1, 7)),
        (make('std_msgs/msg/Bool', True), [1]),
        (make('std_msgs/msg/Float64', 2.5), [2.5]),
    ],
    ids=lambda item: getattr(item, '__msgtype__', ''),
)
def test_types_of_plain_numbers_need_no_fields(message, expected):
    np.testing.assert_array_equal(values([cdr(message)], type=message.__msgtype__), [expected])


def test_imu_and_camera_info_give_their_numbers():
    nine = np.zeros(9)
    imu = make('sensor_msgs/msg/Imu', header(1), quaternion(0.0), nine, SIX[0], nine, SIX[1], nine)
    fields = ['angular_velocity', 'linear_acceleration.z']
    np.testing.assert_array_equal(values([cdr(imu)], type='Imu', fields=fields), [[1, 2, 3, 6]])
    assert values([cdr(imu)], type='Imu').shape == (1, 12)
    region = make('sensor_msgs/msg/RegionOfInterest', 0, 0, 0, 0, False)
    matrix = np.arange(9.0)
    matrices = (np.zeros(5), matrix, matrix, np.zeros(12))
    info = make('sensor_msgs/msg/CameraInfo', header(1), 4, 6, 'plumb_bob', *matrices, 0, 0, region)
    np.testing.assert_array_equal(values([cdr(info)], type='CameraInfo'), [matrix])
    np.testing.assert_array_equal(values([cdr(info)], type='CameraInfo', fields=['k[0]', 'k[4:6]']), [[0, 4, 5]])


def image(pixels: np.ndarray, encoding: str, big: int = 0, padding: int = 0) -> bytes:
    """Serialise an image, with some bytes after each row."""
    rows = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.pad(rows, ((0, 0), (0, padding)))
    height, width = pixels.shape[:2]
    return cdr(make('sensor_msgs/msg/Image', header(1), height, width, encoding, big, rows.shape[1], rows.ravel()))


SIXTEEN_BITS = 0.5 / 65535 + 1e-12
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


@pytest.mark.parametrize('padding', [0, 5])
def test_colours_are_averaged_over_equal_shares(padding):
    expected = PIXELS.reshape(2, 3, 2, 4, 3).mean(axis=(1, 3)).ravel() / 255
    shape = {'height': 2, 'width': 2, 'color': 'rgb'}
    for pixels, encoding in ((PIXELS, 'rgb8'), (PIXELS[..., ::-1], 'bgr8')):
        found = values([image(pixels, encoding, padding=padding)] * 2, type='Image', image=shape)
        np.testing.assert_allclose(found, [expected, expected], atol=SIXTEEN_BITS)


def test_gray_is_the_luma_of_colours_and_sixteen_bits_reach_one_too():
    shape = {'height': 1, 'width': 1, 'color': 'gray'}
    luma = (PIXELS @ np.array([0.299, 0.587, 0.114])).mean() / 255
    np.testing.assert_allclose(values([image(PIXELS, 'rgb8')], type='Image', image=shape), [[luma]], atol=SIXTEEN_BITS)
    deep = np.full((2, 2), 0xFFFF, dtype=np.uint16)
    np.testing.assert_array_equal(values([image(deep, 'mono16')], type='Image', image=shape), [[1.0]])


def test_encodings_of_cameras_give_the_colours_of_their_pixels():
    shape = {'height': 2, 'width': 2, 'color': 'rgb'}

    def read(pixels, encoding):
        return values([image(pixels, encoding)], type='Image', image=shape).reshape(2, 2, 3)

    colors = np.array([[[250, 10, 20], [30, 240, 40]], [[50, 60, 230], [70, 80, 90]]], dtype=np.uint8)
    with_alpha = np.concatenate([colors[..., ::-1], colors[..., :1]], axis=2)
    np.testing.assert_allclose(read(with_alpha, '8UC4'), colors / 255, atol=SIXTEEN_BITS)
    np.testing.assert_allclose(read(colors.astype(np.uint16) * 257, 'rgb16'), colors / 255, atol=SIXTEEN_BITS)
    four = np.repeat(np.repeat(colors, 2, axis=0), 2, axis=1)
    for pattern in ('rggb', 'bggr', 'gbrg', 'grbg'):
        mosaic = np.zeros((4, 4), dtype=np.uint8)
        for place, letter in enumerate(pattern):
            mosaic[place // 2 :: 2, place % 2 :: 2] = four[place // 2 :: 2, place % 2 :: 2, 'rgb'.index(letter)]
        np.testing.assert_allclose(read(mosaic, f'bayer_{pattern}8'), colors / 255, atol=SIXTEEN_BITS)
    # ITU-R BT.601 in the range of video: white, black, and the saturated red of its colour bars.
    for (bright, blue, red), expected in (((235, 128, 128), 1.0), ((16, 128, 128), 0.0), ((81, 90, 240), (1, 0, 0))):
        for encoding, places in (('yuv422_yuy2', (0, 2, 1, 3)), ('yuv422', (1, 3, 0, 2))):
            pair = np.zeros(4, dtype=np.uint8)
            pair[list(places)] = bright, bright, blue, red
            pixels = np.tile(pair, (4, 2)).reshape(4, 4, 2)
            np.testing.assert_allclose(read(pixels, encoding), np.broadcast_to(expected, (2, 2, 3)), atol=0.01)


def test_depth_is_in_metres_and_forgets_what_is_unknown():
    shape = {'height': 1, 'width': 2, 'color': 'depth'}
    millimetres = np.array([[1000, 0, 500, 1500], [3000, 0, 0, 0]], dtype=np.uint16)
    np.testing.assert_allclose(values([image(millimetres, '16UC1')], type='Image', image=shape), [[2.0, 1.0]])
    swapped = millimetres.astype('>u2')
    np.testing.assert_allclose(values([image(swapped, '16UC1', big=1)], type='Image', image=shape), [[2.0, 1.0]])
    metres = np.array([[np.nan, np.inf, 2.0, 4.0]], dtype=np.float32)
    np.testing.assert_allclose(values([image(metres, '32FC1')], type='Image', image=shape), [[0.0, 3.0]])


def test_compressed_images_are_what_their_pixels_are():
    buffer = io.BytesIO()
    Pillow.fromarray(PIXELS).save(buffer, 'PNG')
    content = np.frombuffer(buffer.getvalue(), np.uint8)
    data = cdr(make('sensor_msgs/msg/CompressedImage', header(1), 'rgb8; png compressed', content))
    shape = {'height': 2, 'width': 2, 'color': 'rgb'}
    np.testing.assert_array_equal(
        values([data], type='CompressedImage', image=shape), values([image(PIXELS, 'rgb8')], type='Image', image=shape)
    )
    depth = io.BytesIO()
    Pillow.fromarray(np.full((2, 2), 1500, dtype=np.uint16)).save(depth, 'PNG')
    content = np.frombuffer(bytes(12) + depth.getvalue(), np.uint8)
    data = cdr(make('sensor_msgs/msg/CompressedImage', header(1), '16UC1; compressedDepth png', content))
    shape = {'height': 1, 'width': 1, 'color': 'depth'}
    np.testing.assert_allclose(values([data], type='CompressedImage', image=shape), [[1.5]])


@pytest.mark.parametrize(
    ('data', 'reported'),
    [
        (image(PIXELS, 'nv12'), 'encoding'),
        (image(PIXELS[..., 0], 'rgb8'), 'bytes for'),
        (image(np.zeros((2, 2), np.float32), '32FC1'), 'no colours'),
    ],
)
def test_an_image_that_cannot_be_is_counted(data, reported):
    report = ConversionReport()
    bound = contract(type='Image', image={'height': 1, 'width': 1, 'color': 'rgb'})
    assert not len(decode(bound, [data], report=report).values)
    assert reported in str(report.entries[0])


def cloud(points: np.ndarray, rows: int = 1, padding: int = 0, code: str = '<f4', row_step: int | None = None) -> bytes:
    """Serialise a point cloud with an intensity between the coordinates, in rows with octets of no meaning behind."""
    kind = np.dtype(code)
    size = kind.itemsize
    columns = (('x', 0), ('i', size), ('y', 2 * size), ('z', 3 * size))
    datatype = 7 if size == 4 else 8
    fields = [make('sensor_msgs/msg/PointField', name, offset, datatype, 1) for name, offset in columns]
    values = np.zeros((len(points), 4), dtype=kind)
    values[:, [0, 2, 3]] = points
    width = len(points) // rows
    padded = np.full((rows, width * 4 * size + padding), 0x3F, dtype=np.uint8)
    padded[:, : width * 4 * size] = values.view(np.uint8).reshape(rows, -1)
    steps = 4 * size, padded.shape[1] if row_step is None else row_step
    shape = (rows, width, fields, kind.byteorder == '>', *steps)
    return cdr(make('sensor_msgs/msg/PointCloud2', header(1), *shape, padded.ravel(), False))


def test_a_cloud_is_thinned_evenly_over_its_finite_points():
    points = np.arange(30.0).reshape(10, 3)
    points[3] = np.nan
    found = values([cloud(points)], type='PointCloud2', points=3).reshape(3, 3)
    np.testing.assert_array_equal(found, np.delete(points, 3, axis=0)[[0, 3, 6]])


@pytest.mark.parametrize('code', ['<f4', '>f4', '<f8', '>f8'])
@pytest.mark.parametrize('padding', [0, 1, 32])
def test_the_padding_of_rows_is_no_part_of_a_cloud(padding, code):
    points = np.random.default_rng(0).normal(size=(48, 3)).astype('f4')
    found = values([cloud(points, rows=6, padding=padding, code=code)], type='PointCloud2', points=48)
    np.testing.assert_array_equal(found.reshape(48, 3), points)


def test_a_cloud_of_one_row_may_leave_the_step_of_rows_out():
    points = np.arange(30.0).reshape(10, 3)
    found = values([cloud(points, row_step=0)], type='PointCloud2', points=10).reshape(10, 3)
    np.testing.assert_array_equal(found, points)


@pytest.mark.parametrize(
    ('rows', 'padding', 'row_step', 'reported'),
    [(2, 0, 64, 'bytes for 2 rows of 64'), (2, 0, 96, 'bytes for 2 rows of 96'), (0, 0, 0, 'without points')],
)
def test_a_cloud_whose_rows_cannot_be_is_counted(rows, padding, row_step, reported):
    report = ConversionReport()
    data = cloud(np.ones((10 if rows else 0, 3)), max(rows, 1), padding, row_step=row_step)
    assert not len(decode(contract(type='PointCloud2', points=3), [data], report=report).values)
    assert reported in str(report.entries[0])


def transform(parent: str, child: str, x: float, angle: float) -> object:
    """Make a transform."""
    inner = make('geometry_msgs/msg/Transform', vector('Vector3', x, 0, 0), quaternion(angle))
    return make('geometry_msgs/msg/TransformStamped', header(4, parent), child, inner)


def test_a_chain_of_frames_is_the_pose_of_the_last_in_the_first():
    bound = contract(type='TFMessage', frames=['base', 'arm', 'tool'])
    links = [transform('odom', 'base', 9, 0), transform('base', 'arm', 1, math.pi / 2)]
    moving = [cdr(make('tf2_msgs/msg/TFMessage', links))]
    still = [cdr(make('tf2_msgs/msg/TFMessage', [transform('tool', 'arm', 0, math.pi / 2)]))]
    empty = Stream(np.zeros(0, np.int64), np.zeros((0, 7)))
    streams = dict.fromkeys(('it/0', 'it/1', 'it/0/static', 'it/1/static'), empty)
    for name, data in (('it/0', moving), ('it/1/static', still)):
        found = decode(bound, data, name)
        streams[name] = Stream(found.stamps, found.values)
    feature = bound.topic_features[0]
    found, unknown = topic_values(feature, streams, np.array([3, 4, 10]))
    assert unknown.tolist() == [True, False, False]
    np.testing.assert_allclose(found[1], [1, 0, 0, 1, 0, 0, 0, 1, 0], atol=1e-15)


def test_one_message_and_thousands_give_the_same_bits():
    generator = np.random.default_rng(1)
    rows = [cdr(pose(*generator.normal(size=2), stamp=n)) for n in range(200)]
    bound = contract(type='PoseStamped')
    together = decode(bound, rows).values
    alone = np.concatenate([decode(bound, [row]).values for row in rows])
    assert together.tobytes() == alone.tobytes()


def test_commands_by_header_are_refused_where_there_is_none():
    assert sources(contract())[1].type == COMMAND
    with pytest.raises(ValueError, match='has no header'):
        Contract.model_validate({**contract().model_dump(mode='json'), 'commanded': {'stamp': 'header'}})


@pytest.mark.parametrize('kind', ['u1', 'u2'])
@pytest.mark.parametrize('source', [(5, 7), (6, 8), (1, 1), (300, 2), (3, 400), (37, 61)])
@pytest.mark.parametrize('target', [(1, 1), (2, 3), (6, 8), (5, 7), (9, 20)])
def test_images_of_any_size_are_averaged_over_whole_pixels(kind, source, target):
    pixels = np.random.default_rng(0).integers(0, np.iinfo(kind).max, (*source, 1), endpoint=True).astype(kind)
    pixels[:2] = np.iinfo(kind).max
    shape = Image(height=target[0], width=target[1], color='gray')
    encoding = {'u1': 'mono8', 'u2': 'mono16'}[kind]
    step = pixels.itemsize * source[1]
    found = pictures.raw_image(pixels.view(np.uint8).ravel(), *source, step, encoding, False, shape)
    edges = [np.append(np.arange(parts) * size // parts, size) for parts, size in zip(target, source)]
    shares = [[slice(begin, max(end, begin + 1)) for begin, end in pairwise(edge)] for edge in edges]
    expected = [pixels[rows, columns].mean() / np.iinfo(kind).max for rows in shares[0] for columns in shares[1]]
    np.testing.assert_allclose(frames.real(found), expected, atol=SIXTEEN_BITS)
