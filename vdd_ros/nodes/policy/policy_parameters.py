"""The parameters of the policy node, and the control loop that they describe."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np
from rclpy.node import Node

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.contract.features import TopicFeature
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.deployment import RULE_PARAMETERS, Deployment
from vdd_ros.control.supervision import Supervision
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.nodes.arm import parameters as arm_parameters
from vdd_ros.nodes.arm.parameters import deployment_of, horizon_of
from vdd_ros.nodes.parameters import Parameter, Value, parameters_of
from vdd_ros.nodes.policy import gatekeeper, stage_control
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.runtime import PROVIDERS
from vdd_ros.robot.kinematics import Kinematics

_RULES = tuple(name for name in Deployment.model_fields if name not in (*arm_parameters.RULES, RULE_PARAMETERS))
"""Fields of `Deployment` that are parameters of the policy node only."""

PARAMETERS = (
    *parameters_of(Deployment, _RULES),
    Parameter(
        'artifact', '', 'folder of the student; set it at run time to replace the student', dynamic=True, path=True
    ),
    Parameter(
        'contract',
        '',
        'required contract of the artifact: a file, or one that ships; empty: any contract',
        path=True,
    ),
    Parameter('seed', 0, 'seed of the random choice of experts', minimum=0, maximum=2**31 - 1),
    Parameter('threads', 1, 'inference threads; one has the lowest tail latency', minimum=1, maximum=64),
    Parameter(
        'provider',
        'cpu',
        'what computes the network; cuda and openvino need their builds of onnxruntime',
        choices=tuple(PROVIDERS),
    ),
    Parameter(
        'markers_rate', 2.0, 'rate of the markers on ~/expert_paths, with a subscriber [Hz]', minimum=0.1, maximum=30.0
    ),
    Parameter('markers_steps', 40, 'length of the paths in the markers [policy periods]', minimum=1, maximum=500),
    Parameter('markers_frame', 'world', 'frame of the markers: that of the base of the robot model'),
    *arm_parameters.PARAMETERS,
    *gatekeeper.PARAMETERS,
    *stage_control.PARAMETERS,
)


def artifact_path(node: Node) -> str:
    """Return the folder in the parameter `artifact`, which can be set at run time."""
    return os.path.expanduser(node.get_parameter('artifact').value)


def build_loop(
    values: Mapping[str, Value],
    policy: DistilledPolicy,
    kinematics: Kinematics,
    *,
    period: int,
    streams: LiveStreams | None,
    simulated: bool = False,
    supervision: Supervision | None = None,
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
        supervision=supervision,
    )
