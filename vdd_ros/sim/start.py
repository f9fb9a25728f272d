"""The start state of a scene: a keyframe, and joints that differ from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import mujoco
import numpy as np

from vdd_ros.common.errors import ModelError, SimulationError
from vdd_ros.sim.model import find

_SCALAR = (int(mujoco.mjtJoint.mjJNT_HINGE), int(mujoco.mjtJoint.mjJNT_SLIDE))
_HINGE_ROOM, _SLIDE_ROOM = 0.02, 0.002
"""Distance outside the limits [rad], [m] that a recorded start position may have."""


@dataclass(frozen=True)
class Start:
    """The state after a reset."""

    keyframe: str = ''
    """Name of a keyframe; empty: initial positions of the model."""
    position: Mapping[str, float] = field(default_factory=dict)
    """Positions of hinge and slide joints that differ from the keyframe, by name [rad] or [m]."""
    velocity: Mapping[str, float] = field(default_factory=dict)
    """Velocities of hinge and slide joints, by name [rad/s] or [m/s]; the others are at rest or as in the keyframe."""

    def put(self, model: mujoco.MjModel, data: mujoco.MjData) -> None:
        """Set a scene to this state; after an error the scene is unchanged.

        Raises
        ------
        SimulationError
            A position or velocity is not finite.
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
                remedy='check the program that computes them',
            )
        if self.keyframe:
            mujoco.mj_resetDataKeyframe(model, data, key)
        else:
            mujoco.mj_resetData(model, data)
        for array, place, value in places:
            array[place] = value

    def check_limits(self, model: mujoco.MjModel, remedy: str) -> None:
        """Check that the named positions are within the joint limits of a model, except for measurement noise.

        Raises
        ------
        ModelError
            A position is outside the limits of its joint, or the model has no such joint.

        """
        for joint, value in self.position.items():
            index = _scalar_joint(model, joint)
            is_slide = model.jnt_type[index] == int(mujoco.mjtJoint.mjJNT_SLIDE)
            room, unit = (_SLIDE_ROOM, 'm') if is_slide else (_HINGE_ROOM, 'rad')
            low, high = model.jnt_range[index]
            if model.jnt_limited[index] and not low - room <= value <= high + room:
                raise ModelError(
                    expected=f'a start position of {joint} within its limits, {low:.4g} to {high:.4g} {unit}',
                    found=f'{value:.4g} {unit}',
                    remedy=remedy,
                )


def _scalar_joint(model: mujoco.MjModel, name: str) -> int:
    index = find(model, mujoco.mjtObj.mjOBJ_JOINT, name)
    if model.jnt_type[index] not in _SCALAR:
        raise ModelError(
            expected=f'a hinge or slide joint {name}',
            found='a ball or free joint',
            remedy='use another joint or a keyframe',
        )
    return index
