"""What passes between the thread that commands and the thread that plans: ticks one way, plans the other."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Protocol

import numpy as np

from vdd_ros.common.errors import InterfaceError
from vdd_ros.control.control_output import PlanRecord
from vdd_ros.control.planner import Asking, Proposal, Tick
from vdd_ros.control.trajectory import State
from vdd_ros.policy.routing import Choice, Mixture

_UNPLANNED = 64
"""Policy ticks that a slow planner still learns of, beyond those that it sees at once."""


class Sample(Protocol):
    """What streams say at a tick; `vdd_ros.data.decode.live.Sample` is one."""

    values: Mapping[str, np.ndarray]
    """By feature, shape (width,)."""
    stale: Sequence[str]
    """The features that are not known."""


class Streams(Protocol):
    """What the loop needs of the other streams; `vdd_ros.data.decode.live.LiveStreams` is one."""

    def at(self, tick: int) -> Sample:
        """Return what is known at a tick [ns]."""
        ...


class PlanSource(Protocol):
    """Where plans come from: `control.planner.Planner` asks a policy, `control.playback.Playback` has an episode."""

    replan_steps: int
    """Policy ticks from one plan to the next."""
    ask_steps: int
    """Policy ticks from one call of `proposing` to the next."""
    remark: str
    """What is special about the newest plan."""
    record: PlanRecord | None
    """The newest plan, if it is of a policy."""
    choice: Choice | None
    """How the expert of the newest plan was chosen, if it is of a policy."""
    speed: float
    """How fast plans should be carried out, 1 for as planned."""

    def proposing(self, ticks: Sequence[Tick]) -> Asking[Proposal]:
        """Take in the ticks since the last call, oldest first, and answer the newest one."""
        ...

    def experts(self, window: np.ndarray) -> Mixture:
        """Answer the questions of `proposing`."""
        ...

    def watch(self) -> str:
        """Judge the newest proposal; say why the arm should stop, if it should."""
        ...

    def counts(self) -> dict[str, Any]:
        """Return what `Counters` has of planning."""
        ...


class PlanBuffer:
    """Neither side waits for the other: each hands over whole values, and what is outdated is known by its number."""

    def __init__(self, source: PlanSource, span: int, streams: Streams | None = None) -> None:
        """Serve a source whose observation reaches ``span`` ticks back, and takes in some streams."""
        self._source, self._streams = source, streams
        self._ticks: deque[Tick] = deque(maxlen=span + _UNPLANNED)
        self._proposal: Proposal | None = None
        self._epoch = self._serial = self._since_plan = 0
        self._busy = False
        self.wants_plan = False
        """Whether a tick asks for a plan."""
        self.missed = 0
        """Ticks that asked for a plan while the one before was still being made."""

    def begin(self) -> None:
        """Begin a new observation history; all earlier plans are void."""
        self._epoch += 1
        self._ticks.clear()
        self.void()

    def void(self) -> None:
        """Void what is planned or being planned; the next tick asks for a plan."""
        self._serial += 1
        self._proposal = None
        self._since_plan = self._source.replan_steps
        self.wants_plan = False

    def note(self, stamp: int, time: float, measured: np.ndarray, commanded: np.ndarray, reference: State) -> str:
        """Write down what is known at a policy tick: see `Tick`. Return why it cannot be planned from, if so."""
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

    def trying(self, tick: Tick) -> Asking[Proposal]:
        """Return what is proposed at a tick before the start, by a window of it alone; `begin` voids it.

        Raises
        ------
        InterfaceError
            A stream is not known yet, or nothing can be proposed.

        """
        self.begin()
        refused = self.note(tick.stamp, tick.time, tick.measured, tick.commanded, tick.reference)
        yield from self.planning()
        proposal = self.take()
        fault = refused or proposal.fault or proposal.broken
        if fault:
            raise InterfaceError(
                expected='a plan that says where the commands begin', found=fault, remedy='mend that, then activate'
            )
        return proposal

    def take(self) -> Proposal | None:
        """Return the plan that has arrived, once."""
        proposal, self._proposal = self._proposal, None
        return proposal if proposal is not None and proposal.tick.serial == self._serial else None

    def planning(self) -> Asking[bool]:
        """Answer the newest tick, if it asks for a plan; return whether it did."""
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
                # Only then judged: that goes by several plans, and the arm need not wait for it.
                if fault := self._source.watch():
                    self._proposal = Proposal.faulty(ticks[-1], fault)
            return bool(ticks)
        finally:
            self._busy = False
