"""Runs a control loop: ticks it, plans beside it, sends what it decides, and remembers how long everything took."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable

import numpy as np

from vdd_ros.control.control_loop import STALL, ControlLoop
from vdd_ros.control.control_output import Command, ControlOutput, Stop
from vdd_ros.nodes.pacing import Pacer, prioritise

_REMEMBERED = 2000
_HISTORY = 256
_REST_TICKS = 2000
"""Ticks within which any stop ends; a bound for the loop that waits for it, not a measure."""


class Commander:
    """One control loop at work, from `start` to `halt`.

    In simulated time the ticks are those joint states whose stamps reach the next tick, and plans are made at once:
    results depend on stamps alone, and lockstep works. In wall time a thread with absolute deadlines ticks, and another
    one plans. Whatever fails, the arm is told to brake, and goes on being told.
    """

    def __init__(
        self,
        loop: ControlLoop,
        send: Callable[[ControlOutput, int], None],
        *,
        period: int,
        policy_period: int,
        max_age: int,
        now: Callable[[], int],
        simulated: bool,
        priority: int = 0,
    ) -> None:
        """Take charge of a loop.

        Parameters
        ----------
        loop
            A loop that is not started.
        send
            Sends what was decided, or tells it, at a stamp [ns].
        period, policy_period
            Between two commands, and between two looks of the policy [ns].
        max_age
            Age of joint states over which simulated time ticks without them [ns].
        now
            The node's clock [ns].
        simulated
            Whether that clock is a simulation's.
        priority
            Of the thread that ticks in wall time, see `Pacer`; the one that plans gets one less.

        """
        self.loop = loop
        self.active = False
        """Whether it ticks."""
        self.outcome: ControlOutput | None = None
        """The newest one."""
        self.counts: Counter[str] = Counter()
        """Ticks by kind of outcome."""
        self.sent = 0
        """Outcomes sent."""
        self.durations = {name: deque(maxlen=_REMEMBERED) for name in ('decide', 'plan', 'age')}
        """What the newest ticks and plans took, and how old the joint state was that a command followed [s]."""
        self.fault = ''
        """What last went wrong inside, as a traceback."""
        self._send = send
        self._period, self._policy_period = period, policy_period
        self._max_age = max_age
        self._now = now
        self._simulated = simulated
        self._priority = priority
        self._lock = threading.Lock()
        self._pacer: Pacer | None = None
        self._thinker: threading.Thread | None = None
        self._wanted = threading.Event()
        self._resting = threading.Event()
        self._stamp = 0
        self._silent = False
        self._noted = 0
        self._answered: int | None = None
        self.history: deque[tuple[np.ndarray, np.ndarray]] = deque(maxlen=_HISTORY)
        """Joints as measured and as commanded at the newest policy ticks, oldest first."""
        self._measured = np.zeros(0)

    @property
    def pacer(self) -> Pacer | None:
        """The thread that ticks, if there is one."""
        return self._pacer

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Anchor the arm where it was measured, shape (joint,) [rad], at ``stamp`` [ns], and begin."""
        # What is there now stays: the garbage collector need not look through it again while the arm moves.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        with self._lock:
            self.loop.start(stamp, position)
            self._stamp = self._next_tick = stamp
            self._silent = False
            self._measured, self._noted = position, stamp - self._policy_period
            self.history.clear()
            self._resting.clear()
            self.active = True
        if self._simulated:
            self._tick(stamp)
            return
        self._thinker = threading.Thread(target=self._think, name='planner')
        self._thinker.start()
        self._pacer = Pacer(
            self._period / 1e9, self._on_deadline, patience=STALL / 1e9, priority=self._priority, name='commander'
        )
        self._pacer.start()

    def observe(self, stamp: int, position: np.ndarray) -> None:
        """Take in a joint state."""
        if not self.active:
            return
        with self._lock:
            self.loop.observe(stamp, position)
            self._stamp, self._measured = stamp, position
        if not self._simulated:
            return
        if stamp < self._next_tick - self._period - self._max_age:
            self._next_tick = stamp  # time was set back
        if stamp >= self._next_tick:
            self._tick(stamp)
        elif stamp == self._answered and not self._silent:  # published again: the answer did not arrive
            self._send(self.outcome, stamp)

    def notice_silence(self) -> None:
        """In simulated time, tick by the clock where it runs on without joint states: the arm is told to hold."""
        now = self._now()
        if self.active and self._simulated and now - self._next_tick > self._max_age:
            self._tick(now)

    def feed(self, take: Callable[[], None]) -> None:
        """Let streams take in a message while nothing looks at them."""
        with self._lock:
            take()

    def replace(self, change: Callable[[ControlLoop], None]) -> None:
        """Change the loop between two ticks."""
        with self._lock:
            change(self.loop)

    def follow(self, position: np.ndarray, places: slice = slice(None)) -> None:
        """Go on from what another commander has sent to the joints at some places, shape (joint,) [rad]."""
        with self._lock:
            self.loop.follow(position, places)

    def stop(self, reason: str) -> None:
        """Brake, then hold until `resume`."""
        with self._lock:
            self.loop.stop(reason)

    def give_way(self, reason: str) -> None:
        """Brake, then fall silent: somebody else commands the arm, and two would shake it."""
        self.stop(reason)
        self._silent = True

    def resume(self) -> str | None:
        """End a stop; return None, or why that is refused."""
        if not self.active:
            return 'the node is not active'
        if self._silent:
            return f'it has given way ({self.outcome.reason}); deactivate and activate it'
        with self._lock:
            return self.loop.resume(self._stamp if self._simulated else self._now())

    @property
    def advice(self) -> str:
        """How a stop is ended; empty where there is none, or none that waits for a person."""
        if not isinstance(self.outcome, Stop) or not self.active:
            return ''
        return 'deactivate and activate the node to go on' if self._silent else '~/resume goes on'

    def halt(self, reason: str, patience: float = 5.0) -> None:
        """Brake until the arm is at rest, or ``patience`` [s] is over, and tick no more."""
        if not self.active:
            return
        self._resting.clear()
        self.stop(reason)
        if self._pacer:
            self._resting.wait(patience)
            self._pacer.stop()
            self._ended()
        else:
            for _ in range(_REST_TICKS):
                self._tick(max(self._next_tick, self._stamp))
                if not self.outcome.moving:
                    break
        self.active = False
        gc.unfreeze()

    def _ended(self) -> None:
        self._pacer, thinker = None, self._thinker
        self._thinker = None
        self._wanted.set()
        thinker.join()

    def _on_deadline(self) -> None:
        self._tick(self._now())

    def _tick(self, now: int) -> None:
        began = time.perf_counter()
        with self._lock:
            before = self.loop.commanded
            try:
                # Without a planner beside it, the loop itself plans: in simulation, and where each command is a plan.
                outcome = self.loop.advance(now) if self._plans_itself else self.loop.decide(now)
            except Exception:  # noqa: BLE001 - whatever it is, the arm must go on being told to stay
                outcome = self._failed()
            wanted = self.loop.wants_plan
            if not 0 <= now - self._noted < self._policy_period:
                self.history.append((self._measured, before))
                self._noted = now
        self.outcome = outcome
        if wanted and not self._plans_itself:
            self._wanted.set()
        if not self._silent or outcome.moving:
            self._send(outcome, now)
            self.sent += 1
            self._answered = now
        self.durations['decide'].append(time.perf_counter() - began)
        self.counts[type(outcome).__name__.lower()] += 1
        if isinstance(outcome, Command):
            self.durations['age'].append((now - self._stamp) / 1e9)
        elif isinstance(outcome, Stop) and not outcome.moving:
            self._resting.set()
        self._next_tick += self._period * max(1, -(-(now - self._next_tick + 1) // self._period))

    @property
    def _plans_itself(self) -> bool:
        return self._simulated or self.loop.is_lockstep

    def _think(self) -> None:
        prioritise(max(self._priority - 1, 0))
        while self._wanted.wait() and self._thinker is not None:
            self._wanted.clear()
            began = time.perf_counter()
            try:
                planned = self.loop.plan()
            except Exception as error:  # noqa: BLE001 - the policy's own; it must not end the thread
                self.fault = traceback.format_exc()
                self.stop(f'the policy failed: {error}')
                continue
            if planned:
                self.durations['plan'].append(time.perf_counter() - began)

    def _failed(self) -> ControlOutput:
        self.fault = traceback.format_exc()
        reason = self.fault.strip().splitlines()[-1]
        self.loop.stop(reason)
        position = self.loop.commanded
        return Stop(position, np.zeros_like(position), np.zeros_like(position), reason, moving=False)
