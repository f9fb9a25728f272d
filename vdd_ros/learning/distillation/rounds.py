"""Rounds in simulation: policies act, and the teacher labels the windows that they came to (DAgger).

A student that errs comes to windows that no demonstration has. There it is to do what the teacher would do there (Ross,
Gordon and Bagnell 2011).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from vdd_ros.common.settings import Settings
from vdd_ros.contract.contract import Contract
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.distillation.labels import Labels
from vdd_ros.learning.evaluation import drawn_by_teacher
from vdd_ros.learning.mixture.student import Student
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.normalization import Normalizers
from vdd_ros.policy.routing import ACTION_NOISE_SCALE


class RoundSettings(Settings):
    """How often policies act in simulation, where there is one."""

    rounds: int = Field(2, ge=0)
    """Rounds of the student, evenly spaced over the updates; before, there is one of the teacher."""
    episodes: int = Field(128, ge=1)
    """Episodes of each round."""


class Policy(Protocol):
    """What acts in a simulator."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation), in the units of the contract.

        Returns chunks of shape (batch, prediction_horizon, action); all chance is ``generator``'s.
        """
        ...


class Simulator(Protocol):
    """Where policies act: any simulator of the user, or `vdd_ros.validation.visits.TaskSimulator`."""

    def visit(self, policy: Policy, episodes: int, seed: int) -> np.ndarray:
        """Let a policy act, and return the windows that it saw.

        Parameters
        ----------
        policy
            Who acts, asked about any number of windows at once.
        episodes
            How many.
        seed
            Equal seeds give equal windows of equal policies; others give other episodes.

        Returns
        -------
        Shape (window, observation_horizon, observation), in the units of the contract.

        """
        ...


Draw = Callable[[Tensor, torch.Generator], Tensor]
"""Normalised windows, shape (batch, horizon, obs), to normalised flattened chunks, shape (batch, action)."""


class TorchPolicy:
    """A network that is being learned, as a `Policy`: on its own device, without an artifact."""

    def __init__(self, draw: Draw, contract: Contract, normalizers: Normalizers, device: torch.device) -> None:
        """Act by what `draw` draws."""
        self._draw, self._contract, self._normalizers, self._device = draw, contract, normalizers, device

    @torch.no_grad()
    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan as `Policy.plan`; experts are not told."""
        seeded = torch.Generator(self._device).manual_seed(int(generator.integers(2**62)))
        normalized = self._normalizers.observation.normalize(observation)
        window = torch.as_tensor(normalized, dtype=torch.float32, device=self._device)
        chunk = self._draw(window, seeded).cpu().numpy().astype(np.float64)
        chunk = chunk.reshape(len(chunk), self._contract.prediction_horizon, self._contract.action_size)
        return Plan(self._normalizers.action.denormalize(chunk), np.full(len(chunk), -1))


def draw_of_teacher(teacher: Teacher, calls: int | None = None) -> Draw:
    """Return what draws a teacher's actions, by so many network calls."""
    return lambda window, generator: drawn_by_teacher(teacher, window, 1, generator, calls)[0]


def draw_of_student(student: Student, noise: float = ACTION_NOISE_SCALE) -> Draw:
    """Return what draws a student's actions as the robot's node does: an expert, and a share of its deviations."""

    def draw(window: Tensor, generator: torch.Generator) -> Tensor:
        options = {'generator': generator, 'dtype': window.dtype, 'device': window.device}
        mixture = student.acting(window)
        expert = mixture.choose(torch.rand(len(window), **options))
        unit = torch.randn(len(window), mixture.covariance.noise_size, **options)
        return mixture.mean_of_expert(expert) + noise * mixture.covariance.of(expert).correlate(unit)

    return draw


class Rounds:
    """Adds the windows that policies visit to the labels, in the course of a distillation."""

    def __init__(
        self,
        labels: Labels,
        simulator: Simulator,
        settings: RoundSettings,
        policy: Callable[[Draw], Policy],
        normalizers: Normalizers,
        seed: int,
        progress: Callable[[int, int], None],
    ) -> None:
        """Prepare; `policy` makes a `Policy` of what draws, `progress` is told (rounds done, rounds)."""
        self._labels, self._simulator, self._settings = labels, simulator, settings
        self._policy, self._normalizers, self._seed, self._progress = policy, normalizers, seed, progress

    def begin(self, teacher: Teacher) -> None:
        """Let the teacher act."""
        self._visit('visited-0', draw_of_teacher(teacher), 0)

    def review(self, student: Student, done: int, iterations: int) -> bool:
        """Let the student act, if it is time after `done` updates; return whether it did."""
        if (number := self._due(iterations).get(done)) is None:
            return False
        self._visit(f'visited-{number}', draw_of_student(student), number)
        return True

    def resume(self, done: int, iterations: int) -> None:
        """Take up the windows of all rounds that `done` updates had."""
        for when, number in self._due(iterations).items():
            if when <= done:
                self._labels.add(f'visited-{number}')

    def _due(self, iterations: int) -> dict[int, int]:
        """Return the numbers of the student's rounds by the updates after which they are."""
        rounds = self._settings.rounds
        return {iterations * number // (rounds + 1): number for number in range(1, rounds + 1)}

    def _visit(self, name: str, draw: Draw, number: int) -> None:
        self._progress(number, self._settings.rounds + 1)
        if name in self._labels:
            self._labels.add(name)
        else:
            windows = self._simulator.visit(self._policy(draw), self._settings.episodes, self._seed + number)
            normalized = self._normalizers.observation.normalize(np.asarray(windows))
            self._labels.add(name, torch.as_tensor(normalized, dtype=torch.float32))
        self._progress(number + 1, self._settings.rounds + 1)
