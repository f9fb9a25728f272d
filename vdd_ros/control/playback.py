"""Replay of the commands of an episode: within the limits of the arm, at reduced speed if the limits require it."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.limits import Limits
from vdd_ros.control.plan_clock import PlanClock
from vdd_ros.control.plan_follower import PlanFollower
from vdd_ros.control.planner import PolicyCoroutine, Proposal, Tick
from vdd_ros.control.tracker import Tracker
from vdd_ros.control.trajectory import State
from vdd_ros.policy.routing import Mixture

NEAR = 2e-3
"""Distance of the arm from the present position in the episode up to which the episode continues [rad]. From farther
away, the arm first approaches that position."""
_KNOT_SPACING = 0.02
"""Minimum time between two knots of the path [s]: faster changes are noise of the recording."""
_SAMPLES = 4
"""Points in each piece of the path at which limits are evaluated."""
_PATH_SHARE = 0.6
"""Share of the acceleration and jerk limits that the path may use; the rest is for changes of the speed."""
_EARLINESS = 0.6
"""Share of the maximum change of speed that is assumed for braking ahead, since the clock changes its speed with a
delay."""
_LEAST_SPEED = 0.02
"""Minimum speed [s/s], which ensures that the end is reached."""
_WAITING = 2e-3
"""Distance from the path at which the speed is halved [rad]."""
_ROOM = 1e-3
"""Tolerance of recorded commands outside the position limits [rad]."""


@dataclass(frozen=True)
class Track:
    """The recorded commands of an episode with their times, as the input of a playback."""

    stamps: np.ndarray
    """Times of the commands, shape (command,), ascending from 0 [ns]."""
    positions: np.ndarray
    """Commanded positions, shape (command, joint) [rad]."""

    @property
    def length(self) -> int:
        """Duration from the first command to the last [ns]."""
        return int(self.stamps[-1])

    def at(self, time: float) -> np.ndarray:
        """Return the command at a time [ns], interpolated linearly between two commands, shape (joint,)."""
        place = int(np.searchsorted(self.stamps, time, side='right')) - 1
        if place < 0:
            return self.positions[0]
        if place >= len(self.stamps) - 1 or self.stamps[place] == time:
            return self.positions[place]
        share = (time - self.stamps[place]) / (self.stamps[place + 1] - self.stamps[place])
        return self.positions[place] + share * (self.positions[place + 1] - self.positions[place])


class Path:
    """A track as a smooth motion, with the maximum speed at each point."""

    def __init__(self, track: Track, limits: Limits) -> None:
        """Fit a cubic spline through commands of the track that are at least `_KNOT_SPACING` apart."""
        knots = _knots(track.stamps)
        self._times = track.stamps[knots] / NANOSECONDS
        self._positions = track.positions[knots]
        self._slopes = _spline_slopes(self._times, self._positions)
        self.length = float(self._times[-1])
        """Duration [s]."""
        self._grid, self._squares, self._rates, self._turns = self._profile(limits)

    def state(self, time: float) -> State:
        """Return position and derivatives with respect to the time of the track, at a time of the track [s]."""
        return State(*self._derivatives(np.array([time]))[:3, 0])

    def pace(self, time: float) -> tuple[float, float, float]:
        """Return the maximum speed [s/s], its rate [1/s] and the rate of that [1/s^2] at a time of the track [s]."""
        place = min(max(int(np.searchsorted(self._grid, time, side='right')) - 1, 0), len(self._grid) - 2)
        share = float((time - self._grid[place]) / (self._grid[place + 1] - self._grid[place]))
        # With a constant rate of speed, the square of the speed is linear in the time of the track.
        square = self._squares[place] + min(max(share, 0.0), 1.0) * (self._squares[place + 1] - self._squares[place])
        return max(sqrt(square), _LEAST_SPEED), self._rates[place], self._turns[place]

    def _profile(self, limits: Limits) -> tuple[np.ndarray, list[float], list[float], list[float]]:
        """Return a grid of times [s], and on it the square of the greatest speed, its change, and the change of that.

        Along a path ``q(s(t))`` velocity is ``q' s'``, acceleration ``q'' s'^2 + q' s''`` and jerk
        ``q''' s'^3 + 3 q'' s' s'' + q' s'''``.
        """
        steps = np.diff(self._times)
        grid = (self._times[:-1, None] + steps[:, None] * np.arange(_SAMPLES) / _SAMPLES).ravel()
        grid = np.append(grid, self.length)
        velocity, acceleration, jerk = np.abs(self._derivatives(grid))[1:]
        # The jerk of a spline jumps at its knots, so both sides of a knot are evaluated.
        jerk[1:] = np.maximum(jerk[1:], jerk[:-1])
        with np.errstate(divide='ignore', invalid='ignore'):
            fast = _ratio(limits.velocity, velocity)
            bend = np.sqrt(_PATH_SHARE * _ratio(limits.acceleration, acceleration))
            turn = np.cbrt(_PATH_SHARE * _ratio(limits.jerk, jerk))
            speeds = np.minimum(np.minimum(fast, bend), turn).min(axis=1)
            rates = ((1 - _PATH_SHARE) * _ratio(limits.acceleration, velocity)).min(axis=1)
            turns = ((1 - _PATH_SHARE) * _ratio(limits.jerk, velocity)).min(axis=1)
        squares = np.minimum(speeds, 1e3) ** 2
        if velocity[-1].any():  # the track ends in motion, and the arm must come to rest there
            squares[-1] = 0.0
        # Backwards, so that the speed is reduced early enough.
        for index in range(len(grid) - 2, -1, -1):
            rate = _EARLINESS * min(rates[index], rates[index + 1], 1e6)
            squares[index] = min(squares[index], squares[index + 1] + 2 * rate * (grid[index + 1] - grid[index]))
        return grid, squares.tolist(), np.minimum(rates, 1e6).tolist(), np.minimum(turns, 1e12).tolist()

    def _derivatives(self, times: np.ndarray) -> np.ndarray:
        """Return the position and its first three derivatives, shape (4, time, joint)."""
        place = np.clip(np.searchsorted(self._times, times, side='right') - 1, 0, len(self._times) - 2)
        step = (self._times[place + 1] - self._times[place])[:, None]
        u = (times - self._times[place])[:, None] / step
        begin, end = self._positions[place], self._positions[place + 1]
        away, home = self._slopes[place] * step, self._slopes[place + 1] * step
        square = 3 * (end - begin) - 2 * away - home
        cube = 2 * (begin - end) + away + home
        return np.stack(
            [
                begin + u * (away + u * (square + u * cube)),
                (away + u * (2 * square + 3 * u * cube)) / step,
                (2 * square + 6 * u * cube) / step**2,
                6 * cube / step**3 * np.ones_like(u),
            ]
        )


class Playback:
    """An episode as a source of plans for the control loop; `PathFollower` executes them.

    Each plan contains only the present position in the episode. The start gate compares this position with that of the
    arm, and permits an approach. The time of the episode advances only while the arm follows; time lost by an
    interruption is not recovered.
    """

    replan_steps = ask_steps = 1
    remark = ''
    record = choice = None

    def __init__(self, track: Track, limits: Limits, speed: float) -> None:
        """Prepare an episode.

        Parameters
        ----------
        track
            Commands of the episode.
        limits
            Limits of the arm, which replayed commands must keep.
        speed
            Speed as a multiple of the recorded speed.

        Raises
        ------
        ConfigurationError
            A command lies outside the position limits: the recording is of another arm, or in another unit.

        """
        low, high = track.positions.min(axis=0), track.positions.max(axis=0)
        outside = (low < limits.lower - _ROOM) | (high > limits.upper + _ROOM)
        if outside.any():
            joint = int(outside.argmax())
            raise ConfigurationError(
                expected=f'commands from {limits.lower[joint]:.3f} to {limits.upper[joint]:.3f} (rad or m) for joint '
                f'{joint}',
                found=f'{low[joint]:.3f} to {high[joint]:.3f}',
                remedy='play it on the arm that it was recorded on, or correct sign, unit and offset in the contract',
            )
        self.track = track
        self.speed = speed
        """Speed as a multiple of the recorded speed."""
        self.played = 0.0
        """Time in the episode up to which commands were sent [ns]."""
        self.is_playing = False
        """Whether the arm follows the episode; false during an approach and a hold."""

    @property
    def share(self) -> float:
        """Played share of the episode, in [0, 1]."""
        return min(self.played / max(self.track.length, 1), 1.0)

    def rewind(self) -> None:
        """Return to the first command."""
        self.played = 0.0

    def advance(self, time: float) -> None:
        """Advance by a time of the episode [ns], at most to its end."""
        self.played = min(self.played + time, float(self.track.length))

    def proposing(self, ticks: Sequence[Tick]) -> PolicyCoroutine[Proposal]:
        """Propose to continue at the present position in the episode."""
        yield from ()
        return Proposal(ticks[-1], -1, self.track.at(self.played)[None], None)

    def experts(self, window: np.ndarray) -> Mixture:
        """Raise TypeError: a recorded episode has no experts, and `proposing` has no queries."""
        raise TypeError('a recorded episode has no experts')

    def watch(self) -> str:
        """Return an empty text: an episode has no OOD signals."""
        return ''

    def counts(self) -> dict[str, Any]:
        """Return the entries of `Counters` about planning."""
        return {'plans': 0, 'signals': {}, 'thresholds': {}, 'level': 'fine'}


class PathFollower(PlanFollower):
    """Executes a `Playback` along a smooth path, at reduced speed where a limit requires it.

    In lockstep each command is exactly a command of the track.
    """

    is_gated_anew = True

    def __init__(self, playback: Playback, limits: Limits, period: int, *, lockstep: bool) -> None:
        """Set the control period [ns] and the limits."""
        self._playback, self._period = playback, period
        self._path = None if lockstep else Path(playback.track, limits)
        self._target: np.ndarray | None = None
        self._requested = False
        self.drop(0)

    def copy(self) -> PathFollower:
        """Return an independent copy with the same state."""
        twin = copy.copy(self)
        twin._playback, twin._clock = copy.copy(self._playback), copy.copy(self._clock)
        return twin

    @property
    def time(self) -> float:
        """Time of the last command in the episode [s]."""
        return self._playback.played / NANOSECONDS

    @property
    def is_spent(self) -> bool:
        """Always false: the source reports the end of the episode."""
        return False

    @property
    def speed(self) -> float:
        """Speed: seconds of the episode per second."""
        return self._playback.speed if self._path is None else self._clock.speed

    def drop(self, now: int) -> None:
        """Pause the episode until the arm is in place, and request a plan."""
        self._playback.is_playing = self._requested = False
        self._target = None
        self._clock = PlanClock(self._period / NANOSECONDS)
        self._clock.speed = 0.0

    def tick(self, now: int) -> bool:
        """Request one plan after each interruption."""
        asks, self._requested = not self._requested, True
        return asks

    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Continue with a plan."""
        self._playback.is_playing = True
        return True

    def reference(self, tracker: Tracker) -> State:
        """Return the last command as a state."""
        return tracker.state

    def is_due(self, elapsed: int) -> bool:
        """Return whether the next position is due: at least half a period after the previous one.

        A thread that woke up late must not speed up the arm.
        """
        return 2 * elapsed >= self._period

    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Advance in the episode, and return the next position; at the end of the episode, hold."""
        playback = self._playback
        if not playback.is_playing:
            return None
        if self._path is None:
            if self._target is not None:
                # One lost state is made up for, a jump of the clock is not.
                playback.advance(speed * (elapsed if elapsed <= 2 * self._period else self._period))
            self._target = playback.track.at(playback.played)
            return self._target
        fastest, rate, turn = self._path.pace(self.time)
        # If the tracker led the commands off the path, the episode waits for them.
        behind = float(np.abs(self._target - tracker.position).max()) if self._target is not None else 0.0
        before = self._clock.time
        wanted = min(speed, fastest) / (1 + (behind / _WAITING) ** 2)
        self._clock.advance(elapsed / NANOSECONDS, wanted, rate, turn, most=speed)
        playback.advance((self._clock.time - before) * NANOSECONDS)
        self._target = self._path.state(self.time).position
        return self._target


def _ratio(limit: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Return the factor by which a value may grow; infinite for zero and without a limit."""
    return np.where(value > 1e-12, limit / np.maximum(value, 1e-300), np.inf)


def _knots(stamps: np.ndarray) -> np.ndarray:
    """Return indices of stamps that are at least `_KNOT_SPACING` apart, with the first and the last."""
    chosen = [0]
    for index in range(1, len(stamps) - 1):
        if stamps[index] - stamps[chosen[-1]] >= _KNOT_SPACING * NANOSECONDS:
            chosen.append(index)
    if len(chosen) > 1 and stamps[-1] - stamps[chosen[-1]] < _KNOT_SPACING * NANOSECONDS:
        chosen.pop()
    return np.array([*chosen, len(stamps) - 1])


def _spline_slopes(times: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Return the slopes of the natural cubic spline through values of shape (knot, joint), by the Thomas algorithm."""
    steps = np.diff(times)
    secants = np.diff(values, axis=0) / steps[:, None]
    size = len(times)
    lower, diagonal, upper = np.zeros(size), np.full(size, 2.0), np.zeros(size)
    right = np.empty_like(values)
    upper[0] = lower[-1] = 1.0
    right[0], right[-1] = 3 * secants[0], 3 * secants[-1]
    if size > 2:
        before, after = steps[:-1], steps[1:]
        lower[1:-1] = after / (before + after)
        upper[1:-1] = before / (before + after)
        right[1:-1] = 3 * (lower[1:-1, None] * secants[:-1] + upper[1:-1, None] * secants[1:])
    for index in range(1, size):
        share = lower[index] / diagonal[index - 1]
        diagonal[index] -= share * upper[index - 1]
        right[index] = right[index] - share * right[index - 1]
    slopes = np.empty_like(values)
    slopes[-1] = right[-1] / diagonal[-1]
    for index in range(size - 2, -1, -1):
        slopes[index] = (right[index] - upper[index] * slopes[index + 1]) / diagonal[index]
    return slopes
