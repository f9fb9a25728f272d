"""The Placing task: an arm with a gripper puts a pan into a tray; 2 handles, 2 sides of a post and 3 trays: 12 ways."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.placing.demonstrator import PlacingDemonstrator
from vdd_ros.sim.tasks.placing.drawing import draw_layout
from vdd_ros.sim.tasks.placing.layout import WAY_NAMES
from vdd_ros.sim.tasks.placing.success_detector import MOVING, OBSTACLES, PlacingSuccessDetector
from vdd_ros.sim.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes


class Placing(Task):
    """The tool points down all the time; what counts is where the hand goes, and what it holds."""

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
    way_names = WAY_NAMES
    moving, obstacles = MOVING, OBSTACLES

    def __init__(self) -> None:
        """Compile the scene."""
        self._model = mujoco.MjModel.from_xml_path(str(self.scene))

    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene at the start."""
        simulation = Simulation(self._model, self.joints if joints is None else joints)
        self.reset(simulation)
        return simulation

    def new_success_detector(self) -> PlacingSuccessDetector:
        """Return a referee for one episode."""
        return PlacingSuccessDetector(self.tool, *self.gripper)

    def new_demonstrator(self, generator: np.random.Generator) -> PlacingDemonstrator:
        """Return a calm demonstrator that takes all ways equally often."""
        return PlacingDemonstrator(generator)

    def draw(self, axes: Axes) -> None:
        """Draw pan, post, trays and start."""
        draw_layout(axes)


TASK = Placing
