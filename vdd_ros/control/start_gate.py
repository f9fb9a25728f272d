"""The start gate: behaviour if the first waypoint of a policy is far from the position of the arm."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.limits import Limits
from vdd_ros.control.tracker import Tracker

_NEAR = 1e-3
"""Remaining distance of each joint after an approach [rad], and remaining speed [rad/s]."""


@dataclass(frozen=True)
class StartGate:
    """Behaviour if the first waypoint is far from the position of the arm."""

    threshold: float = 0.5
    """Maximum distance of a joint from the first waypoint up to which the policy starts directly [rad]."""
    mode: Literal['refuse', 'approach'] = 'refuse'
    """`refuse`: stop with a reason. `approach`: move slowly to the first waypoint, then plan from there."""
    speed: float = 0.1
    """Speed of the approach [rad/s]."""

    def __post_init__(self) -> None:
        """Refuse values out of range."""
        if not (self.threshold > 0 and self.speed > 0 and self.mode in ('refuse', 'approach')):
            raise ConfigurationError(
                expected='threshold and speed above 0, and mode refuse or approach',
                found=f'{self}',
                remedy='correct the parameters',
            )

    def complaint(self, distance: np.ndarray) -> str:
        """Return the reason for a refusal, from the distances to the first waypoint, shape (joint,) [rad]."""
        joint = int(distance.argmax())
        return (
            f'the first waypoint is {distance[joint]:.3g} rad away on joint {joint}, more than {self.threshold:.3g}; '
            'bring the arm nearer, or let it approach'
        )


class Approach:
    """A slow straight motion in joint space from the present position to a distant first waypoint."""

    def __init__(self, limits: Limits, seconds: float, start: np.ndarray, goal: np.ndarray, speed: float) -> None:
        """Prepare a motion between two positions, shape (joint,) [rad], with a command every ``seconds`` [s].

        No joint is faster than ``speed`` [rad/s].
        """
        # Limits in proportion to the distance of each joint let all joints arrive together.
        distance = np.maximum(np.abs(goal - start), 1e-9)
        alike = {
            name: distance * (getattr(limits, name) / distance).min() for name in ('velocity', 'acceleration', 'jerk')
        }
        alike['velocity'] = np.minimum(alike['velocity'], speed * distance / distance.max())
        self._tracker = Tracker(replace(limits, **alike), seconds)
        self._tracker.reset(start)
        self._goal = goal

    def copy(self) -> Approach:
        """Return an independent copy with the same state."""
        twin = copy.copy(self)
        twin._tracker = self._tracker.copy()
        return twin

    def next(self) -> np.ndarray:
        """Return the next position, shape (joint,) [rad]."""
        return self._tracker.step(self._goal)

    def has_brought(self, position: np.ndarray, velocity: np.ndarray) -> bool:
        """Return whether the arm has arrived and is at rest; arguments of shape (joint,) [rad] and [rad/s]."""
        return bool(np.abs(self._goal - position).max() < _NEAR and np.abs(velocity).max() < _NEAR)
