"""The Avoiding task: an arm moves a rod past three rows of posts to the finish line, in one of 24 modes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import mujoco
import numpy as np

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.avoiding.demonstrator import AvoidingDemonstrator
from vdd_ros.sim.tasks.avoiding.drawing import draw_layout
from vdd_ros.sim.tasks.avoiding.layout import MODE_NAMES
from vdd_ros.sim.tasks.avoiding.success_detector import POSTS, ROD, AvoidingSuccessDetector
from vdd_ros.sim.tasks.task import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_FOLDER = Path(__file__).parent


class Avoiding(Task):
    """The Avoiding task: the arm moves a rod past three rows of posts. The path in top view determines the mode.

    Height and orientation of the tool are constant.
    """

    name = 'avoiding'
    scene = _FOLDER / 'scene.xml'
    contract = 'avoiding_cartesian'
    joints = tuple(f'joint{number}' for number in range(1, 8))
    tool = 'tool_point'
    period = 35_000_000
    max_steps = 250
    mode_names = MODE_NAMES
    moving, obstacles = ROD, POSTS

    def __init__(self) -> None:
        """Compile the scene with the rod attached to the hand."""
        spec = mujoco.MjSpec.from_file(str(self.scene))
        rod = mujoco.MjSpec.from_file(str(_FOLDER / 'rod.xml'))
        spec.attach(rod, site=spec.site(self.tool), prefix='held_')
        self.prepare(spec)
        self._model = spec.compile()

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Change the scene before it is compiled; by default nothing."""

    def simulation(self, joints: Sequence[str] | None = None) -> Simulation:
        """Return a new scene in its start state."""
        simulation = Simulation(self._model, self.joints if joints is None else joints)
        self.reset(simulation)
        return simulation

    def new_success_detector(self) -> AvoidingSuccessDetector:
        """Return a success detector for one episode."""
        return AvoidingSuccessDetector(self.tool)

    def new_demonstrator(self, generator: np.random.Generator) -> AvoidingDemonstrator:
        """Return a demonstrator with smooth motion that uses all modes equally often."""
        return AvoidingDemonstrator(generator)

    def draw(self, axes: Axes) -> None:
        """Draw posts, finish line and start."""
        draw_layout(axes)


TASK = Avoiding
