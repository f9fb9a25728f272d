"""The effect of expert rules on a recording, tick by tick, and in simulation."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.control.rules import Rules
from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import Applied, Situation
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.sim.tasks import Task
from vdd_ros.validation.latency import plan_durations
from vdd_ros.validation.recorded import PredictedEpisode
from vdd_ros.validation.rollout import Rollouts, Timing, Trial, rollout_all


@dataclass(frozen=True)
class RuleUse:
    """The ticks at which one rule applies."""

    name: str
    ticks: int
    episodes: int


@dataclass(frozen=True)
class RulesCheck:
    """The effect of rules at the policy ticks of a recording, compared with routing without conditional rules."""

    ticks: int
    episodes: int
    rules: tuple[RuleUse, ...]
    """Use of the rules, in the order of the file, including rules that never apply."""
    likeliest_changed: int
    """Number of ticks at which the most probable expert changes."""
    moved: float
    """Mean total variation distance between the probabilities with and without rules, in [0, 1]."""
    usage_before: np.ndarray
    """Mean probability of each expert without rules, shape (expert,)."""
    usage_after: np.ndarray
    """Mean probability of each expert with rules, over the ticks with at least one permitted expert, shape
    (expert,)."""
    slowed: int
    """Number of ticks at which the plan is slowed down."""
    stops: dict[str, int]
    """Number of ticks at which the arm would stop, by reason."""
    stopped_episodes: int
    """Number of demonstrations in which the arm would stop."""


def check_rules(
    rules: Rules, contract: Contract, kinematics: Kinematics, episodes: Sequence[PredictedEpisode]
) -> RulesCheck:
    """Apply rules at every policy tick of some demonstrations.

    The acting expert of a tick is the most probable expert under the rules at the previous tick. Time counts from the
    first tick of a demonstration.
    """
    interface, tally = PolicyInterface(contract, kinematics), _Tally(rules)
    for number, episode in enumerate(episodes):
        acting = None
        for tick, log_gating in enumerate(episode.log_gating):
            joints = episode.joints[tick]
            interface.anchor(joints)
            situation = Situation(
                episode.observation[tick],
                tick / contract.policy_rate,
                acting,
                int(log_gating.argmax()),
                lambda joints=joints: interface.tool_pose(joints),
                lambda mean=episode.mean[tick]: interface.tool_paths(mean),
            )
            acting = tally.take(number, rules.at(situation), log_gating)
    return tally.result(len(episodes), experts=episodes[0].log_gating.shape[1])


class _Tally:
    """Counts where rules apply and what they change, tick by tick."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._uses: Counter[str] = Counter()
        self._seen: dict[str, set[int]] = {name: set() for name in rules.names}
        self._stops: Counter[str] = Counter()
        self._stopped: set[int] = set()
        self._changed = self._slowed = 0
        self._before: list[np.ndarray] = []
        self._after: list[np.ndarray] = []
        self._distances: list[float] = []

    def take(self, episode: int, applied: Applied, log_gating: np.ndarray) -> int | None:
        """Count one tick of an episode, and return the acting expert; None if the arm stops."""
        for name in applied.rules:
            self._uses[name] += 1
            self._seen[name].add(episode)
        self._slowed += applied.speed < 1
        before = self._rules.base.probabilities(log_gating)
        self._before.append(before)
        if reason := applied.refusal(len(log_gating)):
            self._stops[reason] += 1
            self._stopped.add(episode)
            return None
        after = applied.routing.probabilities(log_gating)
        self._after.append(after)
        self._distances.append(0.5 * np.abs(after - before).sum())
        acting = int(after.argmax())
        self._changed += acting != int(before.argmax())
        return acting

    def result(self, episodes: int, experts: int) -> RulesCheck:
        return RulesCheck(
            ticks=len(self._before),
            episodes=episodes,
            rules=tuple(RuleUse(name, self._uses[name], len(self._seen[name])) for name in self._rules.names),
            likeliest_changed=self._changed,
            moved=float(np.mean(self._distances)) if self._distances else 0.0,
            usage_before=np.mean(self._before, axis=0),
            usage_after=np.mean(self._after, axis=0) if self._after else np.zeros(experts),
            slowed=self._slowed,
            stops=dict(self._stops.most_common()),
            stopped_episodes=len(self._stopped),
        )


def roll_out_deployed(
    student: Artifact,
    task: Task,
    deployments: Mapping[str, Deployment],
    episodes: int,
    progress: Callable[[int, int], None],
    seed: int = 0,
) -> dict[str, Rollouts]:
    """Roll out a student under several deployments, by name, for example with and without rules.

    Commands are sent at control rate within all limits, with asynchronous planning, in simulated time. The simulated
    planning durations are those measured on this computer.

    Parameters
    ----------
    student, task
        The artifact, and the task of its contract.
    deployments
        Deployment parameters by name.
    episodes
        Number of rollouts of each deployment.
    progress
        Called with (episodes done, episodes of all) while episodes are completed.
    seed
        Equal seeds give equal rollouts, except for the measured planning durations.

    """
    contract = student.manifest.contract
    position = task.simulation(contract.robot.joints).position
    durations = plan_durations(student, next(iter(deployments.values())), position)
    load = partial(DistilledPolicy.load, student.path.absolute())
    trials = {
        name: Trial(
            load,
            episodes,
            timing=Timing(deployment.control_period(contract, simulated=False), durations),
            deployment=deployment,
        )
        for name, deployment in deployments.items()
    }
    ended = dict.fromkeys(trials, 0)

    def tell(name: str, done: int, _: int) -> None:
        ended[name] = done
        progress(sum(ended.values()), episodes * len(trials))

    return rollout_all(task, contract, trials, seed, os.cpu_count() or 1, tell)
