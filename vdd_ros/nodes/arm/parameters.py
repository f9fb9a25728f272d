"""The parameters that every node that moves an arm has: where commands go, how often, and under which rules."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.arm.output import INTERFACES, TRAJECTORY
from vdd_ros.nodes.parameters import STRINGS, Parameter, Value

_FASTEST = 125.0
"""Trajectories per second; each is computed anew."""

PARAMETERS = (
    Parameter('slow_speed', 0.25, 'speed of stage slow, as a share of the full one', minimum=0.01, maximum=1.0),
    Parameter('controller', '', 'its name; empty: the commands topic of the contract', topic=True),
    Parameter(
        'interface',
        'position',
        'what the controller takes: Float64MultiArray on NAME/commands or JointTrajectory on NAME/joint_trajectory',
        choices=('position', 'trajectory'),
    ),
    Parameter('controller_joints', STRINGS, "joints in the controller's own order; empty: in that of the contract"),
    Parameter(
        'trajectory_horizon',
        0.15,
        'how far ahead trajectories follow the plan before they stop [s]',
        minimum=0.05,
        maximum=1.0,
    ),
    Parameter('autostart', False, 'configure and activate without being asked, once the arm is heard'),
    Parameter('startup_timeout', 10.0, 'how long autostart waits for the arm [s]', minimum=0.1, maximum=3600.0),
    Parameter(
        'control_rate',
        0.0,
        'commands per second [Hz]; 0: the policy rate in simulated time, 250 Hz or the policy rate in wall time',
        minimum=0.0,
        maximum=1000.0,
    ),
    Parameter('realtime_priority', 0, 'of the commanding thread under SCHED_FIFO; 0: none', minimum=0, maximum=99),
    Parameter('max_age', 0.25, 'age over which a joint state is not planned from [s]', minimum=0.001, maximum=10.0),
    Parameter('warn_age', 0.0, 'age that is complained of [s]; 0: half of max_age', minimum=0.0, maximum=10.0),
    Parameter('coast', 0.0, 'how long the arm goes on with its plan after that [s]', minimum=0.0, maximum=10.0),
    Parameter('stale_stop', False, 'whether a stop for want of joint states waits for ~/resume'),
    Parameter('joint_limits', '', 'joint_limits.yaml, or a name of config/robots; the stricter limit wins', path=True),
    Parameter('velocity_scale', 1.0, 'share of the velocity limits', minimum=0.01, maximum=1.0),
    Parameter('acceleration_time', 0.5, 'to full speed, where no acceleration is told [s]', minimum=0.01, maximum=10.0),
    Parameter('jerk_time', 0.1, 'to full acceleration, where no jerk is told [s]', minimum=0.001, maximum=10.0),
    Parameter('max_lag', 0.5, 'how far a command may be from the measured position [rad]', minimum=0.01, maximum=3.2),
    Parameter('grippers', STRINGS, 'joints that close on objects: that they stand still on one is no fault'),
    Parameter('start_speed', 0.1, 'speed of the approach to the start [rad/s]', minimum=0.001, maximum=3.0),
)


def deployment_of(values: Mapping[str, Value]) -> Deployment:
    """Return the rules that commands are under; those that a node has no parameter for are the usual ones."""
    return Deployment.parse({name: values[name] for name in Deployment.model_fields if name in values})


def horizon_of(values: Mapping[str, Value], contract: Contract) -> float:
    """Return how far the control loop looks ahead [s]; 0 where no controller takes trajectories."""
    return values['trajectory_horizon'] if _takes_trajectories(values, contract) else 0.0


def _takes_trajectories(values: Mapping[str, Value], contract: Contract) -> bool:
    further = (controller.type for controller in contract.controllers[1:])
    return INTERFACES[values['interface']] == TRAJECTORY or TRAJECTORY in further


def period_of(values: Mapping[str, Value], contract: Contract, *, simulated: bool) -> int:
    """Return the time between two commands [ns].

    Raises
    ------
    ConfigurationError
        It is shorter than a trajectory controller needs.

    """
    period = deployment_of(values).control_period(contract, simulated=simulated)
    if _takes_trajectories(values, contract) and NANOSECONDS / _FASTEST > period < contract.period:
        raise ConfigurationError(
            expected=f'a control_rate of at most {_FASTEST:g} Hz with a trajectory controller, which interpolates',
            found=f'{NANOSECONDS / period:g} Hz',
            remedy='set control_rate to 100.0, and validate with it',
        )
    return period
