"""What commands, as an arm received them, say of limits, smoothness and punctuality. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.limits import Limits
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD

_REPEATED = 0.75
"""A command that is equal to the one before, and comes within this share of a period after it, repeats it."""
_MISSED = 1.5
"""A gap of so many periods counts as late."""


@dataclass(frozen=True)
class Received:
    """The commands of an episode by the times at which they were published."""

    position: np.ndarray
    """Those that were due, in order, shape (time, joint) [rad]."""
    lateness: np.ndarray
    """How much later than a period after the one before each left, shape (time - 1,) [s]; 0 for one that was early."""
    gaps: int
    """How often the next command was more than half a period late."""


def received(sent: np.ndarray, position: np.ndarray, period: int) -> Received:
    """Sort out what an arm received.

    A thread that woke up late hurries to its next deadline, and repeats the command there: see `ControlLoop.decide`.
    Such a repetition is no command that was due. One that was lost is missing, and shows as a greater step.

    Parameters
    ----------
    sent
        When each command was published, shape (time,) [ns].
    position
        The commands, shape (time, joint) [rad].
    period
        Between two commands [ns].

    """
    if not len(sent):
        return Received(position, np.zeros(0), 0)
    gaps = np.diff(sent)
    lateness = np.maximum(gaps - period, 0) / NANOSECONDS
    repeated = np.concatenate([[False], (gaps < _REPEATED * period) & (position[1:] == position[:-1]).all(axis=1)])
    return Received(position[~repeated], lateness, int((gaps > _MISSED * period).sum()))


def limits_used(position: np.ndarray, limits: Limits, seconds: float) -> dict[str, float]:
    """Return the greatest share of each kind of limit that commands use; 1 is all of it.

    Parameters
    ----------
    position
        Shape (time, joint) [rad].
    limits
        What no joint may exceed.
    seconds
        Between two commands [s].

    """
    half = (limits.upper - limits.lower) / 2
    bounded = np.isfinite(half)
    reach = np.abs(position[:, bounded] - limits.lower[bounded] - half[bounded]) / half[bounded]
    shares = {'position': float(reach.max(initial=0.0))}
    kinds = {'velocity': limits.velocity, 'acceleration': limits.acceleration, 'jerk': limits.jerk}
    for order, (kind, limit) in enumerate(kinds.items(), 1):
        shares[kind] = float((np.abs(np.diff(position, order, axis=0)) / seconds**order / limit).max(initial=0.0))
    return shares


def tool_jerk(kinematics: Kinematics, position: np.ndarray, seconds: float) -> float:
    """Return the root mean square jerk of the tool point along commands [m/s^3]; NaN of fewer than four.

    Every motion is looked at at even times of `CONTROL_PERIOD`: what is faster, no tool point follows.

    Parameters
    ----------
    kinematics
        Of the arm.
    position
        Shape (time, joint) [rad].
    seconds
        Between two commands [s].

    """
    step = max(1, round(CONTROL_PERIOD / NANOSECONDS / seconds))
    tool = kinematics.tool_position(position[::step])
    if len(tool) < 4:
        return float('nan')
    third = np.diff(tool, 3, axis=0) / (step * seconds) ** 3
    return float(np.sqrt((third**2).sum(axis=1).mean()))
