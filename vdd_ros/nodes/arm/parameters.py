"""Parameters of every node that moves an arm: controller, rates and rules."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.arm.output import INTERFACES, TRAJECTORY
from vdd_ros.nodes.parameters import STRINGS, Parameter, Value, parameters_of

_FASTEST = 125.0
"""Maximum number of trajectories per second; each trajectory is computed separately."""

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
    'grippers',
    'start_speed',
)
"""Fields of `Deployment` that apply to every arm, regardless of the source of its plans."""

PARAMETERS = (
    *parameters_of(Deployment, RULES),
    Parameter('controller', '', 'name of the controller; empty: the commands topic of the contract', topic=True),
    Parameter(
        'interface',
        'position',
        'position: Float64MultiArray on NAME/commands; trajectory: JointTrajectory on NAME/joint_trajectory; '
        'follow_joint_trajectory: the action NAME/follow_joint_trajectory, which needs control_msgs',
        choices=tuple(INTERFACES),
    ),
    Parameter(
        'gripper_interface',
        'topic',
        'further controllers of type GripperCommand take the topic, or the action, that the contract names',
        choices=('topic', 'action'),
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
    """Return the deployment parameters; parameters that a node does not declare have their defaults."""
    return Deployment.parse({name: values[name] for name in Deployment.model_fields if name in values})


def horizon_of(values: Mapping[str, Value], contract: Contract) -> float:
    """Return the look-ahead of the control loop [s]; 0 if no controller takes trajectories."""
    return values['trajectory_horizon'] if _takes_trajectories(values, contract) else 0.0


def _takes_trajectories(values: Mapping[str, Value], contract: Contract) -> bool:
    further = (controller.type for controller in contract.controllers[1:])
    return INTERFACES[values['interface']] == TRAJECTORY or TRAJECTORY in further


def period_of(values: Mapping[str, Value], contract: Contract, *, simulated: bool) -> int:
    """Return the control period [ns].

    Raises
    ------
    ConfigurationError
        The period is too short for a trajectory controller.

    """
    period = deployment_of(values).control_period(contract, simulated=simulated)
    if _takes_trajectories(values, contract) and NANOSECONDS / _FASTEST > period < contract.period:
        raise ConfigurationError(
            expected=f'a control_rate of at most {_FASTEST:g} Hz with a trajectory controller, which interpolates',
            found=f'{NANOSECONDS / period:g} Hz',
            remedy='set control_rate to 100.0, and validate with it',
        )
    return period
