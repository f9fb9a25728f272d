"""Lifecycle of a node that moves an arm: transitions that may raise, and autostart."""

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
    """Let a lifecycle callback of an `ArmNode` fail with an exception.

    The error is logged and the transition fails; rclpy itself would hide the error. The node stores the error as
    `complaint`. With autostart, this is the last line that the process prints.
    """

    @functools.wraps(callback)
    def call(self: ArmNode, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            callback(self)
        except VddError as error:
            self.complaint = error
            if not self.starting:
                self.get_logger().error(str(error))
        except Exception as error:  # noqa: BLE001 - rclpy would hide any error
            self.complaint = error
            self.get_logger().error(traceback.format_exc())
        else:
            return TransitionCallbackReturn.SUCCESS
        return TransitionCallbackReturn.FAILURE

    return call


def unless_closed(callback: Callable[..., Any]) -> Callable[..., Any]:
    """Skip callbacks of a closed part of a node, which executors may still call.

    The response of a service keeps its default, which is a failure.
    """

    @functools.wraps(callback)
    def call(self: Any, *arguments: Any) -> Any:
        if self.closed:
            return arguments[-1] if arguments else None
        return callback(self, *arguments)

    return call


class ArmNode(LifecycleNode):
    """A lifecycle node with a table of parameters; with `autostart` the node configures and activates itself.

    The table contains `autostart` and `startup_timeout`.
    """

    def __init__(
        self,
        name: str,
        table: Sequence[Parameter],
        apply: Callable[[Mapping[str, Value]], None] | None = None,
        prefix: str = '',
    ) -> None:
        """Declare the parameters, and offer ``~/preflight``; arguments and errors as for `declare`."""
        super().__init__(name)
        # In Jazzy a transition that the state does not have raises, which would end the process while the arm moves.
        service = self._service_change_state
        service.callback = functools.partial(self._change_state, service.callback)
        self.values: Mapping[str, Value] = declare(self, table, apply, prefix)
        """Parameter values at the start, by name."""
        self.simulated: bool = self.get_parameter('use_sim_time').value
        """Whether the time is simulated."""
        self.wall = Clock(clock_type=ClockType.STEADY_TIME)
        """Clock for timers that run independently of the simulation."""
        self.starting: bool = self.values['autostart']
        """Whether autostart is in progress."""
        self.complaint: Exception | None = None
        """Error of the last failed transition."""
        self._waiting_since = 0.0
        self.description = ''
        """The URDF that the robot publishes; empty before it is received."""
        self.create_subscription(String, TOPIC, self._on_description, qos.DESCRIPTION)
        self.create_service(Trigger, '~/preflight', self._on_preflight)

    def _change_state(self, change: Callable[..., Any], request: Any, response: Any) -> Any:
        """Answer a request for a transition by ``change``; one that the state does not have is refused."""
        try:
            return change(request, response)
        except RuntimeError as error:
            wanted = request.transition.label or request.transition.id
            self.get_logger().error(f'transition {wanted} refused: {" ".join(str(error).split())}')
            response.success = False
            return response

    def _on_description(self, message: String) -> None:
        self.description = message.data

    def kinematics_of(self, contract: Contract) -> Kinematics:
        """Load the robot of a contract: see `description.kinematics_of`."""
        return kinematics_of(contract, self.description, self.resolve_topic_name(TOPIC))

    def preflight(self) -> tuple[bool, str]:
        """Return whether the arm may move, and a line for each check; in every state."""
        return False, f'failure: lifecycle: the node is not configured: ros2 lifecycle set {self.get_name()} configure'

    def _on_preflight(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success, response.message = self.preflight()
        return response

    @property
    @abc.abstractmethod
    def is_configured(self) -> bool:
        """Whether the node can be activated."""

    @property
    @abc.abstractmethod
    def is_ready(self) -> bool:
        """Whether activation may succeed."""

    @property
    def is_hopeless(self) -> bool:
        """Whether waiting cannot help."""
        return False

    @property
    def is_done(self) -> bool:
        """Whether the node has finished its job."""
        return False

    def now(self) -> int:
        """Return the time of this node [ns], in the clock of the joint states."""
        # The clock of the node takes twenty times as long, which matters at a thousand calls per second.
        return self.get_clock().now().nanoseconds if self.simulated else time.time_ns()

    def attend(self) -> bool:
        """With autostart: configure, wait for the arm, activate; return whether the job is done.

        Raises
        ------
        VddError
            Configuration or activation cannot succeed; the error ends the process with one line.

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
            # Peers may still be unknown: discovery takes time.
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
