"""A simulated arm behind messages: commands and joint states, with disturbances in transport."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from vdd_ros.sim.disturbances import Channel, Deliver, Disturbances, generator_of
from vdd_ros.sim.randomization import randomize
from vdd_ros.sim.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Callable

STATE_PERIOD = 5_000_000
"""Interval between joint states in process [ns]: 200 Hz, the default of the bridge."""


@dataclass(frozen=True)
class Measurement:
    """A joint state; arrays of shape (joint,) in the order of the simulation's joints."""

    stamp: int
    """Time of the measurement [ns]."""
    position: np.ndarray
    """Joint positions [rad]."""
    velocity: np.ndarray
    """Joint velocities [rad/s]."""
    effort: np.ndarray
    """Joint torques [N m]."""


class SimulatedArm:
    """A simulation behind the messages of a robot, in simulated time, reproducible by seed.

    Without disturbances, states and commands arrive immediately, and commands are applied directly to the servos.
    """

    def __init__(
        self,
        simulation: Simulation,
        disturbances: Disturbances = Disturbances(),
        *,
        state_period: int | None = STATE_PERIOD,
    ) -> None:
        """Connect message channels to a simulation.

        Parameters
        ----------
        simulation
            The scene. Its resets must be followed by `begin`.
        disturbances
            Disturbances of messages, and randomization in every episode.
        state_period
            Interval between joint states [ns]; None: one at the end of every `step`.

        """
        self.simulation = simulation
        self.disturbances = disturbances
        step = simulation.timestep
        self._state_period = None if state_period is None else max(step, state_period // step * step)
        self._exact = disturbances.joint_states.is_nominal
        self._direct = disturbances.commands.is_nominal
        self._forget(np.random.SeedSequence(0))

    def begin(self, seed: int | np.random.SeedSequence) -> None:
        """Begin an episode. Call it right after the scene was reset.

        Randomizes the scene, drops pending messages, and measures. The first state always arrives, regardless of
        disturbances. Equal seeds give equal episodes.

        Raises
        ------
        ModelError
            An element named in the disturbances is not in the scene.

        """
        seed = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
        if not self.disturbances.randomization.is_nominal:
            randomize(self.simulation, self.disturbances.randomization, generator_of(seed, 'randomization'))
        self._forget(seed)

    def _forget(self, seed: np.random.SeedSequence) -> None:
        self.seed = seed
        disturbances = self.disturbances
        self._noise = generator_of(seed, 'joint_states noise')
        self._states: Channel[Measurement] = Channel(disturbances.joint_states, generator_of(seed, 'joint_states'))
        self._commands: Channel[Deliver] = Channel(disturbances.commands, generator_of(seed, 'commands'))
        self._newest = self._measure()
        self._arrived = [self._newest]
        self._next_state = self.simulation.stamp + (self._state_period or 0)

    @property
    def measured(self) -> Measurement:
        """The last joint state that has arrived."""
        if self._exact:
            return self._measure()
        self._take_states()
        return self._newest

    @property
    def dropped(self) -> tuple[int, int]:
        """Number of joint states and of commands lost in this episode."""
        return self._states.dropped, self._commands.dropped

    def arrivals(self) -> list[Measurement]:
        """Return the joint states that have arrived since the last call, in order."""
        self._take_states()
        arrived, self._arrived = self._arrived, []
        return arrived

    def command(self, position: np.ndarray) -> None:
        """Send positions, shape (joint,) [rad], to the servos.

        Raises
        ------
        SimulationError
            The positions are not finite, or their number is not that of the joints.

        """
        if self._direct:
            self.simulation.set_command(position)
        else:
            position = self.simulation.checked(position)
            self.send(functools.partial(_set_command, self.simulation, position))

    def send(self, deliver: Callable[[int], None]) -> None:
        """Send a command; ``deliver`` is called on its arrival, with the time of arrival [ns]."""
        if self._direct:
            deliver(self.simulation.stamp)
        else:
            self._commands.send(self.simulation.stamp, deliver)
            self._take_commands()

    def step(self, duration: int) -> None:
        """Simulate ``duration`` [ns], an integer number of timesteps; errors as for `Simulation.step`."""
        if self._exact and self._direct:
            self.simulation.step(duration)
        else:
            self._step_in_pieces(duration)
        if self._state_period is None:
            self._states.send(self.simulation.stamp, self._measure())

    def _step_in_pieces(self, duration: int) -> None:
        simulation, end = self.simulation, self.simulation.stamp + duration
        while simulation.stamp < end:
            self._take_commands()
            until = end
            if self._state_period is not None:
                until = min(until, self._next_state)
            if self._commands.next_arrival < until:
                until = min(until, _round_up(self._commands.next_arrival - simulation.stamp, simulation))
            simulation.step(until - simulation.stamp)
            if self._state_period is not None and simulation.stamp >= self._next_state:
                self._next_state += self._state_period
                self._states.send(simulation.stamp, self._measure())
        self._take_commands()

    def _take_commands(self) -> None:
        now = self.simulation.stamp
        for deliver in self._commands.receive(now):
            deliver(now)

    def _take_states(self) -> None:
        arrived = self._states.receive(self.simulation.stamp)
        if arrived:
            self._newest = arrived[-1]
        if self._state_period is None:
            self._arrived += arrived

    def _measure(self) -> Measurement:
        simulation, disturbances = self.simulation, self.disturbances.joint_states
        if self._exact:
            return Measurement(simulation.stamp, simulation.position, simulation.velocity, simulation.effort)

        def noisy(values: np.ndarray, deviation: float) -> np.ndarray:
            return values + self._noise.normal(scale=deviation, size=values.shape) if deviation else values

        return Measurement(
            simulation.stamp,
            noisy(simulation.position, disturbances.position_noise),
            noisy(simulation.velocity, disturbances.velocity_noise),
            noisy(simulation.effort, disturbances.effort_noise),
        )


def _set_command(simulation: Simulation, position: np.ndarray, now: int) -> None:
    simulation.set_command(position)


def _round_up(duration: float, simulation: Simulation) -> int:
    """Return the stamp of the first physics step that ends at least ``duration`` [ns] from now."""
    steps = max(1, -int(-duration // simulation.timestep))
    return simulation.stamp + steps * simulation.timestep
