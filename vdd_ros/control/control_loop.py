"""The control loop: commands from plans and measurements. Time is passed in as stamps; the loop reads no clock."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import islice

import numpy as np

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.control_output import Command, ControlOutput, Counters, Hold, PlanRecord, Stop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness, Measurements
from vdd_ros.control.limits import Limits
from vdd_ros.control.lookahead import Lookahead
from vdd_ros.control.measurement_guard import MeasurementGuard
from vdd_ros.control.ood import OodRules
from vdd_ros.control.plan_buffer import PlanBuffer, PlanSource, Streams
from vdd_ros.control.plan_follower import InterpolatingFollower, LockstepFollower, PlanFollower
from vdd_ros.control.planner import Planner, PlanningRules, PolicyCoroutine, Proposal, Student, Tick, run_with
from vdd_ros.control.policy_interface import Kinematics
from vdd_ros.control.rules import Rules
from vdd_ros.control.start_gate import Approach, StartGate
from vdd_ros.control.supervision import Supervision
from vdd_ros.control.tracker import Tracker
from vdd_ros.control.trajectory import State, settling
from vdd_ros.policy.routing import Choice, Routing

_SETTLES = 0.95
"""Maximum factor between the disturbances of the motion at successive plans; see `settling`."""

STALL = 20_000_000
"""Gap between two commands after which the arm is assumed to be at rest [ns]; libfranka assumes the same."""


def longest_gap(period: int) -> int:
    """Return the gap after which the arm is assumed to be at rest [ns], for commands every ``period`` [ns]."""
    return max(STALL, 5 * period // 2)


class ControlLoop:
    """Computes safe commands at control rate from plans and measurements: one output for every call of `decide`.

    Plans can be computed in parallel.

    All methods except `plan` are cheap. Call them from one thread, or from several threads under one lock. `plan` takes
    as long as the policy, and may run in a separate thread without that lock.

    If commands leave at the policy rate (*lockstep*), each command is exactly a waypoint, and `advance` plans before it
    decides.
    """

    def __init__(
        self,
        contract: Contract,
        policy: Student | None,
        kinematics: Kinematics | None,
        *,
        limits: Limits,
        freshness: Freshness,
        routing: Routing | Rules = Routing(),
        generator: np.random.Generator | None = None,
        control_period: int | None = None,
        execution: Execution = Execution(),
        start_gate: StartGate = StartGate(),
        ood_rules: OodRules | None = None,
        streams: Streams | None = None,
        source: PlanSource | None = None,
        plan_follower: PlanFollower | None = None,
        guard: MeasurementGuard | None = None,
        horizon: float = 0.0,
        supervision: Supervision | None = None,
    ) -> None:
        """Assemble a loop that is not started.

        Parameters
        ----------
        contract, policy
            The contract, and a policy for this contract; None if plans come from another source.
        kinematics
            Required for contracts in tool space; used only by `plan`.
        limits, freshness, routing, execution, start_gate, ood_rules
            Rules for commands and plans. Without `ood_rules` the arm neither slows down nor stops for
            out-of-distribution observations.
        generator
            Random generator for experts and action noise; required with a policy.
        control_period
            Time between commands [ns]; None: the policy period, which is lockstep.
        streams
            Topic features. While a feature has no value, no plan is made.
        source, plan_follower
            Source of plans and their execution; None: plans of the policy, executed as a smooth motion, or as single
            waypoints in lockstep.
        guard
            Stops the arm on implausible measurements, and if the arm does not follow its commands; None: all
            measurements are accepted.
        horizon
            For a trajectory controller: time [s] that the `CommandWindow` of each output follows the plan before it
            stops. 0 for a position controller.
        supervision
            The arm holds while the enabling device is released, or if a plan leaves the workspace. None: no
            enabling device is required, and no workspace is checked.

        Raises
        ------
        ConfigurationError
            The control rate is above the policy rate, and chunks are too short for a stable motion.

        """
        self._contract = contract
        self._period = contract.period if control_period is None else control_period
        self.is_lockstep = self._period >= contract.period
        """Whether every command is a waypoint."""
        self._seconds = self._period / NANOSECONDS
        self._limits, self._freshness, self._gate = limits, freshness, start_gate
        if source is None:
            rules = PlanningRules(limits, routing, execution, ood_rules, supervision)
            source = self._planner(contract, policy, kinematics, rules, generator)
        self._source = source
        self._tracker = Tracker(limits, self._seconds)
        self._plan_follower = self._follower(contract, execution) if plan_follower is None else plan_follower
        self._measurements = Measurements(freshness)
        self._supervision = supervision
        self._guard, self._newest, self._doubt = guard, (0, np.zeros(0)), ''
        measured = contract.measured_joints
        self._unmeasured = None if measured.all() else ~measured
        self._gives_in, self._return = False, None
        self._lookahead = Lookahead(self._period, horizon, lockstep=self.is_lockstep) if horizon else None
        self._plan_buffer = PlanBuffer(self._source, contract.span, streams)
        self._started = self._approached = False
        self._decided: int | None = None
        """Time of the last command [ns]."""
        self.repeats = False
        """Whether the last output repeats the previous one, because less than half a period had passed."""
        self._latched: str | None = 'not started'
        self._refused = self._remark = ''
        self._goes_on = False
        """Whether the last output follows the plan."""
        self._expert, self._stepped, self._outdated, self._rejected, self._resets = -1, 0, 0, 0, 0
        self._begin(0)

    def _planner(
        self,
        contract: Contract,
        policy: Student | None,
        kinematics: Kinematics | None,
        rules: PlanningRules,
        generator: np.random.Generator | None,
    ) -> Planner:
        """Return the planner of a policy, at the rate of this loop; error as for the loop."""
        planner = Planner(contract, policy, kinematics, rules, generator=generator, lockstep=self.is_lockstep)
        if not self.is_lockstep:
            _check_settles(contract, planner)
        return planner

    def _follower(self, contract: Contract, execution: Execution) -> PlanFollower:
        """Return a plan follower that commands the waypoints alone in lockstep, else a smooth motion through them."""
        if self.is_lockstep:
            return LockstepFollower(contract.period, execution.speed)
        return InterpolatingFollower(self._period, contract.period, execution.blend * contract.period / NANOSECONDS)

    @property
    def commanded(self) -> np.ndarray:
        """The last command, shape (joint,) [rad]; empty before `start`."""
        return self._tracker.position if self._started else np.zeros(0)

    @property
    def moving(self) -> bool:
        """Whether the commands still move."""
        return self._tracker.moving

    @property
    def wants_plan(self) -> bool:
        """Whether a plan is due, so `plan` should be called."""
        return self._plan_buffer.wants_plan

    @property
    def last_plan(self) -> PlanRecord | None:
        """The last plan."""
        return self._source.record

    @property
    def routing(self) -> Routing | Rules:
        """The rules for the choice of experts; only available if a policy plans."""
        return self._source.routing

    @property
    def choice(self) -> Choice | None:
        """The choice of the expert of the last plan; None before the first plan, and if no policy plans."""
        return self._source.choice

    def placed(self, stamp: int, position: np.ndarray) -> np.ndarray:
        """Return the start position, shape (joint,) [rad], with values for all joints without a known position.

        ``position``, measured at ``stamp`` [ns], is NaN for joints of further controllers without measurement. These
        joints start at the position of the first plan. This requires that their action mode is `absolute`, and that the
        policy does not observe their command.

        Raises
        ------
        InterfaceError
            The first plan depends on an unknown position, or cannot be made.

        """
        unknown = np.isnan(position)
        if not unknown.any():
            return position
        for controller in self._contract.controllers[1:]:
            mode = self._contract.mode_of(controller.reading)
            leads_on = mode != 'absolute' or self._contract.observes(controller)
            if unknown[controller.places].any() and (controller.measured or leads_on):
                raise InterfaceError(
                    expected=f'a position of {", ".join(controller.joints)}, from which the policy continues',
                    found=f'no command on {controller.topic} yet, and nothing measures it',
                    remedy='command it once before the activation; or name its `joints` in the contract, which joint '
                    'states then measure, and learn anew',
                )
        known = np.where(unknown, 0.0, position)
        still = np.zeros(len(known))
        tick = Tick(0, 0, stamp, 0.0, known, known, State(known, still, still))
        first = run_with(self._plan_buffer.trying(tick), self._source.experts).steps[0]
        return np.where(unknown, np.clip(first, self._limits.lower, self._limits.upper), position)

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Start the policy with the arm at rest at ``position``, shape (joint,) [rad], measured at ``stamp`` [ns]."""
        self._trust(stamp, position)
        self._tracker.reset(position)
        if self._lookahead is not None:
            self._lookahead.reset(position)
        self._started, self._approached = True, False
        self._latched, self._refused = None, ''
        self._decided = None
        self._stepped = stamp - self._period
        self._begin(stamp)

    def _trust(self, stamp: int, position: np.ndarray) -> None:
        """Accept a measured position regardless of earlier measurements."""
        self._measurements.anchor(stamp, position)
        self._newest, self._doubt, self._return = (stamp, position), '', None
        self._gives_in = False
        if self._guard is not None:
            self._guard.anchor(stamp, position)

    def stop(self, reason: str) -> None:
        """Brake, then hold until `start` or `resume`."""
        self._latched = reason

    def resume(self, now: int) -> str | None:
        """End a stop and continue from the last command at ``now`` [ns]; return None, or the reason for a refusal."""
        if self._doubt:
            return self._doubt
        if self._started and self._guard is not None and self._latched is not None:
            self._trust(*self._newest)  # the operator who resumes has seen the arm
        level, reason = self._measurements.judge(now) if self._started else ('stop', 'not started')
        if level in ('coast', 'stop'):
            return reason
        lag = np.abs(self._tracker.position - self._measurements.position)
        if (lag > self._limits.lag).any():
            return f'the arm is {lag[lag > self._limits.lag].max():.3g} rad from the command; start anew'
        self._latched = None
        self._begin(now)
        return None

    def observe(self, stamp: int, position: np.ndarray) -> None:
        """Process a measured position, shape (joint,) [rad], taken at ``stamp`` [ns].

        Measurements that are not finite or out of order are dropped. A stamp that is older than the last one by more
        than the ``max_age`` of `Freshness` means that time was reset: all earlier measurements are then discarded. With
        a guard, a measurement that is not finite holds the arm until a valid one arrives, and an implausible position
        stops the arm. Joints without measurement are assumed to be at their commanded positions.
        """
        if self._unmeasured is not None and self._started:
            position = np.where(self._unmeasured, self._tracker.position, position)
        if self._guard is not None and self._started:
            if not np.isfinite(position).all():
                joint = int((~np.isfinite(position)).argmax())
                self.distrust(f'joint {joint} is measured at {position[joint]} rad')
            else:
                position = self._guard.unwrapped(position)
                self._newest = stamp, position
                if fault := self._guard.judge(stamp, position):
                    self._latched = self._latched or fault
                    return
                self._doubt = ''
        if not self._measurements.observe(stamp, position):
            self._rewind(stamp)

    def distrust(self, reason: str) -> None:
        """Hold the arm until a valid measurement arrives, because the last one was invalid."""
        if self._guard is not None:
            self._doubt = reason

    def on_message(self, stream: str, stamp: int) -> None:
        """Record that a message of another stream arrived, with ``stamp`` [ns]."""
        if not self._measurements.on_message(stream, stamp):
            self._rewind(stamp)

    def on_enabling(self, held: bool, stamp: int) -> None:
        """Process a message of the enabling device that arrived at ``stamp`` [ns]; ignored without supervision."""
        if self._supervision is not None:
            self._supervision.device.on_message(held, stamp)

    def replace_policy(self, policy: Student, ood_rules: OodRules | None = None) -> None:
        """Use another policy of the same contract, and its OOD rules, from the next plan on."""
        self._source.replace(policy, ood_rules)

    def replace_routing(self, routing: Routing | Rules) -> None:
        """Use another routing from the next plan on."""
        self._source.routing = routing

    def follow(self, position: np.ndarray, places: slice = slice(None)) -> None:
        """Use a command of another node as the last command, in shadow mode.

        ``position`` contains the joints with indices ``places``, those of one controller; shape (joint,) [rad].
        """
        self._tracker.follow(position, places)

    def counters(self) -> Counters:
        """Return a snapshot of all counters."""
        measured = self._measurements
        return Counters(
            missed=self._plan_buffer.missed + self._outdated,
            late_steps=self._plan_follower.late_steps,
            rejected=self._rejected,
            resets=self._resets,
            out_of_order=measured.out_of_order,
            not_finite=measured.not_finite,
            clamps=self._tracker.clamps,
            ages=measured.ages(self._now),
            expert=self._expert,
            speed=self._plan_follower.speed,
            **self._source.counts(),
        )

    def plan(self) -> bool:
        """Make a plan if one is due, and return whether it was due; raises the errors of the policy."""
        return run_with(self._plan_buffer.planning(), self._source.experts)

    def planning(self) -> PolicyCoroutine[bool]:
        """Plan as `plan` does, as a coroutine: the caller queries the policy and sends its output."""
        return self._plan_buffer.planning()

    def advance(self, now: int) -> ControlOutput:
        """Plan if a plan is due, then return the output of `decide`; for use in one thread."""
        return run_with(self.advancing(now), self._source.experts)

    def advancing(self, now: int) -> PolicyCoroutine[ControlOutput]:
        """Advance as `advance` does, as a coroutine: the caller can query the policy for many arms at once."""
        if self._latched is None:
            self._note_tick(now, self._measurements.judge(now)[0])
            yield from self._plan_buffer.planning()
        return self.decide(now)

    def decide(self, now: int) -> ControlOutput:
        """Return the output for ``now`` [ns]; call once per control period.

        Never waits for a plan. A call within half a period of the previous one repeats the command (`repeats`), since a
        thread that woke up late must not speed up the arm. The output is `Hold` while measurements are too old or no
        plan is available. It is `Stop` before `start`, after `stop`, and after a policy output that is not finite.
        """
        if not self._started:
            return Stop(np.zeros(0), np.zeros(0), np.zeros(0), self._latched, moving=False)
        if now < self._now - self._freshness.max_age:
            self._measurements.forget()
            self._rewind(now)
        # By the commands themselves: joint states that set the time back are no gap between commands.
        gap = 0 if self._decided is None else now - self._decided
        self._decided, self.repeats = now, True
        if self._lookahead is not None and not self.is_lockstep:
            self._go_on(now)
        elif not self.is_lockstep and gap > longest_gap(self._period):
            # The process was suspended. Meanwhile the arm has come to rest at the newest command.
            self._tracker.reset(self._tracker.position)
            self._interrupt()
        output = self._decide(now)
        if self._lookahead is None:
            return output
        self._goes_on = isinstance(output, Command)
        stamp = now if self.is_lockstep else self._stepped
        return replace(output, window=self._lookahead.window(stamp, self._onward(copied=True)))

    def _interrupt(self) -> None:
        self._drop()
        if self._guard is not None:
            self._guard.pause()

    def _go_on(self, now: int) -> None:
        """Advance along the trajectory that was sent to the controller, after control steps were missed."""
        missed = (2 * (now - self._stepped) + self._period) // (2 * self._period) - 1
        if missed < 1:
            return
        for position in islice(self._onward(), missed):
            self._lookahead.note(position)
        if missed > self._lookahead.steps:
            self._lookahead.reset(self._tracker.position)
            self._tracker.reset(self._tracker.position)
            self._interrupt()
        self._stepped += missed * self._period

    def _onward(self, *, copied: bool = False) -> Iterator[np.ndarray]:
        """Yield the commands that follow without new messages: by the plan for the horizon, then the quickest stop.

        They are those of the loop itself, or of copies.
        """
        tracker, follower = self._tracker, self._plan_follower
        approach = self._return if self._return is not None or not self._goes_on else self._approach
        if copied:
            tracker, follower, approach = tracker.copy(), follower.copy(), None if approach is None else approach.copy()
        for _ in range(self._lookahead.steps if self._goes_on or approach is not None else 0):
            target = follower.next(self._period, self._source.speed, tracker) if approach is None else approach.next()
            if target is None:
                break
            yield tracker.step(target, self._measurements.position)
        while True:
            yield tracker.brake()
            if not tracker.moving:
                return

    def _decide(self, now: int) -> ControlOutput:
        """Decide, whatever happened between the ticks."""
        self._stepped += min(now - self._now, 0)  # set back a little, the clock must not keep the arm waiting
        self._now = now
        if self._latched is None:
            level, reason = self._measurements.judge(now)
            doubt = self._doubt or ('' if self._supervision is None else self._supervision.device.missing(now))
            if self._guard is not None and (doubt or level != 'fresh'):
                self._guard.pause()
            if doubt:
                self._drop()
                return self._rest(Hold, doubt)
            if level == 'stop' and not self._freshness.latched:
                self._drop()
                return self._rest(Hold, reason)
            self._latched = reason if level == 'stop' else None
            if self._guard is not None and level == 'fresh' and not self.is_lockstep:
                fault = self._guard.follow(now, self._tracker.position, *self._newest)
                if fault:
                    self._latched, self._gives_in = fault, True
            self._note_tick(now, level)
            self._take()
        if self._latched is not None:
            self._drop()
            return self._rest(Stop, self._latched)
        return self._follow(reason)

    def _follow(self, reason: str) -> ControlOutput:
        """Continue with the plan."""
        elapsed = self._now - self._stepped
        if self._approach is not None:
            return self._creep(elapsed, reason)
        plan_follower, tracker = self._plan_follower, self._tracker
        clamped = False
        if plan_follower.is_due(elapsed):
            passed = elapsed if self._lookahead is None or self.is_lockstep else self._period
            target = plan_follower.next(passed, self._source.speed, tracker)
            if target is None:
                return self._rest(Hold, self._refused or reason or 'no plan')
            tracker.step(target, self._measurements.position)
            self._note_step()
            clamped = tracker.clamped
        elif self.is_lockstep and (self._refused or self._first):
            return self._rest(Hold, self._refused or 'no plan')
        if not reason:
            reason = self._refused or (
                'the plan is late' if plan_follower.is_spent else self._source.remark or self._remark
            )
        return Command(tracker.position, tracker.velocity, tracker.acceleration, self._expert, clamped, reason)

    def _rest(self, kind: type[Hold] | type[Stop], reason: str) -> Hold | Stop:
        """Brake, then stay; an arm that did not follow is met where it is, so that it does not leap when released."""
        tracker = self._tracker
        if 2 * (self._now - self._stepped) >= self._period:
            if self._gives_in and kind is Stop and not tracker.moving and self._return is None:
                goal = self._measurements.position
                self._return = Approach(self._limits, self._seconds, tracker.position, goal, self._gate.speed)
            if self._return is None:
                tracker.brake()
            else:
                tracker.step(self._return.next(), self._measurements.position)
            self._note_step()
        return kind(tracker.position, tracker.velocity, tracker.acceleration, reason, tracker.moving)

    def _creep(self, elapsed: int, reason: str) -> ControlOutput:
        """Approach the start slowly, and begin the plan on arrival."""
        tracker = self._tracker
        if 2 * elapsed >= self._period:
            tracker.step(self._approach.next(), self._measurements.position)
            self._note_step()
            if self._approach.has_brought(tracker.position, tracker.velocity):
                self._begin(self._now)
        reason = reason or 'approaching the first waypoint'
        return Command(tracker.position, tracker.velocity, tracker.acceleration, self._expert, tracker.clamped, reason)

    def _note_step(self) -> None:
        """Note that there is another command. Those of trajectories are evenly spaced, whenever they are decided on."""
        if self._lookahead is not None:
            self._lookahead.note(self._tracker.position)
        smooth = self._lookahead is not None and not self.is_lockstep
        self.repeats = False
        self._stepped = self._stepped + self._period if smooth else self._now

    def _take(self) -> None:
        """Continue with a plan that has arrived, if it is permitted."""
        proposal = self._plan_buffer.take()
        if proposal is None:
            return
        if proposal.fault:
            self._latched = proposal.fault
            return
        self._refused = proposal.broken and f'plan refused: {proposal.broken}'
        if proposal.broken:
            self._rejected += 1
            if proposal.halts:
                self._drop()
            else:
                self._plan_buffer.void()
            return
        if self._first:
            distance = np.abs(proposal.steps[0] - self._tracker.position)
            if self._unmeasured is not None:
                distance[self._unmeasured] = 0.0
            if distance.max() > self._gate.threshold:
                self._meet_far_start(proposal, distance)
                return
            self._first = False
        self._expert, self._remark = proposal.expert, proposal.remark
        self._outdated += not self._plan_follower.accept(proposal, self._tracker)

    def _meet_far_start(self, proposal: Proposal, distance: np.ndarray) -> None:
        if self._gate.mode == 'refuse' or self._approached:
            self._latched = self._gate.complaint(distance)
            return
        self._approached = True
        here, goal = self._tracker.position, proposal.steps[0]
        if self._unmeasured is not None:
            goal = np.where(self._unmeasured, here, goal)
        self._approach = Approach(self._limits, self._seconds, here, goal, self._gate.speed)

    def _note_tick(self, now: int, level: str) -> None:
        """Store the values at a policy tick for the planner; no plan is made from values that are too old."""
        if level in ('fresh', 'warn') and self._approach is None and self._plan_follower.tick(now):
            follower, measured, commanded = self._plan_follower, self._measurements.position, self._tracker.position
            start, speed = follower.reference(self._tracker), follower.speed
            refused = self._plan_buffer.note(now, follower.time, measured, commanded, start, speed)
            self._refused = refused or self._refused

    def _begin(self, now: int) -> None:
        """Discard plans and history: the observation history starts now."""
        self._now = now
        self._approach: Approach | None = None
        self._first = True
        self._plan_buffer.begin()
        self._plan_follower.drop(now)

    def _drop(self) -> None:
        """Discard the rest of the plan, and request a new plan."""
        self._plan_buffer.void()
        self._plan_follower.drop(self._now)
        if self._plan_follower.is_gated_anew:
            self._approach, self._first, self._approached = None, True, False

    def _rewind(self, now: int) -> None:
        self._resets += 1
        self._stepped = now - self._period
        self._begin(now)


def _check_settles(contract: Contract, planner: Planner) -> None:
    """Refuse plans that end where the next one begins: at control rate the motion through them oscillates."""
    growth = settling(planner.steps, planner.replan_steps, planner.smoothing)
    if growth > _SETTLES:
        raise ConfigurationError(
            expected='chunks that reach at least two steps beyond the next plan where commands leave faster than plans',
            found=f'plans of {planner.steps} steps, made anew after {planner.replan_steps}; a disturbance of the '
            f'motion is multiplied by {growth:.2f} from plan to plan',
            remedy=f'learn {contract.name} with a prediction_horizon of at least {planner.replan_steps + 2}, lower '
            'replan_steps, raise coast_steps, or command at the policy rate',
        )
