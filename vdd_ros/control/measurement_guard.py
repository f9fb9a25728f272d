"""Measurements that no arm can have, and an arm that does not follow: both end the motion, with a reason."""

from __future__ import annotations

from bisect import bisect_right

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS

_MARGIN = 1.5
"""Times the velocity limit that a joint may be measured to move: stamps jitter, and limits are not exact."""
_SLACK = 0.03
"""Distance of two measurements that needs no time [rad]: noise, and stamps that are equal."""
_LONGEST = 1.0
"""A gap counts as no longer than this [s]: after it, the whole range would be plausible."""
_DELAYS = tuple(round(delay * NANOSECONDS) for delay in (0.2, 0.15, 0.1, 0.05, 0.0))
"""How late an arm may follow its commands [ns], the longest delay first."""
_KEPT = 100
"""Commands that are kept longer than needed: they are dropped in batches."""
_STILL = 2e-3
"""A joint that is measured to move by less stands still [rad]: noise."""
_FOLLOWED = 0.1
"""The least share of its commands that a joint moves by, if it follows."""
AHEAD = 0.03
"""How far a joint may be commanded while it stands still [rad]."""


class MeasurementGuard:
    """Compares every measurement with the one before, and the arm's motion with its commands."""

    def __init__(self, velocity: np.ndarray, continuous: np.ndarray, ahead: float | np.ndarray = AHEAD) -> None:
        """Guard joints.

        Parameters
        ----------
        velocity
            Greatest speed of the joints, by the model and not by the deployment, shape (joint,) [rad/s]; where it is
            infinite, any measurement is plausible.
        continuous
            Which joints turn without end, shape (joint,) bool: what is measured of them may wrap by 2 pi.
        ahead
            How far a joint may be commanded while it stands still [rad], one number or one for each joint; infinity for
            those that need not follow their commands.

        """
        self._bounded, self._continuous, self._ahead = np.isfinite(velocity), continuous, ahead
        self._least_ahead = float(np.min(ahead))
        self._velocity = np.where(self._bounded, velocity, 0.0)
        self._turns = bool(np.any(continuous))
        self.anchor(0, np.zeros(len(velocity)))

    def anchor(self, stamp: int, position: np.ndarray) -> None:
        """Trust a measured position, shape (joint,) [rad], of ``stamp`` [ns], whatever came before."""
        self._stamp, self._position = stamp, np.array(position, dtype=np.float64)
        self.pause()

    def pause(self) -> None:
        """Compare motion with commands anew: what is measured was not fresh."""
        self._times: list[int] = []
        self._sent: list[np.ndarray] = []
        self._still: tuple[np.ndarray, np.ndarray] | None = None

    def unwrapped(self, position: np.ndarray) -> np.ndarray:
        """Return a position, shape (joint,) [rad], with continuous joints within half a turn of the trusted one."""
        if not self._turns:
            return position
        turns = np.round((self._position - position) / (2 * np.pi))
        return position + np.where(self._continuous & np.isfinite(turns), 2 * np.pi * turns, 0.0)

    def judge(self, stamp: int, position: np.ndarray) -> str:
        """Trust a measured position, shape (joint,) [rad], of ``stamp`` [ns], or return why no arm can be there.

        Measurements out of order are left to `freshness.Measurements`.
        """
        seconds = min(abs(stamp - self._stamp) / NANOSECONDS, _LONGEST)
        if stamp < self._stamp and seconds < _LONGEST:
            return ''
        moved = np.abs(position - self._position)
        if max(moved.tolist()) <= _SLACK:  # as nearly always
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
        """Return which joint does not follow its commands, if one does not.

        To be called at every tick with the newest command, of ``now`` [ns], and the newest measurement, of ``stamp``
        [ns], shape (joint,) [rad] each. Commands after the measurement prove nothing: it may be under way.
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
        asked, stood = self._still
        # An arm that follows has one of the delays: what was commanded so long before it moved as little.
        wanted = np.minimum.reduce(np.abs(due - asked))
        moves = np.abs(measured - stood) > np.maximum(_STILL, _FOLLOWED * wanted)
        self._still = np.where(moves, due, asked), np.where(moves, measured, stood)
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
