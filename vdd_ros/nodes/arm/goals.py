"""Commands as goals of the actions of ros2_control, for controllers without a command topic."""

from __future__ import annotations

import math
import time
import uuid
from collections import deque
from functools import partial
from typing import Any

from action_msgs.msg import GoalStatus, GoalStatusArray
from rclpy.action import ActionClient
from rclpy.node import Node
from rclpy.qos import qos_profile_action_status_default
from rclpy.task import Future
from unique_identifier_msgs.msg import UUID

from vdd_ros.nodes.arm.action_types import FOLLOW_JOINT_TRAJECTORY, action_class

STATUS_TYPE = 'action_msgs/msg/GoalStatusArray'
_PERIODS = {FOLLOW_JOINT_TRAJECTORY: 0.04}
_PERIOD = 0.1
"""Minimum time between two goals [s]. A trajectory reaches further ahead (`trajectory_horizon`)."""
_CURRENT = 0.5
"""Time after a command within which a goal of another client counts as a conflict [s]."""
_REMEMBERED = 100
_RUNNING = (GoalStatus.STATUS_ACCEPTED, GoalStatus.STATUS_EXECUTING)


def status_topic(action: str) -> str:
    """Return the topic on which the server of an action publishes the state of its goals."""
    return f'{action}/_action/status'


class GoalSender:
    """Sends the latest command as a goal, which replaces the previous goal once the server has responded to that goal.

    Goals are sent, and responses are received, in the thread of the executor. `publish` may be called in any thread.
    """

    def __init__(self, node: Node, kind: str, action: str) -> None:
        """Create an action client; ``kind`` is the name of the action type, ``action`` that of the action.

        Raises
        ------
        ConfigurationError
            The package of the type is not installed.

        """
        self.action = action
        self._problem = ''
        self._node, self._type = node, action_class(kind)
        self._trajectory = kind == FOLLOW_JOINT_TRAJECTORY
        self._client = ActionClient(node, self._type, action)
        self._newest: Any = None
        self._published = -math.inf
        self._sent: Any = None
        self._unanswered: Future | None = None
        self._own: deque[bytes] = deque(maxlen=_REMEMBERED)
        self._foreign = False
        self._status = node.create_subscription(
            GoalStatusArray, status_topic(action), self._on_status, qos_profile_action_status_default
        )
        self._timer = node.create_timer(_PERIODS.get(kind, _PERIOD), self._flush, clock=node.wall)

    @property
    def is_taken(self) -> bool:
        """Whether an action server is available."""
        return self._client.server_is_ready()

    def take_rival(self) -> bool:
        """Return whether a goal of another client ran while this client sent commands; each event is reported once."""
        found, self._foreign = self._foreign, False
        return found

    def take_problem(self) -> str:
        """Return why the server did not execute a goal; empty if it did. Each problem is reported once."""
        problem, self._problem = self._problem, ''
        return problem

    def publish(self, message: Any) -> None:
        """Send a JointTrajectory or a GripperCommand message as a goal, at the next opportunity."""
        self._newest, self._published = message, time.monotonic()

    def close(self) -> None:
        """Destroy the client. The last goal continues."""
        self._node.destroy_timer(self._timer)
        self._node.destroy_subscription(self._status)
        self._client.destroy()

    def _flush(self) -> None:
        message = self._newest
        if message is None or message is self._sent or self._waits:
            return
        if not self._trajectory and self._sent is not None and message.position == self._sent.position:
            return
        self._sent = message
        goal = self._type.Goal(**{'trajectory' if self._trajectory else 'command': message})
        number = uuid.uuid4().bytes
        self._own.append(number)
        self._unanswered = self._client.send_goal_async(goal, goal_uuid=UUID(uuid=list(number)))
        self._unanswered.add_done_callback(partial(self._on_answer, number))

    @property
    def _waits(self) -> bool:
        """Whether the newest goal is neither accepted nor rejected; a server that has left never answers."""
        return self._unanswered is not None and not self._unanswered.done() and self.is_taken

    def _on_answer(self, number: bytes, future: Future) -> None:
        handle = future.result()
        if handle is None:
            return
        if not handle.accepted:
            self._problem = f'{self.action} rejects the goal'
            return
        handle.get_result_async().add_done_callback(partial(self._on_result, number))

    def _on_result(self, number: bytes, future: Future) -> None:
        """Record the failure of the newest goal; earlier ones end when it replaces them."""
        response = future.result()
        if response is None or number != self._own[-1]:
            return
        result = response.result
        if response.status == GoalStatus.STATUS_ABORTED and not getattr(result, 'stalled', False):
            reason = getattr(result, 'error_string', '') or getattr(result, 'error_code', 'no reason given')
            self._problem = f'{self.action} aborts the goal: {reason}'

    def _on_status(self, message: GoalStatusArray) -> None:
        running = {bytes(each.goal_info.goal_id.uuid) for each in message.status_list if each.status in _RUNNING}
        commands = time.monotonic() - self._published < _CURRENT
        self._foreign |= commands and bool(running.difference(self._own))
