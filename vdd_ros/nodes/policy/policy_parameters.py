"""The parameters of the policy node, and the control loop that they describe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.features import TopicFeature
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
        'artifact', '', 'folder of the student to act by; set it anew to act by another one', dynamic=True, path=True
    ),
    Parameter(
        'contract',
        '',
        'contract that the artifact must be of: a file, or one that ships; empty asks for none',
        path=True,
    ),
    Parameter(
        'operating_mode',
        'full',
        'shadow infers and compares, never commands',
        choices=('shadow', 'slow', 'full'),
        former_name='stage',
    ),
    Parameter('stream_max_age', 0.5, 'the same for topics of their own [s]', minimum=0.001, maximum=60.0),
    Parameter('max_skew', 0.0, 'greatest difference of two streams [s]; 0: any', minimum=0.0, maximum=60.0),
    Parameter('limits', 'clamp', 'clamp: do what may be done of a plan; reject: nothing', choices=('clamp', 'reject')),
    Parameter('start_threshold', 0.5, 'how far the first waypoint may be [rad]', minimum=0.001, maximum=10.0),
    Parameter('start', 'refuse', 'if it is farther: refuse, or approach slowly', choices=('refuse', 'approach')),
    Parameter('replan_steps', 0, "policy periods between plans; 0: the contract's", minimum=0, maximum=32),
    Parameter('coast_steps', 8, 'further steps of a chunk if the next plan is late', minimum=0, maximum=32),
    Parameter('smoothing', 3.0, 'time constant that smooths the waypoints [policy periods]', minimum=0.0, maximum=10.0),
    Parameter('blend', 1.0, 'duration of the seam of a late plan [policy periods]', minimum=0.01, maximum=10.0),
    Parameter(
        'coherence',
        0.2,
        'how strongly the rest of the chunk under way weighs in the choice of the next expert; 0: not at all',
        minimum=0.0,
        maximum=10.0,
    ),
    Parameter(
        'action_noise_scale',
        0.0,
        "share of an expert's standard deviation that actions are drawn with; 0: its mean",
        minimum=0.0,
        maximum=1.0,
        former_name='spread',
    ),
    Parameter('routing', 'sample', 'how the expert is chosen from the gating', choices=('sample', 'likeliest')),
    Parameter('temperature', 1.0, 'of the gating; below 1 the likely get likelier', minimum=0.01, maximum=100.0),
    Parameter(
        'expert_hysteresis',
        0.0,
        'an expert acts on while so likely beside the best; 0: off',
        minimum=0.0,
        maximum=1.0,
        former_name='keep_above',
    ),
    Parameter(
        'direction_hysteresis',
        0.0,
        'and while its direction changes by no more than this cosine; 0: off',
        minimum=0.0,
        maximum=1.0,
        former_name='same_way',
    ),
    Parameter('forbidden_experts', INTEGERS, 'experts that must not act'),
    Parameter(
        'rules',
        '',
        'YAML with rules on experts (docs/deployment.md); may be set while it acts',
        dynamic=True,
        path=True,
    ),
    Parameter(
        'ood_response',
        'act',
        'what is done where the policy has not been: ignore: nothing; watch: tell; act: tell, slow down, stop',
        choices=('ignore', 'watch', 'act'),
        former_name='novelty',
    ),
    Parameter(
        'ood_warn_share',
        0.01,
        'share of the demonstrations that is unusual',
        minimum=0.0,
        maximum=0.5,
        former_name='novelty_warn',
    ),
    Parameter(
        'ood_stop_reach',
        1.0,
        'how far beyond the demonstrations it stops',
        minimum=0.0,
        maximum=100.0,
        former_name='novelty_reach',
    ),
    Parameter('seed', 0, 'seed of the draws of experts', minimum=0, maximum=2**31 - 1),
    Parameter('threads', 1, 'threads of inference; one has the best tail', minimum=1, maximum=64),
    Parameter('markers_rate', 2.0, 'markers per second on ~/ways, if somebody looks [Hz]', minimum=0.1, maximum=30.0),
    Parameter('markers_steps', 40, 'policy periods that they look ahead', minimum=1, maximum=500),
    Parameter('markers_frame', 'world', 'frame that the robot model stands in'),
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
    strange = [feature for feature in contract.further_actions if isinstance(feature, TopicFeature)]
    strange = [feature for feature in strange if contract.controller_of(feature) is None]
    if strange:
        raise ConfigurationError(
            expected='a contract whose actions are positions that controllers take: numbers, arrays whose numbers are '
            'all commanded, gripper commands, JointTrajectory or JointState',
            found=', '.join(f'{feature.name} on {feature.topic} ({feature.type})' for feature in strange),
            remedy='command joints, and let a node between convert them',
        )
    return deployment_of(values).build_loop(
        contract,
        policy,
        kinematics,
        period=period,
        generator=np.random.default_rng(values['seed']),
        streams=streams,
        guarded=not simulated and values['operating_mode'] != 'shadow',
        horizon=0.0 if values['operating_mode'] == 'shadow' else horizon_of(values, contract),
    )
