"""Avoiding with rows of posts that are shifted in every episode; only the camera shows the gaps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import mujoco
import numpy as np

from vdd_ros.sim.scene import Camera, SceneSettings
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks.avoiding.demonstrator import AvoidingDemonstrator, DemonstratorSettings
from vdd_ros.sim.tasks.avoiding.layout import ROWS, Row
from vdd_ros.sim.tasks.avoiding.success_detector import AvoidingSuccessDetector
from vdd_ros.sim.tasks.avoiding.task import Avoiding
from vdd_ros.sim.tasks.pace import require_seen
from vdd_ros.sim.tasks.task import Verdict

SHIFTS = ((-0.07, 0.07), (-0.07, 0.07), (-0.09, 0.03))
"""Minimum and maximum shift of each row along x [m]; farther to the right, the last gap would be out of reach."""
_POSTS = tuple(
    tuple(f'post_{number}_{post}' for post in range(1, len(row.posts) + 1)) for number, row in enumerate(ROWS, 1)
)


class AvoidingSeen(Avoiding):
    """The Avoiding task with shifted rows. The shifts of an episode depend only on its number."""

    name = 'avoiding_seen'
    contract = 'avoiding_seen'
    demonstrated_from = 1_000_000
    settings = SceneSettings(cameras={'above': Camera(width=96, height=96, rate=30.0)})

    @property
    def scenarios_beside(self) -> Path:
        """The file of this task; the ``scenarios.yaml`` in its folder has disturbances of the camera."""
        return Path(__file__)

    def prepare(self, spec: mujoco.MjSpec) -> None:
        """Make the posts movable, so every episode can place them."""
        for name in (name for row in _POSTS for name in row):
            spec.body(name).mocap = True
        # Without a GPU, shadows are nine tenths of the time that an image takes.
        spec.visual.quality.shadowsize, spec.visual.quality.offsamples = 0, 2

    def reset(self, simulation: Simulation, episode: int = 0) -> None:
        """Reset a scene to the start of an episode, and shift its rows."""
        super().reset(simulation, episode)
        model, data = simulation.model, simulation.data
        for names, row, shift in zip(_POSTS, ROWS, shifts(episode)):
            for name, x in zip(names, row.posts):
                data.mocap_pos[model.body(name).mocapid[0], 0] = x + shift
        mujoco.mj_forward(model, data)

    def new_success_detector(self) -> AvoidingSuccessDetector:
        """Return a success detector for one episode."""
        return _SeeingDetector(self.tool)

    def new_demonstrator(self, generator: np.random.Generator) -> AvoidingDemonstrator:
        """Return a demonstrator that reads the positions of the posts, and uses all modes equally often."""
        return _SeeingDemonstrator(generator)


def shifts(episode: int) -> np.ndarray:
    """Return the shift of each row along x in an episode, shape (row,) [m]."""
    low, high = np.array(SHIFTS).T
    return np.random.default_rng([episode, 20]).uniform(low, high)


def rows_of(simulation: Simulation) -> tuple[Row, ...]:
    """Return the rows at their positions in a scene."""
    return tuple(
        replace(row, posts=tuple(float(simulation.body_position(name)[0]) for name in names))
        for row, names in zip(ROWS, _POSTS)
    )


class _SeeingDetector(AvoidingSuccessDetector):
    _seen = False

    def judge(self, simulation: Simulation) -> Verdict:
        """Read the positions of the posts, which do not move within an episode, and update the state."""
        if not self._seen:
            self.rows, self._seen = rows_of(simulation), True
        return super().judge(simulation)


class _SeeingDemonstrator(AvoidingDemonstrator):
    def __init__(self, generator: np.random.Generator) -> None:
        super().__init__(generator, DemonstratorSettings())
        self._looked = False

    def look(self, simulation: Simulation) -> None:
        """Read the positions of the posts."""
        self.rows, self._looked = rows_of(simulation), True

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next mode and plan a path.

        Raises
        ------
        ConfigurationError
            `look` was not called.

        """
        require_seen(self._looked, 'the posts stand')
        super().begin(hand)


TASK = AvoidingSeen
