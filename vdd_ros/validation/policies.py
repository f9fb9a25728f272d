"""Policies for rollouts: students, planners and recordings, each called once for the windows of many arms."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.planner import PolicyRequest
from vdd_ros.data.decode.decode import action_values, observation_values
from vdd_ros.policy.artifact import Calibration
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.experts import Experts
from vdd_ros.policy.function import OneExpert
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.observation import AnyObservation, joined
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import Mixture
from vdd_ros.robot.kinematics import Kinematics


class Planner(Protocol):
    """A policy that samples chunks itself: a teacher or a baseline."""

    def plan(self, observation: AnyObservation, generator: np.random.Generator) -> Plan:
        """Plan from windows of shape (batch, observation_horizon, observation), with randomness from ``generator``."""
        ...


PlannerFactory = Callable[[], Planner]
"""Creates a policy in the process that uses it; must be picklable for more than one process."""


@dataclass(frozen=True)
class Recorded:
    """A policy that repeats recorded actions, regardless of the observation."""

    first: tuple[np.ndarray, ...]
    """First observation of each recorded episode, shape (observation,)."""
    action: tuple[np.ndarray, ...]
    """Recorded actions, shape (time, action); after the last action the arm stays at rest."""


class PolicyOutput(NamedTuple):
    """The result returned to the control loop of one arm."""

    mixture: Mixture
    expert: int | None
    """The acting expert, if the policy selects it; None if the control loop selects it."""


@dataclass
class _Row:
    """The output of a student for one of many windows, with OOD signals."""

    log_gating: np.ndarray
    mean: np.ndarray
    covariance_parameters: np.ndarray
    signals: dict[str, float]
    likelihood: float = math.nan
    """Likelihood of the previous executed action; reported with the next request."""


class BatchedPolicy:
    """Calls a policy for the control loops of many arms; each loop uses it as its student."""

    calibration: object = None
    """Calibration of the OOD signals, if the policy is a calibrated student."""
    expert_count: int | None = None
    """Number of experts, if the policy is a student."""
    labels: Labels = Labels()
    """Names of the experts, if the policy is a student."""

    def __init__(self, policy: object, contract: Contract, kinematics: Kinematics) -> None:
        """Wrap a policy."""
        self.policy = policy
        self._contract = contract
        self._kinematics = kinematics

    def of(
        self,
        requests: Sequence[PolicyRequest],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[PolicyOutput]:
        """Return the results for the requests of some loops.

        Parameters
        ----------
        requests
            One request from each loop.
        episodes
            Episode number of each loop.
        commanded
            The last command of each loop, shape (joint,) [rad].
        step
            Policy periods since the start.
        generator
            Random numbers for everything that the loops do not draw themselves.

        """
        plan = self.policy.plan(_windows(requests), generator)
        return [PolicyOutput(OneExpert.of(action), int(expert)) for action, expert in zip(plan.action, plan.expert)]

    def deployed(self, deployment: Deployment) -> Deployment:
        """Return the deployment parameters for this policy: expert rules and action noise apply to students only."""
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
        """Return the distance between two observations: of the arm at rest, and the first observation of an episode.

        The arm is at rest at ``position``, shape (joint,). The distance is the Euclidean norm in the units of the
        contract.
        """
        seen = observation_values(self._contract, position, position, self._kinematics)
        return float(np.linalg.norm(seen - self.policy.first[episode]))


class _BatchedStudent(BatchedPolicy):
    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the OOD signals."""
        return self.policy.calibration

    @property
    def expert_count(self) -> int:
        """Number of experts."""
        return self.policy.expert_count

    @property
    def labels(self) -> Labels:
        """Names of the experts."""
        return self.policy.labels

    def deployed(self, deployment: Deployment) -> Deployment:
        """Return the deployment parameters unchanged."""
        return deployment

    def of(
        self,
        requests: Sequence[PolicyRequest],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[PolicyOutput]:
        policy, windows = self.policy, _windows(requests)
        self._judge(requests)
        experts = policy.experts(windows)
        signals = policy.signals_of_each(windows, experts, [each.at_full_speed for each in requests])
        arrays = experts.log_gating, experts.mean, experts.covariance_parameters
        return [
            PolicyOutput(
                _Row(
                    *(array[row : row + 1] for array in arrays),
                    {name: float(values[row]) for name, values in signals.items()},
                ),
                None,
            )
            for row in range(len(windows))
        ]

    def _judge(self, requests: Sequence[PolicyRequest]) -> None:
        """Set the likelihood of the executed actions on all previous outputs."""
        judged = [each for each in requests if each.before is not None]
        if not judged:
            return
        names = ('log_gating', 'mean', 'covariance_parameters')
        before = Experts(*(np.concatenate([getattr(each.before, name) for each in judged]) for name in names))
        likelihoods = self.policy.likelihood_of_each(before, np.stack([each.done for each in judged]))
        for each, likelihood in zip(judged, likelihoods.tolist()):
            each.before.likelihood = likelihood

    def deviation(self, experts: Experts, expert: int, generator: np.random.Generator) -> np.ndarray:
        """Sample the action noise of an expert, shape (prediction_horizon, action)."""
        return self.policy.deviation(experts, expert, generator)

    def coherence(self, experts: _Row, actions: np.ndarray) -> np.ndarray:
        """Return the log-likelihood of the remaining chunk under every expert, shape (expert,) [nat]."""
        return self.policy.coherence(experts, actions)

    def signals(
        self, observation: AnyObservation, experts: _Row, at_full_speed: np.ndarray | None = None
    ) -> dict[str, float]:
        """Return the OOD signals of a window."""
        return dict(experts.signals)

    def likelihood(self, experts: _Row, done: np.ndarray) -> float:
        """Return the likelihood of executed actions under the student."""
        return experts.likelihood


class _BatchedRecording(BatchedPolicy):
    def of(
        self,
        requests: Sequence[PolicyRequest],
        episodes: Sequence[int],
        commanded: Sequence[np.ndarray],
        step: int,
        generator: np.random.Generator,
    ) -> list[PolicyOutput]:
        return [PolicyOutput(self._done(episode, here, step), -1) for episode, here in zip(episodes, commanded)]

    def _done(self, episode: int, here: np.ndarray, step: int) -> Mixture:
        contract, horizon = self._contract, self._contract.prediction_horizon
        action = self.policy.action[episode][step : step + horizon]
        if len(action) < horizon:
            stay = np.zeros_like(here) if contract.commanded.quantity == 'velocity' else here
            rest = action_values(contract, here, stay, self._kinematics)
            action = np.concatenate([action, np.tile(rest, (horizon - len(action), 1))])
        return OneExpert.of(action)


def batched(policy: object, contract: Contract, kinematics: Kinematics) -> BatchedPolicy:
    """Return a `BatchedPolicy` that evaluates a policy for many simulated arms with one call.

    ``policy`` is a `DistilledPolicy`, a `Recorded`, or a `Planner`.
    """
    if isinstance(policy, DistilledPolicy):
        return _BatchedStudent(policy, contract, kinematics)
    kind = _BatchedRecording if isinstance(policy, Recorded) else BatchedPolicy
    return kind(policy, contract, kinematics)


def _windows(requests: Sequence[PolicyRequest]) -> AnyObservation:
    return joined([each.window for each in requests])
