"""The lifecycle of a node that moves an arm: transitions that may raise, and a start without being asked."""

from __future__ import annotations

import abc
import functools
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vdd_ros.common.errors import VddError
from vdd_ros.contract.contract import Contract
from vdd_ros.nodes import qos
from vdd_ros.nodes.arm.description import TOPIC, DescriptionMissing, kinematics_of
from vdd_ros.nodes.parameters import Parameter, Value, declare
from vdd_ros.robot.kinematics import Kinematics


def transition(callback: Callable[..., None]) -> Callable[..., TransitionCallbackReturn]:
    """Let a lifecycle callback of an `ArmNode` raise: rclpy would swallow it; here it is logged, and it fails.

    The node keeps the error as `complaint`. While it starts by itself, whoever started it reads its last line and no
    log.
    """

    @functools.wraps(callback)
    def call(self: ArmNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(self)
        except VddError as error:
            self.complaint = error
            if not self.starting:
                self.get_logger().error(str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the lifecycle would hide it
            self.complaint = error
            self.get_logger().error(traceback.format_exc())
        else:
            return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE

    return call


def unless_closed(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Leave out a callback of a part of a node that was closed: executors call those that waited.

    The answer of a service is left as it is, which is a no.
    """

    @functools.wraps(callback)
    def call(self: Any, *arguments: Any) -> Any:
        if self.closed:
            return arguments[-1] if arguments else None
        return callback(self, *arguments)

    return call


class ArmNode(LifecycleNode):
    """A node with a table of parameters that configures and activates itself if the parameter `autostart` says so.

    The table has `autostart` and `startup_timeout`.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[Parameter],
        apply: Callable[[Mapping[str, Value]], None] | None = None,
        prefix: str = '',
    ) -> None:
        """Declare the parameters, and offer ``~/preflight``; arguments and errors as those of `declare`."""
        super().__init__(name)
        self.values: Mapping[str, Value] = declare(self, table, apply, prefix)
        """The parameters by name, as they were at the start."""
        self.simulated: bool = self.get_parameter('use_sim_time').value
        """Whether time is that of a simulation."""
        self.wall = Clock(clock_type=ClockType.STEADY_TIME)
        """Of timers that go on whatever the simulation does."""
        self.starting: bool = self.values['autostart']
        """Whether it goes through its lifecycle by itself, and is not active yet."""
        self.complaint: Exception | None = None
        """What let the last transition fail."""
        self._waiting_since = 0.0
        self.description = ''
        """The URDF that the robot publishes; empty before it is received."""
        self.create_subscription(String, TOPIC, self._on_description, qos.DESCRIPTION)
        self.create_service(Trigger, '~/preflight', self._on_preflight)

    def _on_description(self, message: String) -> None:
        self.description = message.data

    def kinematics_of(self, contract: Contract) -> Kinematics:
        """Load the robot of a contract: see `description.kinematics_of`."""
        return kinematics_of(contract, self.description, self.resolve_topic_name(TOPIC))

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each thing that was looked at; in every state."""
        return False, f'failure: lifecycle: the node is not configured: ros2 lifecycle set {self.get_name()} configure'

    def _on_preflight(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self.preflight()
        return response

    @property
    @abc.abstractmethod
    def is_configured(self) -> bool:
        """Whether there is something to activate."""

    @property
    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether activation may succeed."""

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting for more cannot help."""
        return False

    @property
    def is_done(self) -> bool:
        """Whether the node has finished its job."""
        return False

    def now(self) -> int:
        """Return the time of this node [ns]: that of the stamps of joint states."""
        # The node's own clock takes twenty times as long, which counts a thousand times a second.
        return self.get_clock().now().nanoseconds if self.simulated else time.time_ns()

    def attend(self) -> bool:
        """With autostart: configure, wait for the arm, activate; return whether the job is done.

        Raises
        ------
        VddError
            What cannot work: it ends the process in one line.

        """
        if not self.starting:
            return self.is_done
        self._waiting_since = self._waiting_since or time.monotonic()
        if not self.is_configured:
            result = self.trigger_configure()
            if not isinstance(self.complaint, DescriptionMissing) or self._is_late:
                self._demand(result)
            if result == TransitionCallbackReturn.SUCCESS:
                self._waiting_since = time.monotonic()
            return False
        late = self._is_late
        if self.is_ready or self.is_hopeless or late:
            # Peers may still be unknown: discovery takes its time, and nobody else asks again.
            result = self.trigger_activate()
            if result == TransitionCallbackReturn.SUCCESS or late or self.is_hopeless:
                self._demand(result)
                self.starting = False
        return False

    @property
    def _is_late(self) -> bool:
        return time.monotonic() - self._waiting_since > self.values['startup_timeout']

    def _demand(self, result: TransitionCallbackReturn) -> None:
        if result != TransitionCallbackReturn.SUCCESS:
            raise self.complaint
