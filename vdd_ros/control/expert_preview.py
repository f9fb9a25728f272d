"""Expert preview: the tool path of each expert if that expert alone acted. For display only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract.contract import Contract
from vdd_ros.control.policy_interface import Kinematics, PolicyInterface
from vdd_ros.policy.policy import DistilledPolicy

_LEAST_PROBABILITY = 0.01


@dataclass(frozen=True)
class ExpertPath:
    """The predicted path of the tool if one expert acts from now on."""

    expert: int
    probability: float
    """Probability of the expert by the gating."""
    points: np.ndarray
    """Path of the tool from the present position; shape (step + 1, 3) [m]."""


def preview_experts(
    contract: Contract,
    policy: DistilledPolicy,
    kinematics: Kinematics,
    history: Sequence[tuple[np.ndarray, np.ndarray]],
    steps: int,
) -> tuple[ExpertPath, ...]:
    """Predict the tool path of each expert: its mean is executed at every step, and the arm follows as it does now.

    Parameters
    ----------
    contract, policy
        Observation and action, and the policy. Paths end with the first chunk if the observation has topic features,
        whose future values are unknown.
    kinematics
        Kinematics of the robot. Do not share the object with other threads during the call.
    history
        Measured and commanded joint positions at the policy ticks up to now, oldest first, shape (joint,) [rad].
    steps
        Policy periods to look ahead.

    """
    if not history or contract.topic_features:
        return ()
    arm, window = _arrived(contract, kinematics, history)
    output = policy.experts(window[None])
    gating = np.exp(output.log_gating[0])
    shown = [int(expert) for expert in np.argsort(-gating) if gating[expert] >= _LEAST_PROBABILITY]
    arms = [arm] + [_arrived(contract, kinematics, history)[0] for _ in shown[1:]]
    behind, robot = history[-1][0] - history[-1][1], len(contract.robot.joints)
    paths = [[kinematics.tool_position(arm.commanded[:robot])] for arm in arms]
    means = np.repeat(output.mean[:1], len(shown), axis=0)
    for _ in range(steps):
        windows = []
        for row, (arm, expert, path) in enumerate(zip(arms, shown, paths)):
            target = arm.target(means[row, expert, 0].astype(np.float64))
            if np.isfinite(target).all():
                arm.sent(target)
            windows.append(arm.observe(arm.commanded + behind))
            path.append(kinematics.tool_position(arm.commanded[:robot]))
        means = policy.experts(np.stack(windows)).mean
    return tuple(ExpertPath(expert, float(gating[expert]), np.array(path)) for expert, path in zip(shown, paths))


def _arrived(
    contract: Contract, kinematics: Kinematics, history: Sequence[tuple[np.ndarray, np.ndarray]]
) -> tuple[PolicyInterface, np.ndarray]:
    """Return an arm that has moved along a history, and its present observation window."""
    arm = PolicyInterface(contract, kinematics)
    arm.anchor(history[0][1])
    for measured, commanded in history:
        arm.sent(commanded)
        window = arm.observe(measured)
    return arm, window
