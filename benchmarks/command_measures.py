"""Measure limits, smoothness and timing of commands as received by an arm. Pure functions of arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.control_loop import longest_gap
from vdd_ros.control.limits import Limits
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.demonstration import CONTROL_PERIOD

_REST = 3
"""Number of equal commands that stand for an arm at rest, as far as jerk looks back."""
_UNSURE = 0.25
"""Share by which the gap between two commands may differ where they are decided and where they are received."""
_MISSED = 1.5
"""Number of periods above which a gap counts as late."""


@dataclass(frozen=True)
class Received:
    """The commands of an episode, with their publication times."""

    segments: tuple[np.ndarray, ...]
    """The commands in order, each of shape (time, joint) [rad]. A stall of the process ends a segment, because the arm
    comes to rest at the newest command meanwhile. The next segment begins there at rest."""
    lateness: np.ndarray
    """Delay of each command beyond one period after the previous one, shape (time - 1,) [s]; 0 for early ones."""
    gaps: int
    """Number of commands more than half a period late."""


def received(sent: np.ndarray, position: np.ndarray, period: int) -> Received:
    """Divide received commands at stalls of the process that sent them, and measure their lateness.

    A lost command appears as a larger step. After a gap close to `longest_gap` it is unknown whether motion began from
    rest, so that the commands before and after it are not compared.

    Parameters
    ----------
    sent
        Publication times, shape (time,) [ns].
    position
        The commands, shape (time, joint) [rad].
    period
        Control period [ns].

    """
    if not len(sent):
        return Received((), np.zeros(0), 0)
    gaps = np.diff(sent)
    lateness = np.maximum(gaps - period, 0) / NANOSECONDS
    stall = longest_gap(period)
    stalls = np.flatnonzero(gaps > (1 - _UNSURE) * stall) + 1
    segments = []
    for begin, end in zip([0, *stalls], [*stalls, len(sent)]):
        rests = begin > 0 and gaps[begin - 1] > (1 + _UNSURE) * stall
        rest = np.repeat(position[begin - 1 : begin], _REST if rests else 0, axis=0)
        segments.append(np.concatenate([rest, position[begin:end]]))
    return Received(tuple(segments), lateness, int((gaps > _MISSED * period).sum()))


def limits_used(position: np.ndarray, limits: Limits, seconds: float) -> dict[str, float]:
    """Return the maximum share of each kind of limit used by commands; 1 is the limit.

    Parameters
    ----------
    position
        Shape (time, joint) [rad].
    limits
        Limits of the joints.
    seconds
        Control period [s].

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
    """Return the root mean square jerk of the tool point along commands [m/s^3]; NaN for fewer than four.

    Motion is sampled every `CONTROL_PERIOD`, because the tool point does not follow faster commands.

    Parameters
    ----------
    kinematics
        Kinematics of the arm.
    position
        Shape (time, joint) [rad].
    seconds
        Control period [s].

    """
    step = max(1, round(CONTROL_PERIOD / NANOSECONDS / seconds))
    tool = kinematics.tool_position(position[::step])
    if len(tool) < 4:
        return float('nan')
    third = np.diff(tool, 3, axis=0) / (step * seconds) ** 3
    return float(np.sqrt((third**2).sum(axis=1).mean()))
