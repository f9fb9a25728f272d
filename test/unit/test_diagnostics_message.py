"""Statuses on /diagnostics."""

from __future__ import annotations

import pytest

from vdd_ros.nodes.messages import to_diagnostics


@pytest.mark.parametrize(
    ('node', 'name', 'hardware'),
    [('/policy_node', 'policy_node', 'none'), ('/cell/left/policy_node', 'cell/left/policy_node', 'cell/left')],
)
def test_a_status_is_named_by_node_and_namespace_and_belongs_to_the_namespace(node, name, hardware):
    (status,) = to_diagnostics(0, node, 'commanding', {'rate': 25}).status
    assert (status.name, status.hardware_id) == (name, hardware)
