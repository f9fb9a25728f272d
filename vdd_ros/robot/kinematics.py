"""Forward and inverse kinematics of an arm from MJCF or URDF, for live control and offline use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import daqp
import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError, ReachError
from vdd_ros.common.share import model_path
from vdd_ros.contract.contract import Contract, ToolWeights
from vdd_ros.robot.joint_limits import JointLimit, by_kind, urdf_joint_limits
from vdd_ros.robot.urdf import bare_urdf, is_urdf, mimics

POSITION_TOLERANCE = 1e-5
"""Maximum distance to the target position at which `Kinematics.solve` succeeds [m]."""
ORIENTATION_TOLERANCE = 1e-4
"""Maximum angle to the target orientation at which `Kinematics.solve` succeeds [rad]."""
MAX_ITERATIONS = 30
"""Maximum number of iterations of one solution, which bounds the computing time."""
USUAL_SPEED = 3.0
"""Speed limit of `Kinematics.step_limits` for revolute joints without a limit in the model [rad/s]."""
USUAL_SLIDE_SPEED = 1.0
"""Speed limit of `Kinematics.step_limits` for prismatic joints without a limit in the model [m/s]."""

_MAX_STEP = 0.5
_DAMPING = 1e-9
_LIMITED_DAMPING = 1e-6
"""Damping of the quadratic program, which factorises a matrix of joint size; redundant arms need more damping."""
_ROUNDING = 1e-9
"""Bound of the rounding error of all steps together [rad]."""
_REMEMBERED = 1024
_SETTLED = 1e-7
"""Change of the joints [rad] below which the iteration has stalled."""
_STAGNANT, _PATIENCE = 0.01, 6
"""Share of the error that consecutive iterations must remove together."""
_SHARES = (0.9, 0.45, 0.2)
"""Fractions of a motion to try if it exceeds the joint speeds, relative to the fraction that is nearly possible."""
_SOFT = 1e-5
"""Weight of an axis that is preferred but not required, relative to a required axis."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Joint positions for a tool pose, and the remaining error."""

    joints: np.ndarray
    """Shape (joint,) [rad], within the joint limits and the maximum change."""
    distance: float
    """Distance of the tool point from its target along the required axes [m]."""
    angle: float
    """Angle between tool and target about the required axes [rad]."""
    reached: bool
    """Whether `distance` and `angle` are within `POSITION_TOLERANCE` and `ORIENTATION_TOLERANCE`."""
    iterations: int
    """Number of iterations, at most `MAX_ITERATIONS`."""
    slowed: tuple[str, ...] = ()
    """Joints that reached the maximum change."""
    singular: bool = False
    """Whether even a fraction of the motion exceeds the maximum change; only set by `Kinematics.toward`."""
    stopped: tuple[str, ...] = ()
    """Joints at a position limit."""

    @property
    def reason(self) -> str:
        """Why the pose is not reached; empty if the pose is reached."""
        if self.reached:
            return ''
        away = f'{1e3 * self.distance:.3g} mm and {math.degrees(self.angle):.3g} degrees'
        text = f'the tool is {away} away from its pose'
        if self.slowed:
            return f'{text}: {", ".join(self.slowed)} would exceed the joint speed'
        if self.singular:
            return f'{text}: near a singularity or the limit of the workspace'
        if self.stopped:
            return f'{text}: {", ".join(self.stopped)} at the joint limit'
        return f'{text}: out of reach'


class _Coupling(NamedTuple):
    """A joint coupled to a leader: a polynomial of the leader's value, both relative to their references."""

    qpos: int
    dof: int
    leader_qpos: int
    leader_dof: int
    reference: float
    leader_reference: float
    polynomial: tuple[float, ...]


class Kinematics:
    """Forward and differential inverse kinematics of some joints of an arm.

    Coupled joints (``<mimic>`` in URDF, ``<equality><joint>`` in MJCF) move with their leaders. All other joints keep
    the positions of the model. Results depend only on the arguments. An instance has scratch memory, and must not be
    shared between threads.
    """

    def __init__(
        self, model: str | Path, tool: str, joints: Sequence[str], weights: ToolWeights = ToolWeights()
    ) -> None:
        """Load a model.

        Parameters
        ----------
        model
            MJCF or URDF file. Meshes of a URDF are not read.
        tool
            Site, body or link of the tool point.
        joints
            Names of hinge or slide joints, in the order of all arrays.
        weights
            Weights that make axes of a pose required, preferred or free.

        Raises
        ------
        ModelError
            The file is missing or malformed, has no such tool or joint, or has a cycle of coupled joints.

        """
        file = Path(model)
        self.model = _load(file)
        self.joints = tuple(joints)
        self._data = mujoco.MjData(self.model)
        indices = [_joint_index(self.model, joint, file) for joint in self.joints]
        # As intp: numpy indexes ten times slower with the int32 of MuJoCo.
        self._qpos = self.model.jnt_qposadr[indices].astype(np.intp)
        self._dof = self.model.jnt_dofadr[indices].astype(np.intp)

        self._model_limits = urdf_joint_limits(file) if is_urdf(file) else _mjcf_joint_limits(self.model)
        limits = self.limits_of(self.joints)
        self.lower: np.ndarray = limits['lower']
        """Lower joint limits, shape (joint,) [rad]; minus infinity if the model has none."""
        self.upper: np.ndarray = limits['upper']
        """Upper joint limits, shape (joint,) [rad]; infinity if the model has none."""
        self.velocity_limits: np.ndarray = limits['velocity']
        """Velocity limits, shape (joint,) [rad/s]; infinity if the model has none. In MJCF: the tuple
        `velocity_limits`."""
        self.acceleration_limits: np.ndarray = limits['acceleration']
        """Acceleration limits, shape (joint,) [rad/s^2]; infinity if the model has none. In MJCF: the tuple
        `acceleration_limits`."""
        self.jerk_limits: np.ndarray = limits['jerk']
        """Jerk limits, shape (joint,) [rad/s^3]; infinity if the model has none. In MJCF: the tuple `jerk_limits`."""

        kind, self._tool = _frame(self.model, tool, file)
        self._jacobian_of = mujoco.mj_jacSite if kind == 'site' else mujoco.mj_jacBody
        # Views of the tool pose in MuJoCo, and buffers for `solve`: created once instead of at every step.
        frame = self._data.site(self._tool) if kind == 'site' else self._data.body(self._tool)
        self._place, self._matrix = frame.xpos, frame.xmat
        self._full, self._error = np.empty((6, self.model.nv)), np.empty(6)
        self._full_halves, (self._shift, self._turned) = np.split(self._full, 2), np.split(self._error, 2)
        self._turn, self._quaternion, self._solution = np.empty(3), np.empty(4), np.empty(6)
        self._factor = np.empty((6, 6))
        self._diagonal = self._factor.reshape(-1)[::7]
        self._known: dict[bytes, np.ndarray] = {}
        # Solved in the order of the model, so that the order of the caller does not affect rounding.
        order = np.argsort(self._dof)
        self._order, self._places = order, np.argsort(order)
        self._columns = self._dof[order]
        body = int(self.model.site_bodyid[self._tool]) if kind == 'site' else self._tool
        self._couplings = _leading_to(self.model, body, _couplings(self.model, indices, file))
        self._motion = np.zeros((self.model.nv, len(self.joints)))
        self._motion[self._columns, np.arange(len(self.joints))] = 1.0
        self._weigh(weights)
        slides = self.model.jnt_type[indices] == int(mujoco.mjtJoint.mjJNT_SLIDE)
        default = np.where(slides, USUAL_SLIDE_SPEED, USUAL_SPEED)
        self._speeds = np.where(np.isfinite(self.velocity_limits), self.velocity_limits, default)
        self._no_rows, self._sense = np.zeros((0, len(self.joints))), np.zeros(len(self.joints), dtype=np.int32)

    def _weigh(self, weights: ToolWeights) -> None:
        values = np.array([*weights.position, *weights.rotation])
        self._required = (values == 1.0).astype(np.float64)
        self._scale = np.where(values == 1.0, 1.0, math.sqrt(_SOFT) * values)
        self._is_plain = bool((values == 1.0).all())
        self._is_soft = bool(((values > 0.0) & (values < 1.0)).any())

    @classmethod
    def from_contract(cls, contract: Contract) -> Kinematics:
        """Load the robot of a contract.

        Raises
        ------
        ModelError
            The contract has no robot, or the file is missing or malformed, or lacks the tool or a joint.

        """
        robot = contract.robot
        if not contract.has_robot:
            raise ModelError(
                expected='a contract with a robot',
                found=f'{contract.name}, a contract of plain arrays',
                remedy='write a contract for the robot; `vdd contract init` drafts one',
            )
        if not robot.model:
            raise ModelError(
                expected=f'robot.model in the contract {contract.name}',
                found='none',
                remedy='name an MJCF or URDF file there; only nodes on a robot do without, by robot_description',
            )
        return cls(model_path(robot.model), robot.tool, robot.joints, robot.tool_weights)

    def limits_of(self, joints: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the limits of joints in the model, in the form of `joint_limits.load_joint_limits`.

        Limits are infinite if the model has no limit or no such joint.
        """
        rows, joint_type = [], mujoco.mjtObj.mjOBJ_JOINT
        for joint in joints:
            row, index = self._model_limits.get(joint, JointLimit()), mujoco.mj_name2id(self.model, joint_type, joint)
            if index >= 0 and self.model.jnt_limited[index]:
                low, high = self.model.jnt_range[index].tolist()
                row = replace(row, lower=max(low, row.lower), upper=min(high, row.upper))
            rows.append(row)
        return by_kind(rows)

    def units_of(self, joints: Sequence[str]) -> tuple[str, ...]:
        """Return the unit of the position of each joint: ``m`` of a prismatic joint, ``rad`` of any other.

        The unit of a joint that is not in the model is ``rad or m``.
        """
        found = [mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) for joint in joints]
        slide = int(mujoco.mjtJoint.mjJNT_SLIDE)
        return tuple('rad or m' if at < 0 else 'm' if self.model.jnt_type[at] == slide else 'rad' for at in found)

    def has_joint(self, joint: str) -> bool:
        """Return whether the model has a joint."""
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) >= 0

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m] in the world frame of the model."""
        joints = np.asarray(joints, dtype=np.float64)
        # A control loop repeats joint positions: the observation uses the newest command, whose pose is already known.
        if joints.ndim == 1 and (known := self._known.get(joints.tobytes())) is not None:
            return known.copy()
        rows = joints.reshape(-1, len(self.joints))
        positions = np.empty((len(rows), 3))
        for row, position in zip(rows, positions):
            self._put(row)
            position[:] = self._place
        positions = positions.reshape(*joints.shape[:-1], 3)
        if joints.ndim == 1:
            self._remember(joints)
        return positions

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to unit quaternions of the tool, shape (..., 4), w x y z."""
        joints = np.asarray(joints, dtype=np.float64)
        rows = joints.reshape(-1, len(self.joints))
        quaternions = np.empty((len(rows), 4))
        for row, quaternion in zip(rows, quaternions):
            self._put(row)
            mujoco.mju_mat2Quat(quaternion, self._matrix)
        return quaternions.reshape(*joints.shape[:-1], 4)

    def step_limits(self, seconds: float) -> np.ndarray:
        """Return the maximum change of each joint in a time [s], shape (joint,) [rad], from its velocity limit.

        Without a limit in the model, `USUAL_SPEED` and `USUAL_SLIDE_SPEED` are used.
        """
        return self._speeds * seconds

    def solve(self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return joint positions for a tool pose, closest to ``start``; see `nearest`.

        Parameters
        ----------
        position, orientation, start
            See `nearest`.

        Returns
        -------
        Shape (joint,) [rad], within the joint limits.

        Raises
        ------
        ReachError
            The pose is not reached; the message gives the remaining error and its cause.

        """
        solution = self.nearest(position, orientation, start)
        if not solution.reached:
            place = ', '.join(f'{value:.4g}' for value in np.asarray(position).tolist())
            raise ReachError(
                expected=f'a tool pose at ({place}) m within reach of {", ".join(self.joints)}',
                found=solution.reason,
                remedy='choose a reachable pose, start closer to it, or free an axis with `robot.tool_weights`',
            )
        return solution.joints

    def nearest(
        self,
        position: np.ndarray,
        orientation: np.ndarray,
        start: np.ndarray,
        max_change: np.ndarray | None = None,
    ) -> Solution:
        """Return the joint positions that bring the tool closest to a pose, starting from ``start``.

        Each iteration uses the smallest joint change that reduces the error, so a redundant arm does not drift while
        its tool is at rest. There are at most `MAX_ITERATIONS` iterations.

        Parameters
        ----------
        position, orientation
            The pose: shape (3,) [m] and unit quaternion of shape (4,), w x y z. Both must be finite.
        start
            Initial joint positions, shape (joint,) [rad].
        max_change
            Maximum change of each joint from ``start``, shape (joint,) [rad]; None: unlimited. Near a singularity a
            small step of the tool requires a large step of the joints.

        """
        # Plain numbers, because the call overhead of numpy exceeds the work on six numbers. Limits are ignored until a
        # joint is close to one. This dominates the cost of a simulated step.
        joints = start = self._clipped(np.asarray(start, dtype=np.float64))
        lower, upper = self.lower, self.upper
        if max_change is not None:
            lower, upper = np.maximum(lower, start - max_change), np.minimum(upper, start + max_change)
        room = min(np.minimum(joints - lower, upper - joints).tolist()) - _ROUNDING
        best, least, nearest = joints, math.inf, (math.inf, math.inf)
        marked, since = math.inf, 0
        largest = math.inf
        for iteration in range(MAX_ITERATIONS + 1):
            distance, angle = self._compare(joints, position, orientation)
            near = distance < POSITION_TOLERANCE and angle < ORIENTATION_TOLERANCE
            if near and (not self._is_soft or largest < ORIENTATION_TOLERANCE):
                self._remember(joints)
                return Solution(joints.copy(), distance, angle, True, iteration)
            if distance + angle < least or (near and self._is_soft):
                best, least, nearest = joints, distance + angle, (distance, angle)
            since += 1
            if least < (1 - _STAGNANT) * marked:
                marked, since = least, 0
            settled = largest < _SETTLED or (since >= _PATIENCE and not near)
            if settled or iteration == MAX_ITERATIONS:
                break
            # Levenberg-Marquardt: strong damping for large errors, little near the target.
            damping = distance * distance + angle * angle
            change = self._free_change(_DAMPING + damping)
            largest = max(map(abs, change.tolist()))
            room -= largest
            # The quadratic program costs more, and has the same solution if no limit is active.
            if room < 0.0 and (((moved := joints + change) < lower) | (moved > upper)).any():
                change = self._limited_change(_LIMITED_DAMPING + damping, lower - joints, upper - joints)
                largest = max(map(abs, change.tolist()))
            # Far from the target, the linear model is only valid for small steps.
            if largest > _MAX_STEP:
                change = change * (_MAX_STEP / largest)
            joints = joints + change
            if room < 0.0:
                joints = np.minimum(np.maximum(joints, lower), upper)
        if nearest[0] < POSITION_TOLERANCE and nearest[1] < ORIENTATION_TOLERANCE:
            return Solution(best.copy(), *nearest, True, iteration)
        ends = [(best - self.lower < _ROUNDING) | (self.upper - best < _ROUNDING)]
        ends.append(~ends[0] & ((best - lower < _ROUNDING) | (upper - best < _ROUNDING)))
        stopped, slowed = (tuple(name for name, end in zip(self.joints, each) if end) for each in ends)
        return Solution(best.copy(), *nearest, False, iteration, slowed, stopped=stopped)

    def toward(
        self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray, max_change: np.ndarray | None
    ) -> Solution:
        """Return a solution on the straight line from the tool at ``start`` to the pose.

        If the pose exceeds ``max_change``, the joints move the tool along a part of the line, and ``slowed`` lists the
        joints that limit the motion. If even a small part exceeds it, ``singular`` is true and the joints are not a
        solution. There are at most four solutions per call.
        """
        solution = self.nearest(position, orientation, start, max_change)
        if solution.reached or not solution.slowed:
            return solution
        start = self._clipped(np.asarray(start, dtype=np.float64))
        before = sum(self._compare(start, position, orientation))
        here, turn = self._place.copy(), self._turn.copy()
        attitude = np.empty(4)
        mujoco.mju_mat2Quat(attitude, self._matrix)
        made = 1 - (solution.distance + solution.angle) / before
        for factor in _SHARES:
            share, turned = factor * made, attitude.copy()
            mujoco.mju_quatIntegrate(turned, turn, share)
            part = self.nearest(here + share * (position - here), turned, start, max_change)
            if part.reached:
                left = self._compare(part.joints, position, orientation)
                return replace(solution, joints=part.joints, distance=left[0], angle=left[1])
        return replace(solution, slowed=(), singular=True)

    def _put(self, joints: np.ndarray) -> None:
        """Compute the body poses of joints, shape (joint,) [rad]."""
        qpos = self._data.qpos
        qpos[self._qpos] = joints
        for coupling in self._couplings:
            value, _ = _followed(coupling, qpos)
            qpos[coupling.qpos] = value
        mujoco.mj_kinematics(self.model, self._data)

    def _remember(self, joints: np.ndarray) -> None:
        """Cache the current tool position for joints of shape (joint,)."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[joints.tobytes()] = self._place.copy()

    def _clipped(self, joints: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(joints, self.lower), self.upper)

    def _compare(self, joints: np.ndarray, position: np.ndarray, orientation: np.ndarray) -> tuple[float, float]:
        """Compute the body poses and the error to a pose; return position and angle error [m], [rad]."""
        shift, turn, quaternion = self._shift, self._turn, self._quaternion
        self._put(joints)
        np.subtract(position, self._place, shift)
        mujoco.mju_mat2Quat(quaternion, self._matrix)
        mujoco.mju_subQuat(turn, orientation, quaternion)
        if self._is_plain:
            return math.hypot(*shift.tolist()), math.hypot(*turn.tolist())
        required = self._required
        return math.hypot(*(required[:3] * shift).tolist()), math.hypot(*(required[3:] * turn).tolist())

    def _weighed(self) -> np.ndarray:
        """Return the Jacobian, shape (6, joint) in the order of the model, for the error of `_compare`.

        Rows and error of a weighted pose are along the base axes and about the tool axes.
        """
        jacobian = self._full
        mujoco.mj_comPos(self.model, self._data)
        self._jacobian_of(self.model, self._data, *self._full_halves, self._tool)
        if self._couplings:
            motion, qpos = self._motion, self._data.qpos
            for coupling in self._couplings:
                motion[coupling.dof] = _followed(coupling, qpos)[1] * motion[coupling.leader_dof]
            jacobian = jacobian.dot(motion)
        elif len(self._columns) < self.model.nv:
            jacobian = jacobian.take(self._columns, 1)
        if self._is_plain:
            mujoco.mju_mulMatVec3(self._turned, self._matrix, self._turn)  # from tool axes to world axes
            return jacobian
        jacobian = np.concatenate([jacobian[:3], self._matrix.reshape(3, 3).T.dot(jacobian[3:])])
        self._turned[:] = self._turn
        self._error *= self._scale
        return self._scale[:, None] * jacobian

    def _free_change(self, damping: float) -> np.ndarray:
        """Return the damped least-squares change of the joints for the error of `_compare`, without limits."""
        factor, solution = self._factor, self._solution
        jacobian = self._jacobian = self._weighed()
        factor[:] = jacobian.dot(jacobian.T)
        self._diagonal += damping
        # The matrix is positive definite due to damping; as accurate as LAPACK, with less call overhead.
        mujoco.mju_cholFactor(factor, 0.0)
        mujoco.mju_cholSolve(solution, factor, self._error)
        return solution.dot(jacobian)[self._places]

    def _limited_change(self, damping: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Return the same within bounds of the change, shape (joint,), which must include zero.

        A strictly convex quadratic program with bounds only: the solution exists and is unique.
        """
        jacobian, order = self._jacobian, self._order
        hessian = jacobian.T.dot(jacobian)
        hessian.reshape(-1)[:: len(order) + 1] += damping
        change, *_ = daqp.solve(
            hessian, -self._error.dot(jacobian), self._no_rows, upper[order], lower[order], self._sense
        )
        return change[self._places]


def joint_ranges(file: str | Path) -> dict[str, tuple[float, float]]:
    """Return the position limits of each hinge and slide joint of an MJCF or URDF [rad, m]; infinite if unlimited.

    Raises
    ------
    ModelError
        The file is missing or malformed.

    """
    model = _load(Path(file))
    kinds = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
    ranges = {}
    for joint in range(model.njnt):
        if model.jnt_type[joint] in kinds:
            lower, upper = model.jnt_range[joint] if model.jnt_limited[joint] else (-math.inf, math.inf)
            ranges[model.joint(joint).name] = (float(lower), float(upper))
    return ranges


def _load(file: Path) -> mujoco.MjModel:
    if not file.is_file():
        raise ModelError(
            expected=f'a robot model at {file}',
            found='no such file' if file.is_absolute() else f'no such file in {Path.cwd()}',
            remedy='give the path of an MJCF or URDF file; run the command in the folder of a relative one',
        )
    try:
        if is_urdf(file):
            return mujoco.MjModel.from_xml_string(bare_urdf(file))
        return mujoco.MjModel.from_xml_path(str(file))
    except (ValueError, ElementTree.ParseError) as error:
        raise ModelError(
            expected=f'an MJCF or URDF model in {file}', found=' '.join(str(error).split()), remedy='correct the file'
        ) from error


def _followed(coupling: _Coupling, qpos: np.ndarray) -> tuple[float, float]:
    """Return the value of a coupled joint, and its derivative with respect to its leader."""
    place = float(qpos[coupling.leader_qpos]) - coupling.leader_reference
    value = slope = 0.0
    for coefficient in reversed(coupling.polynomial):
        slope = slope * place + value
        value = value * place + coefficient
    return coupling.reference + value, slope


def _couplings(model: mujoco.MjModel, joints: Sequence[int], file: Path) -> tuple[_Coupling, ...]:
    """Return the joints coupled to others, in the order of evaluation."""
    pairs, placed = _coupled_pairs(model, file), set(joints)
    found: list[_Coupling] = []

    def follow(follower: int, leader: int, *rest: Any) -> None:
        place = int(model.jnt_qposadr[follower]), int(model.jnt_dofadr[follower])
        found.append(_Coupling(*place, int(model.jnt_qposadr[leader]), int(model.jnt_dofadr[leader]), *rest))
        placed.add(follower)

    while pairs:
        left = []
        for follower, leader, reference, leader_reference, polynomial in pairs:
            if leader in placed and follower not in placed:
                follow(follower, leader, reference, leader_reference, polynomial)
            elif follower in placed and leader not in placed and polynomial[1] and not any(polynomial[2:]):
                # If only the follower of a pair belongs to the arm, the leader moves with it.
                offset, slope = polynomial[:2]
                follow(leader, follower, leader_reference, reference, (-offset / slope, 1 / slope))
            elif leader not in placed:
                left.append((follower, leader, reference, leader_reference, polynomial))
        if len(left) == len(pairs):  # their leaders keep the positions of the model
            roots = {pair[1] for pair in left} - {pair[0] for pair in left}
            if not roots:
                raise ModelError(
                    expected=f'couplings of joints in {file} without a cycle',
                    found='a cycle of ' + ', '.join(sorted(model.joint(pair[0]).name for pair in left)),
                    remedy='correct the mimic or equality elements of the model',
                )
            placed |= roots
        pairs = left
    return tuple(found)


def _leading_to(model: mujoco.MjModel, body: int, couplings: tuple[_Coupling, ...]) -> tuple[_Coupling, ...]:
    """Return the couplings that move a body, in their order."""
    moves = set()
    while body > 0:
        first = int(model.body_dofadr[body])
        moves |= set(range(first, first + int(model.body_dofnum[body])))
        body = int(model.body_parentid[body])
    kept = []
    for coupling in reversed(couplings):
        if coupling.dof in moves:
            kept.append(coupling)
            moves.add(coupling.leader_dof)
    return tuple(reversed(kept))


def _coupled_pairs(model: mujoco.MjModel, file: Path) -> list[tuple[int, int, float, float, tuple[float, ...]]]:
    """Return follower, leader, the references of both, and the polynomial between them."""
    pairs = []
    if is_urdf(file):
        for name, mimic in mimics(ElementTree.parse(file).getroot(), file).items():
            follower, leader = _joint_index(model, name, file), _joint_index(model, mimic.leader, file)
            pairs.append((follower, leader, 0.0, 0.0, (mimic.offset, mimic.multiplier)))
        return pairs
    for index in range(model.neq):
        follower, leader = int(model.eq_obj1id[index]), int(model.eq_obj2id[index])
        if model.eq_type[index] == int(mujoco.mjtEq.mjEQ_JOINT) and model.eq_active0[index] and leader >= 0:
            references = (float(model.qpos0[model.jnt_qposadr[joint]]) for joint in (follower, leader))
            pairs.append((follower, leader, *references, tuple(model.eq_data[index, :5].tolist())))
    return pairs


def _mjcf_joint_limits(model: mujoco.MjModel) -> dict[str, JointLimit]:
    found = [_tuple_values(model, f'{kind}_limits') for kind in ('velocity', 'acceleration', 'jerk')]
    joints = {joint for values in found for joint in values}
    return {joint: JointLimit(-np.inf, np.inf, *(values.get(joint, np.inf) for values in found)) for joint in joints}


def _tuple_values(model: mujoco.MjModel, name: str) -> dict[str, float]:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_TUPLE, name)
    if index < 0:
        return {}
    first = model.tuple_adr[index]
    rows = range(first, first + model.tuple_size[index])
    return {model.joint(model.tuple_objid[row]).name: float(model.tuple_objprm[row]) for row in rows}


def _joint_index(model: mujoco.MjModel, name: str, file: Path) -> int:
    index = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if index < 0 or model.jnt_type[index] not in (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE)):
        known = ', '.join(model.joint(joint).name for joint in range(model.njnt))
        raise ModelError(
            expected=f'a hinge or slide joint {name} in {file}',
            found=f'the joints {known}' if known else 'no joint',
            remedy='use the joint names of the model',
        )
    return index


def _frame(model: mujoco.MjModel, name: str, file: Path) -> tuple[str, int]:
    for kind, type_ in (('site', mujoco.mjtObj.mjOBJ_SITE), ('body', mujoco.mjtObj.mjOBJ_BODY)):
        index = mujoco.mj_name2id(model, type_, name)
        if index >= 0:
            return kind, index
    known = [model.site(site).name for site in range(model.nsite)]
    known += [model.body(body).name for body in range(model.nbody)]
    raise ModelError(
        expected=f'a site or link {name} in {file}',
        found=f'the sites and links {", ".join(known)}',
        remedy='use one of them as the tool',
    )
