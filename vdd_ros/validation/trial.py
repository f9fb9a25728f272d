"""What is tried in a validation, and what comes of it."""

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
    """The timing of a deployment: how often commands leave, how late plans and joint states arrive."""

    control_period: int
    """Time between two commands [ns]."""
    latency: tuple[float, ...] = (0.0,)
    """Measured durations of planning [s]; one is drawn for every plan."""
    latency_scale: float = 1.0
    """By how much the robot's computer is slower than the one that they were measured on."""
    state_period: int = 5_000_000
    """Time between two joint states [ns]."""
    state_delay: int = 1_000_000
    """From the measurement of a joint state to its arrival [ns]."""
    keeps_commands: bool = False
    """Whether every command is kept."""


@dataclass(frozen=True)
class Trial:
    """A policy, in so many episodes, in a world with its disturbances."""

    policy: PlannerFactory | Recorded
    """Who acts."""
    episodes: int
    """How often; of a recording, from its first episode on."""
    disturbances: Disturbances = Disturbances()
    """What is made worse than in the model."""
    timing: Timing | None = None
    """That of the deployment; None: the simulation waits for the policy (lockstep)."""
    deployment: Deployment | None = None
    """The rules that commands are under, if they are others than those of the other trials."""


@dataclass(frozen=True)
class Rollouts:
    """What came of the episodes; every sequence is in their order."""

    success: np.ndarray
    """Shape (episode,) bool."""
    way: np.ndarray
    """Index into `way_names`, -1 where none was completed; shape (episode,) int."""
    steps: np.ndarray
    """Policy periods until the episode ended, shape (episode,) int."""
    clamped: np.ndarray
    """Policy periods in which a limit changed the command, shape (episode,); as deployed, the time of such commands."""
    clearance: np.ndarray
    """The least distance to an obstacle at the end of a policy period, shape (episode,) [m]."""
    paths: tuple[np.ndarray, ...]
    """The tool point at the start and after every step, shape (steps + 1, 3) each [m]."""
    states: tuple[np.ndarray, ...]
    """The scene's whole configuration at the same stamps, shape (steps + 1, state) each: what a film is made of."""
    experts: tuple[np.ndarray, ...]
    """The expert of every step, shape (steps,) each; -1 where there are no experts."""
    way_names: tuple[str, ...]
    """The ways of the task."""
    period: float
    """Policy period [s]."""
    seconds: float
    """How long it took [s], all processes together."""
    causes: tuple[str, ...] = ()
    """Why each episode failed, empty for one that succeeded."""
    limited: Mapping[str, np.ndarray] = field(default_factory=dict)
    """By kind of limit, how long it changed the command of each joint in all episodes together, shape (joint,) [s]."""
    commands: tuple[np.ndarray, ...] = ()
    """What was commanded in every control period, shape (time, joint) each [rad], if `Timing.keeps_commands`; over ROS
    what was received."""
    sent: tuple[np.ndarray, ...] = ()
    """Over ROS, when each of these commands was published, shape (time,) each [ns]."""

    def __len__(self) -> int:
        """Return the number of episodes."""
        return len(self.success)

    @property
    def simulated_seconds(self) -> float:
        """How much time the episodes span together [s]."""
        return float(self.steps.sum() * self.period)

    @property
    def outcomes(self) -> Outcomes:
        """What a report keeps of them."""
        return Outcomes(
            success=self.success,
            way=self.way,
            seconds=self.steps * self.period,
            path=np.array([path_length(path) for path in self.paths]),
            jerk=np.array([root_mean_square_jerk(path, self.period) for path in self.paths]),
            clamped=self.clamped / np.maximum(self.steps, 1),
            clearance=self.clearance,
        )
