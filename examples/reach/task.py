"""Move the tip of a rod from one side of a post to the other: past the post on the near or on the far side."""

from __future__ import annotations

import numpy as np

from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Demonstrator, SceneTask, SuccessDetector, Verdict

POST, GOAL = np.array([0.45, 0.0]), np.array([0.45, 0.25])
FINISH = 0.2
"""Line along x that the tip crosses [m]."""


class Reached(SuccessDetector):
    """Success: the tip crossed the finish line. Failure: the rod touched the post."""

    def __init__(self) -> None:
        self._mode: int | None = None

    def judge(self, simulation: Simulation) -> Verdict:
        """Return the state of the episode."""
        tip = simulation.place('tool0')[:2]
        if self._mode is None and tip[1] > POST[1]:
            self._mode = 0 if tip[0] < POST[0] else 1
        if simulation.touched(('rod',), ('cell_post',)):
            return 'failure'
        return 'success' if tip[1] > FINISH else 'running'

    @property
    def mode(self) -> int | None:
        """Index of the mode: 0 near, 1 far."""
        return self._mode


class Scripted(Demonstrator):
    """Optional: demonstrates both modes, with varied via points."""

    def __init__(self, generator: np.random.Generator) -> None:
        self._generator = generator
        self._points: list[np.ndarray] = []

    def begin(self, hand: np.ndarray) -> None:
        """Choose the mode and a via point beside the post."""
        mode = int(self._generator.integers(2))
        side = (-1, 1)[mode] * self._generator.uniform(0.08, 0.12)
        via = np.array([POST[0] + side, POST[1], hand[2]])
        goal = np.array([*GOAL, hand[2]])
        self._points = [*_steps(hand[:3], via), *_steps(via, goal), goal, goal]

    def command(self, hand: np.ndarray) -> np.ndarray:
        """Return the next position of the tool [m]."""
        return self._points.pop(0)

    @property
    def finished(self) -> bool:
        """Whether the motion is complete."""
        return not self._points


def _steps(begin: np.ndarray, end: np.ndarray, length: float = 0.012) -> list[np.ndarray]:
    count = max(1, round(np.linalg.norm(end - begin) / length))
    return [begin + (end - begin) * step / count for step in range(1, count + 1)]


class Reach(SceneTask):
    """The task: scene, contract, success detector, and optionally a demonstrator."""

    name = 'reach'
    scene = 'scene.yaml'
    contract = 'contract.yaml'
    detector = Reached
    time_limit = 12.0
    mode_names = ('near', 'far')
    moving, obstacles = ('rod', 'flange'), ('cell_post',)

    def new_demonstrator(self, generator: np.random.Generator) -> Scripted:
        """Return the scripted demonstrator."""
        return Scripted(generator)


TASK = Reach
