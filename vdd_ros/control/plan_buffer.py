"""Exchange between the command thread and the planning thread: ticks in one direction, plans in the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from vdd_ros.common.errors import InterfaceError
from vdd_ros.control.control_output import PlanRecord
from vdd_ros.control.planner import PolicyCoroutine, Proposal, Tick
from vdd_ros.control.trajectory import State
from vdd_ros.policy.observation import AnyObservation, Pixels
from vdd_ros.policy.routing import Choice, Mixture

_UNPLANNED = 64
"""Policy ticks kept for a slow planner, in addition to those of one observation window."""


class Sample(Protocol):
    """Values of the streams at a tick; implemented by `vdd_ros.data.decode.live.Sample`."""

    values: Mapping[str, np.ndarray | Pixels]
    """Values by feature, shape (width,); images may not be decoded yet."""
    stale: Sequence[str]
    """Names of the features without a recent value."""


class Streams(Protocol):
    """Interface to the topic features of an observation; `vdd_ros.data.decode.live.LiveStreams` implements it."""

    def at(self, tick: int) -> Sample:
        """Return the values at a tick [ns]; called at every policy tick."""
        ...


class PlanSource(Protocol):
    """A source of plans: `control.planner.Planner` (a policy) or `control.playback.Playback` (an episode)."""

    replan_steps: int
    """Policy ticks from one plan to the next."""
    ask_steps: int
    """Policy ticks from one call of `proposing` to the next."""
    remark: str
    """Remark on the last plan."""
    record: PlanRecord | None
    """The last plan, if a policy made it."""
    choice: Choice | None
    """The choice of the expert of the last plan, if a policy made it."""

    @property
    def speed(self) -> float:
        """Speed of plans, 1 as planned."""
        ...

    def proposing(self, ticks: Sequence[Tick]) -> PolicyCoroutine[Proposal]:
        """Process the ticks since the last call, oldest first, and plan from the newest one."""
        ...

    def experts(self, window: AnyObservation) -> Mixture:
        """Return the experts for the window of a query of `proposing`."""
        ...

    def watch(self) -> str:
        """Evaluate the last proposal; return the reason if the arm should stop, otherwise an empty text.

        Called after `proposing`, when the proposal has already been handed over.
        """
        ...

    def counts(self) -> dict[str, Any]:
        """Return the entries of `Counters` about planning."""
        ...


class PlanBuffer:
    """Passes immutable ticks to the planning thread, and plans back to the command thread.

    Neither thread blocks. Serial numbers identify outdated ticks and plans.
    """

    def __init__(self, source: PlanSource, span: int, streams: Streams | None = None) -> None:
        """Prepare the buffer for a plan source with observation windows of ``span`` ticks, and for topic features."""
        self._source, self._streams = source, streams
        self._ticks: deque[Tick] = deque(maxlen=span + _UNPLANNED)
        self._proposal: Proposal | None = None
        self._epoch = self._serial = self._since_plan = 0
        self._busy = False
        self.wants_plan = False
        """Whether a tick has requested a plan."""
        self.missed = 0
        """Number of ticks at which a plan was due while the previous one was still being computed."""

    def begin(self) -> None:
        """Start a new observation history, and discard all earlier plans."""
        self._epoch += 1
        self._ticks.clear()
        self.void()

    def void(self) -> None:
        """Discard all plans, including one under computation; the next tick requests a plan."""
        self._serial += 1
        self._proposal = None
        self._since_plan = self._source.replan_steps
        self.wants_plan = False

    def note(
        self, stamp: int, time: float, measured: np.ndarray, commanded: np.ndarray, reference: State, speed: float = 1.0
    ) -> str:
        """Store the values at a policy tick (see `Tick`); return why no plan can be made, or an empty text."""
        topics: Mapping[str, np.ndarray | Pixels] = {}
        if self._streams is not None:
            sample = self._streams.at(stamp)
            if sample.stale:
                return f'no recent message of {", ".join(sample.stale)}'
            topics = sample.values
        tick = Tick(self._epoch, self._serial, stamp, time, measured, commanded, reference, topics, speed)
        self._ticks.append(tick)
        self._since_plan += 1
        if self._since_plan >= self._source.ask_steps:
            self.missed += self.wants_plan or self._busy
            self._since_plan = 0
            self.wants_plan = True
        return ''

    def trying(self, tick: Tick) -> PolicyCoroutine[Proposal]:
        """Return the proposal for a single tick before the start; a later `begin` discards its history.

        Raises
        ------
        InterfaceError
            A stream is missing, or no plan can be made.

        """
        self.begin()
        refused = self.note(tick.stamp, tick.time, tick.measured, tick.commanded, tick.reference)
        yield from self.planning()
        proposal = self.take()
        fault = refused or proposal.fault or proposal.broken
        if fault:
            raise InterfaceError(
                expected='a first plan, at which the commands start', found=fault, remedy='correct that, then activate'
            )
        return proposal

    def take(self) -> Proposal | None:
        """Return the plan that has arrived since the last call; None if none has arrived."""
        proposal, self._proposal = self._proposal, None
        return proposal if proposal is not None and proposal.tick.serial == self._serial else None

    def planning(self) -> PolicyCoroutine[bool]:
        """Plan from the newest tick if it requests a plan; return whether it did."""
        if not self.wants_plan:
            return False
        self._busy, self.wants_plan = True, False
        try:
            ticks = []
            with suppress(IndexError):  # the other thread may clear them meanwhile
                while True:
                    ticks.append(self._ticks.popleft())
            if ticks:
                self._proposal = yield from self._source.proposing(ticks)
                # Evaluated after the hand-over: the score averages several plans, and the arm need not wait for it.
                if fault := self._source.watch():
                    self._proposal = Proposal.faulty(ticks[-1], fault)
            return bool(ticks)
        finally:
            self._busy = False
