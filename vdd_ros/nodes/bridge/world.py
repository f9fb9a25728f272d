"""The simulated robot in the time of the bridge: chunks of physics, episodes, and a clock that never goes back."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.nodes.messages import EpisodeEvent, Outcome
from vdd_ros.sim.arm import Measurement, SimulatedArm
from vdd_ros.sim.controllers import Controller, claimant
from vdd_ros.sim.disturbances import Disturbances
from vdd_ros.sim.sensors import Reading, SensorSuite
from vdd_ros.sim.stage import Stage
from vdd_ros.sim.start import Start
from vdd_ros.sim.tasks import SuccessDetector


class World:
    """A simulated stage that advances in chunks of physics; a policy period is an integer number of chunks.

    Every chunk ends with a joint state. Controllers are updated at the beginning of every chunk, as a controller
    manager does at the rate of its hardware.
    """

    def __init__(
        self,
        stage: Stage,
        state_rate: float,
        disturbances: Disturbances = Disturbances(),
        seed: int = 0,
        *,
        command_rate: float = 0.0,
        time_limit: float = 1.0,
    ) -> None:
        """Put the robot at its start position; no episode is running.

        Parameters
        ----------
        stage
            The simulated robot with its task.
        state_rate
            Requested rate of joint states [Hz]. The rate is rounded so that a policy period contains an integer number
            of states, and the time between two states an integer number of physics steps.
        disturbances
            Disturbances of messages, and randomisation at every episode.
        seed
            Random seed of the disturbances and the randomisation.
        command_rate
            Rate of commands in lockstep [Hz]; 0: one per policy period. The rate is rounded so that the time between
            two commands contains an integer number of states.
        time_limit
            Maximum duration of an episode, as a multiple of the time that the task allows.

        Raises
        ------
        ConfigurationError
            The rate of states is above that of physics steps, the rate of a sensor is above that of states, or the rate
            of commands is above that of states or below the policy rate.
        ModelError
            A sensor or a disturbance refers to an element that the scene lacks.

        """
        self.stage = stage
        self.simulation = stage.simulation
        """The scene; read it only between calls of `advance`."""
        fastest = NANOSECONDS / self.simulation.timestep
        if state_rate > fastest * (1 + 1e-9):
            raise ConfigurationError(
                expected=f'a joint_state_rate of at most {fastest:g} Hz, one state for each physics step',
                found=f'{state_rate:g} Hz',
                remedy=f'lower it, or set a timestep of {1 / state_rate:g} s in a scene file or the model',
            )
        self._substeps = max(1, stage.period // self.simulation.timestep)
        self.chunks = min(max(1, round(stage.period * state_rate / NANOSECONDS)), self._substeps)
        """Number of joint states per policy period."""
        commands = command_rate or NANOSECONDS / stage.period
        self._answer_chunks = round(self.state_rate / commands)
        if not 1 <= self._answer_chunks <= self.chunks:
            raise ConfigurationError(
                expected=f'a command_rate from {NANOSECONDS / stage.period:g} Hz, the policy rate, to '
                f'{self.state_rate:g} Hz, that of the joint states',
                found=f'{command_rate:g} Hz',
                remedy='change it, or raise joint_state_rate',
            )
        self.arm = SimulatedArm(self.simulation, disturbances, state_period=None)
        self.sensors = SensorSuite(self.simulation, stage.settings.sensors, disturbances.sensors, self.state_rate)
        self._chunk, self._time_limit = 0, time_limit
        self.index = -1
        """Number of the running or last episode."""
        self.steps = 0
        """Number of policy periods started in this episode."""
        self.running = False
        """Whether an episode runs."""
        self._success_detector: SuccessDetector | None = None
        self.seed(seed)
        self._rewind(None)

    @property
    def stamp(self) -> int:
        """Simulation time [ns], published as the clock. It increases monotonically, also across resets."""
        return self.simulation.stamp

    @property
    def state_rate(self) -> float:
        """Mean rate of joint states [Hz, simulated time]."""
        return self.chunks * NANOSECONDS / self.stage.period

    @property
    def chunk_duration(self) -> float:
        """Mean duration of a chunk [s]."""
        return 1 / self.state_rate

    @property
    def at_boundary(self) -> bool:
        """Whether a policy period has just ended."""
        return self._chunk == 0

    def seed(self, seed: int) -> None:
        """Set the random seed of the following episodes; episode numbers start again from 0."""
        self._seed = seed
        self._count = 0

    def reset(self, start: Start | None = None) -> list[EpisodeEvent]:
        """Reset the robot to ``start``, by default that of the task, and begin an episode; return the resulting events.

        The events are the end of a running episode, if any, and the start of the new one.

        Raises
        ------
        ModelError, SimulationError
            The scene cannot start in this state; the world is then unchanged.

        """
        ended, success_detector = self.stamp, self._success_detector
        self._rewind(start)
        events = [self._end('aborted', ended, success_detector)] if self.running else []
        self.index += 1
        self._count += 1
        self.steps = 0
        self.running = True
        return [*events, EpisodeEvent(self.stamp, 'start', self.index)]

    def changed(self, base: Start | None, start: Start) -> Start:
        """Return a start in which some joints differ from ``base``, by default from the start of the next episode."""
        if base is None:
            task = self.stage.task
            base = self.simulation.home if task is None else task.start(self._count)
        keyframe = start.keyframe or base.keyframe
        return Start(keyframe, {**base.position, **start.position}, {**base.velocity, **start.velocity})

    def send(self, deliver: Callable[[int], None]) -> None:
        """Send a command to its controller; ``deliver`` is called on its arrival, with the time of arrival [ns]."""
        self.arm.send(deliver)

    def await_answer(self) -> None:
        """In lockstep: require the joint state at the end of the next command period."""
        ends = self._due_chunk + self._answer_chunks
        self._due += self._time_of(ends) - self._time_of(self._due_chunk)
        self._due_chunk = ends % self.chunks

    @property
    def is_answered(self) -> bool:
        """Whether the joint state required by `await_answer`, or a later one, has arrived, or the episode has ended."""
        return not self.running or self._newest >= self._due

    def switch(self, controller: Controller, active: bool) -> tuple[Controller, str] | None:
        """Activate a controller, which then holds its joints, or deactivate it.

        If an active controller already uses one of the actuators, return that controller and the actuator, without a
        change; otherwise None.
        """
        if active and not controller.active:
            other = claimant(list(self.stage.controllers.values()), controller)
            if other is not None:
                return other
            controller.start()
        controller.active = active
        return None

    def advance(self) -> EpisodeEvent | None:
        """Simulate one chunk; return the end of the episode if the episode has ended, otherwise None."""
        self._update_controllers()
        if self.running and self.at_boundary:
            self.steps += 1
        self.arm.step(self._boundary(self._chunk + 1) - self._boundary(self._chunk))
        self._chunk = (self._chunk + 1) % self.chunks
        return self._judge()

    def states(self) -> list[Measurement]:
        """Return the joint states that have arrived since the last call, in order."""
        arrived = self.arm.arrivals()
        if arrived:
            self._newest = arrived[-1].stamp
        return arrived

    def readings(self) -> list[Reading]:
        """Return the readings of other sensors that have arrived since the last call."""
        return self.sensors.readings()

    def _update_controllers(self) -> None:
        now = self.stamp
        for controller in self.stage.controllers.values():
            if controller.active:
                controller.update(now)

    def _judge(self) -> EpisodeEvent | None:
        if not self.running or self._success_detector is None:
            return None
        verdict = self.stage.task.judge(self._success_detector, self.simulation)
        if verdict == 'running' and self.at_boundary and self.steps >= self.stage.task.max_steps * self._time_limit:
            verdict = 'failure'
        return None if verdict == 'running' else self._end(verdict, self.stamp, self._success_detector)

    def _time_of(self, chunk: int) -> int:
        """Return when a chunk begins, counted from the beginning of a period; it may lie in a later one [ns]."""
        periods, chunk = divmod(chunk, self.chunks)
        return periods * self.stage.period + self._boundary(chunk)

    def _boundary(self, chunk: int) -> int:
        """Return when a chunk begins within its period [ns]: on a physics step, and the last ends with the period."""
        if chunk == self.chunks:
            return self.stage.period
        return self._substeps * chunk // self.chunks * self.simulation.timestep

    def _end(self, outcome: Outcome, stamp: int, success_detector: SuccessDetector | None) -> EpisodeEvent:
        self.running = False
        mode = None if success_detector is None else success_detector.mode
        name = '' if mode is None else self.stage.task.mode_names[mode]
        return EpisodeEvent(stamp, 'end', self.index, outcome, name, self.steps)

    def _rewind(self, start: Start | None) -> None:
        """Start over one period later than now: two states never share a stamp, and no clock jumps back."""
        task = self.stage.task
        if start is not None or task is None:
            self.simulation.reset(start)
        else:
            task.reset(self.simulation, self._count)
        self.simulation.skip(self.stage.period)
        self._success_detector = None if task is None else task.new_success_detector()
        seed = np.random.SeedSequence(self._seed, spawn_key=(self._count,))
        self.arm.begin(seed)
        self.sensors.begin(seed)
        for controller in self.stage.controllers.values():
            controller.start()
        self._chunk = 0
        self._newest = self._due = self.stamp
        self._due_chunk = 0
