"""Avoiding from five start positions side by side, in turn: a policy must infer the mode from the arm's position."""

from __future__ import annotations

import mujoco
import numpy as np

from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.tasks.avoiding.layout import HEIGHT, START
from vdd_ros.sim.tasks.avoiding.task import Avoiding

OFFSETS = (0.0, -0.10, -0.05, 0.05, 0.10)
"""Offsets of the start positions along x from that of Avoiding [m]."""


class AvoidingStarts(Avoiding):
    """The Avoiding task with five start positions; the first is that of Avoiding."""

    name = 'avoiding_starts'
    starts = tuple(f'start{number}' for number in range(len(OFFSETS)))

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Add a keyframe for each start."""
        kinematics = Kinematics(self.scene, self.tool, self.joints)
        home = kinematics.model.key('start').qpos
        orientation = kinematics.tool_orientation(home)
        for name, offset in zip(self.starts, OFFSETS):
            point = np.array([START[0] + offset, START[1], HEIGHT])
            joints = kinematics.solve(point, orientation, home) if offset else home
            spec.add_key(name=name, qpos=joints, ctrl=joints)


TASK = AvoidingStarts
