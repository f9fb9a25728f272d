"""Simulations meet nobody: their graphs are in domains of their own, and do not start where somebody else is."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import rclpy
from bystander import bystander
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.common.domain import in_domain, used_ports
from vdd_ros.common.errors import InterfaceError
from vdd_ros.common.processes import DOMAIN_FILE, NodeGraph
from vdd_ros.nodes import messages, qos

PATIENCE = 30.0


@contextmanager
def participant(name: str, namespace: str = '') -> Iterator[tuple[Node, Callable[[Callable[[], object]], None]]]:
    """Take part in the domain of the environment; yields the node, and what spins it until a condition holds."""
    rclpy.init()
    node, executor = Node(name, namespace=namespace), SingleThreadedExecutor()
    executor.add_node(node)

    def until(condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < deadline, 'waited in vain'
            executor.spin_once(timeout_sec=0.05)

    try:
        yield node, until
    finally:
        node.destroy_node()
        rclpy.try_shutdown()


def test_an_arm_on_the_users_domain_is_commanded_from_there():
    # Without this the silence of the arm in other tests would say nothing.
    with bystander() as arm, participant('commander') as (node, until):
        commands = node.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
        until(lambda: commands.publish(messages.to_command(arm.position + 0.1)) or (arm.commands and arm.others))
        assert arm.others == {'commander'}


def test_nodes_of_a_graph_meet_each_other_and_not_the_arm_of_the_user(tmp_path):
    with bystander() as arm, NodeGraph(tmp_path) as graph:
        assert (tmp_path / DOMAIN_FILE).read_text() == f'{graph.domain}\n'
        graph.start('mujoco_bridge', {'mode': 'fast'})
        with in_domain(graph.domain), participant('visitor') as (node, until):
            reset = node.create_client(Trigger, 'mujoco_bridge/reset')
            commands = node.create_publisher(Float64MultiArray, 'arm_controller/commands', qos.COMMANDS)
            until(lambda: reset.service_is_ready() and commands.get_subscription_count())
            commands.publish(messages.to_command(arm.position))
            until(lambda: set(node.get_node_names()) == {'visitor', 'mujoco_bridge'})
        assert not arm.commands and not arm.others


def test_a_graph_refuses_to_start_with_other_participants_and_names_them(tmp_path):
    graph = NodeGraph(tmp_path)
    with in_domain(graph.domain), participant('somebody', 'cell'):
        assert used_ports(graph.domain)
        with pytest.raises(InterfaceError, match=f'ROS domain {graph.domain}.*the node /cell/somebody'), graph:
            pytest.fail('it started')
    assert not used_ports(graph.domain)


def test_a_participant_that_shows_nothing_but_its_port_is_company_too(tmp_path):
    graph = NodeGraph(tmp_path)
    port = 7400 + 250 * graph.domain + 20
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
        other.bind(('', port))
        with pytest.raises(InterfaceError, match=f'a process at UDP port {port}'), graph:
            pytest.fail('it started')
