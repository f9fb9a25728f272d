"""Tool point and joints of an arm, from MJCF or URDF: what a Cartesian contract needs, live and offline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

import mink
import mujoco
import numpy as np

from vdd_ros.contract import Contract
from vdd_ros.errors import ModelError
from vdd_ros.share import model_path

POSITION_TOLERANCE = 1e-5
"""How near to its target `Kinematics.solve` brings the tool point [m]."""
ORIENTATION_TOLERANCE = 1e-4
"""How near to its target `Kinematics.solve` turns the tool [rad]."""

_MAX_ITERATIONS = 50
_MAX_STEP = 0.5
_SOLVER = 'daqp'


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
        self._qpos = self.model.jnt_qposadr[indices]
        self._dof = self.model.jnt_dofadr[indices]
        self._home = self.model.qpos0.copy()

        limited = self.model.jnt_limited[indices].astype(bool)
        self.lower = np.where(limited, self.model.jnt_range[indices, 0], -np.inf)
        """Lower joint limits, shape (joint,) [rad]; minus infinity where the model is silent."""
        self.upper = np.where(limited, self.model.jnt_range[indices, 1], np.inf)
        """Upper joint limits, shape (joint,) [rad]; infinity where the model is silent."""
        velocity = _urdf_velocity_limits(file) if _is_urdf(file) else _tuple_values(self.model, 'velocity_limits')
        acceleration = _tuple_values(self.model, 'acceleration_limits')
        self.velocity_limits = np.array([velocity.get(joint, np.inf) for joint in self.joints])
        """Shape (joint,) [rad/s], infinity where the model is silent; in MJCF the tuple `velocity_limits`."""
        self.acceleration_limits = np.array([acceleration.get(joint, np.inf) for joint in self.joints])
        """Shape (joint,) [rad/s^2], infinity where the model is silent; in MJCF the tuple `acceleration_limits`."""

        kind, self._tool = _frame(self.model, tool, file)
        self._positions = self._data.site_xpos if kind == 'site' else self._data.xpos
        self._matrices = self._data.site_xmat if kind == 'site' else self._data.xmat
        self._configuration = mink.Configuration(self.model)
        self._task = mink.FrameTask(tool, kind, position_cost=1.0, orientation_cost=1.0, lm_damping=1.0)
        self._limits = [mink.ConfigurationLimit(self.model)]
        others = sorted(set(range(self.model.nv)) - set(self._dof.tolist()))
        self._constraints = [mink.DofFreezingTask(self.model, others)] if others else None

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
        rows = joints.reshape(-1, len(self.joints))
        positions = np.empty((len(rows), 3))
        model, data, tool = self.model, self._data, self._positions[self._tool]
        for row, position in zip(rows, positions):
            data.qpos[self._qpos] = row
            mujoco.mj_kinematics(model, data)
            position[:] = tool
        return positions.reshape(*joints.shape[:-1], 3)

    def tool_orientation(self, joints: np.ndarray) -> np.ndarray:
        """Map joints of shape (joint,) [rad] to the tool's unit quaternion, shape (4,), w x y z."""
        self.tool_position(joints)
        quaternion = np.empty(4)
        mujoco.mju_mat2Quat(quaternion, self._matrices[self._tool])
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
        self._task.set_target(mink.SE3(wxyz_xyz=np.concatenate([orientation, position])))
        qpos = self._home.copy()
        qpos[self._qpos] = np.clip(start, self.lower, self.upper)
        best, least = qpos, np.inf
        for _ in range(_MAX_ITERATIONS):
            self._configuration.update(qpos)
            error = self._task.compute_error(self._configuration)
            distance, angle = np.sqrt(error[:3] @ error[:3]), np.sqrt(error[3:] @ error[3:])
            if distance + angle < least:
                best, least = qpos, distance + angle
            if distance < POSITION_TOLERANCE and angle < ORIENTATION_TOLERANCE:
                break
            try:
                change = mink.solve_ik(
                    self._configuration,
                    [self._task],
                    dt=1.0,
                    solver=_SOLVER,
                    damping=1e-9,
                    limits=self._limits,
                    constraints=self._constraints,
                )
            except mink.NoSolutionFound:
                break
            # Far from the target the linear model holds for a short way only.
            change *= min(1.0, _MAX_STEP / max(np.abs(change).max(), 1e-12))
            qpos = self._home.copy()
            moved = self._configuration.integrate(change, 1.0)[self._qpos]
            qpos[self._qpos] = np.clip(moved, self.lower, self.upper)
        return best[self._qpos].copy()


def _load(file: Path) -> mujoco.MjModel:
    if not file.is_file():
        raise ModelError(
            expected=f'a robot model at {file}', found='no such file', remedy='give the path of an MJCF or URDF file'
        )
    try:
        if _is_urdf(file):
            return mujoco.MjModel.from_xml_string(_bare_urdf(file))
        return mujoco.MjModel.from_xml_path(str(file))
    except (ValueError, ElementTree.ParseError) as error:
        raise ModelError(
            expected=f'an MJCF or URDF model in {file}', found=' '.join(str(error).split()), remedy='mend the file'
        ) from error


def _is_urdf(file: Path) -> bool:
    return ElementTree.parse(file).getroot().tag == 'robot'


def _bare_urdf(file: Path) -> str:
    """Return the links and joints of a URDF alone: meshes lie in packages that may not be there."""
    root = ElementTree.parse(file).getroot()
    for child in list(root):
        if child.tag not in ('link', 'joint'):
            root.remove(child)
    for link in root.iter('link'):
        for part in list(link):
            if part.tag != 'inertial':
                link.remove(part)
    # A link that a fixed joint holds would be merged away, and the tool with it; one without mass would not compile.
    compiler = {'fusestatic': 'false', 'balanceinertia': 'true', 'boundmass': '1e-6', 'boundinertia': '1e-9'}
    ElementTree.SubElement(ElementTree.SubElement(root, 'mujoco'), 'compiler', compiler)
    return ElementTree.tostring(root, encoding='unicode')


def _urdf_velocity_limits(file: Path) -> dict[str, float]:
    limits = ((joint.get('name'), joint.find('limit')) for joint in ElementTree.parse(file).getroot().iter('joint'))
    return {name: float(limit.get('velocity')) for name, limit in limits if limit is not None and limit.get('velocity')}


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
    sites = [model.site(site).name for site in range(model.nsite)]
    bodies = [model.body(body).name for body in range(model.nbody)]
    raise ModelError(
        expected=f'a site or link {name} in {file}',
        found=f'the sites and links {", ".join(sites + bodies)}',
        remedy='name one of them as the tool',
    )
