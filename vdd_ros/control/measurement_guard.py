"""Detection of implausible measurements, and of an arm that does not follow. Both stop the motion with a reason."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS

_MARGIN = 1.5
"""Maximum plausible measured speed, as a multiple of the velocity limit: stamps jitter, and limits are inexact."""
_SLACK = 0.03
"""Maximum plausible distance between two measurements without elapsed time [rad]: noise, and equal stamps."""
_LONGEST = 1.0
"""Maximum considered time between two measurements [s]; after a longer time, any position would be plausible."""
_DELAYS = tuple(round(delay * NANOSECONDS) for delay in (0.2, 0.15, 0.1, 0.05, 0.0))
"""Plausible delays of an arm behind its commands [ns], the longest first."""
_KEPT = 100
"""Number of commands kept beyond the required time, since they are dropped in batches."""
_STILL = 2e-3
"""Measured motion below which a joint counts as at rest [rad]; smaller motion is noise."""
_FOLLOWED = 0.1
"""Minimum motion of a joint that follows its commands, as a share of the commanded motion."""
AHEAD = 0.03
"""Commanded motion after which a joint that does not move is reported [rad]."""


class MeasurementGuard:
    """Compares every measurement with the previous one, and the motion of the arm with its commands."""

    def __init__(self, velocity: np.ndarray, continuous: np.ndarray, ahead: float | np.ndarray = AHEAD) -> None:
        """Set the properties of the joints.

        Parameters
        ----------
        velocity
            Velocity limits of the robot model (not those of the deployment), shape (joint,) [rad/s]. For a joint with
            an infinite limit, any measurement is plausible.
        continuous
            Which joints are continuous, shape (joint,) bool: their measurements may wrap by 2 pi.
        ahead
            Commanded motion after which a joint that does not move is reported [rad], a scalar or shape (joint,).
            Infinity for joints that may stay at rest.

        """
        self._bounded, self._continuous, self._ahead = np.isfinite(velocity), continuous, ahead
        self._least_ahead = float(np.min(ahead))
        self._velocity = np.where(self._bounded, velocity, 0.0)
        self._turns = bool(np.any(continuous))
        self.anchor(0, np.zeros(len(velocity)))

    def anchor(self, stamp: int, position: np.ndarray) -> None:
        """Accept a measured position, shape (joint,) [rad], of ``stamp`` [ns], regardless of earlier ones."""
        self._stamp, self._position = stamp, np.array(position, dtype=np.float64)
        self.pause()

    def pause(self) -> None:
        """Restart the comparison of motion and commands, after stale measurements."""
        self._times: list[int] = []
        self._sent: list[np.ndarray] = []
        self._still: tuple[np.ndarray, np.ndarray] | None = None

    def unwrapped(self, position: np.ndarray) -> np.ndarray:
        """Return a position, shape (joint,) [rad], with continuous joints within half a turn of the accepted one."""
        if not self._turns:
            return position
        turns = np.round((self._position - position) / (2 * np.pi))
        return position + np.where(self._continuous & np.isfinite(turns), 2 * np.pi * turns, 0.0)

    def judge(self, stamp: int, position: np.ndarray) -> str:
        """Accept a measured position, shape (joint,) [rad], of ``stamp`` [ns], or return why it is implausible.

        `freshness.Measurements` handles measurements out of order.
        """
        seconds = min(abs(stamp - self._stamp) / NANOSECONDS, _LONGEST)
        if stamp < self._stamp and seconds < _LONGEST:
            return ''
        moved = np.abs(position - self._position)
        if max(moved.tolist()) <= _SLACK:  # the usual case
            self._stamp, self._position = stamp, position
            return ''
        excess = np.where(self._bounded, moved - _SLACK - _MARGIN * self._velocity * seconds, 0.0)
        if (excess > 0).any():
            joint = int(excess.argmax())
            return (
                f'joint {joint} is measured at {position[joint]:.4g} rad, {moved[joint]:.3g} rad from '
                f'{self._position[joint]:.4g} rad {seconds * 1e3:.0f} ms before: no arm moves so fast; look for a '
                'second publisher of joint_states, another unit or a driver that was restarted, then resume'
            )
        self._stamp, self._position = stamp, position
        return ''

    def follow(self, now: int, commanded: np.ndarray, stamp: int, measured: np.ndarray) -> str:
        """Return a text that names a joint which does not follow its commands; empty if all joints follow.

        Call this at every control step with the last command, sent at ``now`` [ns], and the last measurement, taken at
        ``stamp`` [ns], shape (joint,) [rad] each. Commands sent after the measurement are not compared with it.
        """
        self._times.append(now)
        self._sent.append(commanded)
        places = [max(bisect_right(self._times, stamp - delay) - 1, 0) for delay in _DELAYS]
        due = np.array([self._sent[place] for place in places])
        if places[0] > _KEPT:
            del self._times[: places[0]], self._sent[: places[0]]
        if self._still is None:
            self._still = due, measured
            return ''
        requested, stood = self._still
        # An arm that follows has one of the delays: what was commanded so long before it moved as little.
        wanted = np.minimum.reduce(np.abs(due - requested))
        moves = np.abs(measured - stood) > np.maximum(_STILL, _FOLLOWED * wanted)
        self._still = np.where(moves, due, requested), np.where(moves, measured, stood)
        if max(wanted.tolist()) <= self._least_ahead:
            return ''
        stuck = ~moves & (wanted > self._ahead)
        if not stuck.any():
            return ''
        joint = int(np.where(stuck, wanted, 0).argmax())
        return (
            f'joint {joint} does not follow: it was commanded {wanted[joint]:.3g} rad and stood still; '
            'look for a protective stop, a brake or a driver that repeats itself, then resume'
        )
