"""What rules on experts change in a recording: where they apply, which experts they move, where the arm would stop."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.policy_interface import PolicyInterface
from vdd_ros.control.rules import Rules
from vdd_ros.policy.routing import Situation
from vdd_ros.robot.kinematics import Kinematics
from vdd_ros.validation.recorded import AnsweredEpisode


@dataclass(frozen=True)
class RuleUse:
    """Where one rule applies."""

    name: str
    ticks: int
    episodes: int


@dataclass(frozen=True)
class RulesCheck:
    """What rules change at the policy ticks of a recording, compared with the routing without conditional rules."""

    ticks: int
    episodes: int
    rules: tuple[RuleUse, ...]
    """In the order of the file; those that never apply as well."""
    likeliest_changed: int
    """Ticks at which another expert is the likeliest."""
    moved: float
    """Mean total variation distance between the probabilities with and without rules, in [0, 1]."""
    usage_before: np.ndarray
    """Mean probability of each expert without rules, shape (expert,)."""
    usage_after: np.ndarray
    """The same with rules, over the ticks at which an expert is left."""
    slowed: int
    """Ticks at which the plan is slowed down."""
    stops: dict[str, int]
    """Ticks at which the arm would stop, by reason."""
    stopped_episodes: int
    """Demonstrations in which it would."""


def check_rules(
    rules: Rules, contract: Contract, kinematics: Kinematics, episodes: Sequence[AnsweredEpisode]
) -> RulesCheck:
    """Apply rules at every policy tick of some demonstrations.

    The acting expert of a tick is the likeliest expert under the rules at the tick before. Time counts from the first
    tick of a demonstration.
    """
    interface = PolicyInterface(contract, kinematics)
    uses: Counter[str] = Counter()
    seen: dict[str, set[int]] = {name: set() for name in rules.names}
    stops: Counter[str] = Counter()
    stopped: set[int] = set()
    changed = slowed = ticks = 0
    distances, before_all, after_all = [], [], []
    for number, episode in enumerate(episodes):
        acting = None
        for tick, log_gating in enumerate(episode.log_gating):
            ticks += 1
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
            applied = rules.at(situation)
            for name in applied.rules:
                uses[name] += 1
                seen[name].add(number)
            slowed += applied.speed < 1
            before = rules.base.probabilities(log_gating)
            before_all.append(before)
            if reason := applied.refusal(len(log_gating)):
                stops[reason] += 1
                stopped.add(number)
                acting = None
                continue
            after = applied.routing.probabilities(log_gating)
            after_all.append(after)
            distances.append(0.5 * np.abs(after - before).sum())
            acting = int(after.argmax())
            changed += acting != int(before.argmax())
    experts = episodes[0].log_gating.shape[1]
    return RulesCheck(
        ticks,
        len(episodes),
        tuple(RuleUse(name, uses[name], len(seen[name])) for name in rules.names),
        changed,
        float(np.mean(distances)) if distances else 0.0,
        np.mean(before_all, axis=0),
        np.mean(after_all, axis=0) if after_all else np.zeros(experts),
        slowed,
        dict(stops.most_common()),
        len(stopped),
    )
