"""The contract on a moving arm: observation windows out of its joints, joint commands out of the policy's actions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.decode import Decoding, Part, ToolPoint
from vdd_ros.data.decode.rotation import from_six_dimensional

REACH_TOLERANCE = 2e-4
"""Distance from its target [m] at which the tool point still counts as brought there by a step of the policy."""
TURN_TOLERANCE = 2e-3
"""The same of its orientation [rad]."""

_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class Solution(Protocol):
    """What inverse kinematics answers; `vdd_ros.robot.kinematics.Solution` is one."""

    joints: np.ndarray
    """Shape (joint,) [rad]."""
    distance: float
    """How far the tool point is from its target [m]."""
    angle: float
    """How far the tool's orientation is from its target [rad]."""
    slowed: tuple[str, ...]
    """Joints that would have had to change more than was allowed; the tool is on its way to the pose."""

    @property
    def reason(self) -> str:
        """Why the pose is not reached."""
        ...


class Kinematics(ToolPoint, Protocol):
    """What a Cartesian contract needs; `vdd_ros.robot.kinematics.Kinematics` is one."""

    def step_limits(self, seconds: float) -> np.ndarray:
        """Return the greatest change of each joint in a time [s], shape (joint,) [rad]."""
        ...

    def toward(
        self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray, max_change: np.ndarray | None
    ) -> Solution:
        """Return the joints that bring the tool to a pose, or along the way to it within a change from ``start``."""
        ...


class Steps(NamedTuple):
    """The joints that some actions ask for, one after the other."""

    joints: np.ndarray
    """Shape (step, joint) [rad]; as many as can be reached."""
    fault: str
    """Why the next step cannot be reached; empty if all can."""
    slowed: str
    """Why a step falls short of its tool pose, although it leads there: a joint would have to be too fast."""


class PolicyInterface:
    """One arm in motion under one contract; used alike by the control loop and by simulated rollouts.

    Its joints are those of the contract: those of the robot, then those of further controllers such as a gripper.
    Holds the last joint command that really left, and the last few observations. In tool space, what the contract
    does not command (height, orientation) stays where it was when the arm was anchored.

    No step asks a joint for more than its velocity limit allows in a policy period: the tool then makes a part of its
    way. A pose that is out of reach is no step at all, nor is one that a singularity is before.
    """

    def __init__(self, contract: Contract, kinematics: Kinematics | None) -> None:
        """Bind a contract to kinematics, which contracts in joint space do without."""
        self.contract = contract
        self._kinematics = kinematics
        self._decoding = Decoding(contract, kinematics)
        self._moves_tool = [part for part in self._decoding.done if part.space == 'tool']
        self._moves_joints = [part for part in self._decoding.done if part.space == 'joint']
        self._history: deque[np.ndarray] = deque(maxlen=contract.span + 1)
        self._commanded = np.zeros(0)
        self._robot = len(contract.robot.joints)
        self._is_new = True
        self._is_absolute = any(part.mode == 'absolute' for part in self._moves_tool)
        self._step_limits = kinematics.step_limits(contract.period / NANOSECONDS) if self._moves_tool else None

    @property
    def commanded(self) -> np.ndarray:
        """The last joint command, shape (joint,) [rad]; after `anchor` the measured position."""
        return self._commanded

    @property
    def has_tool(self) -> bool:
        """Whether `tool_pose` is available: there are kinematics."""
        return self._kinematics is not None

    def tool_pose(self, joints: np.ndarray) -> tuple[float, ...]:
        """Map joints of shape (joint,) [rad] to x, y, z [m] and roll, pitch, yaw [rad] (fixed axes) of the tool."""
        joints = joints[: self._robot]
        w, x, y, z = self._kinematics.tool_orientation(joints).tolist()
        roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
        pitch = math.asin(min(max(2 * (w * y - z * x), -1.0), 1.0))
        yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return (*self._kinematics.tool_position(joints).tolist(), roll, pitch, yaw)

    def tool_paths(self, chunks: np.ndarray) -> np.ndarray:
        """Return where chunks of shape (expert, step, action) lead the tool, shape (expert, step, 3) [m].

        They go out from the newest command, as `waypoints` does, but disregard limits and reach: 16 chunks of 12 steps
        take 15 us in tool space and .8 ms in joint space, where `waypoints` takes tens of milliseconds.
        """
        shape = chunks.shape[:2]
        if self._moves_tool:
            paths = np.tile(self._reference, (*shape, 1))
            for part in self._moves_tool:
                paths[..., part.places] = self._along(part, chunks)[..., : len(part.places)]
            return paths
        joints = np.tile(self._commanded, (*shape, 1))
        for part in self._moves_joints:
            joints[..., part.places] = self._along(part, chunks)
        return self._kinematics.tool_position(joints)

    def _along(self, part: Part, chunks: np.ndarray) -> np.ndarray:
        values = chunks[..., part.columns]
        if part.mode == 'absolute':
            return values
        changes = values if part.mode == 'delta' else values * part.factor
        return self._decoding.values(part, self._commanded) + np.cumsum(changes, axis=1)

    def anchor(self, measured: np.ndarray) -> None:
        """Start from a measured position, shape (joint,) [rad]: the arm is commanded to be where it is."""
        self._history.clear()
        self._is_new = True
        self._commanded = np.array(measured, dtype=np.float64)
        if self._moves_tool:
            arm = self._commanded[: self._robot]
            self._reference = self._kinematics.tool_position(arm)
            self._orientation = self._kinematics.tool_orientation(arm)

    def observe(self, measured: np.ndarray, topics: Mapping[str, np.ndarray] = _NONE) -> np.ndarray:
        """Take in one tick's measured position, shape (joint,) [rad], and return the observation window.

        ``topics`` holds, by name, the values of each feature that is read from a topic of its own, shape (width,).

        Returns shape (observation_horizon, observation), oldest first; before the arm has moved long enough, the
        oldest observation stands in for those that would be older, as in the windows that the policy was trained on.
        """
        row, history = self._decoding.observation(measured, self._commanded, topics), self._history
        history.extend([row] if history else [row] * history.maxlen)
        return np.array(list(history)[:: self.contract.observation_stride])

    def target(self, action: np.ndarray) -> np.ndarray:
        """Return the joints, shape (joint,) [rad], that an action of one step, shape (action,), asks for.

        The inverse of `action_values`: first the tool is brought to its place, then joints that are commanded by
        themselves to theirs, those of further controllers among them. Not finite where the action is not, or asks for
        what is out of reach.
        """
        steps = self.waypoints(np.asarray(action)[None], self._commanded)
        return steps.joints[0] if len(steps.joints) else np.full_like(self._commanded, np.nan)

    def waypoints(self, actions: np.ndarray, start: np.ndarray) -> Steps:
        """Return the joints that actions of shape (step, action) ask for one by one, up to the first out of reach.

        They go out from the joints ``start``, shape (joint,) [rad]. A step that is not finite is among them as NaN.
        """
        # Where the first pose is far away, the start gate is to see how far.
        free = self._is_new and self._is_absolute
        steps, fault, slowed = [], '', ''
        for action in np.asarray(actions, dtype=np.float64):
            start, solution = self._step(action, start, None if free else self._step_limits)
            if solution is not None and (solution.distance > REACH_TOLERANCE or solution.angle > TURN_TOLERANCE):
                if not solution.slowed:
                    fault = solution.reason
                    break
                slowed = slowed or solution.reason
            steps.append(start)
            free = False
        return Steps(np.array(steps).reshape(-1, len(self._commanded)), fault, slowed)

    def done(self, before: np.ndarray, after: np.ndarray) -> np.ndarray | None:
        """Return the action, shape (action,), that leads from one command to the next, shape (joint,) [rad] each.

        None if part of it is commanded on topics of their own.
        """
        if any(part.space == 'topic' for part in self._decoding.done):
            return None
        if self.contract.commanded.quantity == 'velocity':
            arm = slice(self._robot)
            after = np.array(after)
            after[arm] = (after[arm] - before[arm]) / (self.contract.period / NANOSECONDS)
        return self._decoding.action(before, after)

    def motions(self, chunk: np.ndarray) -> np.ndarray:
        """Return which way chunks of shape (expert, step, action) lead from the newest command, one row each."""
        ways = []
        for part in self._decoding.done:
            values = chunk[..., part.columns]
            if part.space == 'topic':
                continue
            if part.mode == 'absolute':
                ways.append(values[:, -1] - self._decoding.values(part, self._commanded))
            else:
                ways.append(values.sum(axis=1))
        return np.concatenate(ways, axis=-1)

    def _step(
        self, action: np.ndarray, commanded: np.ndarray, step_limits: np.ndarray | None
    ) -> tuple[np.ndarray, Solution | None]:
        solution = None
        if self._moves_tool:
            tool, orientation = self._reference.copy(), self._orientation
            for part in self._moves_tool:
                asked, axes = self._asked(part, action, commanded), len(part.places)
                tool[part.places] = asked[:axes]
                if part.turns:
                    orientation = from_six_dimensional(asked[axes:])[[3, 0, 1, 2]]
            if not all(map(math.isfinite, [*tool.tolist(), *orientation.tolist()])):
                return np.full_like(commanded, np.nan), None  # inverse kinematics has no answer to that
            solution = self._kinematics.toward(tool, orientation, commanded[: self._robot], step_limits)
        target = np.array(commanded)
        if solution is not None:
            target[: self._robot] = solution.joints
        for part in self._moves_joints:
            target[part.places] = self._asked(part, action, commanded)
        return target, solution

    def _asked(self, part: Part, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        """Return the values that an action asks of a part of the arm, shape (width,)."""
        value = action[part.columns]
        if part.mode == 'absolute':
            return value
        change = value if part.mode == 'delta' else value * part.factor
        return self._decoding.values(part, commanded) + change

    def sent(self, command: np.ndarray) -> None:
        """Note the joint command, shape (joint,) [rad], that left in the end."""
        self._is_new = self._is_new and np.array_equal(command, self._commanded)
        self._commanded = np.array(command, dtype=np.float64)
