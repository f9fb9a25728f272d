"""The student that acts in a configured policy node, and the arm that it commands."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from vdd_ros.contract.contract import Contract
from vdd_ros.nodes.arm.driver import ArmDriver
from vdd_ros.nodes.parameters import Value
from vdd_ros.policy.policy import DistilledPolicy


@dataclass
class Acting:
    """The acting student and its arm, from the configuration of a node until its cleanup."""

    driver: ArmDriver
    """The connection to the arm."""
    policy: DistilledPolicy
    """The acting student; a reload replaces it by another one of the same contract."""
    effective: Mapping[str, Value]
    """Parameter values under the restrictions of the stage."""

    @property
    def contract(self) -> Contract:
        """Contract of the student at configuration."""
        return self.driver.setting.contract
