"""The Placing task: an arm places a pan in a tray; 2 handles, 2 sides of a post and 3 trays make 12 modes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.placing.demonstrator import PlacingDemonstrator
from vdd_ros.sim.tasks.placing.drawing import draw_layout
from vdd_ros.sim.tasks.placing.layout import MODE_NAMES
from vdd_ros.sim.tasks.placing.success_detector import MOVING, OBSTACLES, PlacingSuccessDetector
from vdd_ros.sim.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Placing(Task):
    """The Placing task: the gripper takes a pan by a handle, carries it past a post and puts it into a tray.

    Handle, side of the post and tray determine the mode. The tool always points down.
    """

    name = 'placing'
    scene = Path(__file__).parent / 'scene.xml'
    contract = 'placing_cartesian'
    gripper = ('gripper',)
    joints = (
        'shoulder_pan_joint',
        'shoulder_lift_joint',
        'elbow_joint',
        'wrist_1_joint',
        'wrist_2_joint',
        'wrist_3_joint',
        *gripper,
    )
    tool = 'tool_point'
    period = 50_000_000
    max_steps = 240
    mode_names = MODE_NAMES
    moving, obstacles = MOVING, OBSTACLES

    def __init__(self) -> None:
        """Compile the scene."""
        spec = mujoco.MjSpec.from_file(str(self.scene))
        self.prepare(spec)
        self._model = spec.compile()

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Change the scene before it is compiled; by default nothing."""

    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene in its start state."""
        simulation = Simulation(self._model, self.joints if joints is None else joints)
        self.reset(simulation)
        return simulation

    def new_success_detector(self) -> PlacingSuccessDetector:
        """Return a success detector for one episode."""
        return PlacingSuccessDetector(self.tool, *self.gripper)

    def new_demonstrator(self, generator: np.random.Generator) -> PlacingDemonstrator:
        """Return a demonstrator with smooth motion that uses all modes equally often."""
        return PlacingDemonstrator(generator)

    def draw(self, axes: Axes) -> None:
        """Draw pan, post, trays and start."""
        draw_layout(axes)


TASK = Placing
