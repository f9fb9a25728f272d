"""Shows the Avoiding task: a gap of each row, a smooth path through them, and a steady but human hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.sim.tasks.avoiding.layout import FINISH, ROD_RADIUS, ROWS, WAYS
from vdd_ros.sim.tasks.path import Path
from vdd_ros.sim.tasks.spline import monotone_spline
from vdd_ros.sim.tasks.task import Demonstrator

_RESOLUTION = 0.001
_PLANS = 50


@dataclass(frozen=True)
class DemonstratorSettings:
    """How the demonstrator goes about it. The defaults are calm; ``margin=0, noise=0.0012`` is a hastier hand."""

    step: float = 0.010
    """Way of the commanded point within one policy period [m]."""
    pace_spread: float = 0.2
    """How much a demonstration may be faster or slower than that; a share of the step."""
    ramp: int = 8
    """Policy periods until full pace."""
    margin: float = 0.010
    """Distance of the via-points from where the rod would touch a post [m]."""
    outer_width: float = 0.050
    """Width of the gaps that lead around a row [m]."""
    noise: float = 0.0006
    """Standard deviation of the Ornstein-Uhlenbeck noise on the commanded point, along each axis [m]."""
    persistence: float = 0.8
    """Share of a deviation from the path, be it noise or disturbance, that is still there one policy period later."""
    overshoot: float = 0.030
    """How far behind the finish line the path ends [m]."""
    end_spread: float = 0.030
    """How far the end of the path may lie to either side of the last gap's via-point [m]."""
    reach: float = 0.785
    """Greatest distance of the path's end from the robot's base [m]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        if not (self.step > 0 and 0 <= self.pace_spread < 1 and 0 <= self.persistence < 1 and self.ramp >= 1):
            raise ConfigurationError(
                expected='step > 0, ramp >= 1, pace_spread and persistence in [0, 1)',
                found=f'{self}',
                remedy='correct those settings',
            )


class AvoidingDemonstrator(Demonstrator):
    """Takes all ways equally often: each exactly once within every round of 24, in random order."""

    def __init__(self, generator: np.random.Generator, settings: DemonstratorSettings = DemonstratorSettings()) -> None:
        """Draw every choice from ``generator``."""
        self._generator = generator
        self._settings = settings
        self._round: list[int] = []
        self._finished = True

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next way and plan a path from ``hand``, shape (3,): x, y, z [m]."""
        if not self._round:
            self._round = self._generator.permutation(len(WAYS)).tolist()
        self._way = self._round.pop()
        # A person looks before moving, and takes a path that keeps clear of the posts.
        plans = (self._plan(hand[:2]) for _ in range(_PLANS))
        wanted = self._settings.margin / 2
        points, _ = max(_until_enough(plans, wanted), key=lambda plan: plan[1])
        self._path = Path(points)
        self._height = hand[2]
        spread = self._settings.pace_spread
        self._step = self._settings.step * self._generator.uniform(1 - spread, 1 + spread)
        self._progress = 0.0
        self._period = 0
        self._finished = False

    def command(self, hand: np.ndarray) -> np.ndarray:
        """Go on along the path from where the hand is commanded to, shape (3,) [m]; the height is held."""
        settings, path, point = self._settings, self._path, hand[:2]
        here = path.nearest(point, self._progress, 3 * self._step)
        self._period += 1
        self._progress = here + self._step * min(1.0, self._period / settings.ramp)
        self._finished = self._progress >= path.length
        noise = self._generator.normal(0.0, settings.noise * np.sqrt(1 - settings.persistence**2), 2)
        following = path.at(self._progress) + settings.persistence * (point - path.at(here)) + noise
        return np.array([*following, self._height])

    @property
    def finished(self) -> bool:
        """Whether the end of the path has been commanded."""
        return self._finished

    @property
    def way(self) -> int:
        """Index of the way that the path takes."""
        return self._way

    def _plan(self, start: np.ndarray) -> tuple[np.ndarray, float]:
        """Return a path of shape (point, 2) [m] and its distance from touching a post [m]."""
        settings, generator = self._settings, self._generator
        via = [
            generator.uniform(*row.free(gap, settings.margin, settings.outer_width))
            for row, gap in zip(ROWS, WAYS[self._way])
        ]
        end = FINISH + settings.overshoot
        last = via[-1] + generator.uniform(-settings.end_spread, settings.end_spread)
        last = min(last, np.sqrt(settings.reach**2 - end**2))
        y = np.linspace(start[1], end, max(2, round((end - start[1]) / _RESOLUTION)))
        rows = [(row.y, x) for row, x in zip(ROWS, via) if row.y > start[1]]
        knots = np.array([(start[1], start[0]), *rows, (end, last)])
        path = np.stack([monotone_spline(knots[:, 0], knots[:, 1], y), y], axis=1)
        clearance = min(
            np.hypot(path[:, 0] - post, path[:, 1] - row.y).min() - row.radius - ROD_RADIUS
            for row in ROWS
            for post in row.posts
        )
        return path, clearance


def _until_enough(plans: Iterable[tuple[np.ndarray, float]], wanted: float) -> Iterator[tuple[np.ndarray, float]]:
    for plan in plans:
        yield plan
        if plan[1] >= wanted:
            return
