"""The parameters of the policy node, and the control loop that they describe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.nodes.arm import parameters as arm_parameters
from vdd_ros.nodes.arm.parameters import deployment_of, horizon_of
from vdd_ros.nodes.parameters import INTEGERS, Parameter, Value
from vdd_ros.nodes.policy import gatekeeper
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics

PARAMETERS = (
    Parameter(
        'artifact', '', 'folder of the student; set it at run time to replace the student', dynamic=True, path=True
    ),
    Parameter(
        'contract',
        '',
        'required contract of the artifact: a file, or one that ships; empty: any contract',
        path=True,
    ),
    Parameter(
        'operating_mode',
        'full',
        'shadow: compute and compare, send no commands; slow: reduced speed; full',
        choices=('shadow', 'slow', 'full'),
        former_name='stage',
    ),
    Parameter('stream_max_age', 0.5, 'maximum age of topic features [s]', minimum=0.001, maximum=60.0),
    Parameter(
        'max_skew', 0.0, 'maximum difference of the stamps of two streams [s]; 0: no limit', minimum=0.0, maximum=60.0
    ),
    Parameter('limits', 'clamp', 'plan beyond a limit: clamp or reject it', choices=('clamp', 'reject')),
    Parameter('start_threshold', 0.5, 'maximum distance of the first waypoint [rad]', minimum=0.001, maximum=10.0),
    Parameter(
        'start', 'refuse', 'response to a larger distance: refuse, or approach slowly', choices=('refuse', 'approach')
    ),
    Parameter('replan_steps', 0, "policy periods between plans; 0: the contract's", minimum=0, maximum=32),
    Parameter('coast_steps', 8, 'further steps of a chunk if the next plan is late', minimum=0, maximum=32),
    Parameter(
        'smoothing', 3.0, 'time constant of the smoothing of waypoints [policy periods]', minimum=0.0, maximum=10.0
    ),
    Parameter('blend', 1.0, 'duration of the transition to a late plan [policy periods]', minimum=0.01, maximum=10.0),
    Parameter(
        'coherence',
        0.2,
        'weight of the likelihood of the rest of the current chunk in the choice of the next expert; 0: off',
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        'action_noise_scale',
        0.0,
        'scale of the action noise, as a share of the standard deviation of the expert; 0: its mean',
        minimum=0.0,
        maximum=1.0,
        former_name='spread',
    ),
    Parameter('routing', 'sample', 'choice of the expert from the gating', choices=('sample', 'likeliest')),
    Parameter(
        'temperature',
        1.0,
        'temperature of the gating; below 1 likely experts become more likely',
        minimum=0.01,
        maximum=100.0,
    ),
    Parameter(
        'expert_hysteresis',
        0.0,
        'the acting expert continues while its probability relative to the best is above this; 0: off',
        minimum=0.0,
        maximum=1.0,
        former_name='keep_above',
    ),
    Parameter(
        'direction_hysteresis',
        0.0,
        'the acting expert continues while the cosine of the change of direction is above this; 0: off',
        minimum=0.0,
        maximum=1.0,
        former_name='same_way',
    ),
    Parameter('forbidden_experts', INTEGERS, 'experts that must not act'),
    Parameter(
        'rules',
        '',
        'YAML file with rules on experts (docs/deployment.md)',
        dynamic=True,
        path=True,
    ),
    Parameter(
        'ood_response',
        'act',
        'response to out-of-distribution observations. ignore: none; watch: warn; act: warn, slow down, stop',
        choices=('ignore', 'watch', 'act'),
        former_name='novelty',
    ),
    Parameter(
        'ood_warn_share',
        0.01,
        'quantile of the demonstrations below which a warning is raised',
        minimum=0.0,
        maximum=0.5,
        former_name='novelty_warn',
    ),
    Parameter(
        'ood_stop_reach',
        1.0,
        'stop threshold: distance below the lowest demonstration, relative to its distance from the median',
        minimum=0.0,
        maximum=100.0,
        former_name='novelty_reach',
    ),
    Parameter('seed', 0, 'seed of the random choice of experts', minimum=0, maximum=2**31 - 1),
    Parameter('threads', 1, 'inference threads; one has the lowest tail latency', minimum=1, maximum=64),
    Parameter('markers_rate', 2.0, 'rate of the markers on ~/ways, with a subscriber [Hz]', minimum=0.1, maximum=30.0),
    Parameter('markers_steps', 40, 'length of the paths in the markers [policy periods]', minimum=1, maximum=500),
    Parameter('markers_frame', 'world', 'frame of the markers: that of the base of the robot model'),
    *arm_parameters.PARAMETERS,
    *gatekeeper.PARAMETERS,
)


def build_loop(
    values: Mapping[str, Value],
    policy: DistilledPolicy,
    kinematics: Kinematics,
    *,
    period: int,
    streams: LiveStreams | None,
    simulated: bool = False,
) -> ControlLoop:
    """Assemble the control loop of a deployment; a simulated arm may jump.

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
        guarded=not simulated and values['operating_mode'] != 'shadow',
        horizon=0.0 if values['operating_mode'] == 'shadow' else horizon_of(values),
    )
