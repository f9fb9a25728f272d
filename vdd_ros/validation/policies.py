"""What acts in rollouts: students, planners and recordings, each asked about the windows of many arms at once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.planner import Question
from vdd_ros.data.decode.decode import action_values, observation_values
from vdd_ros.policy.artifact import Calibration
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.experts import Experts
from vdd_ros.policy.function import OneExpert
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import Mixture
from vdd_ros.robot.kinematics import Kinematics


class Planner(Protocol):
    """A policy that draws its chunks by itself: a teacher, or whatever is compared with it."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation); all chance is ``generator``'s."""
        ...


PlannerFactory = Callable[[], Planner]
"""Makes a policy in the process that will use it; must be picklable for more than one process."""


@dataclass(frozen=True)
class Recorded:
    """A policy that does what a recording says, whatever it sees."""

    first: tuple[np.ndarray, ...]
    """What was observed at first in each recorded episode, shape (observation,)."""
    action: tuple[np.ndarray, ...]
    """What was done in it, shape (time, action); when it is over the arm stays."""


class Answer(NamedTuple):
    """What the loop of one arm is sent."""

    mixture: Mixture
    expert: int | None
    """Who acts, if that is known already; None leaves it to the loop."""


@dataclass
class _Row:
    """A student's answer to one of many windows, and what it says beside."""

    log_gating: np.ndarray
    mean: np.ndarray
    covariance_parameters: np.ndarray
    signals: dict[str, float]
    likelihood: float = math.nan
    """Of what was done then: told with the next question."""


class Asked:
    """A policy as the loops of many arms ask it; to each loop it is the student that it needs."""

    calibration: object = None
    """What is usual for a student, if it is one and knows."""
    expert_count: int | None = None
    """How many experts rules may name, if it is a student."""
    labels: Labels = Labels()
    """Names of the experts, if it is a student."""

    def __init__(self, policy: object, contract: Contract, kinematics: Kinematics) -> None:
        """Ask a policy."""
        self.policy = policy
        self._contract = contract
        self._kinematics = kinematics

    def of(
        self,
        questions: Sequence[Question],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[Answer]:
        """Answer what some loops ask.

        Parameters
        ----------
        questions
            What each loop asks.
        episodes
            The numbers of their episodes.
        commanded
            The newest command in each, shape (joint,) [rad].
        step
            Policy periods since the start.
        generator
            Draws what the loops do not draw themselves.

        """
        plan = self.policy.plan(_windows(questions), generator)
        return [Answer(OneExpert.of(action), int(expert)) for action, expert in zip(plan.action, plan.expert)]

    def deployed(self, deployment: Deployment) -> Deployment:
        """Return what of a deployment goes with the policy: rules on experts and on their spread are for students."""
        rules = {
            'rules': '',
            'rule_parameters': {},
            'forbidden_experts': (),
            'temperature': 1.0,
            'expert_hysteresis': 0.0,
        }
        return deployment.model_copy(
            update={**rules, 'direction_hysteresis': 0.0, 'coherence': 0.0, 'action_noise_scale': 0.0}
        )

    def distance_at_start(self, episode: int, position: np.ndarray) -> float:
        """Return how far what is seen at rest at a position, shape (joint,), is from a recorded episode's start."""
        seen = observation_values(self._contract, position, position, self._kinematics)
        return float(np.linalg.norm(seen - self.policy.first[episode]))


class _AskedStudent(Asked):
    @property
    def calibration(self) -> Calibration | None:
        """What is usual for the student."""
        return self.policy.calibration

    @property
    def expert_count(self) -> int:
        """How many experts the student has."""
        return self.policy.expert_count

    @property
    def labels(self) -> Labels:
        """Names of the experts."""
        return self.policy.labels

    def deployed(self, deployment: Deployment) -> Deployment:
        """Return all of it."""
        return deployment

    def of(
        self,
        questions: Sequence[Question],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[Answer]:
        policy, windows = self.policy, _windows(questions)
        self._judge(questions)
        experts = policy.experts(windows)
        signals = policy.signals_of_each(windows, experts)
        arrays = experts.log_gating, experts.mean, experts.covariance_parameters
        return [
            Answer(
                _Row(
                    *(array[row : row + 1] for array in arrays),
                    {name: float(values[row]) for name, values in signals.items()},
                ),
                None,
            )
            for row in range(len(windows))
        ]

    def _judge(self, questions: Sequence[Question]) -> None:
        """Tell of all answers before how likely what was done then was."""
        judged = [each for each in questions if each.before is not None]
        if not judged:
            return
        names = ('log_gating', 'mean', 'covariance_parameters')
        before = Experts(*(np.concatenate([getattr(each.before, name) for each in judged]) for name in names))
        likelihoods = self.policy.likelihood_of_each(before, np.stack([each.done for each in judged]))
        for each, likelihood in zip(judged, likelihoods.tolist()):
            each.before.likelihood = likelihood

    def deviation(self, experts: Experts, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Draw what an expert deviates by, shape (prediction_horizon, action)."""
        return self.policy.deviation(experts, expert, generator)

    def coherence(self, experts: _Row, actions: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of what is left of a chunk under every expert, shape (expert,) [nat]."""
        return self.policy.coherence(experts, actions)

    def signals(self, observation: np.ndarray, experts: _Row) -> dict[str, float]:
        """Tell how much the student is at home in a window."""
        return dict(experts.signals)

    def likelihood(self, experts: _Row, done: np.ndarray) -> float:
        """Return how likely what was done is to the student."""
        return experts.likelihood


class _AskedRecording(Asked):
    def of(
        self,
        questions: Sequence[Question],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[Answer]:
        return [Answer(self._done(episode, here, step), -1) for episode, here in zip(episodes, commanded)]

    def _done(self, episode: int, here: np.ndarray, step: int) -> Mixture:
        contract, horizon = self._contract, self._contract.prediction_horizon
        action = self.policy.action[episode][step : step + horizon]
        if len(action) < horizon:
            stay = np.zeros_like(here) if contract.commanded.quantity == 'velocity' else here
            rest = action_values(contract, here, stay, self._kinematics)
            action = np.concatenate([action, np.tile(rest, (horizon - len(action), 1))])
        return OneExpert.of(action)


def asked(policy: object, contract: Contract, kinematics: Kinematics) -> Asked:
    """Return a policy as it is asked: a `DistilledPolicy`, a `Recorded`, or a `Planner`."""
    if isinstance(policy, DistilledPolicy):
        return _AskedStudent(policy, contract, kinematics)
    kind = _AskedRecording if isinstance(policy, Recorded) else Asked
    return kind(policy, contract, kinematics)


def _windows(questions: Sequence[Question]) -> np.ndarray:
    return np.concatenate([each.window for each in questions])
