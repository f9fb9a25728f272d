"""Limits on what is commanded: against the previous command, whatever the network says."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.errors import ConfigurationError


@dataclass(frozen=True)
class Limits:
    """Per joint; arrays of shape (joint,)."""

    lower: np.ndarray
    """Least position [rad]."""
    upper: np.ndarray
    """Greatest position [rad]."""
    velocity: np.ndarray
    """Greatest speed [rad/s]."""
    lag: float
    """How far a command may be from the measured position [rad]."""

    def __post_init__(self) -> None:
        """Refuse limits that no command can meet."""
        if not ((self.lower < self.upper).all() and (self.velocity > 0).all() and self.lag > 0):
            raise ConfigurationError(
                expected='lower < upper, and velocity and lag above 0 for every joint',
                found=f'lower {self.lower}, upper {self.upper}, velocity {self.velocity}, lag {self.lag}',
                remedy='mend the limits of the robot model or the parameters',
            )

    def clamp(self, target: np.ndarray, previous: np.ndarray, measured: np.ndarray, seconds: float) -> np.ndarray:
        """Return the command nearest to ``target`` that keeps the limits, all shapes (joint,) [rad].

        Parameters
        ----------
        target
            What is wanted; finite.
        previous
            The command before this one. Speed is bounded against it and not against the measured position, which lags
            behind and would throttle the arm.
        measured
            The measured position; bounds how far a command may run ahead of a blocked arm.
        seconds
            Time since the previous command [s].

        """
        step = self.velocity * seconds
        command = np.clip(target, measured - self.lag, measured + self.lag)
        command = np.clip(command, self.lower, self.upper)
        # Speed comes last: no other limit may make the arm jump.
        return np.clip(command, previous - step, previous + step)
