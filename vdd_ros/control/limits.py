"""Limits of an arm: what no command may break, merged from the robot's model and the deployment's parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError

KINDS = ('position', 'velocity', 'acceleration', 'jerk', 'lag')
"""Kinds of limits, in the order in which they are counted."""


@dataclass(frozen=True)
class Limits:
    """Per joint; arrays of shape (joint,). Infinity where there is no limit.

    All but ``lag`` hold against the previous command (its position, velocity and acceleration) and never against the
    measured position, which trails behind and would throttle the arm.
    """

    lower: np.ndarray
    """Least position [rad]."""
    upper: np.ndarray
    """Greatest position [rad]."""
    velocity: np.ndarray
    """Greatest speed [rad/s]."""
    lag: float | np.ndarray
    """How far a command may be led away from the measured position [rad], one number for all joints or one for each: a
    blocked arm is not pushed ever harder."""
    acceleration: np.ndarray | None = None
    """Greatest acceleration [rad/s^2]; None for no limit."""
    jerk: np.ndarray | None = None
    """Greatest jerk [rad/s^3]; None for no limit."""
    mode: Literal['clamp', 'reject'] = 'clamp'
    """`clamp`: the arm does what it may of a plan that breaks a limit. `reject`: nothing; it coasts, then stops."""
    recovery: float = 0.05
    """Speed at which a joint that starts outside its position limits is led back inside [rad/s]."""

    def __post_init__(self) -> None:
        """Fill in what is absent, and refuse limits that no command can meet."""
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
                remedy='mend the limits of the robot model or the parameters',
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
        """Merge with limits of another source, shape (joint,) or () each: of any two the stricter one wins."""

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
        """Tell which limit a plan breaks; empty if none.

        Parameters
        ----------
        waypoints
            Shape (step, joint) [rad].
        start
            The command they go out from, shape (joint,) [rad].
        seconds
            From one to the next [s].

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
