"""A static transform applies at any time, whatever its stamp, as in tf2."""

from __future__ import annotations

import numpy as np
import pytest
from ros_messages import MILLISECOND, SECOND, command, header, make, state, vector, write_bag

from vdd_ros.contract.contract import Contract
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport

CONTRACT = {
    'schema_version': 2,
    'name': 'frames',
    'robot': {'model': 'none.xml', 'tool': 'tool', 'joints': ['a']},
    'policy_rate': 20,
    'observation': [{
        'name': 'tag', 'topic': 'tf', 'type': 'TFMessage', 'frames': ['base', 'camera', 'tag'],
        'align': {'max_age': 0.1},
    }],
    'action': {'name': 'step', 'source': 'commanded', 'space': 'joint'},
    'episodes': {'by': 'bag'},
}  # fmt: skip
WALL = 1_700_000_000 * SECOND


def transforms(stamp: int, parent: str, child: str, x: float):
    """A message that says where a frame is."""
    move = make('geometry_msgs/msg/Transform', vector('Vector3', x, 0, 0), vector('Quaternion', 0, 0, 0, 1))
    stamped = make('geometry_msgs/msg/TransformStamped', header(stamp, parent), child, move)
    return make('tf2_msgs/msg/TFMessage', [stamped])


@pytest.mark.parametrize(
    ('start', 'received', 'stamp'),
    [(5 * SECOND, 5 * SECOND, WALL), (WALL, WALL + SECOND, WALL + SECOND), (WALL, WALL, 0)],
    ids=['of another clock', 'recorded late', 'without a stamp'],
)
def test_every_tick_is_usable_whatever_the_stamp_of_a_static_transform(tmp_path, start, received, stamp):
    rows = [('/tf_static', received, transforms(stamp, 'base', 'camera', 1.0))]
    for number in range(200):
        now = start + number * 10 * MILLISECOND
        rows.append(('/joint_states', now, state(now, ['a'], [number / 100])))
        rows.append(('/tf', now, transforms(now, 'camera', 'tag', number / 1000)))
        if number % 5 == 0:
            rows.append(('/arm_controller/commands', now, command([number / 100])))
    path = write_bag(tmp_path / 'bag', sorted(rows, key=lambda row: row[1]))
    report = ConversionReport()
    (episode,) = convert(path, Contract.model_validate(CONTRACT), None, report)
    assert report.dropped('tick') == 0
    np.testing.assert_allclose(episode.observation[:, 0], 1.0 + np.arange(40) * 0.005, atol=1e-12)
