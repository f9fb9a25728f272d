"""Build a scene for a robot from its model alone, without a scene file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError
from vdd_ros.sim.model import compiled, find, load_spec, servo_of
from vdd_ros.sim.scene import Position, SceneSettings, Servos
from vdd_ros.sim.start import Start

CONTROLLER = 'arm_controller'
"""Name of the position controller."""
COMMAND_RATE = 100.0
"""Command rate in lockstep [Hz]."""

_TIMESTEP = 0.002
_FREQUENCY = 60.0
"""Natural frequency of the servos [rad/s]. At critical damping the lag is two inverse frequencies, 33 ms."""
_ARMATURE = {mujoco.mjtJoint.mjJNT_HINGE: 0.1, mujoco.mjtJoint.mjJNT_SLIDE: 1.0}
"""Motor inertia after the gear, if the model has none [kg m^2], [kg]."""


def robot_scene(model: Path, joints: Sequence[str], start: Mapping[str, float]) -> SceneSettings:
    """Describe a robot by itself, with servos on its commanded joints and gravity compensation.

    Joints with a position servo in the model keep it. The others get one with critical damping for the inertia of the
    model about the joint in the start state.

    Parameters
    ----------
    model
        MJCF or URDF file.
    joints
        The commanded joints, in order.
    start
        Start positions of these joints, by name [rad] or [m].

    Raises
    ------
    ModelError
        The model is missing or malformed, lacks a joint, or has ball or free joints among them.

    """
    spec = load_spec(model)
    compiled_model = compiled(spec, model)
    inertia = _inertia(compiled_model, start)
    servos = []
    for joint in joints:
        index = find(compiled_model, mujoco.mjtObj.mjOBJ_JOINT, joint)
        try:
            servo_of(compiled_model, index)
            continue
        except ModelError:  # add a servo
            pass
        kind = mujoco.mjtJoint(int(compiled_model.jnt_type[index]))
        if kind not in _ARMATURE:
            raise ModelError(
                expected=f'a hinge or slide joint {joint} in {model}',
                found='a ball or free joint',
                remedy='list the joints of the arm in the contract',
            )
        dof = compiled_model.jnt_dofadr[index]
        own = compiled_model.dof_armature[dof]
        armature = float(own or _ARMATURE[kind])
        moved = float(inertia[dof] - own + armature)
        stiffness, damping = moved * _FREQUENCY**2, 2 * moved * _FREQUENCY
        servos.append(Servos(joints=(joint,), stiffness=stiffness, damping=damping, armature=armature))
    return SceneSettings(
        model=str(model.absolute()),
        timestep=_TIMESTEP,
        servos=tuple(servos),
        compensate_gravity=('*',) if any(body.name != 'world' and body.name for body in spec.bodies) else (),
        start=dict(start),
        command_rate=COMMAND_RATE,
        controllers={CONTROLLER: Position(type='position', joints=tuple(joints))},
    )


def _inertia(model: mujoco.MjModel, start: Mapping[str, float]) -> np.ndarray:
    """Return the inertia of each degree of freedom at the start with all others fixed, shape (dof,)."""
    data = mujoco.MjData(model)
    Start(position=start).put(model, data)
    mujoco.mj_forward(model, data)
    inertia, unit, moved = np.empty(model.nv), np.zeros(model.nv), np.empty(model.nv)
    for dof in range(model.nv):
        unit[:] = 0.0
        unit[dof] = 1.0
        mujoco.mj_mulM(model, data, moved, unit)
        inertia[dof] = moved[dof]
    return inertia
