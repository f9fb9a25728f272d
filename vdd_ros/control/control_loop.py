"""The control loop: what stands between a network and a motor. It is handed stamps and never reads a clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, Union

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.control.chunk import Chunk
from vdd_ros.control.embodiment import Embodiment, Kinematics
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.routing import Mixture, Routing


@dataclass(frozen=True)
class Command:
    """Send this: the arm follows the policy."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    expert: int
    """Which expert it is of."""
    clamped: bool
    """Whether a limit changed it."""


@dataclass(frozen=True)
class Hold:
    """Send this: the arm stays where it was commanded to be, for now."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    reason: str
    """What would let it go on."""


@dataclass(frozen=True)
class Stop:
    """Send this and keep sending it: the arm stays here until a person starts it again."""

    position: np.ndarray
    """Shape (joint,) [rad]."""
    reason: str
    """Why it does not go on by itself."""


Outcome = Union[Command, Hold, Stop]


class Student(Protocol):
    """What the loop needs of a policy; `vdd_ros.policy.DistilledPolicy` is one."""

    def experts(self, observation: np.ndarray) -> Mixture:
        """Map windows of shape (batch, observation_horizon, observation) to experts."""
        ...


class ControlLoop:
    """Plans once every policy period and answers every tick with something that is safe to send."""

    def __init__(
        self,
        contract: Contract,
        policy: Student,
        kinematics: Kinematics | None,
        *,
        limits: Limits,
        freshness: Freshness,
        routing: Routing,
        generator: np.random.Generator,
    ) -> None:
        """Assemble a loop that is not started."""
        self.embodiment = Embodiment(contract, kinematics)
        self._contract = contract
        self._policy = policy
        self._limits = limits
        self._freshness = freshness
        self._routing = routing
        self._generator = generator
        self._chunk = Chunk(contract.action_horizon)
        self._measured: np.ndarray | None = None
        self._stamp: int | None = None
        self._next_plan = 0
        self._stopped: str | None = 'not started'

    @property
    def next_plan(self) -> int:
        """When the policy acts next [ns]; before that, `decide` repeats the command."""
        return self._next_plan

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Anchor the arm at its measured position, shape (joint,) [rad], and let the policy act from ``stamp`` [ns]."""
        self.observe(stamp, position)
        self.embodiment.anchor(position)
        self._chunk.drop()
        self._next_plan = stamp
        self._stopped = None

    def stop(self, reason: str) -> None:
        """Hold the present command until `start`."""
        self._stopped = reason

    def observe(self, stamp: int, position: np.ndarray) -> None:
        """Take in a measured position, shape (joint,) [rad], of ``stamp`` [ns]; what is not finite is not taken in."""
        if np.isfinite(position).all():
            self._stamp = stamp
            self._measured = np.array(position, dtype=np.float64)

    def decide(self, now: int) -> Outcome:
        """Return what to send at ``now`` [ns].

        `Command` at every policy tick with a fresh measurement; between ticks the same command again. `Hold` while the
        measurement is too old: the ticks that are missed are not made up for. `Stop` before `start`, after `stop`, and
        when the policy answers with what is not finite.
        """
        held = self.embodiment.commanded
        if self._stopped is not None:
            return Stop(held, self._stopped)
        if not self._freshness.is_fresh(self._stamp, now):
            self._next_plan = now
            self._chunk.drop()
            return Hold(held, f'no joint state for {(now - self._stamp) / 1e9:.3f} s')
        if now < self._next_plan:
            return Command(held, self._chunk.expert, clamped=False)
        target = self._target()
        if target is None:
            self._stopped = 'the policy answered with what is not finite'
            return Stop(held, self._stopped)
        period = self._contract.period
        command = self._limits.clamp(target, held, self._measured, period / NANOSECONDS)
        self.embodiment.sent(command)
        self._next_plan += period * max(1, -(-(now - self._next_plan + 1) // period))
        return Command(command, self._chunk.expert, clamped=not np.array_equal(command, target))

    def _target(self) -> np.ndarray | None:
        window = self.embodiment.observe(self._measured)
        if self._chunk.is_spent:
            experts = self._policy.experts(window[None])
            if not (np.isfinite(experts.log_gating).all() and np.isfinite(experts.mean).all()):
                return None
            expert = self._routing.choose(experts.log_gating[0], self._generator.random())
            self._chunk.load(experts.mean[0, expert].astype(np.float64), expert)
        target = self.embodiment.target(self._chunk.next())
        return target if np.isfinite(target).all() else None
