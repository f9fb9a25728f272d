"""Messages of pictures, byte for byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from std_msgs.msg import Header

from vdd_ros.contract.features import Image
from vdd_ros.data.decode.pictures import cloud as read_cloud
from vdd_ros.data.decode.pictures import compressed_image
from vdd_ros.nodes.bridge.image_messages import CREATE_CLOUD, create_cloud, to_compressed_depth, to_points


# Two makers where sensor_msgs_py is installed, one elsewhere.
@pytest.mark.parametrize('create', dict.fromkeys((create_cloud, CREATE_CLOUD)), ids=lambda create: create.__module__)
def test_an_ordered_cloud_has_rows_of_points_with_packed_colours(create):
    points = np.arange(18, dtype='f4').reshape(2, 3, 3)
    points[0, 0] = np.nan
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    cloud = to_points(Header(frame_id='eye'), points, colours, create)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (2, 3, 16, 48)
    assert not cloud.is_bigendian and not cloud.is_dense and cloud.header.frame_id == 'eye'
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        (name, 4 * place, 7, 1) for place, name in enumerate(('x', 'y', 'z', 'rgb'))
    ]
    rows = zip(points.reshape(-1, 3).tolist(), colours.reshape(-1, 3).tolist())
    expected = b''.join(struct.pack('<3fI', *xyz, r << 16 | g << 8 | b) for xyz, (r, g, b) in rows)
    assert bytes(cloud.data) == expected


def test_points_are_read_as_sensor_msgs_py_reads_them():
    installed = pytest.importorskip(
        'sensor_msgs_py.point_cloud2', reason='sensor_msgs_py is part of a ROS installation'
    )
    generator = np.random.default_rng(0)
    points = generator.normal(size=(6, 8, 3)).astype('f4')
    colours = generator.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    message = to_points(Header(frame_id='eye'), points, colours)
    theirs = installed.read_points_numpy(message, field_names=['x', 'y', 'z'])
    columns = tuple((field.offset, '<f4') for field in message.fields[:3])
    steps = message.row_step, message.point_step
    ours = read_cloud(np.frombuffer(bytes(message.data), 'u1'), (message.height, message.width), steps, columns, 48)
    np.testing.assert_array_equal(np.reshape(ours, (48, 3)), theirs)
    np.testing.assert_array_equal(theirs, points.reshape(-1, 3))


def test_compressed_depth_is_read_as_it_was_measured_to_the_step_of_its_quantisation():
    depth = np.array([[0.2, 1.0, 5.0, 9.9], [np.nan, np.inf, 0.1, 12.0]], dtype=np.float32)
    message = to_compressed_depth(Header(frame_id='eye'), depth)
    assert message.format == '32FC1; compressedDepth png' and bytes(message.data)[12:16] == b'\x89PNG'
    wanted = Image(height=2, width=4, color='depth')
    read = compressed_image(bytes(message.data), message.format, wanted).reshape(2, 4)
    # Half a step of the inverse depth d is d^2 / (2 * 10100).
    np.testing.assert_allclose(read[0], depth[0], atol=0.005, rtol=0)
    assert (np.abs(read[0] - depth[0]) <= 1.01 * depth[0] ** 2 / 20200).all()
    assert read[1].tolist() == [0.0, 0.0, pytest.approx(0.152, abs=1e-3), 0.0]
