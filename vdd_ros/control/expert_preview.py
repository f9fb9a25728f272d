"""Where every expert would lead from here, if it acted alone: for a person to look at, not to command by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.policy_interface import Kinematics, PolicyInterface
from vdd_ros.policy.policy import DistilledPolicy

_LEAST_PROBABILITY = 0.01


@dataclass(frozen=True)
class Way:
    """One expert's way."""

    expert: int
    probability: float
    """Of the expert, by the gating here."""
    points: np.ndarray
    """Of the tool, from here on; shape (step + 1, 3) [m]."""


def preview_experts(
    contract: Contract,
    policy: DistilledPolicy,
    kinematics: Kinematics,
    history: Sequence[tuple[np.ndarray, np.ndarray]],
    steps: int,
) -> tuple[Way, ...]:
    """Roll every expert forward by itself; at each step its mean is done, and the arm follows as it does now.

    Parameters
    ----------
    contract, policy
        What is seen and done, and by whom. Where the observation has features with topics of their own, nobody knows
        what those will be: ways then end with the first chunk.
    kinematics
        Of the robot, for nobody else's use.
    history
        Joints as measured and as commanded at the policy ticks up to now, oldest first, shape (joint,) [rad] each.
    steps
        Policy periods to look ahead.

    """
    if not history or contract.topic_features:
        return ()
    arm, window = _arrived(contract, kinematics, history)
    answer = policy.experts(window[None])
    gating = np.exp(answer.log_gating[0])
    shown = [int(expert) for expert in np.argsort(-gating) if gating[expert] >= _LEAST_PROBABILITY]
    arms = [arm] + [_arrived(contract, kinematics, history)[0] for _ in shown[1:]]
    behind, robot = history[-1][0] - history[-1][1], len(contract.robot.joints)
    paths = [[kinematics.tool_position(arm.commanded[:robot])] for arm in arms]
    means = np.repeat(answer.mean[:1], len(shown), axis=0)
    for _ in range(steps):
        windows = []
        for row, (arm, expert, path) in enumerate(zip(arms, shown, paths)):
            target = arm.target(means[row, expert, 0].astype(np.float64))
            if np.isfinite(target).all():
                arm.sent(target)
            windows.append(arm.observe(arm.commanded + behind))
            path.append(kinematics.tool_position(arm.commanded[:robot]))
        means = policy.experts(np.stack(windows)).mean
    return tuple(Way(expert, float(gating[expert]), np.array(path)) for expert, path in zip(shown, paths))


def _arrived(
    contract: Contract, kinematics: Kinematics, history: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[PolicyInterface, np.ndarray]:
    """Return an arm that has gone through a history, and what it sees now."""
    arm = PolicyInterface(contract, kinematics)
    arm.anchor(history[0][1])
    for measured, commanded in history:
        arm.sent(commanded)
        window = arm.observe(measured)
    return arm, window
