"""Windows of past and future commands, which trajectory controllers receive instead of single positions."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import numpy as np

LEAD = 3
"""Periods from the computation of a command to its knot. Commands that are not computed yet do not affect the piece of
the spline that is executed in the meantime."""
_PAST = 3
"""Knots kept before the executed piece, for a controller whose clock is late."""
_KEPT = LEAD + _PAST + 1
_LONGEST = 100_000
"""Safety bound on the number of future commands; not reached in normal operation."""


@dataclass(frozen=True)
class CommandWindow:
    """Evenly spaced commands: those already sent, and those that follow if no further message arrives."""

    commands: np.ndarray
    """Shape (command, joint) [rad]."""
    stamp: int
    """Time at which the last sent command was due [ns]."""
    period: int
    """Time between two commands [ns]."""
    newest: int
    """Index of the last sent command."""
    is_smooth: bool
    """Whether the commands sample a smooth motion. False in lockstep, where each command is a separate waypoint."""

    def points(self) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
        """Return points of a trajectory: stamps [ns], positions [rad] and velocities [rad/s].

        Commands are the control polygon of a uniform cubic B-spline; the points are its knots,
        ``(c[k-1] + 4 c[k] + c[k+1]) / 6`` and ``(c[k+1] - c[k-1]) / (2 period)``. A controller that interpolates
        positions and velocities by cubics executes exactly this spline. The velocity, acceleration and jerk of the
        spline are nowhere greater than the first, second and third differences of the commands, which keep the limits
        (convex hull property). The spline ends at rest. Command k is knot k, due `LEAD` periods after its computation.

        In lockstep the points are the commands themselves, without velocities (None).
        """
        commands, offsets = self.commands, np.arange(len(self.commands)) - self.newest
        if not self.is_smooth:
            return self.stamp + self.period * (1 + offsets), commands, None
        stamps = self.stamp + self.period * (LEAD + offsets)
        before, here, after = commands[:-2], commands[1:-1], commands[2:]
        return stamps[1:-1], (before + 4 * here + after) / 6, (after - before) / (2e-9 * self.period)


class Lookahead:
    """Builds command windows for trajectory controllers: the last sent commands and the following ones."""

    def __init__(self, period: int, horizon: float, *, lockstep: bool) -> None:
        """Set the look-ahead time [s], which lockstep does not use, and the time between two commands [ns]."""
        self.steps = 0 if lockstep else max(1, round(horizon * 1e9 / period))
        """Number of future commands that follow the plan; the commands after them stop the arm."""
        self._period, self._lockstep = period, lockstep
        self._sent: deque[np.ndarray] = deque(maxlen=2 if lockstep else _KEPT)

    def reset(self, position: np.ndarray) -> None:
        """Begin at rest at a position, shape (joint,) [rad]."""
        self._sent.extend([position] * self._sent.maxlen)

    def note(self, position: np.ndarray) -> None:
        """Store a sent command, shape (joint,) [rad]."""
        self._sent.append(position)

    def window(self, stamp: int, onward: Iterable[np.ndarray]) -> CommandWindow:
        """Return the commands around the last sent one, due at ``stamp`` [ns]; ``onward`` yields future commands."""
        sent = list(self._sent)
        to_come = [] if self._lockstep else [*islice(onward, _LONGEST)]
        if to_come:
            to_come += to_come[-1:] * 2  # at rest for good
        return CommandWindow(np.array(sent + to_come), stamp, self._period, len(sent) - 1, not self._lockstep)
