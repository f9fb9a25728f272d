"""The trials of a validation and their results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from vdd_ros.control.deployment import Deployment
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.validation.outcomes import Outcomes, path_length, root_mean_square_jerk
from vdd_ros.validation.policies import PlannerFactory, Recorded


@dataclass(frozen=True)
class Timing:
    """The timing of a deployment: control period, and delays of plans and joint states."""

    control_period: int
    """Interval between commands [ns]."""
    latency: tuple[float, ...] = (0.0,)
    """Measured planning durations [s]; one is drawn for every plan."""
    latency_scale: float = 1.0
    """Planning time on the robot's computer, relative to the measured one."""
    state_period: int = 5_000_000
    """Interval between joint states [ns]."""
    state_delay: int = 1_000_000
    """Delay of joint states [ns]."""
    keeps_commands: bool = False
    """Whether all commands are recorded."""


@dataclass(frozen=True)
class Trial:
    """The configuration of a batch of rollouts: policy, number of episodes, disturbances and timing."""

    policy: PlannerFactory | Recorded
    """The policy."""
    episodes: int
    """Number of episodes; a recording starts with its first episode."""
    disturbances: Disturbances = Disturbances()
    """Disturbances of the simulation."""
    timing: Timing | None = None
    """Timing of the deployment; None: the simulation waits for the policy (lockstep)."""
    deployment: Deployment | None = None
    """Deployment parameters, if they differ from those of the other trials."""


@dataclass(frozen=True)
class Rollouts:
    """The results of episodes; every sequence is in the order of the episodes."""

    success: np.ndarray
    """Shape (episode,) bool."""
    mode: np.ndarray
    """Index into `mode_names`, -1 if no mode was completed; shape (episode,) int."""
    steps: np.ndarray
    """Policy periods until the episode ended, shape (episode,) int."""
    clamped: np.ndarray
    """Number of policy periods in which a limit changed the command, shape (episode,); with a `Timing`, the duration of
    limited commands, in policy periods."""
    clearance: np.ndarray
    """Minimum distance to an obstacle at the end of a policy period, shape (episode,) [m]."""
    paths: tuple[np.ndarray, ...]
    """Position of the tool point at the start and after every step, shape (steps + 1, 3) each [m]."""
    states: tuple[np.ndarray, ...]
    """Configuration of the scene at the same times, shape (steps + 1, state) each; used for videos."""
    experts: tuple[np.ndarray, ...]
    """The acting expert of every step, shape (steps,) each; -1 for policies without experts."""
    mode_names: tuple[str, ...]
    """The modes of the task."""
    period: float
    """Policy period [s]."""
    seconds: float
    """Processing time over all processes [s]."""
    causes: tuple[str, ...] = ()
    """Cause of failure of each episode; empty for a success."""
    limited: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Time in which each kind of limit changed the command of each joint, over all episodes, shape (joint,) [s]."""
    commands: tuple[np.ndarray, ...] = ()
    """Commands of all control periods, shape (time, joint) each [rad], if `Timing.keeps_commands`; over ROS the
    received commands."""
    sent: tuple[np.ndarray, ...] = ()
    """Over ROS: publication times of `commands`, shape (time,) each [ns]."""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.success)

    @property
    def simulated_seconds(self) -> float:
        """Total simulated duration of the episodes [s]."""
        return float(self.steps.sum() * self.period)

    @property
    def outcomes(self) -> Outcomes:
        """The outcomes stored in a report."""
        return Outcomes(
            success=self.success,
            mode=self.mode,
            seconds=self.steps * self.period,
            path=np.array([path_length(path) for path in self.paths]),
            jerk=np.array([root_mean_square_jerk(path, self.period) for path in self.paths]),
            clamped=self.clamped / np.maximum(self.steps, 1),
            clearance=self.clearance,
        )
