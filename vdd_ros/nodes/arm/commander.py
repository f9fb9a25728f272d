"""Runs a control loop: ticks, planning in parallel, sending of outputs, and timing statistics."""

from __future__ import annotations

import gc
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from vdd_ros.control.control_loop import STALL, ControlLoop
from vdd_ros.control.control_output import Command, ControlOutput, Stop
from vdd_ros.nodes.pacing import Pacer, prioritise

_REMEMBERED = 2000
_HISTORY = 256
_STOPS = 256
_REST_TICKS = 2000
"""Maximum number of control steps of a stop; an upper bound for the loop that waits for its end."""
_SPACING = 0.6
"""Minimum time between two commands, as a share of a period. It is above the 0.5 within which the loop repeats a
command."""


class StopEvent(NamedTuple):
    """The reason for which a latched stop began, and whether it was requested."""

    reason: str
    requested: bool
    """Whether a person or a lifecycle transition requested it."""


class Commander:
    """One running control loop, from `start` to `halt`.

    In simulated time, a control step is executed when the stamp of a joint state reaches the next deadline, and plans
    are computed synchronously. Results then depend only on stamps, and lockstep works. In wall time, a thread with
    absolute deadlines executes the control steps, and another thread plans. After any error, the commander continues to
    send commands that brake the arm.
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
        """Prepare to run a control loop.

        Parameters
        ----------
        loop
            A loop that is not started.
        send
            Called after every control step with its output and stamp [ns], in the thread that executed the step; sends
            or reports the output. Not called for a step that repeats a command, nor at rest after `give_way`.
        period, policy_period
            Control period and policy period [ns].
        max_age
            Age of joint states above which control steps in simulated time are executed without them [ns].
        now
            Returns the time of the node's clock [ns].
        simulated
            Whether the node's clock is simulated time.
        priority
            Priority of the command thread in wall time, see `Pacer`. The planning thread has a priority lower by one.

        """
        self.loop = loop
        self.active = False
        """Whether the loop is running."""
        self.outcome: ControlOutput | None = None
        """The last output."""
        self.counts: Counter[str] = Counter()
        """Number of control steps, by kind of output."""
        self.sent = 0
        """Number of outputs sent."""
        self.durations = {name: deque(maxlen=_REMEMBERED) for name in ('decide', 'plan', 'age')}
        """Durations of the last control steps and plans, and ages of the joint states used for the last commands
        [s]."""
        self.stops: deque[StopEvent] = deque(maxlen=_STOPS)
        """The last stops, oldest first; stops are removed when they are evaluated."""
        self.fault = ''
        """The last internal error, as a traceback."""
        self._barred = self._requested = ''
        self._stopped = False
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
        """Measured and commanded joint positions at the last policy ticks, oldest first."""
        self._measured = np.zeros(0)

    @property
    def pacer(self) -> Pacer | None:
        """The command thread while the commander runs in wall time.

        None in simulated time, where joint states trigger the control steps, and while the commander is not running.
        """
        return self._pacer

    def start(self, stamp: int, position: np.ndarray) -> None:
        """Start at the measured position, shape (joint,) [rad], at ``stamp`` [ns]."""
        # Freeze the existing objects, so that the garbage collector does not scan them while the arm moves.
        gc.unfreeze()
        gc.collect()
        gc.freeze()
        with self._lock:
            self.loop.start(stamp, position)
            self._stamp = self._next_tick = stamp
            self._silent = False
            self._barred = self._requested = ''
            self._stopped = False
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
            self._period / 1e9,
            self._on_deadline,
            spacing=_SPACING * self._period / 1e9,
            patience=STALL / 1e9,
            priority=self._priority,
            name='commander',
        )
        self._pacer.start()

    def observe(self, stamp: int, position: np.ndarray) -> None:
        """Process a joint state: measured positions, shape (joint,) [rad], at ``stamp`` [ns]."""
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
        elif stamp == self._answered and not self._silent:  # published again because the command did not arrive
            self._send(self.outcome, stamp)

    def notice_silence(self) -> None:
        """In simulated time, execute control steps by the clock if joint states are missing, so the arm holds."""
        now = self._now()
        if self.active and self._simulated and now - self._next_tick > self._max_age:
            self._tick(now)

    def feed(self, take: Callable[[], None]) -> None:
        """Process messages of topic features between two control steps, by calling ``take``."""
        with self._lock:
            take()

    def replace(self, change: Callable[[ControlLoop], None]) -> None:
        """Change the loop between two control steps, by calling ``change``."""
        with self._lock:
            change(self.loop)

    def follow(self, position: np.ndarray, places: slice = slice(None)) -> None:
        """Continue from a command of another node to the joints with indices ``places``, shape (joint,) [rad]."""
        with self._lock:
            self.loop.follow(position, places)

    def stop(self, reason: str, *, requested: bool = False) -> None:
        """Brake, then hold until `resume`; ``requested`` if a person or a lifecycle transition causes the stop."""
        with self._lock:
            if requested:
                self._requested = reason
            self.loop.stop(reason)

    def bar(self, reason: str) -> None:
        """Brake, then hold until `start`, because the operation is no longer permitted."""
        self._barred = reason
        self.stop(reason, requested=True)

    def give_way(self, reason: str) -> None:
        """Brake, then stop sending, because another node commands the arm."""
        self.stop(reason)
        self._silent = True

    def resume(self) -> str | None:
        """End a stop; return None, or the reason for a refusal."""
        if not self.active:
            return 'the node is not active'
        if self._silent:
            return f'it has given way ({self.outcome.reason}); deactivate and activate it'
        if self._barred:
            return f'{self._barred}; deactivate, clean up and configure the node'
        with self._lock:
            return self.loop.resume(self._stamp if self._simulated else self._now())

    @property
    def advice(self) -> str:
        """Instruction for ending the present stop; empty without a latched stop."""
        if not isinstance(self.outcome, Stop) or not self.active:
            return ''
        if self._barred:
            return 'deactivate, clean up and configure the node to go on'
        return 'deactivate and activate the node to go on' if self._silent else '~/resume goes on'

    def halt(self, reason: str, patience: float = 5.0) -> None:
        """Brake until the arm is at rest, or for at most ``patience`` [s], then end the control steps."""
        if not self.active:
            return
        self._resting.clear()
        self.stop(reason, requested=True)
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
                # Without a planner thread, the loop itself plans: in simulation, and if each command is a plan.
                outcome = self.loop.advance(now) if self._plans_itself else self.loop.decide(now)
                # Less than half a period after the command before: the arm has its command.
                repeats = self.loop.repeats and not self._plans_itself
            except Exception:  # noqa: BLE001 - after any error, commands must still be sent
                outcome, repeats = self._failed(), False
            wanted = self.loop.wants_plan
            if not 0 <= now - self._noted < self._policy_period:
                self.history.append((self._measured, before))
                self._noted = now
        if (stopped := isinstance(outcome, Stop)) and not self._stopped:
            self.stops.append(StopEvent(outcome.reason, outcome.reason == self._requested))
        self.outcome, self._stopped = outcome, stopped
        if wanted and not self._plans_itself:
            self._wanted.set()
        if not repeats and (not self._silent or outcome.moving):
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
            except Exception as error:  # noqa: BLE001 - errors of the policy must not end the thread
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
