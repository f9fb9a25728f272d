"""Common parts of scripted demonstrators: pace, noise, order of modes, and what they must have seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.common.errors import ConfigurationError


@dataclass(frozen=True)
class PaceSettings:
    """Pace and noise of a commanded point."""

    step: float = 0.010
    """Step of the commanded point per policy period [m]."""
    pace_spread: float = 0.2
    """Maximum relative deviation of the step size between demonstrations."""
    ramp: int = 8
    """Policy periods until full speed, at the beginning of each move."""
    noise: float = 0.0006
    """Standard deviation of the Ornstein-Uhlenbeck noise on the commanded point, along each axis [m]."""
    persistence: float = 0.8
    """Share of a deviation from the path (noise or disturbance) that remains after one policy period."""

    def __post_init__(self) -> None:
        """Check the parameters."""
        if not (self.step > 0 and 0 <= self.pace_spread < 1 and 0 <= self.persistence < 1 and self.ramp >= 1):
            raise ConfigurationError(
                expected='step > 0, ramp >= 1, pace_spread and persistence in [0, 1)',
                found=f'{self}',
                remedy='correct these settings',
            )

    def drawn_step(self, generator: np.random.Generator) -> float:
        """Draw the step size of a demonstration [m]."""
        return self.step * generator.uniform(1 - self.pace_spread, 1 + self.pace_spread)

    def drawn_noise(self, generator: np.random.Generator, axes: int) -> np.ndarray:
        """Draw the noise of one policy period, shape (axes,) [m]."""
        return generator.normal(0.0, self.noise * np.sqrt(1 - self.persistence**2), axes)


class ModeRounds:
    """Draws modes so that each occurs exactly once in every round, in random order."""

    def __init__(self, generator: np.random.Generator, count: int) -> None:
        """Draw from ``count`` modes."""
        self._generator, self._count = generator, count
        self._left: list[int] = []

    def draw(self) -> int:
        """Return the index of the next mode."""
        if not self._left:
            self._left = self._generator.permutation(self._count).tolist()
        return self._left.pop()


def require_seen(seen: bool, what: str) -> None:
    """Refuse to demonstrate what only the simulation shows, if the demonstrator has not looked at it.

    Raises
    ------
    ConfigurationError
        The demonstrator commands over ROS, where it knows only the joints.

    """
    if not seen:
        raise ConfigurationError(
            expected=f'a demonstrator that sees where {what}',
            found='one that commands over ROS',
            remedy='record with `vdd record`, or in process (vdd_ros.sim.demonstration.demonstrate)',
        )
