"""The requirements of the deployment gate: thresholds of metrics, by scenario."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.validation.report_file import OVER_ROS


class Threshold(Settings):
    """Thresholds for the metrics of a policy in one scenario: each field is a minimum or a maximum, as stated there.

    A metric whose threshold is None is not checked.
    """

    episodes: int = Field(1, ge=1)
    """Minimum number of episodes."""
    success: float | None = Field(None, ge=0, le=1)
    """Minimum success rate."""
    success_low: float | None = Field(None, ge=0, le=1)
    """Minimum lower end of the 95 % interval of the success rate, which prevents passing by chance."""
    entropy: float | None = Field(None, ge=0, le=1)
    """Minimum entropy of the modes: 0 for a single mode, 1 for equally frequent modes."""
    seconds: float | None = Field(None, gt=0)
    """Maximum mean duration of a success [s]."""
    jerk: float | None = Field(None, gt=0)
    """Maximum of the median root mean square jerk of the tool point [m/s^3]."""
    clamped: float | None = Field(None, ge=0, le=1)
    """Maximum share of the policy periods in which a limit changed the command."""
    near_miss: float | None = None
    """Minimum distance to every obstacle kept by 95 % of the successes [m]."""
    behind_teacher: float | None = Field(None, ge=0, le=1)
    """Maximum difference of the success rate from the teacher, if the report includes the teacher."""


class Gate(Settings):
    """Requirements that the report of a validation must meet before the policy may command an arm."""

    scenarios: dict[str, Threshold] = Field(default_factory=dict)
    """Requirements by scenario; the report must contain these scenarios."""
    others: Threshold | None = None
    """Requirements for every other scenario in the report."""
    over_ros: Threshold | None = None
    """Requirements for rollouts over ROS in real time, if the report contains them."""
    latency: float | None = Field(None, gt=0)
    """Maximum 99th percentile of one plan, as a share of the policy period."""

    def threshold(self, scenario: str) -> Threshold | None:
        """Return the requirements for a scenario of a report."""
        return self.scenarios.get(scenario, self.over_ros if scenario.startswith(OVER_ROS) else self.others)


def load_gate(path: str | Path | None = None) -> Gate:
    """Read thresholds from YAML; by default ``config/gate.yaml``.

    Raises
    ------
    ConfigurationError
        The file is missing or malformed, a key is unknown, or a value is out of range.

    """
    file = share_path('config', 'gate.yaml') if path is None else Path(path)
    return Gate.read(file)
