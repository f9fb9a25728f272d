"""Looks whether anybody takes part in a ROS domain, and names who does: what a simulation asks before it starts."""

from __future__ import annotations

import os
import sys
import time

import rclpy
from rclpy.node import Node

from vdd_ros.common.domain import used_ports
from vdd_ros.common.processes import FOUND

_SETTLED = 0.8
"""How long discovery is given where nothing is seen: for middlewares that use no ports of the domain [s]."""
_NAMED = 8.0
"""How long it is given to name those of whom a port or an endpoint is seen [s]."""
_COMPLETE = 0.3
"""How long further names are waited for after that [s]."""
_PERIOD = 0.02
_MIDDLEWARE = 'ros_discovery_info'
"""The topic by which nodes are told apart; it belongs to no node."""


def participants(domain: int) -> list[str]:
    """Return who takes part in a domain: nodes by name, topics whose endpoints belong to no node, or at least ports.

    ``domain`` is that of this process; rclpy must not be initialised yet.
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
    """Look, and write a line for each participant."""
    for each in participants(int(os.environ.get('ROS_DOMAIN_ID') or 0)):
        sys.stdout.write(f'{FOUND}{each}\n')
    return 0


def _others(node: Node) -> tuple[list[str], list[str]]:
    """Return the other nodes, and the endpoints that belong to none of them yet: discovery brings these first."""
    own = (node.get_name(), node.get_namespace())
    nodes = set(node.get_node_names_and_namespaces()) - {own}
    ways = {'publisher of': node.get_publishers_info_by_topic, 'subscriber to': node.get_subscriptions_info_by_topic}
    endpoints = []
    for topic, _ in node.get_topic_names_and_types(no_demangle=True):
        for what, look in ways.items():
            owners = {(info.node_name, info.node_namespace) for info in look(topic, no_mangle=True)}
            if topic != _MIDDLEWARE and owners - nodes - {own}:
                endpoints.append(f'a {what} {topic}')
    return [f'the node {namespace.rstrip("/")}/{name}' for name, namespace in sorted(nodes)], endpoints


if __name__ == '__main__':
    raise SystemExit(main())
