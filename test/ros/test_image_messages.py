"""Messages of pictures, byte for byte."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from std_msgs.msg import Header

from vdd_ros.contract.features import Image
from vdd_ros.data.decode.pictures import compressed_image
from vdd_ros.nodes.bridge import image_messages

MAKERS = [None, *filter(None, [image_messages.create_cloud])]


@pytest.mark.parametrize('maker', MAKERS, ids=lambda maker: 'sensor_msgs_py' if maker else 'own')
def test_an_ordered_cloud_has_rows_of_points_with_packed_colours(maker, monkeypatch):
    monkeypatch.setattr(image_messages, 'create_cloud', maker)
    points = np.arange(18, dtype='f4').reshape(2, 3, 3)
    points[0, 0] = np.nan
    colours = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    cloud = image_messages.to_points(Header(frame_id='eye'), points, colours)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (2, 3, 16, 48)
    assert not cloud.is_bigendian and not cloud.is_dense and cloud.header.frame_id == 'eye'
    assert [(f.name, f.offset, f.datatype, f.count) for f in cloud.fields] == [
        (name, 4 * place, 7, 1) for place, name in enumerate(('x', 'y', 'z', 'rgb'))
    ]
    rows = zip(points.reshape(-1, 3).tolist(), colours.reshape(-1, 3).tolist())
    expected = b''.join(struct.pack('<3fI', *xyz, r << 16 | g << 8 | b) for xyz, (r, g, b) in rows)
    assert bytes(cloud.data) == expected


def test_compressed_depth_is_read_as_it_was_measured_to_the_step_of_its_quantisation():
    depth = np.array([[0.2, 1.0, 5.0, 9.9], [np.nan, np.inf, 0.1, 12.0]], dtype=np.float32)
    message = image_messages.to_compressed_depth(Header(frame_id='eye'), depth)
    assert message.format == '32FC1; compressedDepth png' and bytes(message.data)[12:16] == b'\x89PNG'
    wanted = Image(height=2, width=4, color='depth')
    read = compressed_image(bytes(message.data), message.format, wanted).reshape(2, 4)
    # Half a step of the inverse depth d is d^2 / (2 * 10100).
    np.testing.assert_allclose(read[0], depth[0], atol=0.005, rtol=0)
    assert (np.abs(read[0] - depth[0]) <= 1.01 * depth[0] ** 2 / 20200).all()
    assert read[1].tolist() == [0.0, 0.0, pytest.approx(0.152, abs=1e-3), 0.0]
