"""The nodes that move an arm, each of which leads the tool to the left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from arms import ANSWERED, HOME, JOINTS, tool
from bags import save_episode
from students import save_student

_PERIOD = 20_000_000
_RAMP, _TURN = 0.2, 2.6
"""Time to full speed [s], and how far the first joint turns [rad]."""


def start_mover(graph, name: str, folder: Path, *, speed: float = 0.03, simulated: bool = False, **parameters: object):
    """Start ``policy_node`` or ``replay``, whose artifact or bag lies in a folder; ``speed`` is the tool's [m/s]."""
    if name == 'policy_node':
        step = speed * 0.035
        artifact = save_student(folder / 'left', [[0.0, step]], change={'prediction_horizon': 4})
        return graph.start(name, use_sim_time=simulated, artifact=artifact, **ANSWERED, **parameters)
    turning = speed / np.hypot(*tool(HOME)[:2])
    times = np.arange(0, _TURN / turning, _PERIOD / 1e9)
    turned = turning * np.where(times < _RAMP, times**2 / (2 * _RAMP), times - _RAMP / 2)
    bag = save_episode(folder / 'bag', JOINTS, HOME + np.outer(turned, np.eye(7)[0]), _PERIOD)
    return graph.start(name, use_sim_time=simulated, bag=bag, start_speed=0.3, **parameters)
