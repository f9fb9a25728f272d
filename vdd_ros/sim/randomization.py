"""Domain randomization per episode: masses, friction, servos, payload, cameras and objects, drawn by seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import mujoco
import numpy as np
from pydantic import AfterValidator, Field

from vdd_ros.common.errors import ModelError
from vdd_ros.common.settings import Settings
from vdd_ros.sim.model import find, matching

if TYPE_CHECKING:
    from vdd_ros.sim.simulation import Simulation

_OBJECT = mujoco.mjtObj
_RESTORED = (
    'body_ipos',
    'body_iquat',
    'body_gravcomp',
    'body_sameframe',
    'body_pos',
    'body_quat',
    'cam_pos',
    'cam_quat',
)


def _in_order(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] <= limits[1]:
        raise ValueError('expected [low, high] with low <= high')
    return limits


def _positive(limits: tuple[float, float]) -> tuple[float, float]:
    if not limits[0] > 0:
        raise ValueError('expected factors above zero')
    return limits


Interval = Annotated[tuple[float, float], AfterValidator(_in_order)]
Vector = tuple[float, float, float]


class Factor(Settings):
    """A factor on some values of the model, drawn uniformly for each of them."""

    between: Annotated[Interval, AfterValidator(_positive)] = (1.0, 1.0)
    """Minimum and maximum factor."""
    of: tuple[str, ...] = ('*',)
    """Names of the elements; ``*`` and ``?`` are wildcards."""

    @property
    def is_nominal(self) -> bool:
        """Whether nothing changes."""
        return self.between == (1.0, 1.0)


class Payload(Settings):
    """A mass carried by the arm without compensation."""

    mass: Interval = (0.0, 0.0)
    """Minimum and maximum mass [kg]."""
    body: str = ''
    """The body that carries the payload; by default the body moved by the last commanded hinge joint."""
    position: Vector = (0.0, 0.0, 0.0)
    """Position in the frame of the body [m]."""


class CameraPose(Settings):
    """Random displacement of cameras, drawn for every episode."""

    position: float = Field(0.0, ge=0)
    """Maximum displacement along each axis [m]."""
    rotation: float = Field(0.0, ge=0)
    """Maximum rotation about each axis [rad]."""
    of: tuple[str, ...] = ('*',)
    """Names of the cameras."""


class ObjectPose(Settings):
    """Displacement of an object from its pose after the reset or, without a free joint, in the model."""

    body: str
    """Name of the object; ``*`` and ``?`` are wildcards."""
    x: Interval = (0.0, 0.0)
    """Minimum and maximum displacement along x [m]."""
    y: Interval = (0.0, 0.0)
    """Minimum and maximum displacement along y [m]."""
    z: Interval = (0.0, 0.0)
    """Minimum and maximum displacement along z [m]."""
    yaw: Interval = (0.0, 0.0)
    """Minimum and maximum rotation about the vertical axis [rad]."""


class Randomization(Settings):
    """The quantities drawn at the start of every episode."""

    mass: Factor = Factor()
    """Masses and inertias of bodies."""
    friction: Factor = Factor()
    """Sliding friction of geoms. A contact uses the maximum of its two geoms."""
    damping: Factor = Factor()
    """Damping of joints."""
    stiffness: Factor = Factor()
    """Stiffness of position servos, by actuator name."""
    servo_damping: Factor = Factor()
    """Damping of position servos, by actuator name."""
    payload: Payload = Payload()
    """Mass carried by the arm."""
    cameras: CameraPose = CameraPose()
    """Displacement of cameras."""
    objects: tuple[ObjectPose, ...] = ()
    """Displacement of objects."""

    @property
    def is_nominal(self) -> bool:
        """Whether nothing is randomized."""
        return self == Randomization()


def randomize(simulation: Simulation, settings: Randomization, generator: np.random.Generator) -> None:
    """Randomize a scene after a reset. A model shared with other scenes is not changed.

    Raises
    ------
    ModelError
        An element is not in the scene, or cannot carry a payload.

    """
    nominal, model = simulation.shared_model, simulation.private_model()

    def drawn(factor: Factor, kind: mujoco.mjtObj, count: int) -> np.ndarray:
        factors = np.ones(count)
        if not factor.is_nominal:
            indices = matching(nominal, kind, factor.of)
            factors[indices] = generator.uniform(*factor.between, len(indices))
        return factors

    mass = drawn(settings.mass, _OBJECT.mjOBJ_BODY, nominal.nbody)
    model.body_mass[:] = nominal.body_mass * mass
    model.body_inertia[:] = nominal.body_inertia * mass[:, None]
    friction = drawn(settings.friction, _OBJECT.mjOBJ_GEOM, nominal.ngeom)
    model.geom_friction[:, 0] = nominal.geom_friction[:, 0] * friction
    damping = drawn(settings.damping, _OBJECT.mjOBJ_JOINT, nominal.njnt)[nominal.dof_jntid]
    model.dof_damping[:] = (nominal.dof_damping.T * damping).T
    servo = (nominal.actuator_gainprm[:, 0] > 0) & (nominal.actuator_biasprm[:, 1] == -nominal.actuator_gainprm[:, 0])
    stiffness = np.where(servo, drawn(settings.stiffness, _OBJECT.mjOBJ_ACTUATOR, nominal.nu), 1.0)
    model.actuator_gainprm[:, 0] = nominal.actuator_gainprm[:, 0] * stiffness
    model.actuator_biasprm[:, 1] = nominal.actuator_biasprm[:, 1] * stiffness
    servo_damping = np.where(servo, drawn(settings.servo_damping, _OBJECT.mjOBJ_ACTUATOR, nominal.nu), 1.0)
    model.actuator_biasprm[:, 2] = nominal.actuator_biasprm[:, 2] * servo_damping
    for array in _RESTORED:
        getattr(model, array)[:] = getattr(nominal, array)
    _load(simulation, model, settings.payload, generator)
    _displace_cameras(model, settings.cameras, generator)
    # Before objects are moved, because model constants refer to the original configuration.
    mujoco.mj_setConst(model, mujoco.MjData(model))
    for item in settings.objects:
        for body in matching(nominal, _OBJECT.mjOBJ_BODY, (item.body,)):
            _displace_object(model, simulation.data, body, item, generator)
    mujoco.mj_forward(model, simulation.data)


def _load(simulation: Simulation, model: mujoco.MjModel, payload: Payload, generator: np.random.Generator) -> None:
    """Add a point mass to a body: mass, centre of mass, inertia, and share of gravity compensation."""
    added = generator.uniform(*payload.mass) if payload.mass != (0.0, 0.0) else 0.0
    if not added:
        return
    body = find(model, _OBJECT.mjOBJ_BODY, payload.body) if payload.body else simulation.tool_body
    if model.body_simple[body]:
        # MuJoCo has allocated memory for a mass matrix that is diagonal for this body.
        raise ModelError(
            expected='a payload on a body with simple="false"',
            found=f'{model.body(body).name}, a single body on joints through its centre of mass',
            remedy='set simple="false" for the body, or choose another body for the payload',
        )
    mass, centre, point = model.body_mass[body], model.body_ipos[body].copy(), np.array(payload.position)
    rotation = np.empty(9)
    mujoco.mju_quat2Mat(rotation, model.body_iquat[body])
    rotation = rotation.reshape(3, 3)
    total = mass + added
    new_centre = (mass * centre + added * point) / total
    inertia = rotation @ np.diag(model.body_inertia[body]) @ rotation.T
    for part, where in ((mass, centre), (added, point)):
        arm = where - new_centre
        inertia += part * (arm @ arm * np.eye(3) - np.outer(arm, arm))
    moments, axes = np.linalg.eigh(inertia)
    axes[:, 2] *= np.linalg.det(axes)  # a rotation, not a reflection
    mujoco.mju_mat2Quat(model.body_iquat[body], axes.flatten())
    model.body_mass[body], model.body_ipos[body], model.body_inertia[body] = total, new_centre, moments
    model.body_gravcomp[body] *= mass / total
    model.body_sameframe[body] = 0  # the centre of mass has moved from the body origin


def _displace_cameras(model: mujoco.MjModel, pose: CameraPose, generator: np.random.Generator) -> None:
    if not (pose.position or pose.rotation):
        return
    for camera in matching(model, _OBJECT.mjOBJ_CAMERA, pose.of):
        model.cam_pos[camera] += generator.uniform(-pose.position, pose.position, 3)
        turn = generator.uniform(-pose.rotation, pose.rotation, 3)
        mujoco.mju_quatIntegrate(model.cam_quat[camera], turn, 1.0)


def _displace_object(
    model: mujoco.MjModel, data: mujoco.MjData, body: int, item: ObjectPose, generator: np.random.Generator
) -> None:
    offset = np.array([generator.uniform(*axis) for axis in (item.x, item.y, item.z)])
    yaw = generator.uniform(*item.yaw)
    joint = model.body_jntadr[body]
    free = joint >= 0 and model.jnt_type[joint] == int(mujoco.mjtJoint.mjJNT_FREE)
    if free:
        start = model.jnt_qposadr[joint]
        position, quaternion = data.qpos[start : start + 3], data.qpos[start + 3 : start + 7]
    else:
        position, quaternion = model.body_pos[body], model.body_quat[body]
    position += offset
    turned = np.empty(4)
    mujoco.mju_mulQuat(turned, np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)]), quaternion)
    quaternion[:] = turned
