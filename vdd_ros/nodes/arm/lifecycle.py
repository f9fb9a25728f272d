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
from std_srvs.srv import Trigger

from vdd_ros.common.errors import VddError
from vdd_ros.nodes.parameters import Parameter, Value, declare


def transition(callback: Callable[..., None]) -> Callable[..., TransitionCallbackReturn]:
    """Let a lifecycle callback of an `ArmNode` raise.

    The error is logged and the transition fails; rclpy would hide the error. The node keeps it as `complaint`, which is
    the last line of a process with autostart.
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
    """A node with a table of parameters; configures and activates itself with the parameter `autostart`.

    The table contains `autostart` and `startup_timeout`.
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
        """Parameter values at the start, by name."""
        self.simulated: bool = self.get_parameter('use_sim_time').value
        """Whether the time is simulated."""
        self.wall = Clock(clock_type=ClockType.STEADY_TIME)
        """Clock of timers that run independent of the simulation."""
        self.starting: bool = self.values['autostart']
        """Whether autostart is in progress."""
        self.complaint: Exception | None = None
        """Error of the last failed transition."""
        self._waiting_since = 0.0
        self.create_service(Trigger, '~/preflight', self._on_preflight)

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
            What cannot work: it ends the process in one line.

        """
        if not self.starting:
            return self.is_done
        if not self.is_configured:
            self._demand(self.trigger_configure())
            self._waiting_since = time.monotonic()
            return False
        late = time.monotonic() - self._waiting_since > self.values['startup_timeout']
        if self.is_ready or self.is_hopeless or late:
            # Peers may still be unknown: discovery takes time.
            result = self.trigger_activate()
            if result == TransitionCallbackReturn.SUCCESS or late or self.is_hopeless:
                self._demand(result)
                self.starting = False
        return False

    def _demand(self, result: TransitionCallbackReturn) -> None:
        if result != TransitionCallbackReturn.SUCCESS:
            raise self.complaint
