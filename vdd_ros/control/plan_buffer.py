"""Exchange between the command thread and the planning thread: ticks in one direction, plans in the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from vdd_ros.control.control_output import PlanRecord
from vdd_ros.control.planner import Asking, Proposal, Tick
from vdd_ros.control.trajectory import State
from vdd_ros.policy.routing import Choice, Mixture

_UNPLANNED = 64
"""Policy ticks kept for a slow planner, in addition to those of one observation window."""


class Sample(Protocol):
    """Values of the streams at a tick; `vdd_ros.data.decode.live.Sample` is one."""

    values: Mapping[str, np.ndarray]
    """By feature, shape (width,)."""
    stale: Sequence[str]
    """Names of the features that are unknown."""


class Streams(Protocol):
    """Interface to the other streams; `vdd_ros.data.decode.live.LiveStreams` implements it."""

    def at(self, tick: int) -> Sample:
        """Return the values at a tick [ns]."""
        ...


class PlanSource(Protocol):
    """A source of plans: `control.planner.Planner` (a policy) or `control.playback.Playback` (an episode)."""

    replan_steps: int
    """Policy ticks from one plan to the next."""
    ask_steps: int
    """Policy ticks from one call of `proposing` to the next."""
    remark: str
    """Remark on the newest plan."""
    record: PlanRecord | None
    """The newest plan, if a policy made it."""
    choice: Choice | None
    """How the expert of the newest plan was chosen, if a policy made it."""
    speed: float
    """Speed of plans, 1 as planned."""

    def proposing(self, ticks: Sequence[Tick]) -> Asking[Proposal]:
        """Process the ticks since the last call, oldest first, and plan from the newest one."""
        ...

    def experts(self, window: np.ndarray) -> Mixture:
        """Answer the queries of `proposing`."""
        ...

    def watch(self) -> str:
        """Evaluate the newest proposal; return the reason if the arm should stop."""
        ...

    def counts(self) -> dict[str, Any]:
        """Return the entries of `Counters` about planning."""
        ...


class PlanBuffer:
    """Hands immutable ticks and plans between the two threads.

    Neither blocks; stale ones are recognised by serial number.
    """

    def __init__(self, source: PlanSource, span: int, streams: Streams | None = None) -> None:
        """Prepare the exchange for a source with observation windows of ``span`` ticks and some streams."""
        self._source, self._streams = source, streams
        self._ticks: deque[Tick] = deque(maxlen=span + _UNPLANNED)
        self._proposal: Proposal | None = None
        self._epoch = self._serial = self._since_plan = 0
        self._busy = False
        self.wants_plan = False
        """Whether a tick waits for a plan."""
        self.missed = 0
        """Ticks at which a plan was due while the previous one was still being computed."""

    def begin(self) -> None:
        """Start a new observation history; all earlier plans are void."""
        self._epoch += 1
        self._ticks.clear()
        self.void()

    def void(self) -> None:
        """Discard all plans, including one under computation; the next tick requests a plan."""
        self._serial += 1
        self._proposal = None
        self._since_plan = self._source.replan_steps
        self.wants_plan = False

    def note(self, stamp: int, time: float, measured: np.ndarray, commanded: np.ndarray, reference: State) -> str:
        """Store the values at a policy tick (see `Tick`). Return the reason if no plan can be made from them."""
        topics: Mapping[str, np.ndarray] = {}
        if self._streams is not None:
            sample = self._streams.at(stamp)
            if sample.stale:
                return f'nothing that is young enough of {", ".join(sample.stale)}'
            topics = sample.values
        self._ticks.append(Tick(self._epoch, self._serial, stamp, time, measured, commanded, reference, topics))
        self._since_plan += 1
        if self._since_plan >= self._source.ask_steps:
            self.missed += self.wants_plan or self._busy
            self._since_plan = 0
            self.wants_plan = True
        return ''

    def take(self) -> Proposal | None:
        """Return the plan that has arrived, once."""
        proposal, self._proposal = self._proposal, None
        return proposal if proposal is not None and proposal.tick.serial == self._serial else None

    def planning(self) -> Asking[bool]:
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
