"""The contract: how topics and fields become observations and actions, for bag, simulator and robot alike."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from vdd_ros.errors import ContractError
from vdd_ros.share import share_path

NANOSECONDS = 1_000_000_000

JointField = Literal['position', 'velocity', 'effort']
Axis = Literal['x', 'y', 'z']


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra='forbid')


class Feature(_Frozen):
    """A part of the observation or of the action: some joints of one stream, or the tool point they make."""

    name: str
    """What the feature is called in reports."""
    source: Literal['measured', 'commanded']
    """`measured`: the joint states. `commanded`: the position commands that were sent."""
    space: Literal['joint', 'tool']
    """`joint`: the joint values themselves [rad]. `tool`: the tool point they make [m]."""
    axes: tuple[Axis, ...] = ()
    """Which coordinates of the tool point, in the frame of the robot's base; only for `space: tool`."""

    @model_validator(mode='after')
    def _axes_go_with_tool(self) -> Feature:
        if (self.space == 'tool') != bool(self.axes):
            raise ValueError('axes go with `space: tool`, and only with it')
        return self


class Robot(_Frozen):
    """The arm that the contract speaks of."""

    model: str
    """MJCF or URDF file: a path, or the name of a model that ships with the package."""
    tool: str
    """Site (MJCF) or link (URDF) that is the tool point."""
    joints: tuple[str, ...] = Field(min_length=1)
    """Joint names in the order of every array of this contract and of the commands."""

    @model_validator(mode='after')
    def _joints_are_distinct(self) -> Robot:
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f'a joint is named twice in {list(self.joints)}')
        return self


class Topics(_Frozen):
    """Where the streams are found; remap them at launch if the robot names them otherwise."""

    joint_states: str = 'joint_states'
    """sensor_msgs/JointState, matched by joint name."""
    commands: str = 'arm_controller/commands'
    """std_msgs/Float64MultiArray, in the order of `robot.joints` [rad]."""
    episode: str = 'episode'
    """diagnostic_msgs/DiagnosticArray that marks the start and the end of each demonstration."""


class Contract(_Frozen):
    """What a policy sees and does, and how often. Frozen: an artifact is bound to the contract's hash."""

    schema_version: Literal[1] = 1
    name: str
    robot: Robot
    topics: Topics = Topics()
    policy_rate: Annotated[float, Field(gt=0, le=1000)]
    """How often the policy acts [Hz]."""
    observation: tuple[Feature, ...] = Field(min_length=1)
    action: Feature
    """What is commanded; its `source` is always `commanded`."""
    action_mode: Literal['delta', 'absolute'] = 'delta'
    """`delta`: change of the command within one policy period. `absolute`: the command itself."""
    observation_horizon: Annotated[int, Field(ge=1, le=64)] = 1
    """How many stamps the policy sees."""
    observation_stride: Annotated[int, Field(ge=1, le=64)] = 1
    """Policy periods between two of these stamps."""
    prediction_horizon: Annotated[int, Field(ge=1, le=32)] = 1
    """How many actions the policy predicts."""
    action_horizon: Annotated[int, Field(ge=1, le=32)] = 1
    """How many of them are executed before it plans anew."""

    @model_validator(mode='after')
    def _is_consistent(self) -> Contract:
        if self.action.source != 'commanded':
            raise ValueError('the action is what is commanded: set action.source to `commanded`')
        if self.action_horizon > self.prediction_horizon:
            raise ValueError(
                f'action_horizon {self.action_horizon} exceeds prediction_horizon {self.prediction_horizon}'
            )
        names = [feature.name for feature in self.observation]
        if len(set(names)) != len(names):
            raise ValueError(f'two observation features share a name in {names}')
        return self

    @property
    def period(self) -> int:
        """Policy period [ns]."""
        return round(NANOSECONDS / self.policy_rate)

    def width(self, feature: Feature) -> int:
        """Return how many numbers a feature has."""
        return len(self.robot.joints) if feature.space == 'joint' else len(feature.axes)

    @property
    def observation_size(self) -> int:
        """Numbers in the observation of one stamp."""
        return sum(self.width(feature) for feature in self.observation)

    @property
    def action_size(self) -> int:
        """Numbers in the action of one step."""
        return self.width(self.action)

    @property
    def span(self) -> int:
        """Policy periods from the oldest to the newest stamp of one observation."""
        return (self.observation_horizon - 1) * self.observation_stride

    @property
    def hash(self) -> str:
        """SHA-256 of the contract's meaning: equal for equal contracts, whatever the YAML looks like."""
        meaning = json.dumps(self.model_dump(mode='json'), sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(meaning.encode()).hexdigest()


def load_contract(path: str | Path) -> Contract:
    """Read a contract from YAML.

    Parameters
    ----------
    path
        A file, or the bare name of a contract that ships with the package (``avoiding_cartesian``).

    Raises
    ------
    ContractError
        The file is absent, is not YAML, or says something that a contract cannot say.

    """
    file = Path(path)
    if not file.suffix:
        file = share_path('config', 'contracts', f'{path}.yaml')
    try:
        text = file.read_text(encoding='utf-8')
    except OSError as error:
        raise ContractError(
            expected='a contract file', found=f'{error.strerror} at {file}', remedy=f'give a path or one of {_known()}'
        ) from error
    try:
        return Contract.model_validate(yaml.safe_load(text))
    except yaml.YAMLError as error:
        raise ContractError(
            expected=f'YAML in {file}', found=' '.join(str(error).split()), remedy='mend the file'
        ) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = '.'.join(str(part) for part in first['loc']) or 'the contract'
        known = ', '.join(Contract.model_fields)
        raise ContractError(
            expected=f'a valid contract in {file}',
            found=f'{place}: {first["msg"]}',
            remedy='mend that entry' + f' (known keys: {known})' * (first['type'] == 'extra_forbidden'),
        ) from error


def _known() -> list[str]:
    return sorted(file.stem for file in share_path('config', 'contracts').glob('*.yaml'))
