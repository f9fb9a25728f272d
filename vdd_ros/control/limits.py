"""Limits of the commands, merged from the robot model and the deployment parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError

KINDS = ('position', 'velocity', 'acceleration', 'jerk', 'lag')
"""Kinds of limits, in the order in which they are counted."""


_UNLIMITED: Any = None
"""Default of a limit, which becomes an array of infinity."""


@dataclass(frozen=True)
class Limits:
    """Limits by joint, arrays of shape (joint,). Infinity means no limit.

    All limits except ``lag`` apply to the sequence of commands. The measured position is not used, since its delay
    would slow the arm.
    """

    lower: np.ndarray
    """Minimum position [rad]."""
    upper: np.ndarray
    """Maximum position [rad]."""
    velocity: np.ndarray
    """Maximum speed [rad/s]."""
    lag: float | np.ndarray
    """Maximum distance between command and measured position [rad], a scalar or shape (joint,). This limit bounds the
    force on a blocked arm."""
    acceleration: np.ndarray = _UNLIMITED
    """Maximum acceleration [rad/s^2]; None for no limit."""
    jerk: np.ndarray = _UNLIMITED
    """Maximum jerk [rad/s^3]; None for no limit."""
    mode: Literal['clamp', 'reject'] = 'clamp'
    """Response to a plan that exceeds a limit. `clamp`: execute the plan within the limits. `reject`: refuse the
    plan."""
    recovery: float = 0.05
    """Speed of a joint that returns from outside its position limits [rad/s]."""

    def __post_init__(self) -> None:
        """Fill in absent limits, and refuse limits that no command can satisfy."""
        object.__setattr__(self, 'lag', np.broadcast_to(np.asarray(self.lag, dtype=np.float64), np.shape(self.lower)))
        for name in ('lower', 'upper', 'velocity', 'acceleration', 'jerk'):
            value = getattr(self, name)
            array = np.full(np.shape(self.lower), np.inf) if value is None else np.array(value, dtype=np.float64)
            object.__setattr__(self, name, array)
        rates = (self.velocity, self.acceleration, self.jerk)
        shapes = {array.shape for array in (self.lower, self.upper, *rates)}
        positive = all((array > 0).all() for array in (*rates, self.lag)) and 0 < self.recovery < np.inf
        if len(shapes) > 1 or not ((self.lower < self.upper).all() and positive):
            raise ConfigurationError(
                expected='lower < upper, and velocity, acceleration, jerk, lag and recovery above 0 for every joint',
                found=f'lower {self.lower}, upper {self.upper}, velocity {self.velocity}, '
                f'acceleration {self.acceleration}, jerk {self.jerk}, lag {self.lag}, recovery {self.recovery}',
                remedy='correct the limits of the robot model or the parameters',
            )
        if self.mode not in ('clamp', 'reject'):
            raise ConfigurationError(
                expected='limits mode clamp or reject', found=repr(self.mode), remedy='choose one of them'
            )

    def __len__(self) -> int:
        """Return the number of joints."""
        return len(self.lower)

    def tightened(
        self,
        *,
        lower: np.ndarray | None = None,
        upper: np.ndarray | None = None,
        velocity: np.ndarray | None = None,
        acceleration: np.ndarray | None = None,
        jerk: np.ndarray | None = None,
    ) -> Limits:
        """Return the stricter of these limits and those of another source, shape (joint,) or () each."""

        def least(own: np.ndarray, other: np.ndarray | None) -> np.ndarray:
            return own if other is None else np.minimum(own, other)

        return replace(
            self,
            lower=self.lower if lower is None else np.maximum(self.lower, lower),
            upper=least(self.upper, upper),
            velocity=least(self.velocity, velocity),
            acceleration=least(self.acceleration, acceleration),
            jerk=least(self.jerk, jerk),
        )

    def broken_by(self, waypoints: np.ndarray, start: np.ndarray, seconds: float) -> str:
        """Return a text that describes the first limit that a plan exceeds; empty if the plan keeps all limits.

        Position, velocity and acceleration are checked, in this order.

        Parameters
        ----------
        waypoints
            Planned positions, shape (step, joint) [rad].
        start
            The command before the first waypoint, shape (joint,) [rad].
        seconds
            Time between two waypoints [s].

        """
        path = np.concatenate([start[None], waypoints])
        velocity = np.diff(path, axis=0) / seconds
        acceleration = np.diff(velocity, axis=0) / seconds
        tolerance = 1e-9
        for kind, unit, value, least, greatest in (
            ('position', 'rad', waypoints, self.lower, self.upper),
            ('velocity', 'rad/s', velocity, -self.velocity, self.velocity),
            ('acceleration', 'rad/s^2', acceleration, -self.acceleration, self.acceleration),
        ):
            outside = (value < least - tolerance) | (value > greatest + tolerance)
            if outside.any():
                step, joint = np.argwhere(outside)[0]
                bounds = f'{least[joint]:.3g} to {greatest[joint]:.3g}'
                return f'{kind} {value[step, joint]:.3g} {unit} of joint {joint}, which has {bounds}'
        return ''
