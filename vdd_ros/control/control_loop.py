"""The control loop: what stands between a network and a motor. It is handed stamps and never reads a clock."""

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
from vdd_ros.control.planner import Asking, Planner, Proposal, Student, Tick, answered
from vdd_ros.control.policy_interface import Kinematics
from vdd_ros.control.rules import Rules
from vdd_ros.control.start_gate import Approach, StartGate
from vdd_ros.control.tracker import Tracker
from vdd_ros.control.trajectory import State, settling
from vdd_ros.policy.routing import Choice, Routing

_SETTLES = 0.95
"""From plan to plan a disturbance of the motion must shrink at least by this factor."""

STALL = 20_000_000
"""A gap between two commands after which the arm counts as at rest [ns]; libfranka stops an arm after as long a one."""


def longest_gap(period: int) -> int:
    """Return how long commands that leave every ``period`` [ns] may be absent before the arm counts as at rest [ns]."""
    return max(STALL, 5 * period // 2)


class ControlLoop:
    """Answers every call of `decide` with something that is safe to send, while plans are made beside it.

    All methods but `plan` are cheap and meant for one thread, or several under one lock. `plan` takes as long as the
    policy does; it may run in a thread of its own, without that lock.

    If commands leave at the policy rate (*lockstep*), each is exactly a waypoint and `advance` plans before it decides.
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
    ) -> None:
        """Assemble a loop that is not started.

        Parameters
        ----------
        contract, policy
            What the policy sees and does, and the policy; None where plans come from another source.
        kinematics
            For contracts in tool space; used by `plan` alone.
        limits, freshness, routing, execution, start_gate, ood_rules
            The rules. Without `ood_rules` the arm neither slows down nor stops for what the policy has not seen.
        generator
            Draws experts, and their noise; a policy needs one.
        control_period
            Time between commands [ns]; None: the policy period, which is lockstep.
        streams
            Features that have topics of their own: while one is not known, no plan is made.
        source, pursuit
            Where plans come from, and how they are carried out; None: from the policy, along a smooth motion.
        guard
            Stops the arm if it is measured where it cannot be, or does not follow; None: every measurement is trusted.
        horizon
            For a trajectory controller: each output has a `CommandWindow` that follows the plan for so long [s], then
            stops. 0 for a position controller.

        Raises
        ------
        ConfigurationError
            Commands leave faster than plans, and chunks are too short for a motion that settles.

        """
        self._contract = contract
        self._period = contract.period if control_period is None else control_period
        self.is_lockstep = self._period >= contract.period
        """Whether a command leaves for each waypoint."""
        self._seconds = self._period / NANOSECONDS
        self._limits, self._freshness, self._gate = limits, freshness, start_gate
        if source is None:
            rules = {'limits': limits, 'routing': routing, 'execution': execution, 'ood_rules': ood_rules}
            source = Planner(contract, policy, kinematics, **rules, generator=generator, lockstep=self.is_lockstep)
            if not self.is_lockstep:
                _check_settles(contract, source)
        self._source = source
        self._tracker = Tracker(limits, self._seconds)
        if plan_follower is None:
            blend = execution.blend * contract.period / NANOSECONDS
            lockstep = self.is_lockstep
            plan_follower = (
                LockstepFollower(contract.period, execution.speed)
                if lockstep
                else InterpolatingFollower(self._period, contract.period, blend)
            )
        self._plan_follower = plan_follower
        self._measurements = Measurements(freshness)
        self._guard, self._newest, self._doubt = guard, (0, np.zeros(0)), ''
        measured = contract.measured_joints
        self._unmeasured = None if measured.all() else ~measured
        self._gives_in, self._return = False, None
        self._lookahead = Lookahead(self._period, horizon, lockstep=self.is_lockstep) if horizon else None
        self._plan_buffer = PlanBuffer(self._source, contract.span, streams)
        self._started = self._approached = False
        self._decided: int | None = None
        """When the newest command was decided on [ns]."""
        self._latched: str | None = 'not started'
        self._refused = self._remark = ''
        self._goes_on = False
        """Whether the newest output follows the plan."""
        self._expert, self._stepped, self._outdated, self._rejected, self._resets = -1, 0, 0, 0, 0
        self._begin(0)

    @property
    def commanded(self) -> np.ndarray:
        """The newest command, shape (joint,) [rad]; empty before `start`."""
        return self._tracker.position if self._started else np.zeros(0)

    @property
    def moving(self) -> bool:
        """Whether the commands are not at rest."""
        return self._tracker.moving

    @property
    def wants_plan(self) -> bool:
        """Whether it is time to call `plan`."""
        return self._plan_buffer.wants_plan

    @property
    def last_plan(self) -> PlanRecord | None:
        """The newest plan."""
        return self._source.record

    @property
    def routing(self) -> Routing | Rules:
        """How experts are chosen; only where a policy plans."""
        return self._source.routing

    @property
    def choice(self) -> Choice | None:
        """How the expert of the newest plan was chosen; None before the first plan, and where no policy plans."""
        return self._source.choice

    def placed(self, stamp: int, position: np.ndarray) -> np.ndarray:
        """Return where to start, shape (joint,) [rad], from a position of ``stamp`` [ns] with NaN where none is known.

        Unknown may be where a further controller is whose joints nobody measures. It begins where the first plan wants
        it to be, which says so if the mode of its action is `absolute`, and the policy does not observe its command.

        Raises
        ------
        InterfaceError
            The first plan depends on it, or cannot be made.

        """
        unknown = np.isnan(position)
        if not unknown.any():
            return position
        for controller in self._contract.controllers[1:]:
            mode = self._contract.mode_of(controller.reading)
            leads_on = mode != 'absolute' or self._contract.observes(controller)
            if unknown[controller.places].any() and (controller.measured or leads_on):
                raise InterfaceError(
                    expected=f'where {", ".join(controller.joints)} is, which the policy goes on from',
                    found=f'no command on {controller.topic} yet, and nothing measures it',
                    remedy='command it once before the activation; or name its `joints` in the contract, which joint '
                    'states then measure, and learn anew',
                )
        known = np.where(unknown, 0.0, position)
        still = np.zeros(len(known))
        tick = Tick(0, 0, stamp, 0.0, known, known, State(known, still, still))
        first = answered(self._plan_buffer.trying(tick), self._source.experts).steps[0]
        return np.where(unknown, np.clip(first, self._limits.lower, self._limits.upper), position)

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Anchor the arm at its measured position, shape (joint,) [rad], and let the policy act from ``stamp`` [ns]."""
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
        """Take a measured position for true, whatever came before."""
        self._measurements.anchor(stamp, position)
        self._newest, self._doubt, self._return = (stamp, position), '', None
        self._gives_in = False
        if self._guard is not None:
            self._guard.anchor(stamp, position)

    def stop(self, reason: str) -> None:
        """Brake, then hold until `start` or `resume`."""
        self._latched = reason

    def resume(self, now: int) -> str | None:
        """End a stop: go on from the present command at ``now`` [ns]. Return None, or why that is refused."""
        if self._doubt:
            return self._doubt
        if self._started and self._guard is not None and self._latched is not None:
            self._trust(*self._newest)  # whoever resumes has seen where the arm is
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
        """Take in a measured position, shape (joint,) [rad], of ``stamp`` [ns].

        Not taken in is what is not finite, and what comes out of order. A stamp that is older than the newest by more
        than the freshness rule's ``max_age`` says that time has been set back: everything seen before is void. With a
        guard, what is not finite holds the arm until a sound measurement comes, and a position where it cannot be stops
        it. Of joints that nobody measures nothing is taken in: they count as where they are commanded to be.
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
        """Hold the arm until a sound measurement comes: the newest one was none."""
        if self._guard is not None:
            self._doubt = reason

    def hear(self, stream: str, stamp: int) -> None:
        """Note that another stream was heard, with ``stamp`` [ns]."""
        if not self._measurements.hear(stream, stamp):
            self._rewind(stamp)

    def replace_policy(self, policy: Student, ood_rules: OodRules | None = None) -> None:
        """Plan by another policy of the same contract, and by its thresholds, from the next plan on."""
        self._source.replace(policy, ood_rules)

    def replace_routing(self, routing: Routing | Rules) -> None:
        """Choose experts by other rules from the next plan on."""
        self._source.routing = routing

    def follow(self, position: np.ndarray, places: slice = slice(None)) -> None:
        """In the shadow of another commander: take what it sent to one controller for the newest command.

        Shape (joint,) [rad], of those joints that are at ``places``.
        """
        self._tracker.follow(position, places)

    def counters(self) -> Counters:
        """Return what was counted so far."""
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
        """Make a plan if one is wanted; return whether it was. Raises what the policy raises."""
        return answered(self._plan_buffer.planning(), self._source.experts)

    def planning(self) -> Asking[bool]:
        """Do as `plan` does, but let the caller query the policy, and deliver its answer when it likes."""
        return self._plan_buffer.planning()

    def advance(self, now: int) -> ControlOutput:
        """Plan if it is time to, then decide: all in one thread."""
        return answered(self.advancing(now), self._source.experts)

    def advancing(self, now: int) -> Asking[ControlOutput]:
        """Do as `advance` does, but let the caller ask the policy: about the windows of many arms at once."""
        if self._latched is None:
            self._note_tick(now, self._measurements.judge(now)[0])
            yield from self._plan_buffer.planning()
        return self.decide(now)

    def decide(self, now: int) -> ControlOutput:
        """Return what to send at ``now`` [ns]; to be called once for each control period, and always sent.

        Never waits for a plan. Called again before half a period has passed, it repeats the command: a thread that woke
        up late must not hurry the arm. `Hold` while measurements are too old or no plan is there; `Stop` before
        `start`, after `stop`, and when the policy answers with what is not finite.
        """
        if not self._started:
            return Stop(np.zeros(0), np.zeros(0), np.zeros(0), self._latched, moving=False)
        if now < self._now - self._freshness.max_age:
            self._measurements.forget()
            self._rewind(now)
        # By the commands themselves: joint states that set the time back are no gap between commands.
        gap = 0 if self._decided is None else now - self._decided
        self._decided = now
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
        """Follow the arm along the trajectory that it was sent, where ticks have not come in time."""
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
        """Yield the commands that follow if nothing is heard: by the plan for the horizon, then the quickest stop.

        They are those of the loop itself, or of copies.
        """
        tracker, follower = self._tracker, self._plan_follower
        way = self._return if self._return is not None or not self._goes_on else self._approach
        if copied:
            tracker, follower, way = tracker.copy(), follower.copy(), None if way is None else way.copy()
        for _ in range(self._lookahead.steps if self._goes_on or way is not None else 0):
            target = follower.next(self._period, self._source.speed, tracker) if way is None else way.next()
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
            if self._guard is not None and (self._doubt or level != 'fresh'):
                self._guard.pause()
            if self._doubt:
                self._drop()
                return self._rest(Hold, self._doubt)
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
        """Go on by the plan."""
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
        """Approach the start slowly; once there, begin."""
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
        self._stepped = self._stepped + self._period if smooth else self._now

    def _take(self) -> None:
        """Go on by a plan that has arrived, if it may be."""
        proposal = self._plan_buffer.take()
        if proposal is None:
            return
        if proposal.fault:
            self._latched = proposal.fault
            return
        self._refused = proposal.broken and f'plan refused: {proposal.broken}'
        if proposal.broken:
            self._rejected += 1
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
        """Write down what is known at a policy tick, for the planner; what is too old is not planned from."""
        if level in ('fresh', 'warn') and self._approach is None and self._plan_follower.tick(now):
            plan_follower, measured, commanded = (
                self._plan_follower,
                self._measurements.position,
                self._tracker.position,
            )
            start = plan_follower.reference(self._tracker)
            self._refused = self._plan_buffer.note(now, plan_follower.time, measured, commanded, start) or self._refused

    def _begin(self, now: int) -> None:
        """Forget plans and history: what the policy sees begins now."""
        self._now = now
        self._approach: Approach | None = None
        self._first = True
        self._plan_buffer.begin()
        self._plan_follower.drop(now)

    def _drop(self) -> None:
        """Void what is left of the plan, and plan anew as soon as possible."""
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
