"""Parameters of every node that moves an arm: controller, rates and rules."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.parameters import STRINGS, Parameter, Value

_FASTEST = 125.0
"""Trajectories per second; each is computed separately."""

PARAMETERS = (
    Parameter('slow_speed', 0.25, 'speed in slow mode, as a share of full speed', minimum=0.01, maximum=1.0),
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
    Parameter(
        'control_rate',
        0.0,
        'rate of commands [Hz]; 0: the policy rate in simulated time, otherwise 250 Hz or the policy rate',
        minimum=0.0,
        maximum=1000.0,
    ),
    Parameter('realtime_priority', 0, 'priority of the command thread (SCHED_FIFO); 0: none', minimum=0, maximum=99),
    Parameter('max_age', 0.25, 'maximum age of joint states for planning [s]', minimum=0.001, maximum=10.0),
    Parameter(
        'warn_age', 0.0, 'age of joint states that causes a warning [s]; 0: half of max_age', minimum=0.0, maximum=10.0
    ),
    Parameter('coast', 0.0, 'time for which the plan continues after max_age [s]', minimum=0.0, maximum=10.0),
    Parameter('stale_stop', False, 'whether a stop caused by old joint states needs ~/resume'),
    Parameter(
        'joint_limits', '', 'joint_limits.yaml, or a robot of config/robots; the stricter limit applies', path=True
    ),
    Parameter('velocity_scale', 1.0, 'factor on the velocity limits', minimum=0.01, maximum=1.0),
    Parameter(
        'acceleration_time', 0.5, 'time to full speed without acceleration limit [s]', minimum=0.01, maximum=10.0
    ),
    Parameter('jerk_time', 0.1, 'time to full acceleration without jerk limit [s]', minimum=0.001, maximum=10.0),
    Parameter('max_lag', 0.5, 'maximum distance of command and measured position [rad]', minimum=0.01, maximum=3.2),
    Parameter('start_speed', 0.1, 'speed of the approach to the start [rad/s]', minimum=0.001, maximum=3.0),
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
