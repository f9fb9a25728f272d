"""How a policy is deployed: the rules that its commands are under, on a robot and in validation alike."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
from pydantic import Field

from vdd_ros.common.errors import ConfigurationError
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
from vdd_ros.policy.labels import Labels
from vdd_ros.policy.routing import Routing
from vdd_ros.robot.joint_limits import load_joint_limits

if TYPE_CHECKING:
    from vdd_ros.robot.kinematics import Kinematics

RULE_PARAMETERS = 'rule_parameters'
"""The parameters of rules have this prefix among those of the policy node."""
_WALL_RATE = 250.0
"""How often commands leave in wall time where nothing else is set [Hz]."""


class Deployment(Settings):
    """Those parameters of the policy node that make a control loop, by their names there.

    `vdd_ros/nodes/policy/policy_parameters.py` says what each one means and which values it may have.
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

    operating_mode: Literal['shadow', 'slow', 'full'] = 'full'
    control_rate: float = 0.0
    slow_speed: float = 0.25
    max_age: float = 0.25
    warn_age: float = 0.0
    coast: float = 0.0
    stream_max_age: float = 0.5
    max_skew: float = 0.0
    stale_stop: bool = False
    joint_limits: str = ''
    velocity_scale: float = Field(1.0, gt=0)
    acceleration_time: float = Field(0.5, gt=0)
    jerk_time: float = Field(0.1, gt=0)
    max_lag: float = 0.5
    grippers: tuple[str, ...] = ()
    limits: Literal['clamp', 'reject'] = 'clamp'
    start_threshold: float = 0.5
    start: Literal['refuse', 'approach'] = 'refuse'
    start_speed: float = 0.1
    replan_steps: int = 0
    coast_steps: int = 8
    smoothing: float = 3.0
    blend: float = 1.0
    coherence: float = 0.2
    action_noise_scale: float = 0.0
    routing: Literal['sample', 'likeliest'] = 'sample'
    temperature: float = 1.0
    expert_hysteresis: float = 0.0
    direction_hysteresis: float = 0.0
    forbidden_experts: tuple[int, ...] = ()
    rules: str = ''
    rule_parameters: dict[str, bool | float | str] = {}
    ood_response: Literal['ignore', 'watch', 'act'] = 'act'
    ood_warn_share: float = 0.01
    ood_stop_reach: float = 1.0

    def __hash__(self) -> int:
        """Equal deployments have equal hashes; parameters of rules are a mapping, which has none of its own."""
        return hash(self.model_dump_json())

    @property
    def parameters(self) -> dict[str, Any]:
        """Those parameters of the policy node that are set, by name."""
        values = self.model_dump(mode='json', exclude_defaults=True)
        named = values.pop('rule_parameters', {})
        values |= {f'{RULE_PARAMETERS}.{name}': value for name, value in named.items()}
        paths = {name: str(Path(values[name]).absolute()) for name in ('rules', 'joint_limits') if name in values}
        if 'joint_limits' in paths:
            paths['joint_limits'] = str(self._limits_file.absolute())
        return {**values, **paths}

    @property
    def fingerprint(self) -> str:
        """The SHA-256 of the rules that commands are under, files included; the operating mode is not among them."""
        # A rule that came later counts where it says something: reports made before keep theirs.
        values = self.model_dump(
            mode='json', exclude={'operating_mode'} if self.grippers else {'operating_mode', 'grippers'}
        )
        if self.joint_limits:
            values['joint_limits'] = _digest(self._limits_file)
        if not self.rule_parameters:  # verdicts of before there were any go on to hold
            del values['rule_parameters']
        if self.rules:
            values['rules'] = _digest(Path(self.rules))
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    @property
    def speed(self) -> float:
        """How fast plans are carried out, 1 for as planned: by the operating mode."""
        return self.slow_speed if self.operating_mode == 'slow' else 1.0

    @property
    def _limits_file(self) -> Path:
        file = Path(self.joint_limits)
        return file if file.suffix else share_path('config', 'robots', f'{self.joint_limits}_joint_limits.yaml')

    def control_period(self, contract: Contract, *, simulated: bool) -> int:
        """Return the time between two commands [ns]; in simulated time the policy period unless a rate is set."""
        rate = self.control_rate or (0.0 if simulated else max(_WALL_RATE, contract.policy_rate))
        return round(NANOSECONDS / rate) if rate else contract.period

    def limits_of(self, contract: Contract, kinematics: Kinematics, *, lockstep: bool) -> Limits:
        """Merge the limits of the robot model with those that are set here.

        In lockstep a command is a waypoint, and waypoints at the rate of a policy are not smooth: there, acceleration
        and jerk are limited only if a file says so.
        """
        said = kinematics.limits_of(contract.joints)
        lag = np.where(contract.measured_joints & ~self._gripping(contract), self.max_lag, np.inf)
        limits = Limits(said['lower'], said['upper'], said['velocity'], lag, mode=self.limits)
        if self.joint_limits:
            limits = limits.tightened(**load_joint_limits(self._limits_file, contract.joints))
        scale = self.velocity_scale * self.speed
        limits = limits.tightened(velocity=limits.velocity * scale)
        if lockstep:
            return limits
        limits = limits.tightened(acceleration=said['acceleration'], jerk=said['jerk'])
        told = np.isfinite(limits.acceleration)
        limits = limits.tightened(acceleration=np.where(told, np.inf, limits.velocity / self.acceleration_time))
        told = np.isfinite(limits.jerk)
        return limits.tightened(jerk=np.where(told, np.inf, limits.acceleration / self.jerk_time))

    @property
    def execution(self) -> Execution:
        """How plans are made and carried out."""
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
        """Return what is usual for a policy; None if nobody asks, or if it does not know."""
        if self.ood_response == 'ignore' or policy.calibration is None:
            return None
        found = thresholds(policy.calibration, warn=self.ood_warn_share, reach=self.ood_stop_reach)
        return OodRules(found, acts=self.ood_response == 'act')

    def routing_of(
        self, contract: Contract, rules: str, experts: int | None, labels: Labels = Labels()
    ) -> Routing | Rules:
        """Return how experts are chosen, by what is set here and by a file of rules, if there is one.

        Parameters
        ----------
        contract
            Whose observations the rules refer to.
        rules
            The file; empty: none.
        experts, labels
            How many experts the policy has, and their names; None for a policy that has none.

        Raises
        ------
        ConfigurationError
            The rules cannot be read, do not go with the contract, or name experts or parameters that do not exist.

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
    ) -> ControlLoop:
        """Assemble the control loop of a policy whose commands leave every ``period`` [ns].

        ``guarded`` stops an arm that is measured where it cannot be, or does not follow; a simulated arm may jump.
        ``horizon`` [s] is how far a trajectory controller is led ahead; 0 for a position controller.

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
        """Assemble a control loop that plays the commands of an episode every ``period`` [ns], and what it plays.

        It approaches the first command at `start_speed`, then follows the track at ``speed`` times its own. ``guarded``
        and ``horizon`` are as for `build_loop`.

        Raises
        ------
        ConfigurationError
            A command lies outside of the position limits, or the limits cannot be read.

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
    """Read the parameters of the policy node from its YAML; without a path, those that ship (``config/policy.yaml``).

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
    try:
        return hashlib.sha256(file.read_bytes()).hexdigest()
    except OSError as error:
        raise ConfigurationError(
            expected=f'a file at {file}', found=str(error.strerror), remedy='mend the path in the deployment parameters'
        ) from error


def _nanoseconds(seconds: float) -> int:
    return round(seconds * NANOSECONDS)
