"""A bag that is replayed over real DDS is observed as it was converted: every feature of every tick, bit for bit."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rclpy.parameter import Parameter

sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.bag_making import rich_contract, rich_rows, write_rows
from benchmarks.bag_parity import over_dds
from benchmarks.bag_policy_node import arguments, arm_contract, compare
from vdd_ros.data.convert import convert
from vdd_ros.data.decode.conversion_report import ConversionReport
from vdd_ros.nodes.policy.policy_node import PolicyNode


@pytest.mark.parametrize('version', [2, 3])
def test_every_feature_of_every_tick_is_equal_bit_for_bit_over_dds(graph, tmp_path, version):
    contract = rich_contract(without=('tool',), version=version)  # there are no wheels of tf2_msgs
    rows = rich_rows(3.0, seed=1, episodes=1)
    report = ConversionReport()
    (episode,) = convert(write_rows(tmp_path / 'bag', rows), contract, None, report)
    assert len(episode) > 30 and not report.dropped('message')
    node = graph.node('listener')
    node.set_parameters([Parameter('use_sim_time', value=True)])
    found = over_dds(contract, rows, [episode], node, graph.spin)
    assert (found.ticks, found.unequal) == (len(episode), 0)
    # Since version 3, images and points are beside the vector.
    assert episode.observation.shape[1] == contract.observation_size
    assert found.values == len(episode) * rich_contract(without=('tool',)).observation_size


def test_the_policy_node_in_the_shadow_sees_what_was_converted_bit_for_bit(graph_with, tmp_path):
    contract = arm_contract()
    rows = rich_rows(3.0, seed=2, episodes=1)
    (episode,) = convert(write_rows(tmp_path / 'bag', rows), contract, None, ConversionReport())
    graph = graph_with(*arguments(tmp_path, contract))
    node = PolicyNode()
    graph.add(node)
    found = compare(node, graph.node('player'), graph.spin, rows, episode)
    assert (found.ticks, found.unequal) == (len(episode), 0)
