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
    """Shape (joint,) [rad/s]: difference from the previous command."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]: difference from the previous velocity."""
    expert: int
    """Expert of the plan; -1 before the first plan."""
    clamped: bool
    """Whether a limit changed it."""
    reason: str = ''
    """Remark: approach to the start, coasting, reduced speed, an aging measurement."""
    moving: bool = True
    """Always true; the other outputs may be at rest."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Hold:
    """A stop that ends by itself: the arm brakes within its limits, holds, and continues when the reason is gone."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""
    reason: str
    """Why the arm holds."""
    moving: bool
    """Whether it is still braking."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Stop:
    """A latched stop: the arm brakes within its limits and holds until an operator resumes it."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""
    reason: str
    """Why the arm stopped."""
    moving: bool
    """Whether it is still braking."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


ControlOutput = Command | Hold | Stop


@dataclass(frozen=True)
class PlanRecord:
    """The newest plan: the output of the policy and the resulting steps."""

    stamp: int
    """Time of the tick [ns]."""
    window: np.ndarray
    """Observation window, shape (observation_horizon, observation)."""
    log_gating: np.ndarray
    """Shape (expert,)."""
    mean: np.ndarray
    """Shape (expert, prediction_horizon, action), in the units of the contract."""
    expert: int
    """The acting expert."""
    commanded: np.ndarray
    """Joint command from which the plan starts, shape (joint,) [rad]."""
    waypoints: np.ndarray
    """Joint positions of the future steps, shape (step, joint) [rad]."""


@dataclass(frozen=True)
class Counters:
    """A snapshot for diagnostics: counts since construction, ages, and values of the newest tick and plan."""

    plans: int
    """Plans made."""
    missed: int
    """Policy ticks at which a plan was due while the previous one was still being computed."""
    late_steps: int
    """Planned steps that were in the past when their plan arrived; dropped."""
    rejected: int
    """Plans refused because they exceed a limit (`Limits.mode` reject)."""
    resets: int
    """Number of times that a stamp went back."""
    out_of_order: int
    """Measurements dropped because a newer one was known."""
    not_finite: int
    """Measurements dropped because they were not finite."""
    clamps: Mapping[str, tuple[int, ...]]
    """Limited commands, by kind of limit (position, velocity, acceleration, jerk, lag) and joint."""
    ages: Mapping[str, float]
    """Age of every stream [s]; infinity without any message."""
    expert: int
    """Acting expert; -1 before the first plan."""
    signals: Mapping[str, float]
    """OOD signals averaged over plans, by name; empty without monitoring."""
    level: str
    """Level of the monitor: fine, warn, slow or stop."""
    speed: float
    """Speed of the plan, 1 as planned."""
