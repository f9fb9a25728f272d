"""The demonstrator of the Placing task: approach a handle, grasp, pass the post, place in a tray, release, retract."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from vdd_ros.sim.tasks.pace import ModeRounds, PaceSettings
from vdd_ros.sim.tasks.path import Path
from vdd_ros.sim.tasks.placing.layout import CLOSED, GRIP_HEIGHT, HANDLES, MODES, OPEN, PAN, PLACES, POST, SIDES
from vdd_ros.sim.tasks.spline import monotone_spline
from vdd_ros.sim.tasks.task import Demonstrator

_RESOLUTION = 0.001


@dataclass(frozen=True)
class DemonstratorSettings(PaceSettings):
    """Parameters of the scripted demonstrator of the Placing task."""

    step: float = 0.014
    ramp: int = 6
    braking: float = 0.25
    """Maximum share of the remaining distance that is covered in one policy period, for a smooth arrival."""
    creep: float = 0.0015
    """Minimum step per policy period [m]."""
    grip_step: float = 0.0035
    """Step of the commanded fingers per policy period [m]."""
    height: float = 0.17
    """Height of the tool point while carrying the pan [m]."""
    passing: tuple[float, float] = (0.105, 0.145)
    """Minimum and maximum distance from the centre of the post while passing it [m]."""
    beside: float = 0.13
    """Distance before and after the post over which the distance `passing` is kept, since the pan extends to both sides
    [m]."""
    spread: float = 0.008
    """Maximum offset of the pan from the centre of a tray, along each axis [m]."""


class PlacingDemonstrator(Demonstrator):
    """Uses all modes equally often: each exactly once in every round of 12, in random order."""

    def __init__(self, generator: np.random.Generator, settings: DemonstratorSettings = DemonstratorSettings()) -> None:
        """Draw all choices from ``generator``."""
        self._generator = generator
        self._settings = settings
        self._modes = ModeRounds(generator, len(MODES))
        self._moves: list[tuple[Path, float]] = []
        self.handles = {name: np.array([PAN[0], PAN[1] + y]) for name, y in HANDLES.items()}
        """Centres of the handles, shape (2,): x, y [m]."""
        self.places = PLACES
        """Centres of the trays: x, y [m]."""

    def begin(self, hand: np.ndarray) -> None:
        """Choose the next mode and plan its three moves from ``hand``, shape (4,): x, y, z, finger [m]."""
        self._mode = self._modes.draw()
        self._step = self._settings.drawn_step(self._generator)
        self._moves = self._plan(hand[:3])
        self._progress = 0.0
        self._period = 0

    def command(self, hand: np.ndarray) -> np.ndarray:
        """Continue from the commanded hand position, shape (4,): x, y, z, finger [m]."""
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
        noise = settings.drawn_noise(self._generator, 3)
        # If a move has just ended, the path of the next one begins here.
        goal = path.at(self._progress if self._period else path.length)
        following = goal + settings.persistence * (point - path.at(here)) + noise
        return np.array([*following, fingers])

    @property
    def finished(self) -> bool:
        """Whether the hand has released the pan and retracted."""
        return not self._moves

    @property
    def mode(self) -> int:
        """Index of the mode."""
        return self._mode

    def _plan(self, start: np.ndarray) -> list[tuple[Path, float]]:
        """Return the moves: a path of shape (point, 3) [m] and the finger position at its end [m]."""
        settings, generator = self._settings, self._generator
        handle, side, tray = MODES[self._mode]
        grip = np.array([*self.handles[handle], GRIP_HEIGHT])
        grip[0] += generator.uniform(-0.004, 0.004)
        grip[1] += generator.uniform(-0.006, 0.006)
        place = np.array([*self.places[tray], GRIP_HEIGHT + 0.003])
        place[:2] += generator.uniform(-settings.spread, settings.spread, 2)
        up, high = np.array([0.0, 0.0, 0.09]), np.array([0.0, 0.0, settings.height - GRIP_HEIGHT])
        ends = [SIDES[side] * generator.uniform(*settings.passing) for _ in range(2)]
        past = [np.array([POST[0] + x, y, settings.height]) for x, y in zip(ends, (-settings.beside, settings.beside))]
        to_handle = _curve(start, grip + up, grip)
        to_tray = _curve(grip, grip + 0.5 * high, *past, place + 0.8 * high, place)
        return [(to_handle, CLOSED), (to_tray, OPEN), (_curve(place, place + up), OPEN)]


def _curve(*points: np.ndarray) -> Path:
    """Return a smooth path through points of shape (3,) without overshoot."""
    knots = np.concatenate([[0.0], np.cumsum([np.linalg.norm(b - a) for a, b in pairwise(points)])])
    places = np.linspace(0.0, knots[-1], max(2, round(knots[-1] / _RESOLUTION)))
    values = np.array(points)
    return Path(np.stack([monotone_spline(knots, values[:, axis], places) for axis in range(3)], axis=1))
