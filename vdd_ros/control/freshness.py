"""Freshness of what is measured: fresh, growing old, too old to plan from, too old to go on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS

JOINT_STATES = 'joint_states'
"""The stream that every arm has."""

Level = Literal['fresh', 'warn', 'coast', 'stop']


@dataclass(frozen=True)
class Freshness:
    """How old a measurement may be [ns], for each stream."""

    max_age: int
    """Older joint states are not planned from. A stamp farther back than that is no straggler but a reset."""
    warn_age: int | None = None
    """Age from which on a stream is complained of; None: half of the age at which it is too old."""
    coast: int = 0
    """How long the arm goes on with the rest of its plan once a stream is too old; then it brakes."""
    streams: Mapping[str, int] = field(default_factory=dict)
    """Greatest ages of further streams that must be there, by name."""
    max_skew: int | None = None
    """Greatest difference between the newest stamps of any two streams; None for any."""
    latched: bool = False
    """Whether a stop for want of measurements waits for a person; else the arm goes on when they are back."""

    def __post_init__(self) -> None:
        """Refuse ages that nothing can meet."""
        ages = (self.max_age, *self.streams.values(), *([] if self.max_skew is None else [self.max_skew]))
        if min(ages) <= 0 or self.coast < 0 or (self.warn_age is not None and self.warn_age <= 0):
            raise ConfigurationError(
                expected='max_age, warn_age and max_skew above 0, coast 0 or more',
                found=f'{self}',
                remedy='set them in seconds',
            )

    def judge(self, stamps: Mapping[str, int], now: int) -> tuple[Level, str]:
        """Tell what may be done with measurements of these stamps [ns] at ``now`` [ns], and why it is not more.

        A stream that was never heard stops the arm: nothing stands in for it. So does one from the future, which
        another clock has stamped: its age is not known.
        """
        worst: tuple[Level, str] = ('fresh', '')
        for name, limit in ((JOINT_STATES, self.max_age), *self.streams.items()):
            what = 'joint state' if name == JOINT_STATES else name
            if name not in stamps:
                return 'stop', f'no {what} yet'
            age = now - stamps[name]
            if age < -limit:
                return 'stop', f'{what} {-age / NANOSECONDS:.3f} s ahead of the clock'
            if age > limit + self.coast:
                return 'stop', f'no {what} for {age / NANOSECONDS:.3f} s'
            if age > limit:
                worst = ('coast', f'no {what} for {age / NANOSECONDS:.3f} s')
            elif worst[0] == 'fresh' and age > (limit // 2 if self.warn_age is None else self.warn_age):
                worst = ('warn', f'{what} {age / NANOSECONDS:.3f} s old')
        if self.max_skew is not None and self.streams:
            heard = [stamps[name] for name in (JOINT_STATES, *self.streams)]
            skew = max(heard) - min(heard)
            if skew > self.max_skew + self.coast:
                return 'stop', f'streams {skew / NANOSECONDS:.3f} s apart'
            if skew > self.max_skew:
                worst = ('coast', f'streams {skew / NANOSECONDS:.3f} s apart')
        return worst


class Measurements:
    """The newest of every stream."""

    def __init__(self, freshness: Freshness) -> None:
        """Judge by these rules; nothing was heard yet."""
        self.position: np.ndarray | None = None
        """The newest measured position, shape (joint,) [rad]."""
        self.out_of_order = 0
        """Measurements dropped because a newer one was there."""
        self.not_finite = 0
        """Measurements dropped because they were not finite."""
        self._freshness = freshness
        self._stamps: dict[str, int] = {}

    def anchor(self, stamp: int, position: np.ndarray) -> None:
        """Take in a measured position of ``stamp`` [ns] whatever came before."""
        self._stamps[JOINT_STATES] = stamp
        self.position = np.array(position, dtype=np.float64)

    def observe(self, stamp: int, position: np.ndarray) -> bool:
        """Take in a measured position, unless it is not finite or late; return False if time has been set back."""
        if not all(map(isfinite, position.tolist())):
            self.not_finite += 1
            return True
        late = self.out_of_order
        in_time = self.hear(JOINT_STATES, stamp)
        if self.out_of_order == late:
            self.position = np.array(position, dtype=np.float64)
        return in_time

    def hear(self, stream: str, stamp: int) -> bool:
        """Note a stamp [ns] of a stream, unless it is late; return False if time has been set back."""
        newest = self._stamps.get(stream, stamp)
        if stamp < newest - self._freshness.max_age:
            self._stamps = {stream: stamp}
            return False
        if stamp < newest:
            self.out_of_order += 1
        else:
            self._stamps[stream] = stamp
        return True

    def forget(self) -> None:
        """Hold every stream for unheard: its stamps are of another time."""
        self._stamps = {}

    def judge(self, now: int) -> tuple[Level, str]:
        """Tell what may be done at ``now`` [ns], and why it is not more."""
        return self._freshness.judge(self._stamps, now)

    def ages(self, now: int) -> dict[str, float]:
        """Return the age of every stream [s]; infinity where nothing was heard."""
        streams = (JOINT_STATES, *self._freshness.streams)
        return {
            name: (now - self._stamps[name]) / NANOSECONDS if name in self._stamps else float('inf') for name in streams
        }
