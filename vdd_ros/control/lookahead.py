"""Commands around now: what a trajectory controller is sent, instead of one position after the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

LEAD = 3
"""Periods from the tick that decides on a command to the knot of it. Commands that are not decided on yet do not reach
the piece of the spline that is carried out meanwhile."""
_PAST = 3
"""Knots before those of the piece that is carried out: they bear a controller whose clock is late."""
_KEPT = LEAD + _PAST + 1
_LONGEST = 100_000
"""A bound for the stop behind the horizon, not a measure."""


@dataclass(frozen=True)
class CommandWindow:
    """Evenly spaced commands: those that were sent, and those that follow if nothing new is heard."""

    commands: np.ndarray
    """Shape (command, joint) [rad]."""
    stamp: int
    """When the newest command that was sent was due to be decided on [ns]."""
    period: int
    """Between two commands [ns]."""
    newest: int
    """Index of the newest command that was sent."""
    is_smooth: bool
    """Whether commands are points of a smooth motion; in lockstep each is a waypoint of its own."""

    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return points of a trajectory: stamps [ns], positions [rad] and velocities [rad/s].

        Commands are the control polygon of a uniform cubic B-spline; the points are its knots,
        ``(c[k-1] + 4 c[k] + c[k+1]) / 6`` and ``(c[k+1] - c[k-1]) / (2 period)``. A controller that lays cubics through
        positions and velocities carries out the spline itself. Its velocity, acceleration and jerk are nowhere greater
        than the first, second and third differences of the commands, which keep the limits (convex hull property). It
        ends at rest. Command k is knot k, `LEAD` periods after it was decided on.

        In lockstep the points are the newest command and the one before, without velocities (None).
        """
        commands, offsets = self.commands, np.arange(len(self.commands)) - self.newest
        if not self.is_smooth:
            return self.stamp + self.period * (1 + offsets), commands, None
        stamps = self.stamp + self.period * (LEAD + offsets)
        before, here, after = commands[:-2], commands[1:-1], commands[2:]
        return stamps[1:-1], (before + 4 * here + after) / 6, (after - before) / (2e-9 * self.period)


class Lookahead:
    """Remembers the commands that were sent, and adds those to come."""

    def __init__(self, period: int, horizon: float, *, lockstep: bool) -> None:
        """Look ``horizon`` [s] ahead by commands that leave every ``period`` [ns]; in lockstep not at all."""
        self.steps = 0 if lockstep else max(1, round(horizon * 1e9 / period))
        """Commands to come that go on by the plan."""
        self._period, self._lockstep = period, lockstep
        self._sent: deque[np.ndarray] = deque(maxlen=2 if lockstep else _KEPT)

    def reset(self, position: np.ndarray) -> None:
        """Begin at rest at a position, shape (joint,) [rad]."""
        self._sent.extend([position] * self._sent.maxlen)

    def note(self, position: np.ndarray) -> None:
        """Take in what is sent, shape (joint,) [rad]."""
        self._sent.append(position)

    def window(self, stamp: int, onward: Iterable[np.ndarray]) -> CommandWindow:
        """Return the commands around the newest one, which was due at ``stamp`` [ns]; ``onward`` are those to come."""
        sent = list(self._sent)
        to_come = [] if self._lockstep else [*islice(onward, _LONGEST)]
        if to_come:
            to_come += to_come[-1:] * 2  # at rest for good
        return CommandWindow(np.array(sent + to_come), stamp, self._period, len(sent) - 1, not self._lockstep)
