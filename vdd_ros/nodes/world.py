"""The simulated arm in the time of the bridge: chunks of physics, episodes, and a clock that never goes back."""

from __future__ import annotations

import numpy as np

from vdd_ros.contract import NANOSECONDS
from vdd_ros.nodes.messages import EpisodeEvent, Outcome
from vdd_ros.sim.tasks import Task


class World:
    """One task on one simulated arm, advanced chunk by chunk; a policy period is a whole number of chunks."""

    def __init__(self, task: Task, state_rate: float) -> None:
        """Put the arm at the task's start, with no episode running.

        Parameters
        ----------
        task
            What to do, and in which scene.
        state_rate
            How often a state is wanted [Hz]; rounded so that a whole number of them fits the policy period, each of a
            whole number of physics steps.

        """
        self._task = task
        self.simulation = task.simulation()
        """The scene; read it between the calls of `advance`."""
        self._substeps = max(1, task.period // self.simulation.timestep)
        self.chunks = min(max(1, round(task.period * state_rate / NANOSECONDS)), self._substeps)
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
        self.simulation.set_command(position)

    def advance(self) -> EpisodeEvent | None:
        """Simulate one chunk; return the end of the episode if this was it."""
        if self.running and self.at_boundary:
            self.steps += 1
        self.simulation.step(self._boundary(self._chunk + 1) - self._boundary(self._chunk))
        self._chunk = (self._chunk + 1) % self.chunks
        self.stamp = self._offset + self.simulation.stamp
        if not self.running:
            return None
        verdict = self._referee.judge(self.simulation)
        if verdict == 'running' and self.at_boundary and self.steps >= self._task.max_steps:
            verdict = 'failure'
        return None if verdict == 'running' else self._end(verdict)

    def _boundary(self, chunk: int) -> int:
        """Return when a chunk begins within its period [ns]: on a physics step, and the last ends with the period."""
        if chunk == self.chunks:
            return self._task.period
        return self._substeps * chunk // self.chunks * self.simulation.timestep

    def _end(self, outcome: Outcome) -> EpisodeEvent:
        self.running = False
        way = self._referee.way
        name = '' if way is None else self._task.way_names[way]
        return EpisodeEvent(self.stamp, 'end', self.index, outcome, name, self.steps)

    def _rewind(self) -> None:
        """Start over one period later than now: two states never share a stamp, and no clock jumps back."""
        self.simulation.reset('start')
        self._referee = self._task.new_referee()
        self._chunk = 0
        self.stamp += self._task.period
        self._offset = self.stamp - self.simulation.stamp
