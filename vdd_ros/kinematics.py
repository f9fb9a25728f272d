"""Tool point and joints of an arm, from MJCF or URDF: what a Cartesian contract needs, live and offline."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mink
import mujoco
import numpy as np

from vdd_ros.contract import Contract
from vdd_ros.errors import ModelError
from vdd_ros.joint_limits import JointLimit, urdf_joint_limits
from vdd_ros.share import model_path
from vdd_ros.urdf import bare_urdf, is_urdf

POSITION_TOLERANCE = 1e-5
"""How near to its target `Kinematics.solve` brings the tool point [m]."""
ORIENTATION_TOLERANCE = 1e-4
"""How near to its target `Kinematics.solve` turns the tool [rad]."""

_MAX_ITERATIONS = 50
_MAX_STEP = 0.5
_DAMPING = 1e-9
_ROUNDING = 1e-9
"""More than what all steps together are rounded by [rad]."""
_REMEMBERED = 1024


class Kinematics:
    """Forward and differential inverse kinematics of some joints of an arm; the others stay where the model has them.

    Every result depends on the arguments alone. An instance holds scratch memory: give each thread its own.
    """

    def __init__(self, model: str | Path, tool: str, joints: Sequence[str]) -> None:
        """Load a model.

        Parameters
        ----------
        model
            MJCF or URDF file. Of a URDF, meshes are neither needed nor read.
        tool
            Site, body or link that is the tool point.
        joints
            Names of hinge or slide joints in the order of every array.

        Raises
        ------
        ModelError
            The file is absent or malformed, or has no such tool or joint.

        """
        file = Path(model)
        self.model = _load(file)
        self.joints = tuple(joints)
        self._data = mujoco.MjData(self.model)
        indices = [_joint_index(self.model, joint, file) for joint in self.joints]
        # As intp: numpy takes ten times as long to look things up by the int32 that MuJoCo counts with.
        self._qpos = self.model.jnt_qposadr[indices].astype(np.intp)
        self._dof = self.model.jnt_dofadr[indices].astype(np.intp)

        limited, ranges = self.model.jnt_limited[indices].astype(bool), self.model.jnt_range[indices]
        limits = urdf_joint_limits(file) if is_urdf(file) else _mjcf_joint_limits(self.model)
        rows = [limits.get(joint, JointLimit()) for joint in self.joints]
        self.lower = np.maximum(np.where(limited, ranges[:, 0], -np.inf), [row.lower for row in rows])
        """Lower joint limits, shape (joint,) [rad]; minus infinity where the model is silent."""
        self.upper = np.minimum(np.where(limited, ranges[:, 1], np.inf), [row.upper for row in rows])
        """Upper joint limits, shape (joint,) [rad]; infinity where the model is silent."""
        self.velocity_limits = np.array([row.velocity for row in rows])
        """Shape (joint,) [rad/s], infinity where the model is silent; in MJCF the tuple `velocity_limits`."""
        self.acceleration_limits = np.array([row.acceleration for row in rows])
        """Shape (joint,) [rad/s^2], infinity where the model is silent; in MJCF the tuple `acceleration_limits`."""
        self.jerk_limits = np.array([row.jerk for row in rows])
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
        self._columns = np.sort(self._dof)
        self._places = np.searchsorted(self._columns, self._dof)
        self._configuration = mink.Configuration(self.model)
        self._task = mink.FrameTask(tool, kind, position_cost=1.0, orientation_cost=1.0, lm_damping=1.0)
        self._limits = [mink.ConfigurationLimit(self.model)]
        others = sorted(set(range(self.model.nv)) - set(self._dof.tolist()))
        self._frozen = [mink.DofFreezingTask(self.model, others)] if others else None

    @classmethod
    def from_contract(cls, contract: Contract) -> Kinematics:
        """Load the robot that a contract names.

        Raises
        ------
        ModelError
            The file is absent or malformed, or has no such tool or joint.

        """
        robot = contract.robot
        return cls(model_path(robot.model), robot.tool, robot.joints)

    def tool_position(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (..., joint) [rad] to positions of shape (..., 3) [m] in the model's world."""
        joints = np.asarray(joints, dtype=np.float64)
        # A loop asks for the same joints again and again: the newest command, solved for before, is what a policy sees.
        if joints.ndim == 1 and (known := self._known.get(joints.tobytes())) is not None:
            return known.copy()
        rows = joints.reshape(-1, len(self.joints))
        positions = np.empty((len(rows), 3))
        for row, position in zip(rows, positions):
            self._data.qpos[self._qpos] = row
            mujoco.mj_kinematics(self.model, self._data)
            position[:] = self._place
        positions = positions.reshape(*joints.shape[:-1], 3)
        if joints.ndim == 1:
            self._remember(joints)
        return positions

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (joint,) [rad] to the tool's unit quaternion, shape (4,), w x y z."""
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self.model, self._data)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, self._matrix)
        return quaternion

    def solve(self, position: np.ndarray, orientation: np.ndarray, start: np.ndarray) -> np.ndarray:
        """Return joints that bring the tool to a pose, the nearest way from ``start``.

        Each iteration takes the smallest change of the joints that lessens the error, so a redundant arm does not
        drift while its tool holds still.

        Parameters
        ----------
        position, orientation
            The pose: shape (3,) [m] and unit quaternion of shape (4,), w x y z. Both must be finite.
        start
            Where to start from, shape (joint,) [rad].

        Returns
        -------
        Shape (joint,) [rad], within the joint limits. If none were found that reach the pose within
        `POSITION_TOLERANCE` and `ORIENTATION_TOLERANCE`, because it is out of reach or far from ``start``, those that
        came nearest; the caller limits how far a command may go.

        """
        # In plain numbers where numpy would spend more time on being called than on six of them, and past the limits
        # while the joints have not gone far enough to meet one: this is much of what a simulated step costs.
        joints = np.asarray(start, dtype=np.float64)
        room = min(np.minimum(joints - self.lower, self.upper - joints).tolist()) - _ROUNDING
        if room < 0.0:
            joints = self._clipped(joints)
        best, least = joints, math.inf
        for _ in range(_MAX_ITERATIONS):
            distance, angle = self._compare(joints, position, orientation)
            if distance < POSITION_TOLERANCE and angle < ORIENTATION_TOLERANCE:
                self._remember(joints)
                return joints.copy()
            if distance + angle < least:
                best, least = joints, distance + angle
            # Damped as by mink's frame task: much where the error is large, next to nothing near the target.
            change = self._free_change(_DAMPING + distance * distance + angle * angle)
            largest = max(map(abs, change.tolist()))
            room -= largest
            # The quadratic program costs ten times as much, and says the same where no limit is met.
            if room < 0.0 and (moved := joints + change).tolist() != self._clipped(moved).tolist():
                change = self._limited_change(joints, np.concatenate([orientation, position]))
                if change is None:
                    break
                largest = max(map(abs, change.tolist()))
            # Far from the target the linear model holds for a short way only.
            if largest > _MAX_STEP:
                change = change * (_MAX_STEP / largest)
            joints = joints + change
            if room < 0.0:
                joints = self._clipped(joints)
        return best.copy()

    def _remember(self, joints: np.ndarray) -> None:
        """Keep where the bodies have the tool as the position that these joints, shape (joint,), make."""
        if len(self._known) >= _REMEMBERED:
            self._known.clear()
        self._known[joints.tobytes()] = self._place.copy()

    def _clipped(self, joints: np.ndarray) -> np.ndarray:
        return np.minimum(np.maximum(joints, self.lower), self.upper)

    def _compare(self, joints: np.ndarray, position: np.ndarray, orientation: np.ndarray) -> tuple[float, float]:
        """Place the bodies, and note how far the tool is from a pose; return that [m], [rad]."""
        shift, turn, quaternion = self._shift, self._turn, self._quaternion
        self._data.qpos[self._qpos] = joints
        mujoco.mj_kinematics(self.model, self._data)
        np.subtract(position, self._place, shift)
        mujoco.mju_mat2Quat(quaternion, self._matrix)
        mujoco.mju_subQuat(turn, orientation, quaternion)
        return math.hypot(*shift.tolist()), math.hypot(*turn.tolist())

    def _free_change(self, damping: float) -> np.ndarray:
        """Return the damped least-squares change of the joints for what `_compare` noted, heedless of limits."""
        jacobian, factor, solution = self._full, self._factor, self._solution
        mujoco.mju_mulMatVec3(self._turned, self._matrix, self._turn)  # from the tool's axes into the world's
        mujoco.mj_comPos(self.model, self._data)
        self._jacobian_of(self.model, self._data, *self._full_halves, self._tool)
        if len(self._columns) < self.model.nv:
            jacobian = jacobian.take(self._columns, 1)
        factor[:] = jacobian.dot(jacobian.T)
        self._diagonal += damping
        # Damped, so it is positive definite; as good as LAPACK's solver, and called in a fraction of the time.
        mujoco.mju_cholFactor(factor, 0.0)
        mujoco.mju_cholSolve(solution, factor, self._error)
        return solution.dot(jacobian)[self._places]

    def _limited_change(self, joints: np.ndarray, target: np.ndarray) -> np.ndarray | None:
        """Return the best change of the joints that keeps the limits, shape (joint,); None if none was found."""
        qpos = self.model.qpos0.copy()
        qpos[self._qpos] = joints
        self._configuration.update(qpos)
        self._task.set_target(mink.SE3(wxyz_xyz=target))
        try:
            change = mink.solve_ik(
                self._configuration, [self._task], 1.0, 'daqp', _DAMPING, limits=self._limits, constraints=self._frozen
            )
        except mink.NoSolutionFound:
            return None
        return change[self._dof]


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
