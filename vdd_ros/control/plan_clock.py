"""The clock of a plan: uniform steps independent of deadlines, slower if the arm is slowed."""

from __future__ import annotations

from math import copysign, inf, sqrt

_CATCH_UP = 0.05
"""Maximum relative change of the speed of the plan for synchronisation with the clock."""
_SETTLING = 1.0
"""Time constant of the synchronisation [s]; jitter is averaged over about this time."""
_FORGIVEN = 0.25
"""Delay beyond which lost time is skipped [s]: neither the arm nor the plan moved in that time."""
_SLEW = 2.0
"""Default maximum rate of change of the speed [1/s]."""


class PlanClock:
    """Advances by one control period for each command.

    If plans followed wall time, every late wake-up of the thread would cause a jerk of the arm. This clock therefore
    advances uniformly, and compensates its delay with respect to wall time slowly.
    """

    def __init__(self, seconds: float) -> None:
        """Set the control period [s]."""
        self._seconds = seconds
        self._owed = self._share = self._rate = 0.0
        self.time = 0.0
        """Time of the plan [s]."""
        self.speed = 1.0
        """Speed: seconds of the plan per second."""

    def reset(self) -> None:
        """Discard accumulated delays."""
        self._owed = self._share = self._rate = 0.0

    def start(self, speed: float) -> None:
        """Set the speed immediately, for a new plan that starts at this speed."""
        self.speed, self._rate = speed, 0.0

    def advance(
        self, elapsed: float, speed: float, rate: float = _SLEW, turn: float = inf, *, most: float = inf
    ) -> None:
        """Advance by one control period, ``elapsed`` [s] after the previous call; the speed approaches ``speed``.

        The rate of change of the speed is at most ``rate`` [1/s], and changes by at most ``turn`` [1/s^2]. The speed
        does not rise above ``most``, even if this requires a more abrupt change.
        """
        seconds = self._seconds
        self._owed += elapsed - seconds
        if not -_FORGIVEN <= self._owed <= _FORGIVEN:
            self._owed = 0.0
        wanted = min(max(self._owed / _SETTLING, -_CATCH_UP), _CATCH_UP)
        self._share += (wanted - self._share) * min(20 * seconds / _SETTLING, 1.0)
        self._owed -= self._share * seconds
        gap = speed - self.speed
        # The highest rate from which the requested speed can still be reached without overshoot.
        size = min(abs(gap) / seconds, rate, sqrt(2 * turn * abs(gap)))
        change = copysign(size, gap) - self._rate
        self._rate += min(max(change, -turn * seconds), turn * seconds)
        reached = self.speed + self._rate * seconds
        self.speed = min(max(reached, 0.0), max(self.speed, most))
        if self.speed != reached:
            self._rate = 0.0
        self.time += seconds * (1 + self._share) * self.speed
