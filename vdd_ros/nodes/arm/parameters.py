"""Parameters of every node that moves an arm: controller, rates and rules."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.parameters import STRINGS, Parameter, Value, parameters_of

_FASTEST = 125.0
"""Trajectories per second; each is computed separately."""

RULES = (
    'slow_speed',
    'control_rate',
    'max_age',
    'warn_age',
    'coast',
    'stale_stop',
    'joint_limits',
    'velocity_scale',
    'acceleration_time',
    'jerk_time',
    'max_lag',
    'start_speed',
)
"""Those fields of `Deployment` that concern every arm, whatever its plans come from."""

PARAMETERS = (
    *parameters_of(Deployment, RULES),
    Parameter('controller', '', 'name of the controller; empty: the commands topic of the contract', topic=True),
    Parameter(
        'interface',
        'position',
        'position: Float64MultiArray on NAME/commands; trajectory: JointTrajectory on NAME/joint_trajectory',
        choices=('position', 'trajectory'),
    ),
    Parameter('controller_joints', STRINGS, 'joints in the order of the controller; empty: order of the contract'),
    Parameter(
        'trajectory_horizon',
        0.15,
        'duration for which a trajectory follows the plan before it stops [s]',
        minimum=0.05,
        maximum=1.0,
    ),
    Parameter('autostart', False, 'configure and activate automatically after the first joint state'),
    Parameter(
        'startup_timeout', 10.0, 'maximum waiting time of autostart for the arm [s]', minimum=0.1, maximum=3600.0
    ),
    Parameter('realtime_priority', 0, 'priority of the command thread (SCHED_FIFO); 0: none', minimum=0, maximum=99),
)


def deployment_of(values: Mapping[str, Value]) -> Deployment:
    """Return the deployment parameters; those that a node does not declare have their defaults."""
    return Deployment.parse({name: values[name] for name in Deployment.model_fields if name in values})


def horizon_of(values: Mapping[str, Value]) -> float:
    """Return the look-ahead of the control loop [s]; 0 for a position controller."""
    return values['trajectory_horizon'] if values['interface'] == 'trajectory' else 0.0


def period_of(values: Mapping[str, Value], contract: Contract, *, simulated: bool) -> int:
    """Return the control period [ns].

    Raises
    ------
    ConfigurationError
        It is shorter than a trajectory controller needs.

    """
    period = deployment_of(values).control_period(contract, simulated=simulated)
    if values['interface'] == 'trajectory' and NANOSECONDS / _FASTEST > period < contract.period:
        raise ConfigurationError(
            expected=f'a control_rate of at most {_FASTEST:g} Hz with a trajectory controller, which interpolates',
            found=f'{NANOSECONDS / period:g} Hz',
            remedy='set control_rate to 100.0, and validate with it',
        )
    return period
