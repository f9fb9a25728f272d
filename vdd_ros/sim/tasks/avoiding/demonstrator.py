"""The demonstrator of the Avoiding task: one gap per row, a smooth path through the gaps, and human-like noise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vdd_ros.sim.tasks.avoiding.layout import FINISH, MODES, ROD_RADIUS, ROWS, Row
from vdd_ros.sim.tasks.pace import ModeRounds, PaceSettings
from vdd_ros.sim.tasks.path import Path
from vdd_ros.sim.tasks.spline import monotone_spline
from vdd_ros.sim.tasks.task import Demonstrator

_RESOLUTION = 0.001
REACH = 0.80
"""Maximum distance of the tool point from the robot base along the path [m]."""
_PLANS = 50


@dataclass(frozen=True)
class DemonstratorSettings(PaceSettings):
    """Parameters of the demonstrator. The defaults give smooth motion; ``margin=0, noise=0.0012`` is less careful."""

    margin: float = 0.010
    """Clearance between rod and post at the via-points [m]."""
    outer_width: float = 0.050
    """Width of the two outer gaps, left and right of a row, that demonstrations use [m]."""
    overshoot: float = 0.030
    """Distance of the path end behind the finish line [m]."""
    end_spread: float = 0.030
    """Maximum lateral offset of the path end from the via-point of the last gap [m]."""
    reach: float = 0.785
    """Maximum distance of the path end from the robot base [m]."""


class AvoidingDemonstrator(Demonstrator):
    """Uses all modes equally often: each exactly once in every round of 24, in random order."""

    def __init__(self, generator: np.random.Generator, settings: DemonstratorSettings = DemonstratorSettings()) -> None:
        """Draw all choices from ``generator``."""
        self._generator = generator
        self._settings = settings
        self._modes = ModeRounds(generator, len(MODES))
        self._finished = True
        self.rows: tuple[Row, ...] = ROWS
        """Positions of the posts."""

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next mode and plan a path from ``hand``, shape (3,): x, y, z [m]."""
        self._mode = self.choose()
        # Human demonstrators plan ahead and choose a path that keeps clear of the posts.
        plans = (self._plan(hand[:2]) for _ in range(_PLANS))
        wanted = self._settings.margin / 2
        points, _ = max(_until_enough(plans, wanted), key=lambda plan: plan[1])
        self._path = Path(points)
        self._height = hand[2]
        self._step = self._settings.drawn_step(self._generator)
        self._progress = 0.0
        self._period = 0
        self._finished = False

    def choose(self) -> int:
        """Return the index of the mode of the next path."""
        return self._modes.draw()

    def command(self, hand: np.ndarray) -> np.ndarray:
        """Continue along the path from the commanded hand position, shape (3,) [m]; the height is constant."""
        settings, path, point = self._settings, self._path, hand[:2]
        here = path.nearest(point, self._progress, 3 * self._step)
        self._period += 1
        self._progress = here + self._step * min(1.0, self._period / settings.ramp)
        self._finished = self._progress >= path.length
        noise = settings.drawn_noise(self._generator, 2)
        following = path.at(self._progress) + settings.persistence * (point - path.at(here)) + noise
        return np.array([*following, self._height])

    @property
    def finished(self) -> bool:
        """Whether the end of the path was commanded."""
        return self._finished

    @property
    def mode(self) -> int:
        """Index of the mode of the path."""
        return self._mode

    def _plan(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        """Return a path of shape (point, 2) [m] and its minimum clearance from the posts [m]."""
        settings, generator = self._settings, self._generator
        via = [generator.uniform(*self._reachable(row, gap)) for row, gap in zip(self.rows, MODES[self._mode])]
        end = FINISH + settings.overshoot
        last = via[-1] + generator.uniform(-settings.end_spread, settings.end_spread)
        last = min(last, np.sqrt(settings.reach**2 - end**2))
        y = np.linspace(start[1], end, max(2, round((end - start[1]) / _RESOLUTION)))
        rows = [(row.y, x) for row, x in zip(self.rows, via) if row.y > start[1]]
        knots = np.array([(start[1], start[0]), *rows, (end, last)])
        path = np.stack([monotone_spline(knots[:, 0], knots[:, 1], y), y], axis=1)
        clearance = min(
            np.hypot(path[:, 0] - post, path[:, 1] - row.y).min() - row.radius - ROD_RADIUS
            for row in self.rows
            for post in row.posts
        )
        return path, clearance

    def _reachable(self, row: Row, gap: int) -> tuple[float, float]:
        """Return the interval of x in which the rod passes a gap, without what the arm does not reach."""
        left, right = row.free(gap, self._settings.margin, self._settings.outer_width)
        return left, max(left, min(right, np.sqrt(REACH**2 - row.y**2)))


def _until_enough(plans: Iterable[tuple[np.ndarray, float]], wanted: float) -> Iterator[tuple[np.ndarray, float]]:
    for plan in plans:
        yield plan
        if plan[1] >= wanted:
            return
