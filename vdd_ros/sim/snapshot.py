"""What of a scene is seen, as one vector: enough for another process to draw it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from vdd_ros.sim.simulation import Simulation

_DATA = ('qpos', 'mocap_pos', 'mocap_quat')
# Randomisation moves these; they stay where they are otherwise.
_MODEL = ('body_pos', 'body_quat', 'cam_pos', 'cam_quat')


def snapshot(simulation: Simulation) -> np.ndarray:
    """Return where everything is, shape (number,)."""
    model, data = simulation.model, simulation.data
    arrays = [getattr(data, name) for name in _DATA] + [getattr(model, name) for name in _MODEL]
    return np.concatenate([array.reshape(-1) for array in arrays])


def unpack(vector: np.ndarray, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
    """Put everything where a snapshot says; return whether it was one of such a model."""
    arrays = [getattr(data, name) for name in _DATA] + [getattr(model, name) for name in _MODEL]
    if vector.shape != (sum(array.size for array in arrays),):
        return False
    for array in arrays:
        part, vector = vector[: array.size], vector[array.size :]
        array[:] = part.reshape(array.shape)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    return True
