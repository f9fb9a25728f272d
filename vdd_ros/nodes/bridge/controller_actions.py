"""The actions of simulated controllers, equal to those of ros2_control; only if control_msgs is installed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from trajectory_msgs.msg import JointTrajectoryPoint

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.nodes.arm.action_types import FOLLOW_JOINT_TRAJECTORY, GRIPPER_COMMAND, action_class, are_installed
from vdd_ros.nodes.bridge.controller_topics import ControllerTopics
from vdd_ros.nodes.bridge.world import World
from vdd_ros.sim.controllers import Controller, PositionController, TrajectoryController

_PERIOD = 0.02
"""Wall time between two checks of running goals [s]."""
_KEPT = 5
"""Time for which results of goals are kept [s]; a policy sends 25 goals per second."""
_REACHED = 0.001
"""Distance from the commanded position at which a gripper has arrived [m] or [rad]."""
_STALLED = NANOSECONDS
"""Time without motion after which a gripper has stalled [ns], as in gripper_action_controller."""

Do = Callable[[Callable[[], Any]], Any]
Accept = Callable[[Controller, Any], bool]


@dataclass
class _Goal:
    """A running goal."""

    handle: ServerGoalHandle
    command: tuple[int, int]
    """Episode, and number of the command among those of the controller."""
    end: int
    """Time at which the trajectory ends [ns]."""
    position: np.ndarray
    """Position at the last motion, shape (joint,)."""
    moved: int
    """Time of the last motion [ns]."""


class ControllerActions:
    """Offers FollowJointTrajectory for trajectory controllers, and GripperCommand for controllers of one joint.

    A goal is a command that reports its end. The next command to the controller, as a goal or on the topic, replaces
    the goal. The state of a running goal is *accepted*, the only state that a non-blocking server of rclpy has.
    """

    def __init__(self, node: Node, world: World, topics: ControllerTopics, accept: Accept, do: Do) -> None:
        """Offer the actions; none without control_msgs.

        Parameters
        ----------
        node
            The node.
        world
            The world with the controllers.
        topics
            The command topics of the controllers.
        accept
            Delivers a command to a controller as if it had arrived on the topic; returns whether it was accepted.
            Called in the physics thread.
        do
            Calls a function in the physics thread, and returns its result.

        """
        self._servers: list[_Server] = []
        if not are_installed():
            return
        for name, controller in world.stage.controllers.items():
            if isinstance(controller, TrajectoryController):
                self._servers.append(_Trajectories(node, f'{name}/follow_joint_trajectory', controller, world, topics))
            elif isinstance(controller, PositionController) and len(controller.joints) == 1:
                action = topics.topics[name] if topics.takes_gripper_commands(name) else f'{name}/gripper_cmd'
                self._servers.append(_Openings(node, action, controller, world, topics))
        for server in self._servers:
            server.open(accept, do)
        self._timer = node.create_timer(_PERIOD, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def close(self) -> None:
        """Destroy the servers."""
        for server in self._servers:
            server.close()

    def _look(self) -> None:
        for server in self._servers:
            server.look()


class _Server(ABC):
    """The action of one controller."""

    kind: str

    def __init__(self, node: Node, action: str, controller: Any, world: World, topics: ControllerTopics) -> None:
        self._node, self._action, self._controller, self._world, self._topics = node, action, controller, world, topics
        self._type = action_class(self.kind)
        self._goal: _Goal | None = None
        self._accepted: tuple[tuple[int, int], int] = (0, 0), 0

    def open(self, accept: Accept, do: Do) -> None:
        """Create the server."""
        self._accept, self._do = accept, do
        self._server = ActionServer(
            self._node,
            self._type,
            self._action,
            lambda handle: self._type.Result(),
            goal_callback=self._on_goal,
            handle_accepted_callback=self._on_accepted,
            cancel_callback=lambda request: CancelResponse.ACCEPT,
            result_timeout=_KEPT,
        )

    def close(self) -> None:
        """Destroy the server."""
        self._server.destroy()

    def look(self) -> None:
        """Report the progress of the running goal, and end it if it is done."""
        goal = self._goal
        if goal is None:
            return
        end = self._do(partial(self._ended, goal))
        if end is not None:
            self._goal = None
            goal.handle.execute(end)

    @abstractmethod
    def _message(self, goal: Any) -> Any:
        """Return the command of a goal for the controller."""

    @abstractmethod
    def _end_of(self, goal: Any) -> int:
        """Return when the motion of a goal ends [ns]."""

    @abstractmethod
    def _progress(self, goal: _Goal, desired: np.ndarray, measured: np.ndarray) -> Callable | None:
        """Return how to end a goal at the desired and measured positions, shape (joint,); None: not yet."""

    def _result(self, **values: Any) -> Any:
        return self._type.Result(**values)

    @property
    def _newest(self) -> tuple[int, int]:
        return self._world.index, self._topics.taken[self._controller.name]

    def _on_goal(self, goal: Any) -> GoalResponse:
        def take() -> bool:
            accepted = self._accept(self._controller, self._message(goal))
            self._accepted = self._newest, self._end_of(goal)
            return accepted

        return GoalResponse.ACCEPT if self._do(take) else GoalResponse.REJECT

    def _on_accepted(self, handle: ServerGoalHandle) -> None:
        self.look()  # ends the goal that this one replaces
        command, end = self._accepted
        self._goal = _Goal(handle, command, end, self._controller.tracking[1], self._world.stamp)

    def _ended(self, goal: _Goal) -> Callable | None:
        """Return how to end a goal; None: not yet. Called in the thread of the physics."""
        if goal.command != self._newest:
            return self._replaced()
        desired, measured = self._controller.tracking
        if goal.handle.is_cancel_requested:
            self._controller.start()
            return _ending('canceled', self._outcome(measured))
        if np.abs(measured - goal.position).max() > _REACHED:
            goal.position, goal.moved = measured, self._world.stamp
        return self._progress(goal, desired, measured)

    def _replaced(self) -> Callable:
        return _ending('abort', self._outcome(self._controller.tracking[1], 'replaced by another command'))

    @abstractmethod
    def _outcome(self, measured: np.ndarray, reason: str = '') -> Any:
        """Return the result of a goal that did not reach its end."""


class _Trajectories(_Server):
    """FollowJointTrajectory, with the tolerances of the goal; a tolerance of 0 is not checked."""

    kind = FOLLOW_JOINT_TRAJECTORY

    def _message(self, goal: Any) -> Any:
        return goal.trajectory

    def _end_of(self, goal: Any) -> int:
        begin = self._topics.begin_of(goal.trajectory)
        last = goal.trajectory.points[-1].time_from_start if goal.trajectory.points else None
        return begin if last is None else begin + last.sec * NANOSECONDS + last.nanosec

    def _progress(self, goal: _Goal, desired: np.ndarray, measured: np.ndarray) -> Callable | None:
        request, codes = goal.handle.request, self._type.Result
        feedback = self._type.Feedback(joint_names=list(self._controller.joints))
        for name, values in (('desired', desired), ('actual', measured), ('error', desired - measured)):
            setattr(feedback, name, JointTrajectoryPoint(positions=values.tolist()))
        goal.handle.publish_feedback(feedback)
        if beyond := self._beyond(request.path_tolerance, desired, measured):
            self._controller.start()
            result = self._result(error_code=codes.PATH_TOLERANCE_VIOLATED, error_string=beyond)
            return _ending('abort', result)
        if self._world.stamp < goal.end:
            return None
        beyond = self._beyond(request.goal_tolerance, desired, measured)
        if not beyond:
            return _ending('succeed', self._result(error_code=codes.SUCCESSFUL))
        late = request.goal_time_tolerance
        if self._world.stamp < goal.end + late.sec * NANOSECONDS + late.nanosec:
            return None
        return _ending('abort', self._result(error_code=codes.GOAL_TOLERANCE_VIOLATED, error_string=beyond))

    def _beyond(self, tolerances: Any, desired: np.ndarray, measured: np.ndarray) -> str:
        """Return which joint is outside its tolerance, in words; empty if none is."""
        allowed = {each.name: each.position for each in tolerances if each.position > 0}
        for name, error in zip(self._controller.joints, np.abs(desired - measured)):
            if error > allowed.get(name, np.inf):
                return f'{name} is {error:.4f} from its setpoint; allowed are {allowed[name]:.4f}'
        return ''

    def _outcome(self, measured: np.ndarray, reason: str = '') -> Any:
        return self._result(error_code=self._type.Result.INVALID_GOAL if reason else 0, error_string=reason)


class _Openings(_Server):
    """GripperCommand: succeeds at the commanded position, or where the gripper stalls. Effort is not limited."""

    kind = GRIPPER_COMMAND

    def _message(self, goal: Any) -> Any:
        if self._topics.takes_gripper_commands(self._controller.name):
            return goal.command
        return np.array([goal.command.position])

    def _end_of(self, goal: Any) -> int:
        return 0

    def _progress(self, goal: _Goal, desired: np.ndarray, measured: np.ndarray) -> Callable | None:
        reached = bool(np.abs(desired - measured).max() <= _REACHED)
        stalled = not reached and self._world.stamp - goal.moved >= _STALLED
        feedback = self._type.Feedback(position=float(measured[0]), reached_goal=reached, stalled=stalled)
        goal.handle.publish_feedback(feedback)
        if not (reached or stalled):
            return None
        return _ending('succeed', self._result(position=float(measured[0]), reached_goal=reached, stalled=stalled))

    def _outcome(self, measured: np.ndarray, reason: str = '') -> Any:
        return self._result(position=float(measured[0]))


def _ending(how: str, result: Any) -> Callable:
    """Return the callback that ends a goal: `succeed`, `abort` or `canceled`."""

    def end(handle: ServerGoalHandle) -> Any:
        getattr(handle, how)()
        return result

    return end
