"""The parameters of the policy node, and the control loop that they describe."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from vdd_ros.common.errors import ConfigurationError
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.deployment import RULE_PARAMETERS, Deployment
from vdd_ros.data.decode.live import LiveStreams
from vdd_ros.nodes.arm import parameters as arm_parameters
from vdd_ros.nodes.arm.parameters import deployment_of, horizon_of
from vdd_ros.nodes.parameters import Parameter, Value, parameters_of
from vdd_ros.nodes.policy import gatekeeper
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.robot.kinematics import Kinematics

_RULES = tuple(name for name in Deployment.model_fields if name not in (*arm_parameters.RULES, RULE_PARAMETERS))
"""Those fields of `Deployment` that are parameters of this node alone."""

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
