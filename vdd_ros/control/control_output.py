"""Outputs and counters of the control loop, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.control.lookahead import CommandWindow


@dataclass(frozen=True)
class Command:
    """A command that follows the plan."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s], by which the command came from the one before."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2], by which that velocity came from the one before."""
    expert: int
    """Expert of the plan; -1 before the first plan."""
    clamped: bool
    """Whether a limit changed it."""
    reason: str = ''
    """What is special about it: approaching the start, coasting, slowed down, a measurement that grows old."""
    moving: bool = True
    """Always; there for the sake of those outcomes that may be at rest."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Hold:
    """Send this: the arm brakes within its limits, then stays; it goes on by itself when the reason is gone."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""
    reason: str
    """What would let it go on."""
    moving: bool
    """Whether it is still braking."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Stop:
    """Send this and keep sending it: the arm brakes within its limits, then stays until a person starts it again."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""
    reason: str
    """Why it does not go on by itself."""
    moving: bool
    """Whether it is still braking."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


ControlOutput = Command | Hold | Stop


@dataclass(frozen=True)
class PlanRecord:
    """The newest plan: what the policy said, and what became of it."""

    stamp: int
    """Of the tick that it answers [ns]."""
    window: np.ndarray
    """What the policy saw, shape (observation_horizon, observation)."""
    log_gating: np.ndarray
    """Shape (expert,)."""
    mean: np.ndarray
    """Shape (expert, prediction_horizon, action), in the units of the contract."""
    expert: int
    """Which one acts."""
    commanded: np.ndarray
    """The joint command that the plan goes out from, shape (joint,) [rad]."""
    waypoints: np.ndarray
    """Joint positions of the steps to come, shape (step, joint) [rad]."""


@dataclass(frozen=True)
class Counters:
    """A snapshot for diagnostics; counts since the loop was made, ages and values of the newest tick and plan."""

    plans: int
    """Plans made."""
    missed: int
    """Policy ticks at which a plan was due while the one before was still being made."""
    late_steps: int
    """Planned steps that time had passed when their plan arrived; dropped."""
    rejected: int
    """Plans refused because they break a limit (`Limits.mode` reject)."""
    resets: int
    """Times that a stamp went back."""
    out_of_order: int
    """Measurements dropped because a newer one was there."""
    not_finite: int
    """Measurements dropped because they were not finite."""
    clamps: Mapping[str, tuple[int, ...]]
    """Commands changed, by kind of limit (position, velocity, acceleration, jerk, lag) and joint."""
    ages: Mapping[str, float]
    """Age of every stream [s]; infinity where nothing was heard."""
    expert: int
    """Which expert acts; -1 before the first plan."""
    signals: Mapping[str, float]
    """How much the policy is at home, averaged over plans, by signal; none if nothing is watched."""
    level: str
    """What the monitor says: fine, warn, slow or stop."""
    speed: float
    """By how much the plan is slowed down, 1 for not at all."""
