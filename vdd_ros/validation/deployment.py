"""How the policy node is set up: rollouts apply the rules that the arm's own commands are under."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import yaml
from pydantic import Field

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.planner import Student
from vdd_ros.control.routing import SPREAD, Routing
from vdd_ros.errors import ConfigurationError
from vdd_ros.kinematics import Kinematics
from vdd_ros.settings import Settings
from vdd_ros.share import share_path


class Deployment(Settings):
    """The parameters of the policy node that matter in lockstep, by their names there."""

    max_age: float = Field(0.25, gt=0)
    """Age of the joint state over which the arm holds [s]."""
    velocity_scale: float = Field(1.0, gt=0, le=1)
    """Share of the velocity limits of the robot model."""
    max_lag: float = Field(0.5, gt=0)
    """How far a command may be from the measured position [rad]."""
    routing: str = 'sample'
    """How the expert is chosen."""
    spread: float = Field(SPREAD, ge=0)
    """How much of its own spread an expert acts with."""

    def limits(self, kinematics: Kinematics) -> Limits:
        """Return the limits that commands of an arm are under."""
        velocity = kinematics.velocity_limits * self.velocity_scale
        return Limits(kinematics.lower, kinematics.upper, velocity, self.max_lag)

    def loop(
        self,
        contract: Contract,
        policy: Student,
        kinematics: Kinematics,
        limits: Limits,
        generator: np.random.Generator,
    ) -> ControlLoop:
        """Return the loop that commands an arm, in lockstep."""
        return ControlLoop(
            contract,
            policy,
            kinematics,
            limits=limits,
            freshness=Freshness(round(self.max_age * NANOSECONDS)),
            routing=Routing(self.routing),
            execution=Execution(spread=self.spread),
            generator=generator,
        )


def load_deployment(path: str | Path | None = None) -> Deployment:
    """Read the parameters of the policy node from its YAML; without a path, those that ship (``config/policy.yaml``).

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, or a value is out of range.

    """
    file = share_path('config', 'policy.yaml') if path is None else Path(path)
    try:
        nodes = yaml.safe_load(file.read_text(encoding='utf-8'))
        parameters = next(each['ros__parameters'] for name, each in nodes.items() if name.endswith('policy_node'))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, StopIteration, TypeError) as error:
        raise ConfigurationError(
            expected=f'parameters of policy_node in {file}',
            found=f'{type(error).__name__} {" ".join(str(error).split())}',
            remedy='give a parameter file as policy.launch.py takes it',
        ) from error
    return Deployment.parse({name: value for name, value in parameters.items() if name in Deployment.model_fields})
