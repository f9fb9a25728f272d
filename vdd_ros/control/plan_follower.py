"""Carrying out a plan: which position is due next."""

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
"""So far from the motion [rad], commands halve the speed of the plan."""
_SLOWEST = 0.1
"""A plan that goes out from commands in motion is not begun at a lower speed."""
_ASTRAY = 1e-3
"""Farther than this from the motion [rad], commands are no longer on it: the next plan goes out from them."""


_WHOLE = 1e-9
"""Less than this is missing to a waypoint only by rounding."""


class PlanFollower(abc.ABC):
    """A way to carry out plans."""

    late_steps = 0
    """Planned steps that time had passed when their plan arrived; dropped."""
    is_gated_anew = False
    """Whether the start gate looks at the first plan after each interruption, and not only after the start."""

    @abc.abstractmethod
    def drop(self, now: int) -> None:
        """Forget what is left of the plan; the next tick is ``now`` [ns]."""

    @abc.abstractmethod
    def tick(self, now: int) -> bool:
        """Tell whether a policy tick has come by ``now`` [ns]; each one is told once."""

    @abc.abstractmethod
    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Go on by a new plan; return whether any of it is still to come."""

    @abc.abstractmethod
    def is_due(self, elapsed: int) -> bool:
        """Tell whether another position is due so long after the one before [ns]."""

    @abc.abstractmethod
    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Return the position that is due, shape (joint,) [rad]; None if there is no plan, or none any more."""

    def copy(self) -> PlanFollower:
        """Return one in the same state, which goes on for itself."""
        return copy.copy(self)

    @abc.abstractmethod
    def reference(self, tracker: Tracker) -> State:
        """Return what a plan of now goes out from."""

    @property
    @abc.abstractmethod
    def time(self) -> float:
        """By which plans are dated [s]."""

    @property
    @abc.abstractmethod
    def speed(self) -> float:
        """Seconds of the plan in a second."""

    @property
    @abc.abstractmethod
    def is_spent(self) -> bool:
        """Whether all steps of the plan are done, and the arm only comes to rest from it."""


class LockstepFollower(PlanFollower):
    """A waypoint for each command: simulation waits for it, and knows no time between the two.

    At a lower speed, a waypoint takes several commands on the straight line to it. The policy ticks when it is reached:
    to the policy, an arm that is slowed down moves as ever.
    """

    time = 0.0
    speed = 1.0
    is_spent = False

    def __init__(self, period: int, speed: float = 1.0) -> None:
        """Command once per policy period [ns], and go on by so many policy periods with each command, at most 1."""
        self._period = period
        self.speed = speed
        self._next_tick = 0
        self._target: np.ndarray | None = None
        self._begin, self._share = np.zeros(0), 0.0

    def drop(self, now: int) -> None:
        """Forget the waypoint."""
        self._target = None
        self._next_tick = now

    def tick(self, now: int) -> bool:
        """Ticks that were missed are not made up for."""
        if now < self._next_tick:
            return False
        self._next_tick += self._period * max(1, -(-(now - self._next_tick + 1) // self._period))
        return self._target is None

    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Take the next waypoint."""
        self._target, self._begin, self._share = proposal.steps[0], tracker.position, 0.0
        return True

    def reference(self, tracker: Tracker) -> State:
        """From the newest command."""
        return State(tracker.position, tracker.velocity, tracker.acceleration)

    def is_due(self, elapsed: int) -> bool:
        """Tell that a waypoint is there, or, a period later, the next place on the way to it."""
        return self._target is not None and (not self._share or 2 * elapsed >= self._period)

    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Give the waypoint away, or the next place on the way to it; nothing else slows it down."""
        target, self._share = self._target, self._share + self.speed
        if target is not None and self._share < 1 - _WHOLE:
            return self._begin + self._share * (target - self._begin)
        self._target = None
        return target


class InterpolatingFollower(PlanFollower):
    """Many commands for each waypoint, along a smooth motion."""

    def __init__(self, control_period: int, policy_period: int, blend: float) -> None:
        """Command once per control period [ns]; seams last at least ``blend`` [s]."""
        self._control_period = control_period
        self._seconds = control_period / NANOSECONDS
        self._policy_seconds = policy_period / NANOSECONDS
        self._blend = blend
        self._clock = PlanClock(self._seconds)
        self._trajectory: Trajectory | None = None
        self._target: np.ndarray | None = None
        self._next_tick = 0.0
        self._asked = 1.0
        """The speed that was asked for last, whatever the plan and its limits allow; never near zero."""

    def copy(self) -> InterpolatingFollower:
        """Return one in the same state, with a clock of its own."""
        twin = copy.copy(self)
        twin._clock = copy.copy(self._clock)
        return twin

    @property
    def time(self) -> float:
        """Of the newest command."""
        return self._clock.time

    @property
    def speed(self) -> float:
        """Seconds of the plan in a second."""
        return self._clock.speed

    @property
    def is_spent(self) -> bool:
        """Whether the last step was reached."""
        return self._trajectory is not None and self._clock.time > self._trajectory.waypoints.end + self._seconds / 2

    def drop(self, now: int) -> None:
        """Forget the motion."""
        self._trajectory = self._target = None
        self._next_tick = self._clock.time

    def tick(self, now: int) -> bool:
        """Ticks come by the plan's clock: to the policy, an arm that is slowed down moves as ever."""
        behind = self._clock.time - self._next_tick
        if behind < -self._seconds / 2:
            return False
        self._next_tick += self._policy_seconds * (1 + int((behind + self._seconds / 2) / self._policy_seconds))
        return True

    def accept(self, proposal: Proposal, tracker: Tracker) -> bool:
        """Lead over from the motion under way, or from the commands where limits led them off it."""
        waypoints, time = proposal.waypoints, self._clock.time
        passed = waypoints.passed(time)
        self.late_steps += passed
        if passed == len(waypoints.steps):
            return False
        state = self._on_motion(tracker)
        if state is None:
            # Commands go on as fast as they are, whatever speed the plan had that they did not follow.
            speed = max(min(self._asked, waypoints.pace(time).speed), _SLOWEST)
            state = _at_speed(tracker.state, speed)
            self._clock.start(speed)
        self._trajectory = Trajectory(state, time, waypoints, self._blend)
        return True

    def reference(self, tracker: Tracker) -> State:
        """From the motion, if the commands are on it; they may be a little off while limits let them catch up."""
        state = self._on_motion(tracker)
        return _at_speed(tracker.state, self._asked) if state is None else state

    def _on_motion(self, tracker: Tracker) -> State | None:
        """Return where the motion is, by the plan's time; None if there is none, or commands are not on it."""
        if self._trajectory is None:
            return None
        state = self._trajectory.state(self._clock.time)
        return state if np.abs(state.position - tracker.position).max() < _ASTRAY else None

    def is_due(self, elapsed: int) -> bool:
        """Half a period early at most: a thread that woke up late and hurries must not hurry the arm."""
        return 2 * elapsed >= self._control_period

    def next(self, elapsed: int, speed: float, tracker: Tracker) -> np.ndarray | None:
        """Go on along the motion, until it has come to rest."""
        clock, trajectory = self._clock, self._trajectory
        self._asked = max(speed, _SLOWEST)
        if trajectory is None:
            clock.advance(elapsed / NANOSECONDS, speed)
            return None
        pace = trajectory.waypoints.pace(clock.time)
        # Where the guard of the limits has led commands off the path, the plan waits for them.
        behind = max(np.abs(self._target - tracker.position).tolist()) if self._target is not None else 0.0
        wanted = min(speed, pace.speed) / (1 + (behind / _WAITING) ** 2)
        clock.advance(elapsed / NANOSECONDS, wanted, pace.rate, pace.turn, most=speed)
        if clock.time > trajectory.waypoints.rest:
            self._trajectory = self._target = None
            return None
        self._target = trajectory.position(clock.time)
        return self._target


def _at_speed(state: State, speed: float) -> State:
    """Return a motion by the time of a plan that is followed at a steady speed [s/s]."""
    return State(state.position, state.velocity / speed, state.acceleration / speed**2)
