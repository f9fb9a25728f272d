"""Faulty joint states at 250 Hz over DDS: the resulting motion of an arm, and the diagnostics of the policy node."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.node import Node
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray

from benchmarks.constant_student import save_student
from benchmarks.measurement_faults import FAULTS, Message, braking_distance
from vdd_ros.common.domain import in_domain
from vdd_ros.common.errors import InterfaceError
from vdd_ros.common.processes import NodeGraph
from vdd_ros.contract.contract import load_contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.process import new_executor
from vdd_ros.robot.kinematics import Kinematics

RATE = 250
CONTRACT = 'avoiding_cartesian'
_STEP = 0.001
"""Motion of the tool per policy period [m]: 30 mm/s."""
_HOME = np.array([-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4])
_MOVING = 0.4
"""Duration of motion before the fault [s]."""
_FAULTY = 1.0
"""Duration of the fault [s]."""
_PATIENCE = 30.0


class Arm(Node):
    """An arm that follows its commands perfectly, and publishes its state at 250 Hz, with or without a fault."""

    def __init__(self, joints: Sequence[str]) -> None:
        """Create publishers and subscriptions."""
        super().__init__('arm')
        self.joints = list(joints)
        self.commands: list[np.ndarray] = []
        self.statuses: list[tuple[str, str]] = []
        """Decisions of the policy node with reasons, from its diagnostics."""
        self._states = self.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self.create_subscription(Float64MultiArray, 'arm_controller/commands', self._on_command, qos.COMMANDS)
        self.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, qos.DIAGNOSTICS)
        self._change = self.create_client(ChangeState, 'policy_node/change_state')
        self._executor = new_executor()
        self._executor.add_node(self)
        self._next = time.monotonic()

    @property
    def position(self) -> np.ndarray:
        """Position, shape (joint,) [rad]."""
        return self.commands[-1] if self.commands else _HOME

    def live(self, measure: Callable[[], Sequence[Message]]) -> None:
        """Advance one period: publish the names and positions returned by ``measure``, and receive commands."""
        for names, position in measure():
            zeros = np.zeros(len(names))
            self._states.publish(messages.to_joint_state(time.time_ns(), names, position, zeros, zeros))
        self._next = max(self._next + 1 / RATE, time.monotonic())
        while (left := self._next - time.monotonic()) > 0:
            self._executor.spin_once(timeout_sec=left)

    def live_well(self) -> None:
        """Advance one period without a fault."""
        self.live(lambda: [(self.joints, self.position)])

    def until(self, condition: Callable[[], object], what: str) -> None:
        """Advance without a fault until a condition holds.

        Raises
        ------
        InterfaceError
            The condition does not hold in time.

        """
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise InterfaceError(expected=what, found=f'none for {_PATIENCE:g} s', remedy='read the logs')
            self.live_well()

    def change(self, transition: int) -> bool:
        """Request a transition of the policy node; return whether it succeeded."""
        self.until(self._change.service_is_ready, 'a policy node')
        future = self._change.call_async(ChangeState.Request(transition=Transition(id=transition)))
        self.until(future.done, 'a response of the policy node')
        return future.result().success

    def close(self) -> None:
        """Destroy the node."""
        self._executor.shutdown()
        self.destroy_node()

    def _on_command(self, message: Float64MultiArray) -> None:
        self.commands.append(np.array(message.data))

    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == 'policy_node':
                values = {item.key: item.value for item in status.values}
                self.statuses.append((values['outcome'], values['reason']))


def rows(folder: Path, names: Sequence[str] = tuple(FAULTS)) -> Iterator[dict[str, Any]]:
    """Apply each fault to a moving arm; yield a row for each.

    Raises
    ------
    InterfaceError
        The policy node does not work without a fault.

    """
    contract = load_contract(CONTRACT)
    limits = Deployment().limits_of(contract, Kinematics.from_contract(contract), lockstep=False)
    with _arm_under_policy(folder, contract.robot.joints) as arm:
        if not arm.change(Transition.TRANSITION_CONFIGURE):
            raise InterfaceError(expected='policy_node to configure', found='a refusal', remedy='read its log')
        for name in names:
            arm.until(lambda: arm.change(Transition.TRANSITION_ACTIVATE), 'an activation')
            begin = len(arm.commands)
            arm.until(lambda begin=begin: len(arm.commands) > begin + _MOVING * RATE, 'commands')
            distance = braking_distance(arm.commands[-40:], limits, 1 / RATE)
            begin, number = len(arm.commands), 0
            arm.statuses.clear()
            deadline = time.monotonic() + _FAULTY
            while time.monotonic() < deadline:
                here = arm.position
                arm.live(lambda name=name, here=here, number=number: FAULTS[name](arm.joints, here, number))
                number += 1
            moved = float(np.abs(np.array(arm.commands[begin:]) - arm.commands[begin - 1]).max())
            reasons = [reason for outcome, reason in arm.statuses if outcome in ('hold', 'stop') and reason]
            yield {
                'what': name,
                'moved [mrad]': 1e3 * moved,
                'braking distance [mrad]': 1e3 * distance,
                'beyond it [mrad]': 1e3 * (moved - distance),
                'reason': reasons[0] if reasons else '',
            }
            if not arm.change(Transition.TRANSITION_DEACTIVATE):
                raise InterfaceError(expected='policy_node to deactivate', found='a refusal', remedy='read its log')


@contextmanager
def _arm_under_policy(folder: Path, joints: Sequence[str]) -> Iterator[Arm]:
    """Run a policy node that moves an arm, and yield the arm."""
    student = save_student(folder / 'student', [[0.0, _STEP]], CONTRACT, change={'prediction_horizon': 4})
    with NodeGraph(folder) as graph, in_domain(graph.domain):
        rclpy.init()
        arm = Arm(joints)
        try:
            override = {'override_name': 'a benchmark', 'override_reason': 'there is no arm'}
            parameters = {'artifact': str(student.absolute()), 'control_rate': float(RATE), 'use_sim_time': False}
            graph.start('policy_node', {**parameters, **override})
            yield arm
        finally:
            arm.close()
            rclpy.try_shutdown()
