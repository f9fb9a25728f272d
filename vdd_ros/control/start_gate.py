"""The start: what happens if the policy begins far from where the arm is."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.limits import Limits
from vdd_ros.control.tracker import Tracker

_NEAR = 1e-3
"""How near an approach brings each joint before the policy plans [rad], and below which speed [rad/s]."""


@dataclass(frozen=True)
class StartGate:
    """What happens if the first waypoint is far from where the arm is."""

    threshold: float = 0.5
    """Greatest distance of any joint [rad] that is no reason to hesitate."""
    mode: Literal['refuse', 'approach'] = 'refuse'
    """`refuse`: stop and say so. `approach`: go there slowly, then let the policy plan from there."""
    speed: float = 0.1
    """Speed of the approach [rad/s]."""

    def __post_init__(self) -> None:
        """Refuse a gate that nothing passes."""
        if not (self.threshold > 0 and self.speed > 0 and self.mode in ('refuse', 'approach')):
            raise ConfigurationError(
                expected='threshold and speed above 0, and mode refuse or approach',
                found=f'{self}',
                remedy='mend the parameters',
            )

    def complaint(self, distance: np.ndarray) -> str:
        """Say why the arm does not begin, from the joints' distances to the first waypoint, shape (joint,) [rad]."""
        joint = int(distance.argmax())
        return (
            f'the first waypoint is {distance[joint]:.3g} rad away on joint {joint}, more than {self.threshold:.3g}; '
            'bring the arm nearer, or let it approach'
        )


class Approach:
    """A slow straight way in joint space."""

    def __init__(self, limits: Limits, seconds: float, start: np.ndarray, goal: np.ndarray, speed: float) -> None:
        """Lead from one position to another, shape (joint,) [rad], by a command every ``seconds``.

        No joint is faster than ``speed`` [rad/s].
        """
        # Limits in proportion to the way of each joint make all of them move alike.
        way = np.maximum(np.abs(goal - start), 1e-9)
        alike = {name: way * (getattr(limits, name) / way).min() for name in ('velocity', 'acceleration', 'jerk')}
        alike['velocity'] = np.minimum(alike['velocity'], speed * way / way.max())
        self._tracker = Tracker(replace(limits, **alike), seconds)
        self._tracker.reset(start)
        self._goal = goal

    def copy(self) -> Approach:
        """Return one in the same state, which goes on for itself."""
        twin = copy.copy(self)
        twin._tracker = self._tracker.copy()
        return twin

    def next(self) -> np.ndarray:
        """Return the next position of the way, shape (joint,) [rad]."""
        return self._tracker.step(self._goal)

    def has_brought(self, position: np.ndarray, velocity: np.ndarray) -> bool:
        """Tell whether the arm is there, and at rest: shape (joint,) [rad], [rad/s]."""
        return bool(np.abs(self._goal - position).max() < _NEAR and np.abs(velocity).max() < _NEAR)
