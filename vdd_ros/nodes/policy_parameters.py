"""The parameters of the policy node, and the control loop that they describe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.contract import NANOSECONDS, Contract
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.routing import SPREAD
from vdd_ros.data.live import LiveStreams
from vdd_ros.deployment import Deployment
from vdd_ros.errors import ConfigurationError
from vdd_ros.kinematics import Kinematics
from vdd_ros.nodes import gatekeeper
from vdd_ros.nodes.parameters import INTEGERS, STRINGS, Parameter, Value
from vdd_ros.policy import DistilledPolicy

PARAMETERS = (
    Parameter('artifact', '', 'folder of the student to act by; set it anew to act by another one', dynamic=True),
    Parameter('contract', '', 'contract that the artifact must be of: a file, or one that ships; empty asks for none'),
    Parameter('stage', 'full', 'shadow infers and compares, never commands', choices=('shadow', 'slow', 'full')),
    Parameter('slow_speed', 0.25, 'speed of stage slow, as a share of the full one', minimum=0.01, maximum=1.0),
    Parameter('controller', '', 'its name; empty: the commands topic of the contract'),
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
    Parameter('stream_max_age', 0.5, 'the same for topics of their own [s]', minimum=0.001, maximum=60.0),
    Parameter('max_skew', 0.0, 'greatest difference of two streams [s]; 0: any', minimum=0.0, maximum=60.0),
    Parameter('stale_stop', False, 'whether a stop for want of joint states waits for ~/resume'),
    Parameter('joint_limits', '', 'joint_limits.yaml, or a name of config/robots; the stricter limit wins'),
    Parameter('velocity_scale', 1.0, 'share of the velocity limits', minimum=0.01, maximum=1.0),
    Parameter('acceleration_time', 0.5, 'to full speed, where no acceleration is told [s]', minimum=0.01, maximum=10.0),
    Parameter('jerk_time', 0.1, 'to full acceleration, where no jerk is told [s]', minimum=0.001, maximum=10.0),
    Parameter('max_lag', 0.5, 'how far a command may be from the measured position [rad]', minimum=0.01, maximum=3.2),
    Parameter('limits', 'clamp', 'clamp: do what may be done of a plan; reject: nothing', choices=('clamp', 'reject')),
    Parameter('start_threshold', 0.5, 'how far the first waypoint may be [rad]', minimum=0.001, maximum=10.0),
    Parameter('start', 'refuse', 'if it is farther: refuse, or approach slowly', choices=('refuse', 'approach')),
    Parameter('start_speed', 0.1, 'speed of the approach [rad/s]', minimum=0.001, maximum=3.0),
    Parameter('replan_steps', 0, "policy periods between plans; 0: the contract's", minimum=0, maximum=32),
    Parameter('coast_steps', 4, 'further steps of a chunk if the next plan is late', minimum=0, maximum=32),
    Parameter('blend', 0.5, 'least duration of a seam between plans [policy periods]', minimum=0.01, maximum=10.0),
    Parameter('spread', SPREAD, "share of an expert's own spread that it acts with; 0: calm", minimum=0.0, maximum=1.0),
    Parameter('routing', 'sample', 'how the expert is chosen from the gating', choices=('sample', 'likeliest')),
    Parameter('temperature', 1.0, 'of the gating; below 1 the likely get likelier', minimum=0.01, maximum=100.0),
    Parameter('keep_above', 0.0, 'an expert acts on while so likely beside the best; 0: off', minimum=0.0, maximum=1.0),
    Parameter('same_way', 0.0, 'and while its way turns by no more than this cosine; 0: off', minimum=0.0, maximum=1.0),
    Parameter('forbidden_experts', INTEGERS, 'experts that must not act'),
    Parameter('rules', '', 'YAML with rules on experts: forbid, prefer, pin; may be set while it acts', dynamic=True),
    Parameter(
        'novelty',
        'act',
        'what is done where the policy has not been: ignore: nothing; watch: tell; act: tell, slow down, stop',
        choices=('ignore', 'watch', 'act'),
    ),
    Parameter('novelty_warn', 0.01, 'share of the demonstrations that is unusual', minimum=0.0, maximum=0.5),
    Parameter('novelty_reach', 1.0, 'how far beyond the demonstrations it stops', minimum=0.0, maximum=100.0),
    Parameter('seed', 0, 'seed of the draws of experts', minimum=0, maximum=2**31 - 1),
    Parameter('threads', 1, 'threads of inference; one has the best tail', minimum=1, maximum=64),
    Parameter('markers_rate', 2.0, 'markers per second on ~/ways, if somebody looks [Hz]', minimum=0.1, maximum=30.0),
    Parameter('markers_steps', 40, 'policy periods that they look ahead', minimum=1, maximum=500),
    Parameter('markers_frame', 'world', 'frame that the robot model stands in'),
    *gatekeeper.PARAMETERS,
)

_WALL_RATE = 250.0


def control_period(values: Mapping[str, Value], contract: Contract, *, simulated: bool) -> int:
    """Return the time between two commands [ns]."""
    rate = values['control_rate'] or (0.0 if simulated else max(_WALL_RATE, contract.policy_rate))
    return round(NANOSECONDS / rate) if rate else contract.period


def deployment_of(values: Mapping[str, Value]) -> Deployment:
    """Return the rules that commands are under."""
    return Deployment.parse({name: values[name] for name in Deployment.model_fields})


def build_loop(
    values: Mapping[str, Value],
    policy: DistilledPolicy,
    kinematics: Kinematics,
    *,
    period: int,
    streams: LiveStreams | None,
) -> ControlLoop:
    """Assemble the control loop of a deployment.

    Raises
    ------
    ConfigurationError
        The parameters contradict each other, or name files that cannot be read.

    """
    contract = policy.contract
    if any(feature.source == 'topic' for feature in contract.actions):
        raise ConfigurationError(
            expected='a contract whose actions move joints of the robot',
            found=', '.join(feature.name for feature in contract.actions if feature.source == 'topic'),
            remedy='make what is commanded a joint of the robot; this node commands one controller',
        )
    return deployment_of(values).build_loop(
        contract,
        policy,
        kinematics,
        period=period,
        generator=np.random.default_rng(values['seed']),
        streams=streams,
    )
