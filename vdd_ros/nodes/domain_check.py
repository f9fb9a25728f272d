"""List the participants of a ROS domain. A simulation runs this check before it starts."""

from __future__ import annotations

import os
import sys
import time

import rclpy
from rclpy.node import Node

from vdd_ros.common.domain import used_ports
from vdd_ros.common.processes import FOUND

_SETTLED = 0.8
"""Discovery time if nothing is seen, for middlewares that do not use the ports of the domain [s]."""
_NAMED = 8.0
"""Maximum time to find the names of participants with a known port or endpoint [s]."""
_COMPLETE = 0.3
"""Waiting time for further names after the first names were found [s]."""
_PERIOD = 0.02
_MIDDLEWARE = 'ros_discovery_info'
"""A topic of all nodes, which is ignored."""


def participants(domain: int) -> list[str]:
    """Return the participants of a domain: node names, topics of endpoints without a node, or at least ports.

    ``domain`` must be the domain of this process; rclpy must not be initialised yet.
    """
    ports = used_ports(domain)
    rclpy.init()
    node = Node(
        f'domain_check_{os.getpid()}', enable_rosout=False, start_parameter_services=False, use_global_arguments=False
    )
    nodes: list[str] = []
    endpoints = [f'a process at UDP port {port}' for port in ports]
    begin = time.monotonic()
    while not nodes and time.monotonic() - begin < (_NAMED if endpoints else _SETTLED):
        time.sleep(_PERIOD)
        nodes, seen = _others(node)
        endpoints = seen or endpoints
    if nodes:
        time.sleep(_COMPLETE)
        nodes, endpoints = _others(node)
    node.destroy_node()
    rclpy.try_shutdown()
    return nodes + endpoints


def main() -> int:
    """Print a line for each participant."""
    for each in participants(int(os.environ.get('ROS_DOMAIN_ID') or 0)):
        sys.stdout.write(f'{FOUND}{each}\n')
    return 0


def _others(node: Node) -> tuple[list[str], list[str]]:
    """Return the other nodes, and endpoints that are not yet assigned to a node (discovered first)."""
    own = (node.get_name(), node.get_namespace())
    nodes = set(node.get_node_names_and_namespaces()) - {own}
    kinds = {'publisher of': node.get_publishers_info_by_topic, 'subscriber to': node.get_subscriptions_info_by_topic}
    endpoints = []
    for topic, _ in node.get_topic_names_and_types(no_demangle=True):
        for what, look in kinds.items():
            owners = {(info.node_name, info.node_namespace) for info in look(topic, no_mangle=True)}
            if topic != _MIDDLEWARE and owners - nodes - {own}:
                endpoints.append(f'a {what} {topic}')
    return [f'the node {namespace.rstrip("/")}/{name}' for name, namespace in sorted(nodes)], endpoints


if __name__ == '__main__':
    raise SystemExit(main())
