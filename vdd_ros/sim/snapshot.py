"""The visible state of a scene as one vector, for rendering in another process."""

from __future__ import annotations

from typing import TYPE_CHECKING

import mujoco
import numpy as np

if TYPE_CHECKING:
    from vdd_ros.sim.simulation import Simulation

_DATA = ('qpos', 'mocap_pos', 'mocap_quat')
# Only randomization moves these.
_MODEL = ('body_pos', 'body_quat', 'cam_pos', 'cam_quat')


def snapshot(simulation: Simulation) -> np.ndarray:
    """Return the visible state of a scene as a vector, shape (value,)."""
    model, data = simulation.model, simulation.data
    arrays = [getattr(data, name) for name in _DATA] + [getattr(model, name) for name in _MODEL]
    return np.concatenate([array.reshape(-1) for array in arrays])


def unpack(vector: np.ndarray, model: mujoco.MjModel, data: mujoco.MjData) -> bool:
    """Set a scene to a snapshot; return whether the snapshot fits the model."""
    arrays = [getattr(data, name) for name in _DATA] + [getattr(model, name) for name in _MODEL]
    if vector.shape != (sum(array.size for array in arrays),):
        return False
    for array in arrays:
        part, vector = vector[: array.size], vector[array.size :]
        array[:] = part.reshape(array.shape)
    mujoco.mj_kinematics(model, data)
    mujoco.mj_camlight(model, data)
    return True
