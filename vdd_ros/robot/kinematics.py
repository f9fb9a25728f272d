"""Tool point and joints of an arm, from MJCF or URDF: what a Cartesian contract needs, live and offline."""

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
"""Distance to its target [m] at which `Kinematics.solve` counts the tool point as there."""
ORIENTATION_TOLERANCE = 1e-4
"""Angle to its target [rad] at which `Kinematics.solve` counts the tool as turned."""
MAX_ITERATIONS = 30
"""Most iterations of one solution: the bound of its computing time."""
USUAL_SPEED = 3.0
"""Joint speed limit [rad/s] of `Kinematics.step_limits` where the model is silent."""
USUAL_SLIDE_SPEED = 1.0
"""The same of a slide [m/s]."""

_MAX_STEP = 0.5
_DAMPING = 1e-9
_LIMITED_DAMPING = 1e-6
"""Damping of the quadratic program, which factorises a matrix of the size of the joints: redundant arms need more."""
_ROUNDING = 1e-9
"""More than what all steps together are rounded by [rad]."""
_REMEMBERED = 1024
_SETTLED = 1e-7
"""Change of the joints [rad] below which an iteration no longer leads anywhere."""
_STAGNANT, _PATIENCE = 0.01, 6
"""Share of the error that so many iterations in a row must take away together."""
_SHARES = (0.9, 0.45, 0.2)
"""Shares tried of a way that is too long for the joints' speed, in relation to what they nearly made of it."""
_SOFT = 1e-5
"""Weight of an axis that is sought but need not be reached, in relation to one that must be."""


@dataclass(frozen=True, eq=False)
class Solution:
    """Joints for a tool pose, and how near they bring the tool to it."""

    joints: np.ndarray
    """Shape (joint,) [rad], within the joint limits and within the change that was allowed."""
    distance: float
    """From the tool point to its target along the axes that must be reached [m]."""
    angle: float
    """Between the tool and its target about the axes that must be reached [rad]."""
    reached: bool
    """Whether both are within `POSITION_TOLERANCE` and `ORIENTATION_TOLERANCE`."""
    iterations: int
    """How many changes of the joints that took, at most `MAX_ITERATIONS`."""
    slowed: tuple[str, ...] = ()
    """Joints that would have had to change more than was allowed."""
    singular: bool = False
    """Whether even a fraction of the way to the pose would take that; only of `Kinematics.toward`."""
    stopped: tuple[str, ...] = ()
    """Joints at a position limit."""

    @property
    def reason(self) -> str:
        """Why the pose is not reached; empty if it is."""
        if self.reached:
            return ''
        away = f'{1e3 * self.distance:.3g} mm and {math.degrees(self.angle):.3g} degrees'
        text = f'the tool stays {away} short of its pose'
        if self.slowed:
            return f'{text}: {", ".join(self.slowed)} would have to move faster than the joint may'
        if self.singular:
            return f'{text}: near a singularity or the end of its reach'
        if self.stopped:
            return f'{text}: {", ".join(self.stopped)} at the joint limit'
        return f'{text}: out of reach'


class _Coupling(NamedTuple):
    """A joint that follows another: its value is a polynomial of that of the other, both from their references."""

    qpos: int
    dof: int
    leader_qpos: int
    leader_dof: int
    reference: float
    leader_reference: float
    polynomial: tuple[float, ...]


class Kinematics:
    """Forward and differential inverse kinematics of some joints of an arm.

    Joints that are coupled to them (``<mimic>`` in URDF, ``<equality><joint>`` in MJCF) move with them; all others stay
    where the model has them. Every result depends on the arguments alone. An instance holds scratch memory: give each
    thread its own.
    """

    def __init__(
        self, model: str | Path, tool: str, joints: Sequence[str], weights: ToolWeights = ToolWeights()
    ) -> None:
        """Load a model.

        Parameters
        ----------
        model
            MJCF or URDF file. Of a URDF, meshes are neither needed nor read.
        tool
            Site, body or link that is the tool point.
        joints
            Names of hinge or slide joints in the order of every array.
        weights
            Which axes of a pose must be reached, which are only sought, and which are free.

        Raises
        ------
        ModelError
            The file is absent or malformed, has no such tool or joint, or couples joints to each other in a circle.

        """
        file = Path(model)
        self.model = _load(file)
        self.joints = tuple(joints)
        self._data = mujoco.MjData(self.model)
        indices = [_joint_index(self.model, joint, file) for joint in self.joints]
        # As intp: numpy takes ten times as long to look things up by the int32 that MuJoCo counts with.
        self._qpos = self.model.jnt_qposadr[indices].astype(np.intp)
        self._dof = self.model.jnt_dofadr[indices].astype(np.intp)

        self._said_limits = urdf_joint_limits(file) if is_urdf(file) else _mjcf_joint_limits(self.model)
        limits = self.limits_of(self.joints)
        self.lower: np.ndarray = limits['lower']
        """Lower joint limits, shape (joint,) [rad]; minus infinity where the model is silent."""
        self.upper: np.ndarray = limits['upper']
        """Upper joint limits, shape (joint,) [rad]; infinity where the model is silent."""
        self.velocity_limits: np.ndarray = limits['velocity']
        """Shape (joint,) [rad/s], infinity where the model is silent; in MJCF the tuple `velocity_limits`."""
        self.acceleration_limits: np.ndarray = limits['acceleration']
        """Shape (joint,) [rad/s^2], infinity where the model is silent; in MJCF the tuple `acceleration_limits`."""
        self.jerk_limits: np.ndarray = limits['jerk']
        """Shape (joint,) [rad/s^3], infinity where the model is silent; in MJCF the tuple `jerk_limits`."""

        kind, self._tool = _frame(self.model, tool, file)
        self._jacobian_of = mujoco.mj_jacSite if kind == 'site' else mujoco.mj_jacBody
        # Views of where MuJoCo puts the tool, and memory for what `solve` is about: made once, not at every step of it.
        frame = self._data.site(self._tool) if kind == 'site' else self._data.body(self._tool)
        self._place, self._matrix = frame.xpos, frame.xmat
        self._full, self._error = np.empty((6, self.model.nv)), np.empty(6)
        self._full_halves, (self._shift, self._turned) = np.split(self._full, 2), np.split(self._error, 2)
        self._turn, self._quaternion, self._solution = np.empty(3), np.empty(4), np.empty(6)
        self._factor = np.empty((6, 6))
        self._diagonal = self._factor.reshape(-1)[::7]
        self._known: dict[bytes, np.ndarray] = {}
        # Solved in the model's order, so that the caller's order does not even change the rounding.
        order = np.argsort(self._dof)
        self._order, self._places = order, np.argsort(order)
        self._columns = self._dof[order]
        body = int(self.model.site_bodyid[self._tool]) if kind == 'site' else self._tool
        self._couplings = _leading_to(self.model, body, _couplings(self.model, indices, file))
        self._motion = np.zeros((self.model.nv, len(self.joints)))
        self._motion[self._columns, np.arange(len(self.joints))] = 1.0
        self._weigh(weights)
        slides = self.model.jnt_type[indices] == int(mujoco.mjtJoint.mjJNT_SLIDE)
        usual = np.where(slides, USUAL_SLIDE_SPEED, USUAL_SPEED)
        self._speeds = np.where(np.isfinite(self.velocity_limits), self.velocity_limits, usual)
        self._no_rows, self._sense = np.zeros((0, len(self.joints))), np.zeros(len(self.joints), dtype=np.int32)

    def _weigh(self, weights: ToolWeights) -> None:
        values = np.array([*weights.position, *weights.rotation])
        self._required = (values == 1.0).astype(np.float64)
        self._scale = np.where(values == 1.0, 1.0, math.sqrt(_SOFT) * values)
        self._is_plain = bool((values == 1.0).all())
        self._is_soft = bool(((values > 0.0) & (values < 1.0)).any())

    @classmethod
    def from_contract(cls, contract: Contract) -> Kinematics:
        """Load the robot that a contract names.

        Raises
        ------
        ModelError
            The contract describes no robot, or the file is absent or malformed, or has no such tool or joint.

        """
        robot = contract.robot
        if not contract.has_robot:
            raise ModelError(
                expected='a contract with a robot',
                found=f'{contract.name}, a contract of plain arrays',
                remedy='write a contract for the robot, as `vdd contract init` drafts it',
            )
        if not robot.model:
            raise ModelError(
                expected=f'robot.model in the contract {contract.name}',
                found='none',
                remedy='name an MJCF or URDF file there; only nodes on a robot do without, by robot_description',
            )
        return cls(model_path(robot.model), robot.tool, robot.joints, robot.tool_weights)

    def limits_of(self, joints: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the limits that the model has for joints: as `joint_limits.load_joint_limits` returns them.

        Infinite where the model is silent, and for joints that it does not have.
        """
        rows, joint_type = [], mujoco.mjtObj.mjOBJ_JOINT
        for joint in joints:
            row, index = self._said_limits.get(joint, JointLimit()), mujoco.mj_name2id(self.model, joint_type, joint)
            if index >= 0 and self.model.jnt_limited[index]:
                low, high = self.model.jnt_range[index].tolist()
                row = replace(row, lower=max(low, row.lower), upper=min(high, row.upper))
            rows.append(row)
        return by_kind(rows)

    def has_joint(self, joint: str) -> bool:
        """Tell whether the model has a joint."""
        return mujoco.mj_name2id(self.model, mujoco.mjtObj.mjOBJ_JOINT, joint) >= 0

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m] in the model's world."""
        joints = np.asarray(joints, dtype=np.float64)
        # A loop asks for the same joints again and again: the newest command, solved for before, is what a policy sees.
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
        """Map joints of shape (..., joint) [rad] to the tool's unit quaternions, shape (..., 4), w x y z."""
        joints = np.asarray(joints, dtype=np.float64)
        rows = joints.reshape(-1, len(self.joints))
        quaternions = np.empty((len(rows), 4))
        for row, quaternion in zip(rows, quaternions):
            self._put(row)
            mujoco.mju_mat2Quat(quaternion, self._matrix)
        return quaternions.reshape(*joints.shape[:-1], 4)

    def step_limits(self, seconds: float) -> np.ndarray:
        """Return the greatest change of each joint in a time [s], shape (joint,) [rad]: by its velocity limit.

        Where the model is silent, `USUAL_SPEED` and `USUAL_SLIDE_SPEED` count.
        """
        return self._speeds * seconds

    def solve(self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return joints that bring the tool to a pose: the shortest way from ``start``, by `nearest`.

        Parameters
        ----------
        position, orientation, start
            As of `nearest`.

        Returns
        -------
        Shape (joint,) [rad], within the joint limits.

        Raises
        ------
        ReachError
            The pose is not reached; the message says how near the tool comes and what stops it.

        """
        solution = self.nearest(position, orientation, start)
        if not solution.reached:
            place = ', '.join(f'{value:.4g}' for value in np.asarray(position).tolist())
            raise ReachError(
                expected=f'a tool pose at ({place}) m within reach of {", ".join(self.joints)}',
                found=solution.reason,
                remedy='choose a pose within reach, start nearer to it, or free an axis by `robot.tool_weights`',
            )
        return solution.joints

    def nearest(
        self,
        position: np.ndarray,
        orientation: np.ndarray,
        start: np.ndarray,
        max_change: np.ndarray | None = None,
    ) -> Solution:
        """Return the joints that bring the tool nearest to a pose, the shortest way from ``start``.

        Each iteration takes the smallest change of the joints that lessens the error, so a redundant arm does not
        drift while its tool holds still. At most `MAX_ITERATIONS` of them are made.

        Parameters
        ----------
        position, orientation
            The pose: shape (3,) [m] and unit quaternion of shape (4,), w x y z. Both must be finite.
        start
            Where to start from, shape (joint,) [rad].
        max_change
            Greatest change of each joint from ``start``, shape (joint,) [rad]; None: any. Near a singularity a small
            step of the tool asks for a great one of the joints.

        """
        # In plain numbers where numpy would spend more time on being called than on six of them, and past the limits
        # while the joints have not gone far enough to meet one: this is much of what a simulated step costs.
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
            # Levenberg-Marquardt: damped much where the error is large, next to nothing near the target.
            damping = distance * distance + angle * angle
            change = self._free_change(_DAMPING + damping)
            largest = max(map(abs, change.tolist()))
            room -= largest
            # The quadratic program costs more, and has the same answer where no limit is met.
            if room < 0.0 and (((moved := joints + change) < lower) | (moved > upper)).any():
                change = self._limited_change(_LIMITED_DAMPING + damping, lower - joints, upper - joints)
                largest = max(map(abs, change.tolist()))
            # Far from the target the linear model holds for a short way only.
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
        """Do as `nearest` does, but never leave the straight way from the tool at ``start`` to the pose.

        If the pose takes more than ``max_change``, the joints bring the tool along a part of that way, and ``slowed``
        names those that would have to be faster. If even a small part takes more, ``singular`` says so, and the joints
        are no answer. At most four solutions are made.
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
        """Place the bodies by joints of shape (joint,) [rad]."""
        qpos = self._data.qpos
        qpos[self._qpos] = joints
        for coupling in self._couplings:
            value, _ = _followed(coupling, qpos)
            qpos[coupling.qpos] = value
        mujoco.mj_kinematics(self.model, self._data)

    def _remember(self, joints: np.ndarray) -> None:
        """Keep where the bodies have the tool as the position that these joints, shape (joint,), make."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[joints.tobytes()] = self._place.copy()

    def _clipped(self, joints: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(joints, self.lower), self.upper)

    def _compare(self, joints: np.ndarray, position: np.ndarray, orientation: np.ndarray) -> tuple[float, float]:
        """Place the bodies, and note the way of the tool to a pose; return how far it must still go [m], [rad]."""
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
        """Return the Jacobian, shape (6, joint) in the model's order, for the way that `_compare` noted.

        Rows and error of a weighted pose are along the base's axes and about the tool's own.
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
            mujoco.mju_mulMatVec3(self._turned, self._matrix, self._turn)  # from the tool's axes into the world's
            return jacobian
        jacobian = np.concatenate([jacobian[:3], self._matrix.reshape(3, 3).T.dot(jacobian[3:])])
        self._turned[:] = self._turn
        self._error *= self._scale
        return self._scale[:, None] * jacobian

    def _free_change(self, damping: float) -> np.ndarray:
        """Return the damped least-squares change of the joints for what `_compare` noted, heedless of limits."""
        factor, solution = self._factor, self._solution
        jacobian = self._jacobian = self._weighed()
        factor[:] = jacobian.dot(jacobian.T)
        self._diagonal += damping
        # Damped, so it is positive definite; as good as LAPACK's solver, and called in a fraction of the time.
        mujoco.mju_cholFactor(factor, 0.0)
        mujoco.mju_cholSolve(solution, factor, self._error)
        return solution.dot(jacobian)[self._places]

    def _limited_change(self, damping: float, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Return the same within bounds of the change, shape (joint,); zero must lie within them.

        A strictly convex quadratic program whose only constraints are bounds: it always has one answer.
        """
        jacobian, order = self._jacobian, self._order
        hessian = jacobian.T.dot(jacobian)
        hessian.reshape(-1)[:: len(order) + 1] += damping
        change, *_ = daqp.solve(
            hessian, -self._error.dot(jacobian), self._no_rows, upper[order], lower[order], self._sense
        )
        return change[self._places]


def joint_ranges(file: str | Path) -> dict[str, tuple[float, float]]:
    """Return the lower and upper limit of each hinge and slide joint of an MJCF or URDF [rad, m]; infinite without one.

    Raises
    ------
    ModelError
        The file is absent or malformed.

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
            expected=f'a robot model at {file}', found='no such file', remedy='give the path of an MJCF or URDF file'
        )
    try:
        if is_urdf(file):
            return mujoco.MjModel.from_xml_string(bare_urdf(file))
        return mujoco.MjModel.from_xml_path(str(file))
    except (ValueError, ElementTree.ParseError) as error:
        raise ModelError(
            expected=f'an MJCF or URDF model in {file}', found=' '.join(str(error).split()), remedy='mend the file'
        ) from error


def _followed(coupling: _Coupling, qpos: np.ndarray) -> tuple[float, float]:
    """Return the value of a coupled joint, and its change with that of its leader."""
    place = float(qpos[coupling.leader_qpos]) - coupling.leader_reference
    value = slope = 0.0
    for coefficient in reversed(coupling.polynomial):
        slope = slope * place + value
        value = value * place + coefficient
    return coupling.reference + value, slope


def _couplings(model: mujoco.MjModel, joints: Sequence[int], file: Path) -> tuple[_Coupling, ...]:
    """Return the joints that move with some others, in the order in which they can be placed."""
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
                # Of a pair of which only the follower is the arm's, the leader moves with it.
                offset, slope = polynomial[:2]
                follow(leader, follower, leader_reference, reference, (-offset / slope, 1 / slope))
            elif leader not in placed:
                left.append((follower, leader, reference, leader_reference, polynomial))
        if len(left) == len(pairs):  # what leads these stays where the model has it
            roots = {pair[1] for pair in left} - {pair[0] for pair in left}
            if not roots:
                raise ModelError(
                    expected=f'joints of {file} that follow each other from one that leads',
                    found='a circle of ' + ', '.join(sorted(model.joint(pair[0]).name for pair in left)),
                    remedy='mend the mimic or equality elements of the model',
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
            remedy='name the joints as the model does',
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
        remedy='name one of them as the tool',
    )
