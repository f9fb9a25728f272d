"""An episode's commands on an arm: slowly to where they begin, then as they were given, within limits all the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from vdd_ros.control.freshness import Freshness, Measurements
from vdd_ros.control.limits import Limits
from vdd_ros.control.start_gate import Approach
from vdd_ros.control.tracker import Tracker
from vdd_ros.errors import ConfigurationError

Phase = Literal['approaching', 'playing', 'done', 'holding', 'stopping', 'stopped']


@dataclass(frozen=True)
class Track:
    """The commands of an episode."""

    stamps: np.ndarray
    """Shape (command,), ascending, from 0 on [ns]."""
    positions: np.ndarray
    """Shape (command, joint) [rad]."""

    @property
    def length(self) -> int:
        """From the first command to the last [ns]."""
        return int(self.stamps[-1])

    def at(self, time: float) -> np.ndarray:
        """Return where the arm is commanded to be at a time [ns]: on the line between two commands, shape (joint,)."""
        place = int(np.searchsorted(self.stamps, time, side='right')) - 1
        if place < 0:
            return self.positions[0]
        if place >= len(self.stamps) - 1 or self.stamps[place] == time:
            return self.positions[place]
        share = (time - self.stamps[place]) / (self.stamps[place + 1] - self.stamps[place])
        return self.positions[place] + share * (self.positions[place + 1] - self.positions[place])


@dataclass(frozen=True)
class Told:
    """What one tick decides."""

    position: np.ndarray
    """The command, shape (joint,) [rad]; to be sent whatever the phase is."""
    phase: Phase
    reason: str = ''
    """Why it holds or stops."""


class Playback:
    """Plays a track onto an arm, tick by tick; it is handed stamps and never reads a clock.

    Time of the episode goes on only while the arm is heard and plays: after a pause nothing is made up for.
    """

    def __init__(
        self, track: Track, limits: Limits, freshness: Freshness, *, period: int, speed: float, approach: float
    ) -> None:
        """Prepare.

        Parameters
        ----------
        track
            What to play.
        limits
            Of the arm; whatever was recorded, they hold.
        freshness
            How old a joint state may be.
        period
            Between two ticks [ns].
        speed
            Times the speed of the recording.
        approach
            How fast it goes to the first command [rad/s].

        Raises
        ------
        ConfigurationError
            A command lies outside of the position limits: another arm's, or another unit.

        """
        low, high = track.positions.min(axis=0), track.positions.max(axis=0)
        room = 1e-3
        outside = (low < limits.lower - room) | (high > limits.upper + room)
        if outside.any():
            joint = int(outside.argmax())
            raise ConfigurationError(
                expected=f'commands from {limits.lower[joint]:.3f} to {limits.upper[joint]:.3f} rad for joint {joint}',
                found=f'{low[joint]:.3f} to {high[joint]:.3f}',
                remedy='play it on the arm that it was recorded on, or mend sign, unit and offset in the contract',
            )
        self._track, self._period, self._speed = track, period, speed
        self._tracker = Tracker(limits, period / 1e9)
        self._limits, self._approach_speed = limits, approach
        self._approach: Approach | None = None
        self._playing = False
        self._measurements = Measurements(freshness)
        self._last: int | None = None
        self._stop = ''
        self.time = 0.0
        """How much of the episode has been played [ns]."""
        self.clamped = 0
        """Ticks at which a limit changed what was recorded."""

    @property
    def share(self) -> float:
        """How much of the episode has been played, in [0, 1]."""
        return min(self.time / max(self._track.length, 1), 1.0)

    @property
    def moving(self) -> bool:
        """Whether the commands are not at rest."""
        return self._tracker.moving

    @property
    def position(self) -> np.ndarray:
        """The newest command, shape (joint,) [rad]."""
        return self._tracker.position

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Begin where the arm is, shape (joint,) [rad], measured at ``stamp`` [ns]."""
        self._measurements.anchor(stamp, position)
        self._tracker.reset(position)
        self.time, self.clamped, self._last, self._stop = 0.0, 0, None, ''
        self._approach = self._way()

    def observe(self, stamp: int, position: np.ndarray) -> None:
        """Take in a joint state; what is not finite, or older than the newest, is not taken in."""
        self._measurements.observe(stamp, position)

    def stop(self, reason: str) -> None:
        """Brake, and stay."""
        self._stop = reason

    def decide(self, now: int) -> Told:
        """Return the command of ``now`` [ns]."""
        elapsed = 0 if self._last is None else min(now - self._last, 2 * self._period)
        self._last = now
        level, reason = self._measurements.judge(now)
        if self._stop or level in ('coast', 'stop'):
            position = self._tracker.brake()
            self._approach = self._way()  # where it goes on from, if it does
            if not self._stop:
                return Told(position, 'holding', reason)
            return Told(position, 'stopping' if self._tracker.moving else 'stopped', self._stop)
        if self._approach is not None:
            position = self._tracker.step(self._approach.next(), self._measurements.position)
            if not self._approach.has_brought(position, self._tracker.velocity):
                return Told(position, 'approaching')
            self._approach = None
            return Told(position, 'approaching')
        if self._playing:
            self.time = min(self.time + self._speed * elapsed, float(self._track.length))
        self._playing = True
        position = self._tracker.step(self._track.at(self.time), self._measurements.position)
        self.clamped += self._tracker.clamped
        return Told(position, 'done' if self.time >= self._track.length else 'playing')

    def _way(self) -> Approach:
        """Return the slow way from the newest command to where the episode stands."""
        self._playing = False
        start, goal = self._tracker.position, self._track.at(self.time)
        return Approach(self._limits, self._period / 1e9, start, goal, self._approach_speed)
