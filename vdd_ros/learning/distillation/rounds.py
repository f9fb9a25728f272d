"""Rounds in simulation: policies act, and the teacher labels the visited windows (DAgger).

The errors of a student lead to windows that the demonstrations do not contain. At these windows, the student is trained
on actions of the teacher (Ross, Gordon and Bagnell 2011).
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from vdd_ros.common.settings import Settings
from vdd_ros.contract.contract import Contract
from vdd_ros.learning.diffusion.teacher import Teacher
from vdd_ros.learning.distillation.labels import Labels
from vdd_ros.learning.evaluation import drawn_by_teacher
from vdd_ros.learning.image_windows import Seeing
from vdd_ros.learning.mixture.student import Student
from vdd_ros.learning.ranks import ALONE, Ranks
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.normalization import Normalizers
from vdd_ros.policy.observation import AnyObservation
from vdd_ros.policy.routing import ACTION_NOISE_SCALE


class RoundSettings(Settings):
    """Rounds of rollouts in simulation, if a simulator is available."""

    rounds: int = Field(2, ge=0)
    """Rounds of the student, evenly spaced over the updates, after one round of the teacher."""
    last: float = Field(0.5, gt=0, lt=1)
    """Share of the updates after which the last round takes place. All visited windows are used from then on."""
    episodes: int = Field(128, ge=1)
    """Episodes per round."""


class Policy(Protocol):
    """A policy in the form in which a `Simulator` calls it."""

    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation), in the units of the contract.

        Returns chunks of shape (batch, prediction_horizon, action); all randomness is from ``generator``.
        """
        ...


class Simulator(Protocol):
    """Interface of a simulator for policies: user-defined, or `vdd_ros.validation.visits.TaskSimulator`."""

    def visit(self, policy: Policy, episodes: int, seed: int) -> AnyObservation:
        """Roll out a policy, and return the visited windows.

        Called before the first update with the teacher, and in each later round with the present student.

        Parameters
        ----------
        policy
            The policy; it accepts any batch size.
        episodes
            Number of episodes.
        seed
            Random seed: equal seeds give equal windows for equal policies; different seeds give different episodes.

        Returns
        -------
        Shape (window, observation_horizon, observation), in the units of the contract; with images if the contract has.

        """
        ...


See = Callable[[AnyObservation], Tensor]
"""Maps windows in the units of the contract to normalised windows on the device, with images replaced by features."""


class Draw(Protocol):
    """Interface of a function that samples actions with a network."""

    module: nn.Module
    """The network; `dataclasses.replace` exchanges it."""

    def __call__(self, window: Tensor, generator: torch.Generator) -> Tensor:
        """Map normalised windows (batch, horizon, obs) to normalised flattened chunks (batch, action)."""
        ...


class TorchPolicy:
    """A network in training as a `Policy`: on its own device, without an artifact."""

    def __init__(
        self,
        draw: Draw,
        contract: Contract,
        normalizers: Normalizers,
        device: torch.device,
        see: See | None = None,
    ) -> None:
        """Set the sampler `draw`, and the encoder `see` of windows; the default is for windows without images."""
        self._draw, self._contract, self._normalizers, self._device = draw, contract, normalizers, device
        self._see = Seeing(None, normalizers.observation, device) if see is None else see

    def __getstate__(self) -> dict[str, Any]:
        """Make the policy picklable for other processes and computers, where it runs on the CPU."""
        module = copy.deepcopy(self._draw.module).cpu()
        return {**vars(self), '_draw': replace(self._draw, module=module), '_device': torch.device('cpu')}

    @torch.no_grad()
    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        """Plan as `Policy.plan`; experts are not reported."""
        seeded = torch.Generator(self._device).manual_seed(int(generator.integers(2**62)))
        chunk = self._draw(self._see(observation), seeded).cpu().numpy().astype(np.float64)
        chunk = chunk.reshape(len(chunk), self._contract.prediction_horizon, self._contract.action_size)
        return Plan(self._normalizers.action.denormalize(chunk), np.full(len(chunk), -1))


@dataclass(frozen=True)
class DrawOfTeacher:
    """Samples actions of a teacher with a number of network calls, by default that of its settings."""

    module: Teacher
    calls: int | None = None

    def __call__(self, window: Tensor, generator: torch.Generator) -> Tensor:
        """Draw as `Draw`."""
        return drawn_by_teacher(self.module, window, 1, generator, self.calls)[0]


@dataclass(frozen=True)
class DrawOfStudent:
    """Samples a student's actions as in deployment: an expert, its mean, and scaled action noise."""

    module: Student
    noise: float = ACTION_NOISE_SCALE

    def __call__(self, window: Tensor, generator: torch.Generator) -> Tensor:
        """Draw as `Draw`."""
        options = {'generator': generator, 'dtype': window.dtype, 'device': window.device}
        mixture = self.module.acting(window)
        expert = mixture.choose(torch.rand(len(window), **options))
        unit = torch.randn(len(window), mixture.covariance.noise_size, **options)
        return mixture.mean_of_expert(expert) + self.noise * mixture.covariance.of(expert).correlate(unit)


class Rounds:
    """Rolls out teacher and student during a distillation, and adds the visited windows to the labels."""

    def __init__(
        self,
        labels: Labels,
        simulator: Simulator,
        settings: RoundSettings,
        policy: Callable[[Draw], Policy],
        see: See,
        seed: int,
        progress: Callable[[int, int], None],
        ranks: Ranks = ALONE,
    ) -> None:
        """Prepare the rounds.

        `policy` converts a sampler to a `Policy`. `progress` is called with (rounds done, rounds). The first of the
        `ranks` rolls out policies, and all ranks label the visited windows.
        """
        self._labels, self._simulator, self._settings = labels, simulator, settings
        self._policy, self._see, self._seed, self._progress = policy, see, seed, progress
        self._ranks = ranks

    def begin(self, teacher: Teacher) -> None:
        """Roll out the teacher."""
        self._visit('visited-0', DrawOfTeacher(teacher), 0)

    def review(self, student: Student, done: int, iterations: int) -> bool:
        """Roll out the student if a round is due after `done` updates; return whether it was."""
        if (number := self._due(iterations).get(done)) is None:
            return False
        self._visit(f'visited-{number}', DrawOfStudent(student), number)
        return True

    def resume(self, done: int, iterations: int) -> None:
        """Restore the windows of all rounds before `done` updates."""
        for when, number in self._due(iterations).items():
            if when <= done:
                self._labels.add(f'visited-{number}')

    def _due(self, iterations: int) -> dict[int, int]:
        """Return the numbers of the student's rounds by the update after which they take place."""
        rounds, last = self._settings.rounds, self._settings.last
        return {int(iterations * last * number / rounds): number for number in range(1, rounds + 1)}

    def _visit(self, name: str, draw: Draw, number: int) -> None:
        self._progress(number, self._settings.rounds + 1)
        if self._ranks.first(lambda: name in self._labels):
            self._labels.add(name)
        else:
            policy, settings = self._policy(draw), self._settings
            windows = self._ranks.first(lambda: self._simulator.visit(policy, settings.episodes, self._seed + number))
            self._labels.add(name, self._see(windows))
        self._progress(number + 1, self._settings.rounds + 1)
