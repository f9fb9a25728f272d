"""The simulated arm in the time of the bridge: chunks of physics, episodes, and a clock that never goes back."""

from __future__ import annotations

import numpy as np

from vdd_ros.contract import NANOSECONDS
from vdd_ros.nodes.messages import EpisodeEvent
from vdd_ros.sim.simulation import Simulation
from vdd_ros.sim.tasks import Task


class World:
    """One task on one simulated arm, advanced chunk by chunk; a policy period is a whole number of chunks."""

    def __init__(self, task: Task, simulation: Simulation, state_rate: float) -> None:
        """Put the arm at the task's start, with no episode running.

        Parameters
        ----------
        task, simulation
            What to do, and the arm that does it.
        state_rate
            How often a state is wanted [Hz]; rounded so that a whole number of them fits the policy period.

        """
        self._task = task
        self._simulation = simulation
        self.chunks = max(1, round(task.period * state_rate / NANOSECONDS))
        """States per policy period."""
        self._chunk = 0
        self._offset = 0
        self.stamp = 0
        """Time of the simulation [ns]; the clock of everybody. Grows for ever, over resets too."""
        self.index = -1
        """Number of the episode that runs or ran last."""
        self.steps = 0
        """Policy periods begun in this episode."""
        self.running = False
        """Whether an episode runs."""
        self._rewind()

    @property
    def chunk_duration(self) -> float:
        """Mean duration of a chunk [s]."""
        return self._task.period / self.chunks / NANOSECONDS

    @property
    def at_boundary(self) -> bool:
        """Whether a policy period has just ended."""
        return self._chunk == 0

    def reset(self) -> list[EpisodeEvent]:
        """Bring the arm back to the start and begin an episode; return what this ends and starts."""
        events = [self._end('aborted')] if self.running else []
        self._rewind()
        self.index += 1
        self.steps = 0
        self.running = True
        return [*events, EpisodeEvent(self.stamp, 'start', self.index)]

    def command(self, position: np.ndarray) -> None:
        """Set the servos' goal, shape (joint,) [rad]."""
        self._simulation.set_command(position)

    def advance(self) -> EpisodeEvent | None:
        """Simulate one chunk; return the end of the episode if this was it."""
        period, chunk = self._task.period, self._chunk
        if self.running and self.at_boundary:
            self.steps += 1
        # Differences of rounded boundaries: no rounding adds up, and the last chunk ends exactly with the period.
        self._simulation.step(period * (chunk + 1) // self.chunks - period * chunk // self.chunks)
        self._chunk = (chunk + 1) % self.chunks
        self.stamp = self._offset + self._simulation.stamp
        verdict = self._referee.judge() if self.running else None
        return self._end(verdict) if verdict else None

    def _end(self, outcome: str) -> EpisodeEvent:
        self.running = False
        return EpisodeEvent(self.stamp, 'end', self.index, outcome, self._referee.way, self.steps)

    def _rewind(self) -> None:
        """Start over one period later than now: two states never share a stamp, and no clock jumps back."""
        self._simulation.reset(self._task.start)
        self._referee = self._task.new_referee(self._simulation)
        self._chunk = 0
        self._offset = self.stamp + self._task.period - self._simulation.stamp
        self.stamp += self._task.period
