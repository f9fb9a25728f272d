"""Age of measurements: fresh, warn, too old to plan from, too old to continue."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Literal

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS

JOINT_STATES = 'joint_states'
"""Name of the stream of joint states."""

Level = Literal['fresh', 'warn', 'coast', 'stop']


@dataclass(frozen=True)
class Freshness:
    """Maximum ages of the measurements [ns], for each stream."""

    max_age: int
    """Maximum age of joint states for planning. A stamp that goes back by more than this is a reset."""
    warn_age: int | None = None
    """Age of a stream that causes a warning; None: half of its maximum age."""
    coast: int = 0
    """Time for which the arm continues with its plan after a stream became too old, before it brakes."""
    streams: Mapping[str, int] = field(default_factory=dict)
    """Maximum ages of further required streams, by name."""
    max_skew: int | None = None
    """Maximum difference between the last stamps of two streams; None for no limit."""
    latched: bool = False
    """If true, a stop caused by stale measurements needs ~/resume. If false, motion resumes with the measurements."""

    def __post_init__(self) -> None:
        """Refuse ages out of range."""
        ages = (self.max_age, *self.streams.values(), *([] if self.max_skew is None else [self.max_skew]))
        if min(ages) <= 0 or self.coast < 0 or (self.warn_age is not None and self.warn_age <= 0):
            raise ConfigurationError(
                expected='max_age, warn_age and max_skew above 0, coast 0 or more',
                found=f'{self}',
                remedy='set them in seconds',
            )

    def judge(self, stamps: Mapping[str, int], now: int) -> tuple[Level, str]:
        """Return the permitted action for measurements with these stamps [ns] at ``now`` [ns], and the reason.

        A stream without any message stops the arm. A stamp in the future also stops it: such a stamp comes from another
        clock, so the age of the measurement is unknown.
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
            newest = [stamps[name] for name in (JOINT_STATES, *self.streams)]
            skew = max(newest) - min(newest)
            if skew > self.max_skew + self.coast:
                return 'stop', f'streams {skew / NANOSECONDS:.3f} s apart'
            if skew > self.max_skew:
                worst = ('coast', f'streams {skew / NANOSECONDS:.3f} s apart')
        return worst


class Measurements:
    """Stores the last measurement of every stream, and judges by their ages whether the arm may move."""

    def __init__(self, freshness: Freshness) -> None:
        """Set the rules; initially no measurement has arrived."""
        self.position: np.ndarray | None = None
        """The last measured position, shape (joint,) [rad]; None before the first."""
        self.out_of_order = 0
        """Number of measurements dropped because a newer one had arrived."""
        self.not_finite = 0
        """Number of measurements dropped because they were not finite."""
        self._freshness = freshness
        self._stamps: dict[str, int] = {}

    def anchor(self, stamp: int, position: np.ndarray) -> None:
        """Store a measured position of ``stamp`` [ns] regardless of earlier ones."""
        self._stamps[JOINT_STATES] = stamp
        self.position = np.array(position, dtype=np.float64)

    def observe(self, stamp: int, position: np.ndarray) -> bool:
        """Store a measured position unless it is not finite or late; return False if time was set back."""
        if not all(map(isfinite, position.tolist())):
            self.not_finite += 1
            return True
        late = self.out_of_order
        in_time = self.on_message(JOINT_STATES, stamp)
        if self.out_of_order == late:
            self.position = np.array(position, dtype=np.float64)
        return in_time

    def on_message(self, stream: str, stamp: int) -> bool:
        """Store a stamp [ns] of a stream unless it is late; return False if time was set back."""
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
        """Discard the measurements of all streams after a reset of time."""
        self._stamps = {}

    def judge(self, now: int) -> tuple[Level, str]:
        """Return the permitted action at ``now`` [ns], and the reason."""
        return self._freshness.judge(self._stamps, now)

    def ages(self, now: int) -> dict[str, float]:
        """Return the age of every stream [s]; infinity without any message."""
        streams = (JOINT_STATES, *self._freshness.streams)
        return {
            name: (now - self._stamps[name]) / NANOSECONDS if name in self._stamps else float('inf') for name in streams
        }
