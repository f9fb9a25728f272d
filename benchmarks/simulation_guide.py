"""Policies with a fixed path, to measure their cost independently of their success."""

from __future__ import annotations

import numpy as np

from vdd_ros.policy.artifact import Artifact
from vdd_ros.policy.chunk import Plan
from vdd_ros.policy.experts import Experts
from vdd_ros.policy.policy import DistilledPolicy

_VIA_Y = (-0.28, -0.14, -0.06, 0.04, 0.12, 0.22, 0.40)
_VIA_X = (0.525, 0.42, 0.42, 0.36, 0.36, 0.28, 0.28)
_STEP = 0.01


def guided(window: np.ndarray) -> np.ndarray:
    """Return steps of 10 mm along one path through Avoiding, shape (batch, 1, 2) [m], from the commanded x and y."""
    commanded = window[:, -1, :2].astype(np.float64)
    y = commanded[:, 1] + _STEP
    return (np.stack([np.interp(y, _VIA_Y, _VIA_X), y], axis=1) - commanded)[:, None]


class Guide:
    """The fixed path without a network."""

    def plan(self, observation: np.ndarray, generator: np.random.Generator) -> Plan:
        """Follow the path."""
        return Plan(guided(observation), np.full(len(observation), -1))


class GuidedStudent(DistilledPolicy):
    """A student whose network is evaluated, and whose experts are then replaced by the fixed path."""

    def __init__(self, artifact: Artifact) -> None:
        """Load the network of an artifact."""
        super().__init__(artifact)
        self.calls = 0

    def experts(self, observation: np.ndarray) -> Experts:
        """Evaluate the network, and return the fixed path."""
        self.calls += 1
        asked = super().experts(observation)
        mean = np.broadcast_to(guided(observation)[:, None], asked.mean.shape)
        # Standard deviations at the floor of the scales: no correlation, no deviation from the path.
        spread = np.zeros_like(asked.covariance_parameters)
        spread[..., : mean[0, 0].size] = -20.0
        return Experts(asked.log_gating, mean.astype(np.float32), spread)
