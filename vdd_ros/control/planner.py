"""Planning: from the values at a policy tick to joint waypoints. Planning may run in a separate thread."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

from vdd_ros.common.errors import ConfigurationError, ContractError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_output import PlanRecord
from vdd_ros.control.execution import Execution
from vdd_ros.control.limits import Limits
from vdd_ros.control.ood import Monitor, OodRules
from vdd_ros.control.policy_interface import Kinematics, PolicyInterface
from vdd_ros.control.rules import Rules
from vdd_ros.control.supervision import Supervision
from vdd_ros.control.trajectory import State, Waypoints
from vdd_ros.policy.chunk import Chunk
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.observation import AnyObservation, Pixels, vector_of
from vdd_ros.policy.routing import Choice, Mixture, Routing, Situation

_ABSURD = 1e6
"""Larger magnitudes [rad, m] are treated as non-finite; they would overflow later arithmetic."""
_NOT_FINITE = 'the policy output is not finite'


class Student(Protocol):
    """Interface of a policy in the control loop; `vdd_ros.policy.policy.DistilledPolicy` implements it."""

    expert_count: int | None
    """Number of experts that rules may name; None for a policy without experts."""
    labels: Labels
    """Names of the experts."""

    def experts(self, observation: AnyObservation) -> Mixture:
        """Map windows of shape (batch, observation_horizon, observation) to experts."""
        ...

    def deviation(self, experts: Mixture, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Sample the action noise of an expert.

        Shape (prediction_horizon, action); used by `Execution.action_noise_scale`.
        """
        ...

    def coherence(self, experts: Mixture, actions: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the remaining chunk under every expert; used by `Execution.coherence`.

        ``actions`` has shape (step, action), the result shape (expert,) [nat].
        """
        ...

    def signals(
        self, observation: AnyObservation, experts: Mixture, at_full_speed: np.ndarray | None = None
    ) -> dict[str, float]:
        """Return the OOD signals of a window and its experts; used by `OodRules`.

        ``at_full_speed`` contains windows of a slowed arm: see `PolicyRequest`.
        """
        ...

    def likelihood(self, experts: Mixture, done: np.ndarray) -> float:
        """Return the log-likelihood of the executed action, shape (action,); used by `OodRules`."""
        ...


class PolicyRequest(NamedTuple):
    """The inputs of one query of the policy."""

    window: AnyObservation
    """Observation window, shape (1, observation_horizon, observation), and its images."""
    before: Mixture | None
    """The experts of the previous query, if `Student.likelihood` will evaluate the action executed since then."""
    done: np.ndarray | None
    """The action executed since the previous query, shape (action,)."""
    at_full_speed: np.ndarray | None = None
    """What the window may be at full speed, shape (delay, observation_horizon, observation); see
    `PolicyInterface.windows_at_full_speed`. The demonstrations are compared with the most similar one."""


Result = TypeVar('Result')
PolicyCoroutine = Generator[PolicyRequest, Mixture, Result]
"""Yields queries of the policy and receives the experts, so that many arms can share one network call."""


def run_with(coroutine: PolicyCoroutine[Result], experts: Callable[[AnyObservation], Mixture]) -> Result:
    """Run a coroutine to its end with ``experts`` as the answer to its queries; raises the errors of ``experts``."""
    with contextlib.closing(coroutine):
        try:
            request = next(coroutine)
            while True:
                request = coroutine.send(experts(request.window))
        except StopIteration as end:
            return end.value


@dataclass(frozen=True)
class Tick:
    """The measurements, commands and times at a policy tick, from which a plan is computed."""

    epoch: int
    """Number of starts. Observations from before a start are not used after it."""
    serial: int
    """Number of interruptions. Plans from before an interruption are not used after it."""
    stamp: int
    """Time of the tick [ns]."""
    time: float
    """Time of the tick by the clock of the plan [s]."""
    measured: np.ndarray
    """Measured joint positions, shape (joint,) [rad]."""
    commanded: np.ndarray
    """The last command before the tick, shape (joint,) [rad]."""
    reference: State
    """Start state of the plan: that of the current motion, or of the commands."""
    topics: Mapping[str, np.ndarray | Pixels] = field(default_factory=dict)
    """Topic features of the observation by name, shape (width,); images may not be decoded yet."""
    speed: float = 1.0
    """Speed of the plan, 1 as planned."""


@dataclass(frozen=True)
class Proposal:
    """The result of planning at a tick: the plan, or why it must not be executed."""

    tick: Tick
    expert: int
    steps: np.ndarray
    """Positions after each policy period, shape (step, joint) [rad]; in lockstep only the next one."""
    waypoints: Waypoints | None
    """The waypoints for a transition; None in lockstep."""
    fault: str = ''
    """Why the output of the policy is invalid; such a plan is not executed."""
    broken: str = ''
    """The limit that the plan exceeds, or the step that is out of reach."""
    halts: bool = False
    """Whether the arm brakes immediately if the plan is broken, instead of executing the rest of the previous plan."""
    remark: str = ''
    """Why the plan falls short of the requested actions."""

    @classmethod
    def faulty(cls, tick: Tick, fault: str) -> Proposal:
        """Return a proposal without steps that stops the arm, with the reason."""
        return cls(tick, -1, np.zeros((0, len(tick.commanded))), None, fault=fault)


@dataclass(frozen=True)
class PlanningRules:
    """Limits, selection of experts, and monitoring that the planner applies to the plans of a policy."""

    limits: Limits
    routing: Routing | Rules = Routing()
    execution: Execution = Execution()
    ood_rules: OodRules | None = None
    """OOD monitoring; None: out-of-distribution observations have no effect."""
    supervision: Supervision | None = None
    """Enabling device and workspace; None: no enabling device, and plans may lead anywhere."""

    def require_kinematics(self, kinematics: Kinematics | None) -> None:
        """Check that kinematics are available if a workspace is defined.

        Raises
        ------
        ConfigurationError
            A workspace is defined, and no kinematics are available.

        """
        if self.supervision is not None and self.supervision.workspace is not None and kinematics is None:
            raise ConfigurationError(
                expected='kinematics, by which a workspace of the tool is checked',
                found='none',
                remedy='name a model of the robot in the contract, or remove supervised.workspace',
            )


class Planner:
    """Makes plans with a policy: evaluates the observations of ticks, and computes joint positions."""

    def __init__(
        self,
        contract: Contract,
        policy: Student,
        kinematics: Kinematics | None,
        rules: PlanningRules,
        *,
        generator: np.random.Generator,
        lockstep: bool,
    ) -> None:
        """Assemble a planner; errors as for `PlanningRules.require_kinematics`."""
        rules.require_kinematics(kinematics)
        execution = rules.execution
        self.policy_interface = PolicyInterface(contract, kinematics)
        self.routing: Routing | Rules = rules.routing
        """The rules for the choice of experts."""
        self.monitor = None if rules.ood_rules is None else Monitor(rules.ood_rules)
        self.remark = ''
        """Level of the OOD monitor for the last plan; empty if the level is `fine`."""
        self.record: PlanRecord | None = None
        self.choice: Choice | None = None
        """The choice of the expert of the last plan."""
        self.plans = 0
        self._limits, self._execution, self._supervision = rules.limits, execution, rules.supervision
        self._contract, self._generator, self._lockstep = contract, generator, lockstep
        self._seconds = contract.period / NANOSECONDS
        steps = contract.action_horizon if lockstep else (execution.replan_steps or contract.action_horizon)
        self.replan_steps = min(steps, contract.prediction_horizon)
        """Policy ticks from one plan to the next."""
        self.ask_steps = 1 if lockstep else self.replan_steps
        """Policy ticks from one call of `proposing` to the next."""
        self._chunk = Chunk(self.replan_steps)
        ahead = self.replan_steps + (0 if lockstep else execution.coast_steps)
        self.steps = min(ahead, contract.prediction_horizon)
        """Number of steps of a plan."""
        self.smoothing = min(execution.smoothing, (self.steps - self.replan_steps) / 2)
        """Time constant of the smoothing spline, in policy periods: at most half of the steps beyond the next plan's
        start."""
        self._epoch = self._serial = -1
        self._began = 0
        self._acting = policy
        self._successor: tuple[Student, Monitor | None] | None = None
        self._action: np.ndarray | None = None
        self._present: int | None = None
        self._motions: np.ndarray | None = None
        self._output: Mixture | None = None
        self._judged: tuple[Mixture | None, np.ndarray | None] = (None, None)
        self._unwatched: tuple[Student, AnyObservation, Mixture, np.ndarray | None] | None = None

    @property
    def speed(self) -> float:
        """Speed of the plan, 1 as planned."""
        choice = self.choice  # the planning thread may replace it meanwhile
        ruled = 1.0 if choice is None else choice.applied.speed
        return self._execution.speed * ruled * (1.0 if self.monitor is None else self.monitor.speed)

    def experts(self, window: AnyObservation) -> Mixture:
        """Query the policy for a window, shape (1, observation_horizon, observation)."""
        return self._acting.experts(window)

    def replace(self, policy: Student, ood_rules: OodRules | None) -> None:
        """Use another policy, and its OOD rules, from the next plan on."""
        self._successor = policy, None if ood_rules is None else Monitor(ood_rules)

    def counts(self) -> dict[str, Any]:
        """Return the entries of `Counters` about planning."""
        monitor = self.monitor
        return {
            'plans': self.plans,
            'signals': {} if monitor is None else dict(monitor.values),
            'thresholds': {} if monitor is None else monitor.thresholds,
            'level': 'fine' if monitor is None else monitor.level,
        }

    def proposing(self, ticks: Sequence[Tick]) -> PolicyCoroutine[Proposal]:
        """Process the ticks since the last call, oldest first, and plan from the newest one."""
        following = 0
        for tick in ticks:
            following = following + 1 if tick.epoch == self._epoch and tick.serial == self._serial else 0
            if tick.epoch != self._epoch:
                self._begin(tick)
            elif tick.serial != self._serial:
                self._chunk.drop()
            else:
                self._judge_step(tick)
            self._serial = tick.serial
            self.policy_interface.sent(tick.commanded)
            self.policy_interface.note(tick.measured, tick.topics, tick.speed)
        if not self._lockstep or self._chunk.is_spent:
            try:
                window = self.policy_interface.window()  # images are decoded here, in the planning thread
            except ContractError as error:
                return Proposal.faulty(tick, str(error))
            left = self._left_of_plan(len(ticks), following)
            fault = yield from self.querying(window, left, tick)
            if fault:
                return Proposal.faulty(tick, fault)
        whole = None if self._lockstep else self._action
        actions = self._chunk.next()[None] if whole is None else whole[: self.steps]
        steps, unreachable, slowed = self.policy_interface.waypoints(actions, tick.reference.position)
        if len(steps) < min(self.replan_steps, len(actions)):
            return Proposal(tick, -1, steps, None, broken=f'step {len(steps) + 1}: {unreachable}')
        if not np.abs(steps).max() < _ABSURD:
            return Proposal(tick, -1, steps, None, fault=_NOT_FINITE)
        expert = self._chunk.expert
        output = self._window, self._log_gating, self._mean
        self.record = PlanRecord(tick.stamp, *output, expert, tick.reference.position, steps)
        waypoints = None
        if not self._lockstep:
            # At the edge of the workspace the plan comes to rest: small tool motions there need large joint motions.
            rest = np.repeat(steps[-1:], len(actions) - len(steps), axis=0)
            waypoints = Waypoints(
                tick.reference,
                np.concatenate([steps, rest]),
                time=tick.time,
                period=self._seconds,
                limits=self._limits,
                smoothing=self.smoothing,
            )
        broken = self._departure(steps)
        halts = bool(broken)
        if self._limits.mode == 'reject' and not halts:
            due = steps[: self.replan_steps]
            broken = self._limits.broken_by(due, tick.reference.position, self._seconds)
        return Proposal(tick, expert, steps, waypoints, broken=broken, halts=halts, remark=slowed)

    def _departure(self, steps: np.ndarray) -> str:
        """Return where a plan, shape (step, joint) [rad], leads the tool out of the workspace; empty if it does not."""
        if self._supervision is None or self._supervision.workspace is None:
            return ''
        return self._supervision.departure(self.policy_interface.tool_positions(steps))

    def _begin(self, tick: Tick) -> None:
        self._epoch, self._began = tick.epoch, tick.stamp
        self.choice = None
        self.policy_interface.anchor(tick.commanded)
        self._chunk.drop()
        self._forget()
        self.remark = ''
        if self.monitor:
            self.monitor.reset()

    def _forget(self) -> None:
        self._present = self._motions = self._output = self._unwatched = self._action = None
        self._judged = (None, None)

    def _left_of_plan(self, ticks: int, following: int) -> np.ndarray | None:
        """Return the rest of the current chunk, shape (step, action); None if no plan can continue it."""
        passed = self.replan_steps if self._lockstep else ticks
        if not self._execution.coherence or self._action is None or following < ticks:
            return None
        left = self._action[passed:]
        return left if len(left) else None

    def querying(self, window: AnyObservation, left: np.ndarray | None, tick: Tick) -> PolicyCoroutine[str]:
        """Query the policy, and load the chunk of one of its experts.

        Parameters
        ----------
        window
            Observation window, shape (observation_horizon, observation).
        left
            Remaining steps of the current chunk, shape (step, action); None if the next chunk need not continue them.
        tick
            The tick of the window.

        Returns
        -------
        Why the policy output is invalid or the rules stop the arm; empty if neither is the case.

        """
        if self._successor is not None:  # its experts differ from those of the previous policy
            (self._acting, self.monitor), self._successor = self._successor, None
            self._forget()
        policy = self._acting
        at_full_speed = None if self.monitor is None else self.policy_interface.windows_at_full_speed()
        experts = yield PolicyRequest(window[None], *self._judged, at_full_speed)
        if not (np.isfinite(experts.log_gating).all() and np.abs(experts.mean).max() < _ABSURD):
            return _NOT_FINITE
        self._window, self._log_gating = vector_of(window), experts.log_gating[0]
        self._mean = experts.mean[0].astype(np.float64)
        self.plans += 1
        uniform, log_gating = self._generator.random(), self._log_gating
        if left is not None:
            log_gating = log_gating + self._execution.coherence * policy.coherence(experts, left)
            log_gating = log_gating - np.logaddexp.reduce(log_gating)
        expert = self._choose(vector_of(window)[-1], log_gating, uniform, tick)
        if expert < 0:
            return self.choice.applied.stop
        action = self._mean[expert]
        if self._execution.action_noise_scale:
            action = action + self._execution.action_noise_scale * policy.deviation(experts, expert, self._generator)
        self._present = expert
        self._action = action
        self._chunk.load(action, expert)
        self._unwatched = None if self.monitor is None else (policy, window, experts, at_full_speed)
        return ''

    def _choose(self, newest: np.ndarray, log_gating: np.ndarray, uniform: float, tick: Tick) -> int:
        """Choose an expert by the rules that apply at a tick, and store how; -1 if the arm must stop."""
        interface, routing, cosine = self.policy_interface, self.routing, self._cosine()
        situation = Situation(
            newest,
            (tick.stamp - self._began) / NANOSECONDS,
            self._present,
            int(self._log_gating.argmax()),
            functools.partial(interface.tool_pose, tick.measured) if interface.has_tool else None,
            functools.partial(interface.tool_paths, self._mean) if interface.has_tool else None,
        )
        applied = routing.at(situation)
        if refusal := applied.refusal(len(log_gating)):
            applied, expert = replace(applied, stop=refusal), -1
        else:
            expert = applied.routing.choose(log_gating, uniform, self._present, cosine)
        self.choice = Choice(expert, log_gating, uniform, self._present, cosine, applied, routing.base)
        return expert

    def watch(self) -> str:
        """Evaluate the OOD signals of the last proposal; return the reason if the arm should stop."""
        if self._unwatched is None:
            return ''
        (policy, window, experts, at_full_speed), self._unwatched = self._unwatched, None
        watched = policy.signals(window[None], experts, at_full_speed)
        self._output = experts
        before, done = self._judged
        if before is not None and done is not None:
            watched['likelihood'] = policy.likelihood(before, done)
        self._judged = (None, None)
        level = self.monitor.update(watched)
        self.remark = '' if level == 'fine' else f'out of distribution, {level}: {self.monitor.complaint()}'
        return self.remark if self.monitor.stops else ''

    def judge(self, done: np.ndarray | None) -> None:
        """Store the action executed in the step after the last policy output, shape (action,); None if unknown.

        The next OOD signals include the log-likelihood of this action under the policy.
        """
        output, self._output = self._output, None
        if output is not None and done is not None:
            self._judged = (output, done)

    def _judge_step(self, tick: Tick) -> None:
        """Store the action executed since the last plan, if it was one step."""
        if self._output is not None and self.monitor is not None:
            self.judge(self.policy_interface.done(self.policy_interface.commanded, tick.commanded))

    def _cosine(self) -> float | None:
        """Return the cosine between the previous and the present direction of the acting expert; None if unused."""
        if self.routing.direction_hysteresis is None:
            return None
        motions = self.policy_interface.motions(self._mean)
        before, self._motions = self._motions, motions
        present = self._present
        if before is None or present is None or present >= min(len(before), len(motions)):
            return None
        one, other = before[present], motions[present]
        size = float(np.linalg.norm(one) * np.linalg.norm(other))
        return float(one @ other) / size if size > 0 else 1.0
