"""The contract: how topics and fields become observations and actions, equally for bags, simulator and robot."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Discriminator, Field, Tag, ValidationError, model_validator

from vdd_ros.common.errors import ContractError
from vdd_ros.common.share import share_path
from vdd_ros.common.yaml_file import Document
from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract_file import complaint, misplaced
from vdd_ros.contract.episode_rules import Episodes, Signal
from vdd_ros.contract.features import ActionMode, Alignment, Axis, Frozen, Image, JointStream, TopicFeature

NANOSECONDS = 1_000_000_000

JOINT_TYPES = {'measured': 'sensor_msgs/msg/JointState', 'commanded': 'std_msgs/msg/Float64MultiArray'}
"""Default message types of the two streams of joint values."""

_SINCE_2 = ('measured', 'commanded', 'further_actions', 'episodes')
"""The keys of a contract that exist since version 2."""

_LARGEST_IMAGE = 256
"""Maximum number of rows and columns of images before version 3."""

_Inconsistency = tuple[str, tuple[str | int, ...]]
"""A text, and the path of the entry."""


class Feature(Frozen):
    """A feature computed from the joints of the arm: joint values, or the pose of the tool."""

    name: str
    """Name of the feature in reports and rules."""
    source: Literal['measured', 'commanded']
    """`measured`: joint states. `commanded`: position commands. The source of an action is `commanded`."""
    space: Literal['joint', 'tool']
    """`joint`: joint values [rad]. `tool`: position [m] and orientation of the tool by forward kinematics."""
    axes: tuple[Axis, ...] = ()
    """Coordinates of the tool point in the base frame of the robot. Only for `space: tool`."""
    rotation: Literal['6d'] | None = None
    """Adds the orientation of the tool after the axes: the first two columns of its rotation matrix in the base frame
    (Zhou et al., CVPR 2019), a representation without discontinuities. Only for `space: tool`. Since version 2."""
    joints: tuple[str, ...] = ()
    """Joints of the robot, in this order. Default: all joints. Only for `space: joint`. Since version 2."""
    mode: ActionMode | None = None
    """Overrides `action_mode` for this feature. Only for actions. Since version 2."""

    @model_validator(mode='after')
    def _axes_go_with_tool(self) -> Feature:
        if (self.space == 'tool') != bool(self.axes or self.rotation):
            raise ValueError('axes go with `space: tool`, and only with it; so does rotation')
        if len(set(self.axes)) != len(self.axes):
            raise ValueError(f'an axis is named twice in {list(self.axes)}')
        if self.space == 'tool' and self.joints:
            raise ValueError('joints go with `space: joint`, and only with it')
        return self


def _which(value: Any) -> str:
    topic = 'topic' in value if isinstance(value, dict) else isinstance(value, TopicFeature)
    return 'topic' if topic else 'arm'


AnyFeature = Annotated[Annotated[Feature, Tag('arm')] | Annotated[TopicFeature, Tag('topic')], Discriminator(_which)]


Weight = Annotated[float, Field(ge=0, le=1)]


class ToolWeights(Frozen):
    """Weight of each axis of the tool pose in inverse kinematics.

    An arm with fewer than six joints cannot reach every pose. 1: the axis must be reached. 0: the axis is free.
    Between 0 and 1: the axis is approached as far as the axes with weight 1 permit.
    """

    position: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    """Along x, y, z of the base frame."""
    rotation: tuple[Weight, Weight, Weight] = (1.0, 1.0, 1.0)
    """About x, y, z of the tool frame."""

    @model_validator(mode='after')
    def _asks_for_something(self) -> ToolWeights:
        if 1.0 not in (*self.position, *self.rotation):
            raise ValueError('at least one axis has the weight 1')
        return self


class Robot(Frozen):
    """The arm: its model, its tool and its joints."""

    model: str = ''
    """MJCF or URDF file. A path, or the name of a model that ships with the package. Without it, nodes that command the
    arm read the URDF from the topic `robot_description`, and data has no features in tool space."""
    tool: str
    """Site (MJCF) or link (URDF) that defines the tool frame."""
    joints: tuple[str, ...] = Field(min_length=1)
    """Joint names. Their order is the order of every array and of the commands. A gripper joint is one of them."""
    tool_weights: ToolWeights = ToolWeights()
    """Axes of the tool pose that inverse kinematics must reach, for actions in tool space. Since version 2."""

    @model_validator(mode='after')
    def _joints_are_distinct(self) -> Robot:
        if len(set(self.joints)) != len(self.joints):
            raise ValueError(f'a joint is named twice in {list(self.joints)}')
        return self


class Topics(Frozen):
    """Topic names of the arm and of the episode marks. Remap them at launch if the robot uses other names."""

    joint_states: str = 'joint_states'
    """sensor_msgs/JointState. Joints are matched by name."""
    commands: str = 'arm_controller/commands'
    """std_msgs/Float64MultiArray, in the order of `robot.joints` [rad]."""
    episode: str = 'episode'
    """diagnostic_msgs/DiagnosticArray with the start and end marks of each demonstration."""


@dataclass(frozen=True)
class Controller:
    """A controller that the actions command: its joints, its topic, and the conversion of its messages."""

    name: str
    """Name of the action that commands the controller; empty for the arm, which several actions may command."""
    topic: str
    type: str
    joints: tuple[str, ...]
    """Joints of the contract that the controller moves."""
    names: tuple[str, ...]
    """Names of these joints in the messages of the controller and in the joint states."""
    places: slice
    """Indices of these joints among the joints of the contract."""
    reading: JointStream | TopicFeature
    """Conversion of the numbers in the controller's messages to joint values."""
    measured: bool
    """Whether the joint states contain these joints. If not, they are assumed to be at their commanded positions."""


class Contract(Frozen):
    """Observation, action and policy rate, defined by topics and fields. Artifacts are bound to the contract's hash."""

    schema_version: Literal[1, 2, 3] = 1
    """2 if the contract uses any key marked *since version 2*. 3: images are separate arrays with all their pixels, not
    numbers of the observation vector. Contracts of older versions keep their meaning and hash."""
    name: str
    """Name of the contract."""
    robot: Robot
    """Model, tool and joints of the arm."""
    topics: Topics = Topics()
    """Topics of the arm and of the episode marks."""
    measured: JointStream = JointStream()
    """Decoding of the joint states. Since version 2."""
    commanded: JointStream = JointStream()
    """Decoding of the commands. Since version 2."""
    policy_rate: Annotated[float, Field(gt=0, le=1000)]
    """Rate of observations and actions [Hz]."""
    observation: tuple[AnyFeature, ...] = Field(min_length=1)
    """Features of the observation, concatenated in this order."""
    action: Feature
    """Feature that commands the arm. In YAML this may be a list (since version 2), whose first entry is the arm's."""
    further_actions: tuple[AnyFeature, ...] = ()
    """Further commanded features, such as a gripper: the other entries of the list `action`. Since version 2."""
    action_mode: ActionMode = 'delta'
    """`delta`: change of the command in one policy period. `absolute`: the command. `velocity`: change of the command
    per second (since version 2)."""
    observation_horizon: Annotated[int, Field(ge=1, le=64)] = 1
    """Number of time steps in an observation window."""
    observation_stride: Annotated[int, Field(ge=1, le=64)] = 1
    """Policy periods between two time steps of the window."""
    prediction_horizon: Annotated[int, Field(ge=1, le=32)] = 1
    """Number of actions in a predicted chunk."""
    action_horizon: Annotated[int, Field(ge=1, le=32)] = 1
    """Number of actions of a chunk that are executed before the next plan."""
    episodes: Episodes = Episodes()
    """How a bag is divided into demonstrations. Since version 2."""

    @model_validator(mode='before')
    @classmethod
    def _first_action_is_the_arms(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(values.get('action'), list) and values['action']:
            first, *further = values['action']
            return {**values, 'action': first, 'further_actions': further}
        return values

    @model_validator(mode='after')
    def _is_consistent(self) -> Contract:
        for text, path in _inconsistencies(self):
            raise misplaced(text, *path)
        return self

    @classmethod
    def of_arrays(
        cls,
        observation_size: int,
        action_size: int,
        *,
        observation_horizon: int = 1,
        prediction_horizon: int = 1,
        action_horizon: int | None = None,
        policy_rate: float = 10.0,
        name: str = 'arrays',
    ) -> Contract:
        """Return a contract for plain arrays: it defines shapes only, and has neither a robot nor topics.

        A policy for such a contract can be trained, used and evaluated like any other, but no robot node accepts it.

        Parameters
        ----------
        observation_size, action_size
            Number of values in the observation and in the action of one time step.
        observation_horizon, prediction_horizon, action_horizon
            Number of time steps in a window, of actions in a predicted chunk, and of executed actions of a chunk. By
            default the whole chunk is executed.
        policy_rate
            Rate of the time steps [Hz].
        name
            Name in messages and artifacts.

        Raises
        ------
        ContractError
            A size or horizon is out of range.

        """
        for what, size in (('observation_size', observation_size), ('action_size', action_size)):
            if size < 1:
                raise ContractError(
                    expected=f'{what} of at least 1', found=str(size), remedy='give the array its width'
                )
        values = {
            'schema_version': 2,
            'name': name,
            'robot': {'model': '', 'tool': '', 'joints': [f'action_{place}' for place in range(action_size)]},
            'policy_rate': policy_rate,
            'observation': [
                {
                    'name': 'observation',
                    'topic': 'observation',
                    'type': 'std_msgs/msg/Float64MultiArray',
                    'fields': [f'data[0:{observation_size}]'],
                }
            ],
            'action': {'name': 'action', 'source': 'commanded', 'space': 'joint'},
            'action_mode': 'absolute',
            'observation_horizon': observation_horizon,
            'prediction_horizon': prediction_horizon,
            'action_horizon': prediction_horizon if action_horizon is None else action_horizon,
        }
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise ContractError(
                expected='sizes and horizons of arrays that a contract can describe',
                found=': '.join([*map(str, first['loc']), first['msg'].removeprefix('Value error, ')]),
                remedy='choose others',
            ) from error

    @property
    def has_robot(self) -> bool:
        """Whether the contract describes a robot; false for plain arrays."""
        return bool(self.robot.model or self.robot.tool)

    @property
    def actions(self) -> tuple[Feature | TopicFeature, ...]:
        """All features of the action, starting with that of the arm; an action is their concatenation."""
        return (self.action, *self.further_actions)

    @property
    def needs_model(self) -> bool:
        """Whether data of this contract needs the robot model, since a feature is in tool space."""
        return any(feature.space == 'tool' for feature in (*self.observation, *self.actions))

    @property
    def topic_features(self) -> tuple[TopicFeature, ...]:
        """The features of the observation that are decoded from their own topics.

        Commands of this contract's controllers are excluded, since a policy observes the commands that it sends itself.
        """
        found = (feature for feature in self.observation if isinstance(feature, TopicFeature))
        return tuple(feature for feature in found if self.controller_of(feature) is None)

    @property
    def controllers(self) -> tuple[Controller, ...]:
        """The controller of the arm, then one controller for each action with its own topic.

        Actions that do not command joint positions, such as the pose of a tool, have no controller.
        """
        joints = self.robot.joints
        names = self.commanded.names or joints
        kind = self.commanded.type or JOINT_TYPES['commanded']
        found = [Controller('', self.topics.commands, kind, joints, names, slice(0, len(joints)), self.commanded, True)]
        begin = len(joints)
        for feature in self.further_actions:
            if isinstance(feature, TopicFeature) and feature.commands_positions:
                size = feature.size
                unnamed = (feature.name,) if size == 1 else tuple(f'{feature.name}_{place}' for place in range(size))
                names, places = feature.joints or unnamed, slice(begin, begin + size)
                measured = bool(feature.joints)
                found.append(
                    Controller(feature.name, feature.topic, feature.type, names, names, places, feature, measured)
                )
                begin += size
        return tuple(found)

    @property
    def joints(self) -> tuple[str, ...]:
        """All commanded joints: those of the robot, then those of further controllers, such as a gripper.

        If an action has no joint names, its numbers are named after the action.
        """
        return tuple(joint for controller in self.controllers for joint in controller.joints)

    @property
    def measured_joints(self) -> np.ndarray:
        """Which of `joints` the joint states contain, shape (joint,) bool."""
        return np.concatenate([np.full(len(each.joints), each.measured) for each in self.controllers])

    def observes(self, controller: Controller) -> bool:
        """Return whether the policy observes the commands of a further controller."""
        found = (feature for feature in self.observation if isinstance(feature, TopicFeature))
        return any(self.controller_of(feature) == controller for feature in found)

    def controller_of(self, feature: TopicFeature) -> Controller | None:
        """Return the controller whose commands are the given feature of observation or action; None without one."""
        for controller in self.controllers[1:]:
            if isinstance(controller.reading, TopicFeature) and _as_read(controller.reading) == _as_read(feature):
                return controller
        return None

    @property
    def images(self) -> tuple[TopicFeature, ...]:
        """The images that are separate from the observation vector; empty before version 3."""
        if self.schema_version < 3:
            return ()
        return tuple(feature for feature in self.topic_features if feature.image is not None)

    @property
    def arrays(self) -> tuple[TopicFeature, ...]:
        """The images and point clouds that are separate from the observation vector; empty before version 3."""
        if self.schema_version < 3:
            return ()
        return tuple(item for item in self.topic_features if item.image is not None or item.points is not None)

    @property
    def period(self) -> int:
        """Policy period [ns]."""
        return round(NANOSECONDS / self.policy_rate)

    def width(self, feature: Feature | TopicFeature) -> int:
        """Return the number of values of a feature in the vector; 0 for images and point clouds of version 3."""
        if isinstance(feature, TopicFeature):
            beside = feature.image is not None or feature.points is not None
            return 0 if self.schema_version >= 3 and beside else feature.size
        return len(self.parts_of(feature))

    def parts_of(self, feature: Feature) -> tuple[str, ...]:
        """Return the name of each value of an arm feature: a joint, an axis, or `turn xx` for an entry of a matrix.

        The orientation of the tool is given by the first two columns of its rotation matrix, column 1 before column 2.
        """
        if feature.space == 'joint':
            return self.joints_of(feature)
        turns = tuple(f'turn {row}{column}' for column in 'xy' for row in 'xyz') if feature.rotation else ()
        return feature.axes + turns

    def joints_of(self, feature: Feature) -> tuple[str, ...]:
        """Return the joints of a feature in joint space."""
        return feature.joints or self.robot.joints

    def mode_of(self, feature: Feature | TopicFeature) -> ActionMode:
        """Return the action mode of an action feature."""
        return feature.mode or self.action_mode

    @property
    def observation_size(self) -> int:
        """Number of values in the observation of one time step, without images and point clouds of version 3."""
        return sum(self.width(feature) for feature in self.observation)

    @property
    def action_size(self) -> int:
        """Number of values in the action of one step."""
        return sum(self.width(feature) for feature in self.actions)

    @property
    def span(self) -> int:
        """Policy periods from the oldest to the newest time step of an observation window."""
        return (self.observation_horizon - 1) * self.observation_stride

    @property
    def hash(self) -> str:
        """SHA-256 of the contract's meaning: equal for equal contracts, regardless of the format of the YAML file."""
        meaning = self.model_dump(mode='json')
        # Keys of later versions count only where they are set: artifacts made before keep their hash.
        if self.robot.tool_weights == ToolWeights():
            del meaning['robot']['tool_weights']
        for feature in (*meaning['observation'], meaning['action'], *meaning['further_actions']):
            if feature['rotation'] is None:
                del feature['rotation']
            if self.schema_version < 3 and feature.get('image'):
                del feature['image']['crop'], feature['image']['resize']
        if self.schema_version == 1:  # as it was hashed before there was a version 2
            for name in _SINCE_2:
                del meaning[name]
            for feature in (*meaning['observation'], meaning['action']):
                del feature['joints'], feature['mode']
        text = json.dumps(meaning, sort_keys=True, separators=(',', ':'))
        return hashlib.sha256(text.encode()).hexdigest()


def _as_read(feature: TopicFeature) -> TopicFeature:
    """Return how the numbers of a feature are read, whatever it is called and for."""
    return feature.model_copy(update={'name': '', 'mode': None, 'align': Alignment(), 'rate': None})


def load_contract(path: str | Path) -> Contract:
    """Read a contract from YAML.

    Parameters
    ----------
    path
        A file, or the name of a contract that ships with the package (``avoiding_cartesian``).

    Raises
    ------
    ContractError
        The file is absent, is not YAML, or has an invalid value. The message names the line of that value.

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
    except UnicodeDecodeError as error:
        raise ContractError(
            expected=f'text in UTF-8 in {file}', found=str(error), remedy='save the file as UTF-8'
        ) from error
    document = Document(file, text, ContractError)
    try:
        return Contract.model_validate(document.values)
    except ValidationError as error:
        raise complaint(document, error, _MODELS, Contract) from error


_MODELS = {
    'robot': Robot,
    'tool_weights': ToolWeights,
    'topics': Topics,
    'measured': JointStream,
    'commanded': JointStream,
    'arm': Feature,
    'topic': TopicFeature,
    'action': Feature,
    'align': Alignment,
    'image': Image,
    'episodes': Episodes,
    'signal': Signal,
    'discard': Signal,
    'outcome': Signal,
    'language': Signal,
}


def _known() -> list[str]:
    return sorted(file.stem for file in share_path('config', 'contracts').glob('*.yaml'))


def _inconsistencies(contract: Contract) -> Iterator[_Inconsistency]:
    """Yield every inconsistency in a contract: a text, and the path of the entry."""
    yield from _action_rules(contract)
    yield from _feature_rules(contract)
    yield from _controller_rules(contract)
    yield from _tool_rules(contract)
    for name in ('measured', 'commanded'):
        yield from _joint_stream_rules(contract, name)
    if contract.commanded.align.method != 'hold':
        yield 'a command is held until the next one', ('commanded', 'align', 'method')
    if contract.measured.source != 'topic' or contract.measured.quantity != 'position':
        yield 'source and quantity go with `commanded`, and only with it', ('measured',)
    yield from _image_rules(contract)
    if contract.schema_version == 1 and (path := _newer_than_version_1(contract)):
        yield 'this came with version 2 of contracts: set `schema_version: 2`', path


def _listed(contract: Contract) -> list[tuple]:
    """Return each feature, after its path."""
    listed = [('observation', *item) for item in enumerate(contract.observation)]
    further = [('further_actions', *item) for item in enumerate(contract.further_actions)]
    return [*listed, ('action', contract.action), *further]


def _action_rules(contract: Contract) -> Iterator[_Inconsistency]:
    for *path, feature in _listed(contract):
        if path[0] != 'observation' and feature.source == 'measured':
            yield 'the action is what is commanded: set action.source to `commanded`', (*path, 'source')
        by_velocity = contract.commanded.quantity == 'velocity' and feature.source == 'commanded'
        if by_velocity and (path[0] == 'observation' or contract.mode_of(feature) != 'velocity'):
            yield 'velocity commands are an action of mode `velocity` and cannot be observed', tuple(path)
        if by_velocity and feature.space == 'tool':
            yield 'velocities of joints do not make one of the tool: set `space: joint`', (*path, 'space')
    if contract.action_horizon > contract.prediction_horizon:
        text = f'action_horizon {contract.action_horizon} exceeds prediction_horizon {contract.prediction_horizon}'
        yield text, ('action_horizon',)


def _feature_rules(contract: Contract) -> Iterator[_Inconsistency]:
    for kind, features in (('observation', contract.observation), ('action', contract.actions)):
        names = [feature.name for feature in features]
        if len(set(names)) != len(names):
            yield f'two {kind} features share a name in {names}', (kind,)
    seen: dict[str, TopicFeature] = {}
    for *path, feature in _listed(contract):
        if isinstance(feature, TopicFeature):
            if seen.setdefault(feature.name, feature) != feature:
                yield f'another feature {feature.name} is read in another way', tuple(path)
            if '/' in feature.name or feature.name in ('measured', 'commanded'):
                yield f'{feature.name} is no name for a feature with a topic', (*path, 'name')
            if path[0] != 'observation' and not feature.frames and feature.align.method != 'hold':
                yield 'a command is held until the next one', (*path, 'align')
            continue
        if strange := [joint for joint in feature.joints if joint not in contract.robot.joints]:
            yield f'{", ".join(strange)} is no joint of the robot', (*path, 'joints')
        if path[0] == 'observation' and (feature.source, contract.commanded.source) == ('commanded', 'measured'):
            yield 'nothing was recorded of commands, so they cannot be observed', (*path, 'source')


def _controller_rules(contract: Contract) -> Iterator[_Inconsistency]:
    """Each joint and each topic has one controller; joints of plain numbers are named only where they are commanded."""
    known, topics = list(contract.robot.joints), [contract.topics.commands]
    for place, feature in enumerate(contract.further_actions):
        if not isinstance(feature, TopicFeature) or (controller := contract.controller_of(feature)) is None:
            continue
        path = ('further_actions', place)
        if twice := [joint for joint in controller.joints if joint in known]:
            yield f'{", ".join(twice)} is commanded by another controller, too', (*path, 'joints')
        if feature.topic in topics:
            yield f'another controller is commanded on {feature.topic}, too', (*path, 'topic')
        known += controller.joints
        topics.append(feature.topic)
        states = contract.measured.type or JOINT_TYPES['measured']
        if feature.joints and types.kind(states) != 'joints':
            yield f'joint states of {states} have no names, so they measure no {feature.joints[0]}', (*path, 'joints')
    for place, feature in enumerate(contract.observation):
        if not isinstance(feature, TopicFeature) or not feature.joints or types.kind(feature.type) != 'scalars':
            continue
        if contract.controller_of(feature) is None:
            yield 'joints of plain numbers go with an action that commands them', ('observation', place, 'joints')


def _image_rules(contract: Contract) -> Iterator[_Inconsistency]:
    for *path, feature in _listed(contract):
        if not isinstance(feature, TopicFeature) or (feature.image is None and feature.points is None):
            continue
        image = feature.image
        if contract.schema_version >= 3:
            if path[0] != 'observation':
                yield 'images and point clouds are observed, not commanded', tuple(path)
            if feature.align.method == 'interpolate':
                yield 'images and point clouds can only be held, or the nearest one taken', (*path, 'align')
        elif image is None:
            continue
        elif image.crop is not None or image.resize != 'stretch' or max(image.height, image.width) > _LARGEST_IMAGE:
            text = f'crop, resize and more than {_LARGEST_IMAGE} pixels came with version 3 of contracts'
            yield f'{text}: set `schema_version: 3`', (*path, 'image')
    if contract.arrays and not contract.observation_size:
        yield 'beside images an observation has numbers: add the measured joints', ('observation',)


def _tool_rules(contract: Contract) -> Iterator[_Inconsistency]:
    """Require that what is commanded of the tool's pose is solved for by inverse kinematics, and commanded once."""
    weights, commanded = contract.robot.tool_weights, set()
    for *path, feature in _listed(contract):
        if path[0] == 'observation' or feature.space != 'tool':
            continue
        named = [*feature.axes, *(['rotation'] if feature.rotation else [])]
        if twice := [name for name in named if name in commanded]:
            yield f'{twice[0]} of the tool is commanded twice', (*path, 'axes')
        commanded.update(named)
        for axis, weight in zip('xyz', weights.position):
            if axis in feature.axes and not weight:
                yield f'{axis} of the tool is commanded, but has the weight 0', ('robot', 'tool_weights', 'position')
        if feature.rotation and not any(weights.rotation):
            yield 'the rotation is commanded, but every weight is 0', ('robot', 'tool_weights', 'rotation')
    if weights != ToolWeights() and not commanded:
        yield 'weights go with an action in tool space', ('robot', 'tool_weights')


def _joint_stream_rules(contract: Contract, name: str) -> Iterator[_Inconsistency]:
    stream, size = getattr(contract, name), len(contract.robot.joints)
    kind = stream.type or JOINT_TYPES[name]
    if unfit := stream.unfit(size):
        yield unfit, (name, unfit.partition(' ')[0])
    if len(stream.names) not in (0, size):
        yield f'{len(stream.names)} entries for {size} joints', (name, 'names')
    paths = sum(len(types.expand(field)) for field in stream.fields)
    if paths not in (0, size) or (not paths and types.kind(kind) != 'joints' and not kind.endswith('MultiArray')):
        yield f'{paths} numbers in `fields` for {size} joints', (name, 'fields' if paths else 'type')
    if types.has_header(kind) is None and stream.stamp is None:
        yield f'of {kind}, state whether to `stamp` by header or by receive', (name, 'type')
    if types.has_header(kind) is False and stream.stamp == 'header':
        yield f'{kind} has no header', (name, 'stamp')


def _newer_than_version_1(contract: Contract) -> tuple[str | int, ...]:
    for name in _SINCE_2:
        if getattr(contract, name) != Contract.model_fields[name].default:
            return (name, 0) if name == 'further_actions' else (name,)
    for *path, feature in _listed(contract):
        if isinstance(feature, TopicFeature) or feature.joints or feature.mode or feature.rotation:
            return tuple(path)
    if contract.robot.tool_weights != ToolWeights():
        return ('robot', 'tool_weights')
    return ('action_mode',) if contract.action_mode == 'velocity' else ()
