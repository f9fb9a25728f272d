"""Execution of a plan: the position that is due next."""

from __future__ import annotations

import abc
import copy

import numpy as np

from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.plan_clock import PlanClock
from vdd_ros.control.planner import Proposal
from vdd_ros.control.tracker import Tracker
from vdd_ros.control.trajectory import State, Trajectory

_WAITING = 2e-3
"""Distance of the commands from the planned motion at which the speed of the plan is halved [rad]."""
_SLOWEST = 0.1
"""Minimum initial speed of a plan that starts from moving commands."""
_CREEP = 0.02
"""Minimum speed of a plan [s/s]. A target that no command can reach, such as one beyond a position limit, would stop
the clock of the plan, and no further plan would be requested."""
_ASTRAY = 1e-3
"""Distance from the motion above which commands are off the path [rad]; the next plan then starts from the commands."""


_WHOLE = 1e-9
"""Remaining share of the way to a waypoint that is due to rounding only."""


class PlanFollower(abc.ABC):
    """Interface of plan followers, which turn the steps of a plan into the positions that are due."""

    late_steps = 0
    """Number of dropped steps, which were in the past when their plan arrived."""
    is_gated_anew = False
    """Whether the start gate checks the first plan after each interruption, not only after the start."""

    @abc.abstractmethod
    def drop(self, now: int) -> None:
        """Discard the rest of the plan; the next tick is ``now`` [ns]."""

    @abc.abstractmethod
    def tick(self, now: int) -> bool:
        """Return whether a policy tick has occurred by ``now`` [ns]; each tick is reported once."""

    @abc.abstractmethod
    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Continue with a new plan; return whether any of its steps is in the future."""

    @abc.abstractmethod
    def is_due(self, elapsed: int) -> bool:
        """Return whether a position is due this long after the previous one [ns]."""

    @abc.abstractmethod
    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Return the position that is due, shape (joint,) [rad]; None without a plan or after its end."""

    def copy(self) -> PlanFollower:
        """Return an independent copy with the same state."""
        return copy.copy(self)

    @abc.abstractmethod
    def reference(self, tracker: Tracker) -> State:
        """Return the state from which a plan made now starts."""

    @property
    @abc.abstractmethod
    def time(self) -> float:
        """Time of the last command by the clock of the plan [s]; plans state the times of their steps by this clock."""

    @property
    @abc.abstractmethod
    def speed(self) -> float:
        """Speed: seconds of the plan per second."""

    @property
    @abc.abstractmethod
    def is_spent(self) -> bool:
        """Whether all steps of the plan are executed; the arm then comes to rest."""


class LockstepFollower(PlanFollower):
    """One waypoint per command, in lockstep with the simulation.

    At a speed below 1, several commands on a straight line lead to each waypoint. The policy is called again when the
    waypoint is reached.
    """

    def __init__(self, period: int, speed: float = 1.0) -> None:
        """Set the policy period [ns], which is the period of the commands, and the speed [policy periods per command].

        The speed is at most 1.
        """
        self._period = period
        self._speed = speed
        self._next_tick = 0
        self._target: np.ndarray | None = None
        self._begin, self._share = np.zeros(0), 0.0

    @property
    def time(self) -> float:
        """Always zero: lockstep needs no time base."""
        return 0.0

    @property
    def speed(self) -> float:
        """Policy periods per command."""
        return self._speed

    @property
    def is_spent(self) -> bool:
        """Always false: the policy is called again when the waypoint is reached."""
        return False

    def drop(self, now: int) -> None:
        """Discard the waypoint: no command is due until another is accepted; the next tick is ``now`` [ns]."""
        self._target = None
        self._next_tick = now

    def tick(self, now: int) -> bool:
        """Return whether a policy tick has occurred; missed ticks are skipped."""
        if now < self._next_tick:
            return False
        self._next_tick += self._period * max(1, -(-(now - self._next_tick + 1) // self._period))
        return self._target is None

    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Store the next waypoint."""
        self._target, self._begin, self._share = proposal.steps[0], tracker.position, 0.0
        return True

    def reference(self, tracker: Tracker) -> State:
        """Return the last command as a state."""
        return State(tracker.position, tracker.velocity, tracker.acceleration)

    def is_due(self, elapsed: int) -> bool:
        """Return whether a new waypoint is available, or a period has passed on the way to the present one."""
        return self._target is not None and (not self._share or 2 * elapsed >= self._period)

    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Return the next point on the line to the waypoint; the waypoint is discarded when it is reached."""
        target, self._share = self._target, self._share + self._speed
        if target is not None and self._share < 1 - _WHOLE:
            return self._begin + self._share * (target - self._begin)
        self._target = None
        return target


class InterpolatingFollower(PlanFollower):
    """Many commands for each waypoint, along a smooth motion."""

    def __init__(self, control_period: int, policy_period: int, blend: float) -> None:
        """Set the control period [ns] and the minimum duration of a transition ``blend`` [s]."""
        self._control_period = control_period
        self._seconds = control_period / NANOSECONDS
        self._policy_seconds = policy_period / NANOSECONDS
        self._blend = blend
        self._clock = PlanClock(self._seconds)
        self._trajectory: Trajectory | None = None
        self._target: np.ndarray | None = None
        self._next_tick = 0.0
        self._wanted_speed = 1.0
        """The speed requested last, independent of plan and limits; bounded away from zero."""

    def copy(self) -> InterpolatingFollower:
        """Return an independent copy with its own clock."""
        twin = copy.copy(self)
        twin._clock = copy.copy(self._clock)
        return twin

    @property
    def time(self) -> float:
        """Time of the last command by the clock of the plan [s]."""
        return self._clock.time

    @property
    def speed(self) -> float:
        """Seconds of the plan per second."""
        return self._clock.speed

    @property
    def is_spent(self) -> bool:
        """Whether the last step was reached."""
        return self._trajectory is not None and self._clock.time > self._trajectory.waypoints.end + self._seconds / 2

    def drop(self, now: int) -> None:
        """Discard the motion; the next tick is now, by the clock of the plan."""
        self._trajectory = self._target = None
        self._next_tick = self._clock.time

    def tick(self, now: int) -> bool:
        """Return whether a policy tick has occurred by the clock of the plan.

        Ticks slow down with the plan, so the policy observes the same sequence of commands at any speed.
        """
        behind = self._clock.time - self._next_tick
        if behind < -self._seconds / 2:
            return False
        self._next_tick += self._policy_seconds * (1 + int((behind + self._seconds / 2) / self._policy_seconds))
        return True

    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Start the transition from the current motion, or from the commands if limits led them off the motion."""
        waypoints, time = proposal.waypoints, self._clock.time
        passed = waypoints.passed(time)
        self.late_steps += passed
        if passed == len(waypoints.steps):
            return False
        state = self._on_motion(tracker)
        if state is None:
            # The commands keep their speed, whatever the speed of the plan that they did not follow.
            speed = max(min(self._wanted_speed, waypoints.pace(time).speed), _SLOWEST)
            state = _at_speed(tracker.state, speed)
            self._clock.start(speed)
        self._trajectory = Trajectory(state, time, waypoints, self._blend)
        return True

    def reference(self, tracker: Tracker) -> State:
        """Return the state of the motion if the commands are near it, otherwise that of the commands."""
        state = self._on_motion(tracker)
        return _at_speed(tracker.state, self._wanted_speed) if state is None else state

    def _on_motion(self, tracker: Tracker) -> State | None:
        """Return the state of the motion in the time of the plan; None if there is none or the commands are off it."""
        if self._trajectory is None:
            return None
        state = self._trajectory.state(self._clock.time)
        return state if np.abs(state.position - tracker.position).max() < _ASTRAY else None

    def is_due(self, elapsed: int) -> bool:
        """Return whether the next position is due: at least half a period after the previous one.

        A thread that woke up late must not speed up the arm.
        """
        return 2 * elapsed >= self._control_period

    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Advance along the motion, and return the next position; None after the motion has come to rest."""
        clock, trajectory = self._clock, self._trajectory
        self._wanted_speed = max(speed, _SLOWEST)
        if trajectory is None:
            clock.advance(elapsed / NANOSECONDS, speed)
            return None
        pace = trajectory.waypoints.pace(clock.time)
        # If the tracker led the commands off the path, the plan waits for them.
        behind = max(np.abs(self._target - tracker.position).tolist()) if self._target is not None else 0.0
        wanted = max(min(speed, pace.speed) / (1 + (behind / _WAITING) ** 2), min(speed, _CREEP))
        clock.advance(elapsed / NANOSECONDS, wanted, pace.rate, pace.turn, most=speed)
        if clock.time > trajectory.waypoints.rest:
            self._trajectory = self._target = None
            return None
        self._target = trajectory.position(clock.time)
        return self._target


def _at_speed(state: State, speed: float) -> State:
    """Return a motion in the time of a plan that is followed at constant speed [s/s]."""
    return State(state.position, state.velocity / speed, state.acceleration / speed**2)
