"""Adapter between policy and arm: observation windows from joint positions, joint commands from actions."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np

from vdd_ros.common.errors import ContractError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.decode import Decoding, Part, ToolPoint
from vdd_ros.data.decode.rotation import from_six_dimensional
from vdd_ros.policy.observation import AnyObservation, Observation, Pixels

REACH_TOLERANCE = 2e-4
"""Maximum distance of the tool point from its target at which a step counts as reached [m]."""
TURN_TOLERANCE = 2e-3
"""Maximum angle between the tool orientation and its target at which a step counts as reached [rad]."""

DELAYS = np.linspace(0.0, 0.2, 9)
"""Plausible delays of an arm behind its commands [s]."""

_NONE: Mapping[str, np.ndarray] = MappingProxyType({})


class Solution(Protocol):
    """Result of inverse kinematics; `vdd_ros.robot.kinematics.Solution` implements it."""

    joints: np.ndarray
    """Shape (joint,) [rad]."""
    distance: float
    """Distance of the tool point from its target [m]."""
    angle: float
    """Angle between the orientation of the tool and its target [rad]."""
    slowed: tuple[str, ...]
    """Names of joints that would exceed their permitted change; the tool then reaches only a part of the path."""

    @property
    def reason(self) -> str:
        """Why the pose is not reached."""
        ...


class Kinematics(ToolPoint, Protocol):
    """Interface to the kinematics for contracts in tool space; `vdd_ros.robot.kinematics.Kinematics` implements it."""

    def step_limits(self, seconds: float) -> np.ndarray:
        """Return the maximum change of each joint in a time [s], shape (joint,) [rad]."""
        ...

    def toward(
        self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray, max_change: np.ndarray | None
    ) -> Solution:
        """Return joint positions for a tool pose, or for the part of the path that ``max_change`` permits."""
        ...


class Steps(NamedTuple):
    """The joint positions of several consecutive actions, as far as they are within reach."""

    joints: np.ndarray
    """Joint positions of the steps within reach, shape (step, joint) [rad]."""
    fault: str
    """Why the next step is out of reach; empty if all steps are within reach."""
    slowed: str
    """Why a step falls short of its pose (a joint would be too fast); empty if no step does."""


class PolicyInterface:
    """Converts between joint positions of one arm and the observations and actions of a contract.

    The control loop and in-process rollouts use this class. The joints are those of the contract: the joints of the
    robot, then those of further controllers such as a gripper. The object stores the last sent joint command and the
    last observations. In tool space, axes that the contract does not command (height, orientation) keep their value
    from `anchor`.

    No step exceeds the velocity limit of a joint within a policy period; if necessary, the tool falls short of its
    target. A pose that is out of reach, or behind a singularity, gives no command.
    """

    def __init__(self, contract: Contract, kinematics: Kinematics | None) -> None:
        """Bind a contract to kinematics, which contracts in joint space do not need."""
        self.contract = contract
        self._kinematics = kinematics
        self._decoding = Decoding(contract, kinematics)
        self._moves_tool = [part for part in self._decoding.done if part.space == 'tool']
        self._moves_joints = [part for part in self._decoding.done if part.space == 'joint']
        self._history: deque[np.ndarray] = deque(maxlen=contract.span + 1)
        self._lags = [part for part in self._decoding.observed if part.source == 'measured' and part.space != 'topic']
        if not any(part.source == 'commanded' for part in self._decoding.observed):
            self._lags = []
        self._sent: deque[np.ndarray] = deque(maxlen=2 + int(DELAYS[-1] * NANOSECONDS / contract.period))
        self._delayed: deque[np.ndarray | None] = deque(maxlen=contract.span + 1)
        self._images = {feature.name: feature.shape for feature in contract.arrays}
        self._shown: deque[Mapping[str, np.ndarray | Pixels]] = deque(maxlen=contract.span + 1)
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
        """Whether `tool_pose` is available, which requires kinematics."""
        return self._kinematics is not None

    def tool_pose(self, joints: np.ndarray) -> tuple[float, ...]:
        """Map joints of shape (joint,) [rad] to x, y, z [m] and roll, pitch, yaw [rad] (fixed axes) of the tool."""
        joints = joints[: self._robot]
        w, x, y, z = self._kinematics.tool_orientation(joints).tolist()
        roll = math.atan2(2 * (w * x + y * z), 1 - 2 * (x * x + y * y))
        pitch = math.asin(min(max(2 * (w * y - z * x), -1.0), 1.0))
        yaw = math.atan2(2 * (w * z + x * y), 1 - 2 * (y * y + z * z))
        return (*self._kinematics.tool_position(joints).tolist(), roll, pitch, yaw)

    def tool_positions(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (step, joint) [rad] to positions of the tool, shape (step, 3) [m]."""
        return self._kinematics.tool_position(joints[..., : self._robot])

    def tool_paths(self, chunks: np.ndarray) -> np.ndarray:
        """Return the tool paths, shape (expert, step, 3) [m], of chunks of shape (expert, step, action).

        The paths start from the last command, and ignore limits and reach. 16 chunks of 12 steps take 15 us in tool
        space and 0.8 ms in joint space, while `waypoints` takes tens of milliseconds.
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
        """Start from a measured position, shape (joint,) [rad]; it also serves as the last command."""
        for each in (self._history, self._sent, self._delayed, self._shown):
            each.clear()
        self._is_new = True
        self._commanded = np.array(measured, dtype=np.float64)
        if self._moves_tool:
            arm = self._commanded[: self._robot]
            self._reference = self._kinematics.tool_position(arm)
            self._orientation = self._kinematics.tool_orientation(arm)

    def observe(self, measured: np.ndarray, topics: Mapping[str, np.ndarray | Pixels] = _NONE) -> AnyObservation:
        """Process the values of a tick as `note` does, and return the `window`."""
        self.note(measured, topics)
        return self.window()

    def note(self, measured: np.ndarray, topics: Mapping[str, np.ndarray | Pixels] = _NONE, speed: float = 1.0) -> None:
        """Process the measured position of a tick, shape (joint,) [rad]; no image is decoded.

        ``topics`` contains the values of the topic features by name, shape (width,), and the images of a contract of
        version 3, decoded (flat or not) or not. ``speed`` is the speed of the plan, 1 as planned.
        """
        row, history = self._decoding.observation(measured, self._commanded, topics), self._history
        self._sent.append(self._commanded)
        delayed = self._at_full_speed(row, measured, speed) if self._lags and speed < 1 else None
        times = 1 if history else history.maxlen
        history.extend([row] * times)
        self._delayed.extend([delayed] * times)
        if self._images:
            shown = {name: topics[name] for name in self._images}
            self._shown.extend([shown] if self._shown else [shown] * self._shown.maxlen)

    def window(self) -> AnyObservation:
        """Return the latest observation window, shape (observation_horizon, observation), oldest first.

        At the start, the oldest observation is repeated, as in the training windows. Images are decoded by this call.
        An image that cannot be decoded is replaced by the previous one.

        Raises
        ------
        ContractError
            No image of the window can be decoded.

        """
        stride = self.contract.observation_stride
        vector = np.array(list(self._history)[::stride])
        if not self._images:
            return vector
        shown = list(self._shown)[::stride]
        return Observation(vector, {name: self._pixels(name, shown) for name in self._images})

    def windows_at_full_speed(self) -> np.ndarray | None:
        """Return what the newest window would be if the plan had its full speed, for every delay in `DELAYS`.

        A slower arm is closer to its commands. An arm with a constant delay is at full speed where the commands were
        this delay ago. The delay of the arm is not known, so there is a window for each plausible delay.

        Returns
        -------
        Shape (delay, observation_horizon, observation). None if the plan had its full speed, or if the contract does
        not observe both measured and commanded positions.

        """
        stride = self.contract.observation_stride
        pairs = list(zip(self._history, self._delayed))[::stride]
        if all(delayed is None for _, delayed in pairs):
            return None
        whole = [np.tile(row, (len(DELAYS), 1)) if delayed is None else delayed for row, delayed in pairs]
        return np.stack(whole, axis=1)

    def _at_full_speed(self, row: np.ndarray, measured: np.ndarray, speed: float) -> np.ndarray:
        """Return the observation of a tick for every delay in `DELAYS`, shape (delay, observation).

        In the time of the plan, an arm with a delay follows the commands from ``speed * delay`` ago. The measured
        position is moved by what the commands changed between the two times, so that noise and constant errors stay.
        """
        moved = measured + self._sent_before(DELAYS) - self._sent_before(speed * DELAYS)
        rows = np.tile(np.asarray(row, dtype=np.float64), (len(DELAYS), 1))
        for part in self._lags:
            rows[:, part.columns] = self._decoding.values(part, moved)
        return rows

    def _sent_before(self, seconds: np.ndarray) -> np.ndarray:
        """Return the commands of so long before the newest tick, in the time of the plan, shape (time, joint) [rad]."""
        sent, newest = np.array(self._sent), len(self._sent) - 1
        places = np.maximum(newest - seconds * NANOSECONDS / self.contract.period, 0.0)
        before = places.astype(np.intp)
        share = (places - before)[:, None]
        return (1 - share) * sent[before] + share * sent[np.minimum(before + 1, newest)]

    def _pixels(self, name: str, shown: Sequence[Mapping[str, np.ndarray | Pixels]]) -> np.ndarray:
        """Return an image of every time step, shape (observation_horizon, height, width, channel)."""
        given = [each[name] for each in shown]
        found = [item if isinstance(item, np.ndarray) else item.array() for item in given]
        good = next((item for item in found if item is not None), None)
        if good is None:
            raise ContractError(
                expected=f'an image of {name} that can be decoded',
                found='none in the window',
                remedy='check the camera and the log of the driver',
            )
        kept = []
        for item in found:
            good = good if item is None else item
            kept.append(good.reshape(self._images[name]))
        return np.stack(kept)

    def target(self, action: np.ndarray) -> np.ndarray:
        """Return the joint positions, shape (joint,) [rad], for an action of one step, shape (action,).

        The tool is moved to its pose first, then the directly commanded joints are set, which include those of further
        controllers. The result is not finite if the action is not finite or out of reach.
        """
        steps = self.waypoints(np.asarray(action)[None], self._commanded)
        return steps.joints[0] if len(steps.joints) else np.full_like(self._commanded, np.nan)

    def waypoints(self, actions: np.ndarray, start: np.ndarray) -> Steps:
        """Return the joint positions for actions of shape (step, action), up to the first action out of reach.

        The first step starts from the joint positions ``start``, shape (joint,) [rad]. A step that is not finite is NaN
        in the result.
        """
        # If the first pose is far away, the start gate must be able to compute the distance.
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

        None if a part of the action is commanded on other topics.
        """
        if any(part.space == 'topic' for part in self._decoding.done):
            return None
        if self.contract.commanded.quantity == 'velocity':
            arm = slice(self._robot)
            after = np.array(after)
            after[arm] = (after[arm] - before[arm]) / (self.contract.period / NANOSECONDS)
        return self._decoding.action(before, after)

    def motions(self, chunk: np.ndarray) -> np.ndarray:
        """Return the total motion of each chunk from the last command, in action space, shape (expert, motion).

        ``chunk`` has shape (expert, step, action). Action parts that are commanded on other topics are left out.
        """
        motions = []
        for part in self._decoding.done:
            values = chunk[..., part.columns]
            if part.space == 'topic':
                continue
            if part.mode == 'absolute':
                motions.append(values[:, -1] - self._decoding.values(part, self._commanded))
            else:
                motions.append(values.sum(axis=1))
        return np.concatenate(motions, axis=-1)

    def _step(
        self, action: np.ndarray, commanded: np.ndarray, step_limits: np.ndarray | None
    ) -> tuple[np.ndarray, Solution | None]:
        solution = None
        if self._moves_tool:
            tool, orientation = self._reference.copy(), self._orientation
            for part in self._moves_tool:
                wanted, axes = self._target(part, action, commanded), len(part.places)
                tool[part.places] = wanted[:axes]
                if part.turns:
                    orientation = from_six_dimensional(wanted[axes:])[[3, 0, 1, 2]]
            if not all(map(math.isfinite, [*tool.tolist(), *orientation.tolist()])):
                return np.full_like(commanded, np.nan), None  # inverse kinematics has no solution for it
            solution = self._kinematics.toward(tool, orientation, commanded[: self._robot], step_limits)
        target = np.array(commanded)
        if solution is not None:
            target[: self._robot] = solution.joints
        for part in self._moves_joints:
            target[part.places] = self._target(part, action, commanded)
        return target, solution

    def _target(self, part: Part, action: np.ndarray, commanded: np.ndarray) -> np.ndarray:
        """Return the target values of an action for a part of the arm, shape (width,)."""
        value = action[part.columns]
        if part.mode == 'absolute':
            return value
        change = value if part.mode == 'delta' else value * part.factor
        return self._decoding.values(part, commanded) + change

    def sent(self, command: np.ndarray) -> None:
        """Store the joint command that was sent."""
        self._is_new = self._is_new and np.array_equal(command, self._commanded)
        self._commanded = np.array(command, dtype=np.float64)
