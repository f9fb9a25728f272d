"""Shows the Placing task: over a handle, down, close, past the post, down into a tray, open, up."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.sim.tasks.path import Path
from vdd_ros.sim.tasks.placing.layout import CLOSED, GRIP_HEIGHT, HANDLES, OPEN, PAN, POST, SIDES, TRAY_Y, TRAYS, WAYS
from vdd_ros.sim.tasks.spline import monotone_spline
from vdd_ros.sim.tasks.task import Demonstrator

_RESOLUTION = 0.001


@dataclass(frozen=True)
class DemonstratorSettings:
    """How the demonstrator goes about it."""

    step: float = 0.014
    """Way of the commanded point within one policy period [m]."""
    pace_spread: float = 0.2
    """How much a demonstration may be faster or slower than that; a share of the step."""
    ramp: int = 6
    """Policy periods until full pace, at the begin of each of its three moves."""
    braking: float = 0.25
    """Greatest share of what is left of a move that is done in one policy period: it arrives without a jerk."""
    creep: float = 0.0015
    """Least way within one policy period [m]."""
    grip_step: float = 0.0035
    """Way of the commanded fingers within one policy period [m]."""
    height: float = 0.17
    """Height of the tool point while the pan is carried [m]."""
    passing: tuple[float, float] = (0.105, 0.145)
    """Least and greatest distance from the middle of the post while passing it [m]."""
    beside: float = 0.13
    """From how far before the post to how far behind it that distance is kept: the pan is long on either side [m]."""
    spread: float = 0.008
    """How far the pan is put from the middle of a tray along either axis [m]."""
    noise: float = 0.0006
    """Standard deviation of the Ornstein-Uhlenbeck noise on the commanded point, along each axis [m]."""
    persistence: float = 0.8
    """Share of a deviation from the path, be it noise or disturbance, that is still there one policy period later."""

    def __post_init__(self) -> None:
        """Refuse what cannot be followed."""
        if not (self.step > 0 and 0 <= self.pace_spread < 1 and 0 <= self.persistence < 1 and self.ramp >= 1):
            raise ConfigurationError(
                expected='step > 0, ramp >= 1, pace_spread and persistence in [0, 1)',
                found=f'{self}',
                remedy='correct those settings',
            )


class PlacingDemonstrator(Demonstrator):
    """Takes all ways equally often: each exactly once within every round of 12, in random order."""

    def __init__(self, generator: np.random.Generator, settings: DemonstratorSettings = DemonstratorSettings()) -> None:
        """Draw every choice from ``generator``."""
        self._generator = generator
        self._settings = settings
        self._round: list[int] = []
        self._moves: list[tuple[Path, float]] = []

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next way and plan its three moves from ``hand``, shape (4,): x, y, z, finger [m]."""
        if not self._round:
            self._round = self._generator.permutation(len(WAYS)).tolist()
        self._way = self._round.pop()
        spread = self._settings.pace_spread
        self._step = self._settings.step * self._generator.uniform(1 - spread, 1 + spread)
        self._moves = self._plan(hand[:3])
        self._progress = 0.0
        self._period = 0

    def command(self, hand: np.ndarray) -> np.ndarray:
        """Go on from where the hand is commanded to; shape (4,): x, y, z, finger [m]."""
        settings, (path, finger) = self._settings, self._moves[0]
        point, fingers = hand[:3], hand[3]
        here = path.nearest(point, self._progress, 3 * self._step)
        self._period += 1
        left = path.length - here
        step = min(self._step * min(1.0, self._period / settings.ramp), max(settings.braking * left, settings.creep))
        self._progress = min(here + step, path.length)
        if self._progress >= path.length:
            fingers = fingers + np.clip(finger - fingers, -settings.grip_step, settings.grip_step)
            if fingers == finger:
                self._moves.pop(0)
                self._progress, self._period = 0.0, 0
        noise = self._generator.normal(0.0, settings.noise * np.sqrt(1 - settings.persistence**2), 3)
        # Where the move was just ended, the path of the next one begins.
        goal = path.at(self._progress if self._period else path.length)
        following = goal + settings.persistence * (point - path.at(here)) + noise
        return np.array([*following, fingers])

    @property
    def finished(self) -> bool:
        """Whether the hand has let go and left."""
        return not self._moves

    @property
    def way(self) -> int:
        """Index of the way that is taken."""
        return self._way

    def _plan(self, start: np.ndarray) -> list[tuple[Path, float]]:
        """Return the moves: a path of shape (point, 3) [m] and what the fingers do at its end [m]."""
        settings, generator = self._settings, self._generator
        handle, side, tray = WAYS[self._way]
        grip = np.array([PAN[0] + generator.uniform(-0.004, 0.004), PAN[1] + HANDLES[handle], GRIP_HEIGHT])
        grip[1] += generator.uniform(-0.006, 0.006)
        place = np.array([TRAYS[tray], TRAY_Y, GRIP_HEIGHT + 0.003])
        place[:2] += generator.uniform(-settings.spread, settings.spread, 2)
        up, high = np.array([0.0, 0.0, 0.09]), np.array([0.0, 0.0, settings.height - GRIP_HEIGHT])
        ends = [SIDES[side] * generator.uniform(*settings.passing) for _ in range(2)]
        past = [np.array([POST[0] + x, y, settings.height]) for x, y in zip(ends, (-settings.beside, settings.beside))]
        to_handle = _curve(start, grip + up, grip)
        to_tray = _curve(grip, grip + 0.5 * high, *past, place + 0.8 * high, place)
        return [(to_handle, CLOSED), (to_tray, OPEN), (_curve(place, place + up), OPEN)]


def _curve(*points: np.ndarray) -> Path:
    """Return a smooth path through points of shape (3,) that overshoots none of them."""
    knots = np.concatenate([[0.0], np.cumsum([np.linalg.norm(b - a) for a, b in pairwise(points)])])
    places = np.linspace(0.0, knots[-1], max(2, round(knots[-1] / _RESOLUTION)))
    values = np.array(points)
    return Path(np.stack([monotone_spline(knots, values[:, axis], places) for axis in range(3)], axis=1))
