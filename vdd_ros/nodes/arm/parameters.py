"""The parameters that every node that moves an arm has: where commands go, how often, and under which rules."""

from __future__ import annotations

from collections.abc import Mapping

from vdd_ros.control.deployment import Deployment
from vdd_ros.nodes.parameters import STRINGS, Parameter, Value

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
    Parameter('trajectory_reach', 0.0, 'when trajectories arrive [s]; 0: after two commands', minimum=0.0, maximum=5.0),
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
    Parameter('start_speed', 0.1, 'speed of the approach to the start [rad/s]', minimum=0.001, maximum=3.0),
)


def deployment_of(values: Mapping[str, Value]) -> Deployment:
    """Return the rules that commands are under; those that a node has no parameter for are the usual ones."""
    return Deployment.parse({name: values[name] for name in Deployment.model_fields if name in values})
