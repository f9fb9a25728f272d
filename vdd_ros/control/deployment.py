"""Deployment parameters: they define the control loop of a policy, on a robot and in validation."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vdd_ros.common.errors import ConfigurationError, remedied
from vdd_ros.common.settings import Settings
from vdd_ros.common.share import share_path
from vdd_ros.common.yaml_file import read_document
from vdd_ros.contract.contract import NANOSECONDS, Contract, Feature
from vdd_ros.control.control_loop import ControlLoop
from vdd_ros.control.execution import Execution
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.control.measurement_guard import AHEAD, MeasurementGuard
from vdd_ros.control.ood import OodRules, thresholds
from vdd_ros.control.plan_buffer import Streams
from vdd_ros.control.planner import Student
from vdd_ros.control.playback import NEAR, PathFollower, Playback, Track
from vdd_ros.control.rules import Rules, load_rules
from vdd_ros.control.start_gate import StartGate
from vdd_ros.control.supervision import Supervision
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.routing import Routing
from vdd_ros.robot.joint_limits import load_joint_limits

if TYPE_CHECKING:
    from vdd_ros.robot.kinematics import Kinematics

RULE_PARAMETERS = 'rule_parameters'
"""Prefix of rule parameters among the parameters of the policy node."""
_WALL_RATE = 250.0
"""Default control rate in wall time [Hz]."""


class Deployment(Settings):
    """The parameters of the policy node that define a control loop, with their names, ranges and descriptions.

    The ROS parameters of the nodes are derived from these fields (`vdd_ros.nodes.parameters.parameters_of`). A field is
    read-only while a node runs unless it is marked as dynamic.
    """

    former_names: ClassVar[Mapping[str, str]] = {
        'stage': 'operating_mode',
        'spread': 'action_noise_scale',
        'keep_above': 'expert_hysteresis',
        'same_way': 'direction_hysteresis',
        'novelty': 'ood_response',
        'novelty_warn': 'ood_warn_share',
        'novelty_reach': 'ood_stop_reach',
    }

    operating_mode: Literal['shadow', 'slow', 'full'] = Field(
        'full', description='shadow: compute and compare, send no commands; slow: reduced speed; full'
    )
    control_rate: float = Field(
        0.0,
        ge=0.0,
        le=1000.0,
        description='rate of commands [Hz]; 0: the policy rate in simulated time, otherwise 250 Hz or the policy rate',
    )
    slow_speed: float = Field(0.25, ge=0.01, le=1.0, description='speed in slow mode, as a share of full speed')
    max_age: float = Field(0.25, ge=0.001, le=10.0, description='maximum age of joint states for planning [s]')
    warn_age: float = Field(
        0.0, ge=0.0, le=10.0, description='age of joint states that causes a warning [s]; 0: half of max_age'
    )
    coast: float = Field(0.0, ge=0.0, le=10.0, description='time for which the plan continues after max_age [s]')
    stream_max_age: float = Field(0.5, ge=0.001, le=60.0, description='maximum age of topic features [s]')
    max_skew: float = Field(
        0.0, ge=0.0, le=60.0, description='maximum difference of the stamps of two streams [s]; 0: no limit'
    )
    stale_stop: bool = Field(False, description='whether a stop caused by old joint states needs ~/resume')
    joint_limits: str = Field(
        '',
        description='joint_limits.yaml, or a robot of config/robots; the stricter limit applies',
        json_schema_extra={'path': True},
    )
    velocity_scale: float = Field(1.0, ge=0.01, le=1.0, description='factor on the velocity limits')
    acceleration_time: float = Field(
        0.5, ge=0.01, le=10.0, description='time to full speed of a joint without acceleration limit [s]'
    )
    jerk_time: float = Field(
        0.1, ge=0.001, le=10.0, description='time to full acceleration of a joint without jerk limit [s]'
    )
    max_lag: float = Field(
        0.5,
        ge=0.001,
        le=3.2,
        description='maximum distance of command and measured position [rad], of prismatic joints [m]',
    )
    grippers: tuple[str, ...] = Field(
        (), description='joints that close on objects: they may stand still and lag behind their commands'
    )
    limits: Literal['clamp', 'reject'] = Field(
        'clamp',
        description='response to a plan that exceeds a limit; clamp: execute it within the limits; reject: refuse it',
    )
    start_threshold: float = Field(
        0.5,
        ge=0.001,
        le=10.0,
        description='maximum distance from the arm to the first waypoint [rad], of prismatic joints [m]',
    )
    start: Literal['refuse', 'approach'] = Field(
        'refuse', description='response to a first waypoint beyond start_threshold: refuse, or approach it slowly'
    )
    start_speed: float = Field(
        0.1, ge=0.001, le=3.0, description='speed of the approach to the start [rad/s], of prismatic joints [m/s]'
    )
    replan_steps: int = Field(
        0, ge=0, le=32, description='policy periods from one plan to the next; 0: action_horizon of the contract'
    )
    coast_steps: int = Field(8, ge=0, le=32, description='further steps of a chunk if the next plan is late')
    smoothing: float = Field(
        3.0, ge=0.0, le=10.0, description='time constant of the smoothing of waypoints [policy periods]'
    )
    blend: float = Field(
        1.0, ge=0.01, le=10.0, description='duration of the transition to a late plan [policy periods]'
    )
    coherence: float = Field(
        0.2,
        ge=0.0,
        le=10.0,
        description='weight of the likelihood of the rest of the current chunk in the choice of an expert; 0: off',
    )
    action_noise_scale: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description='scale of the action noise, as a share of the standard deviation of the expert; 0: its mean',
    )
    routing: Literal['sample', 'likeliest'] = Field('sample', description='choice of the expert from the gating')
    temperature: float = Field(
        1.0, ge=0.01, le=100.0, description='temperature of the gating; below 1 likely experts become more likely'
    )
    expert_hysteresis: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description='the acting expert continues while its probability, relative to the highest, is above this; 0: off',
    )
    direction_hysteresis: float = Field(
        0.0,
        ge=0.0,
        le=1.0,
        description='the acting expert continues while the cosine of its last and new direction is above this; 0: off',
    )
    forbidden_experts: tuple[int, ...] = Field((), description='experts that must not act')
    rules: str = Field(
        '',
        description='YAML file with rules on experts (docs/deployment.md)',
        json_schema_extra={'path': True, 'dynamic': True},
    )
    rule_parameters: dict[str, bool | float | str] = Field(
        {}, description='values of parameters of the file of rules, by name'
    )
    ood_response: Literal['ignore', 'watch', 'act'] = Field(
        'act',
        description='response to out-of-distribution observations: ignore; watch: warn; act: warn, slow down, stop',
    )
    ood_warn_share: float = Field(
        0.01, ge=0.0, le=0.5, description='quantile of the demonstrations below which a warning is raised'
    )
    ood_stop_reach: float = Field(
        1.0,
        ge=0.0,
        le=100.0,
        description='stop threshold: distance below the lowest demonstration, relative to its distance from the median',
    )

    def __hash__(self) -> int:
        """Equal deployments have equal hashes.

        The rule parameters are a mapping, which is not hashable by itself.
        """
        return hash(self.model_dump_json())

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters of the policy node that differ from their defaults, by name."""
        values = self.model_dump(mode='json', exclude_defaults=True)
        named = values.pop('rule_parameters', {})
        values |= {f'{RULE_PARAMETERS}.{name}': value for name, value in named.items()}
        paths = {name: str(Path(values[name]).absolute()) for name in ('rules', 'joint_limits') if name in values}
        if 'joint_limits' in paths:
            paths['joint_limits'] = str(self._limits_file.absolute())
        return {**values, **paths}

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the deployment parameters and the files that they name, excluding the operating mode."""
        # Verdicts of versions without this parameter stay valid.
        later = set() if self.grippers else {'grippers'}
        values = self.model_dump(mode='json', exclude={'operating_mode'} | later)
        if self.joint_limits:
            values['joint_limits'] = _digest(self._limits_file)
        if not self.rule_parameters:  # verdicts of earlier versions stay valid
            del values['rule_parameters']
        if self.rules:
            values['rules'] = _digest(Path(self.rules))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def speed(self) -> float:
        """Speed of plans in the operating mode; 1 is the planned speed."""
        return self.slow_speed if self.operating_mode == 'slow' else 1.0

    @property
    def _limits_file(self) -> Path:
        file = Path(self.joint_limits)
        return file if file.suffix else share_path('config', 'robots', f'{self.joint_limits}_joint_limits.yaml')

    def control_period(self, contract: Contract, *, simulated: bool) -> int:
        """Return the time between two commands [ns]; in simulated time the default is the policy period."""
        rate = self.control_rate or (0.0 if simulated else max(_WALL_RATE, contract.policy_rate))
        return round(NANOSECONDS / rate) if rate else contract.period

    def limits_of(self, contract: Contract, kinematics: Kinematics, *, lockstep: bool) -> Limits:
        """Merge the limits of the robot model with the deployment parameters.

        In lockstep a command is a waypoint, and waypoints at the policy rate are not smooth. There, acceleration and
        jerk are limited only by a limits file.
        """
        model = kinematics.limits_of(contract.joints)
        lag = np.where(contract.measured_joints & ~self._gripping(contract), self.max_lag, np.inf)
        limits = Limits(model['lower'], model['upper'], model['velocity'], lag, mode=self.limits)
        if self.joint_limits:
            limits = limits.tightened(**load_joint_limits(self._limits_file, contract.joints))
        scale = self.velocity_scale * self.speed
        limits = limits.tightened(velocity=limits.velocity * scale)
        if lockstep:
            return limits
        limits = limits.tightened(acceleration=model['acceleration'], jerk=model['jerk'])
        known = np.isfinite(limits.acceleration)
        limits = limits.tightened(acceleration=np.where(known, np.inf, limits.velocity / self.acceleration_time))
        known = np.isfinite(limits.jerk)
        return limits.tightened(jerk=np.where(known, np.inf, limits.acceleration / self.jerk_time))

    @property
    def execution(self) -> Execution:
        """The parameters of planning and of the execution of plans."""
        return Execution(
            self.replan_steps,
            self.coast_steps,
            self.smoothing,
            self.blend,
            self.coherence,
            self.action_noise_scale,
            self.speed,
        )

    def _gripping(self, contract: Contract) -> np.ndarray:
        """Return which joints may stand still on what they hold, shape (joint,) bool."""
        if unknown := [joint for joint in self.grippers if joint not in contract.joints]:
            raise ConfigurationError(
                expected=f'grippers that are some of {", ".join(contract.joints)}',
                found=', '.join(unknown),
                remedy='name joints of the contract in the parameter grippers',
            )
        return np.isin(contract.joints, self.grippers)

    def _guard_of(self, contract: Contract, kinematics: Kinematics) -> MeasurementGuard:
        limits = kinematics.limits_of(contract.joints)
        turns = np.isinf(limits['lower']) & np.isinf(limits['upper'])
        turns &= [kinematics.has_joint(joint) for joint in contract.joints]
        following = contract.measured_joints & ~self._gripping(contract)
        velocity = np.where(contract.measured_joints, limits['velocity'], np.inf)
        # The bound on the lag must not hide that an arm stands still; what closes on objects may.
        ahead = np.where(following, min(AHEAD, self.max_lag / 2), np.inf)
        return MeasurementGuard(velocity, turns & contract.measured_joints, ahead)

    def ood_rules_of(self, policy: Any) -> OodRules | None:
        """Return the OOD rules of a policy; None if monitoring is disabled or the policy has no calibration."""
        if self.ood_response == 'ignore' or policy.calibration is None:
            return None
        found = thresholds(policy.calibration, warn=self.ood_warn_share, reach=self.ood_stop_reach)
        return OodRules(found, acts=self.ood_response == 'act')

    def routing_of(
        self, contract: Contract, rules: str, experts: int | None, labels: Labels = Labels()
    ) -> Routing | Rules:
        """Return the routing defined by these parameters and a rule file.

        Parameters
        ----------
        contract
            Contract whose observations the rules refer to.
        rules
            Path of the rule file; empty for no rules.
        experts, labels
            Number and names of the policy's experts; ``experts`` is None for a policy without experts.

        Raises
        ------
        ConfigurationError
            The rules cannot be read, do not match the contract, or name experts or parameters that do not exist.

        """
        routing = Routing(
            self.routing,
            frozenset(self.forbidden_experts),
            temperature=self.temperature,
            expert_hysteresis=self.expert_hysteresis or None,
            direction_hysteresis=self.direction_hysteresis or None,
        )
        if not rules:
            if self.rule_parameters:
                raise ConfigurationError(
                    expected='a file of rules that has the parameters of rules',
                    found=f'no file, but {", ".join(self.rule_parameters)}',
                    remedy='set rules, or remove rule_parameters',
                )
            if experts is not None:
                routing.check(experts)
            return routing
        return load_rules(rules, contract, routing, experts=experts, labels=labels, parameters=self.rule_parameters)

    def build_loop(
        self,
        contract: Contract,
        policy: Student,
        kinematics: Kinematics,
        *,
        period: int,
        generator: np.random.Generator,
        streams: Streams | None = None,
        guarded: bool = True,
        horizon: float = 0.0,
        supervision: Supervision | None = None,
    ) -> ControlLoop:
        """Assemble the control loop of a policy with a command every ``period`` [ns].

        If ``guarded``, implausible measurements stop the arm, and so does an arm that does not follow its commands;
        false for simulated arms that may jump. ``horizon`` [s] is the time that a trajectory controller receives in
        advance; 0 for a position controller. ``supervision`` contains the enabling device and the workspace, if any.

        Raises
        ------
        ConfigurationError
            The rules contradict each other, or files that they name cannot be read.

        """
        return ControlLoop(
            contract,
            policy,
            kinematics,
            limits=self.limits_of(contract, kinematics, lockstep=period >= contract.period),
            freshness=self._freshness(contract.topic_features),
            routing=self.routing_of(contract, self.rules, policy.expert_count, policy.labels),
            generator=generator,
            control_period=period,
            execution=self.execution,
            start_gate=StartGate(self.start_threshold, self.start, self.start_speed),
            ood_rules=self.ood_rules_of(policy),
            streams=streams,
            guard=self._guard_of(contract, kinematics) if guarded else None,
            horizon=horizon,
            supervision=supervision,
        )

    def build_playback(
        self,
        contract: Contract,
        track: Track,
        kinematics: Kinematics,
        *,
        period: int,
        speed: float = 1.0,
        guarded: bool = True,
        horizon: float = 0.0,
    ) -> tuple[ControlLoop, Playback]:
        """Assemble a control loop that replays an episode with a command every ``period`` [ns]; also return its source.

        The arm approaches the first command at `start_speed`, then follows ``track`` at ``speed`` times the recorded
        speed. ``guarded`` and ``horizon`` are as for `build_loop`.

        Raises
        ------
        ConfigurationError
            A command lies outside the position limits, or the limits cannot be read.

        """
        lockstep = period >= contract.period
        limits = self.limits_of(contract, kinematics, lockstep=lockstep)
        playback = Playback(track, limits, speed * self.speed)
        loop = ControlLoop(
            contract,
            None,
            kinematics,
            limits=limits,
            freshness=self._freshness(()),
            control_period=period,
            start_gate=StartGate(NEAR, 'approach', self.start_speed),
            source=playback,
            plan_follower=PathFollower(playback, limits, period, lockstep=lockstep),
            guard=self._guard_of(contract, kinematics) if guarded else None,
            horizon=horizon,
        )
        return loop, playback

    def _freshness(self, features: Iterable[Feature]) -> Freshness:
        return Freshness(
            _nanoseconds(self.max_age),
            warn_age=_nanoseconds(self.warn_age) or None,
            coast=_nanoseconds(self.coast),
            streams={feature.name: _nanoseconds(self.stream_max_age) for feature in features},
            max_skew=_nanoseconds(self.max_skew) or None,
            latched=self.stale_stop,
        )


def load_deployment(path: str | Path | None = None) -> Deployment:
    """Read the parameters of the policy node from a YAML file, by default ``config/policy.yaml``.

    Raises
    ------
    ConfigurationError
        The file is absent or malformed, or a value is out of range.

    """
    file = share_path('config', 'policy.yaml') if path is None else Path(path)
    parameters = deployment_parameters(file)
    known = {*Deployment.model_fields, *Deployment.former_names}
    return Deployment.parse({name: value for name, value in parameters.items() if name in known})


def deployment_parameters(file: Path) -> dict[str, Any]:
    """Read all parameters of the policy node from its YAML; errors as those of `load_deployment`."""
    nodes = read_document(file, 'parameters of policy_node').values
    try:
        found = next(each['ros__parameters'] for name, each in nodes.items() if name.endswith('policy_node'))
        return dict(found)
    except (AttributeError, KeyError, StopIteration, TypeError, ValueError) as error:
        raise ConfigurationError(
            expected=f'parameters of policy_node in {file}',
            found=f'{type(error).__name__} {" ".join(str(error).split())}',
            remedy='give a parameter file as policy.launch.py takes it',
        ) from error


def _digest(file: Path) -> str:
    """Return the SHA-256 of a file.

    Raises
    ------
    ConfigurationError
        It cannot be read.

    """
    remedy = 'correct the path in the deployment parameters'
    with remedied(ConfigurationError, expected=f'a file at {file}', remedy=remedy):
        return hashlib.sha256(file.read_bytes()).hexdigest()


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS)
