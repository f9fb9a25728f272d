"""Where a scene starts: a keyframe, and joints that differ from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError, SimulationError
from vdd_ros.sim.model import find

_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))


@dataclass(frozen=True)
class Start:
    """Where a reset leads."""

    keyframe: str = ''
    """Name of a keyframe; empty: the model's own positions."""
    position: Mapping[str, float] = field(default_factory=dict)
    """Positions of hinge and slide joints that differ from those, by name [rad] or [m]."""
    velocity: Mapping[str, float] = field(default_factory=dict)
    """Velocities of such joints, by name [rad/s] or [m/s]; the others are at rest, or as the keyframe has them."""

    def put(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Bring a scene there; if it cannot be, the scene stays as it is.

        Raises
        ------
        SimulationError
            A number is not finite.
        ModelError
            The model has no such keyframe or joint.

        """
        key = find(model, mujoco.mjtObj.mjOBJ_KEY, self.keyframe) if self.keyframe else -1
        changes = [(data.qpos, model.jnt_qposadr, self.position), (data.qvel, model.jnt_dofadr, self.velocity)]
        places = [
            (array, address[_scalar_joint(model, joint)], float(value))
            for array, address, values in changes
            for joint, value in values.items()
        ]
        if not np.isfinite([value for _, _, value in places]).all():
            raise SimulationError(
                expected='finite positions and velocities to start from',
                found=f'{dict(self.position)}, {dict(self.velocity)}',
                remedy='check what computed them',
            )
        if self.keyframe:
            mujoco.mj_resetDataKeyframe(model, data, key)
        else:
            mujoco.mj_resetData(model, data)
        for array, place, value in places:
            array[place] = value


def _scalar_joint(model: mujoco.MjModel, name: str) -> int:
    index = find(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if model.jnt_type[index] not in _SCALAR:
        raise ModelError(
            expected=f'one number to say where joint {name} is',
            found='a joint that turns freely',
            remedy='name a hinge or slide joint, or use a keyframe',
        )
    return index
