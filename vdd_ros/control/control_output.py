"""Outputs and counters of the control loop, as plain values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.control.lookahead import CommandWindow
from vdd_ros.control.ood import Threshold


@dataclass(frozen=True)
class Command:
    """A control output that follows the plan: the joint positions to send."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]: difference from the previous command."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]: difference from the previous velocity."""
    expert: int
    """Expert of the plan; -1 before the first plan."""
    clamped: bool
    """Whether a limit changed the command."""
    reason: str = ''
    """Remark, for example: approach to the start, coasting, reduced speed, an aging measurement."""
    moving: bool = True
    """Always true; `Braking` outputs may be at rest."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Braking:
    """An output at which the arm brakes within its limits and holds."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    acceleration: np.ndarray
    """Shape (joint,) [rad/s^2]."""
    reason: str
    """Why the arm brakes."""
    moving: bool
    """Whether the arm is still braking."""
    window: CommandWindow | None = None
    """The commands around this one, if the loop looks ahead."""


@dataclass(frozen=True)
class Hold(Braking):
    """A stop that ends by itself: the arm continues when the reason is gone."""


@dataclass(frozen=True)
class Stop(Braking):
    """A latched stop: the arm holds until an operator resumes it."""


ControlOutput = Command | Hold | Stop


@dataclass(frozen=True)
class PlanRecord:
    """The last plan: the output of the policy and the resulting steps."""

    stamp: int
    """Time of the policy tick [ns]."""
    window: np.ndarray
    """Observation window without images, shape (observation_horizon, observation)."""
    log_gating: np.ndarray
    """Log-probabilities of the experts, shape (expert,)."""
    mean: np.ndarray
    """Mean chunk of each expert, shape (expert, prediction_horizon, action), in the units of the contract."""
    expert: int
    """The acting expert."""
    commanded: np.ndarray
    """Joint command from which the plan starts, shape (joint,) [rad]."""
    waypoints: np.ndarray
    """Joint positions of the future steps, shape (step, joint) [rad]."""


@dataclass(frozen=True)
class Counters:
    """A snapshot for diagnostics: counts since construction, ages, and values of the last policy tick and plan."""

    plans: int
    """Plans made."""
    missed: int
    """Policy ticks at which a plan was due while the previous one was still being computed."""
    late_steps: int
    """Dropped steps, which were in the past when their plan arrived."""
    rejected: int
    """Plans refused because they exceed a limit (`Limits.mode` reject)."""
    resets: int
    """Number of resets of time: a stamp went back by more than the permitted age."""
    out_of_order: int
    """Measurements dropped because a newer one was known."""
    not_finite: int
    """Measurements dropped because they were not finite."""
    clamps: Mapping[str, tuple[int, ...]]
    """Number of limited commands, by kind of limit (position, velocity, acceleration, jerk, lag) and joint."""
    ages: Mapping[str, float]
    """Age of every stream [s]; infinity without any message."""
    expert: int
    """Acting expert; -1 before the first plan."""
    signals: Mapping[str, float]
    """OOD signals averaged over plans, by name; empty without monitoring."""
    thresholds: Mapping[str, Threshold]
    """Thresholds of the monitored signals, by name."""
    level: str
    """Level of the monitor: fine, warn, slow or stop."""
    speed: float
    """Speed of the plan, 1 as planned."""
