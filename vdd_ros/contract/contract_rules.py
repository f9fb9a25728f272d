"""Consistency rules between the parts of a contract: each rule yields problems, and the entries that have them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from vdd_ros.contract import message_types as types
from vdd_ros.contract.features import TopicFeature

if TYPE_CHECKING:
    from vdd_ros.contract.contract import Contract

Complaint = tuple[str, tuple[str | int, ...]]

SINCE_2 = ('measured', 'commanded', 'further_actions', 'episodes')
"""The keys of a contract that exist since version 2."""

_LARGEST = 256
"""Maximum number of rows and columns of images before version 3."""

JOINT_TYPES = {'measured': 'sensor_msgs/msg/JointState', 'commanded': 'std_msgs/msg/Float64MultiArray'}
"""Default message types of the two streams of joint values."""


def complaints(contract: Contract) -> Iterator[Complaint]:
    """Yield every inconsistency in a contract: a text, and the path of the entry."""
    yield from _actions(contract)
    yield from _features(contract)
    yield from _controllers(contract)
    yield from _tool(contract)
    for name in ('measured', 'commanded'):
        yield from _joint_stream(contract, name)
    if contract.commanded.align.method != 'hold':
        yield 'a command is held until the next one', ('commanded', 'align', 'method')
    if contract.measured.source != 'topic' or contract.measured.quantity != 'position':
        yield 'source and quantity go with `commanded`, and only with it', ('measured',)
    yield from _images(contract)
    if contract.schema_version == 1 and (path := _newer_than_version_1(contract)):
        yield 'this came with version 2 of contracts: set `schema_version: 2`', path


def _listed(contract: Contract) -> list[tuple]:
    """Return each feature, after its path."""
    listed = [('observation', *item) for item in enumerate(contract.observation)]
    further = [('further_actions', *item) for item in enumerate(contract.further_actions)]
    return [*listed, ('action', contract.action), *further]


def _actions(contract: Contract) -> Iterator[Complaint]:
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


def _features(contract: Contract) -> Iterator[Complaint]:
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


def _controllers(contract: Contract) -> Iterator[Complaint]:
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


def _images(contract: Contract) -> Iterator[Complaint]:
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
        elif image.crop is not None or image.resize != 'stretch' or max(image.height, image.width) > _LARGEST:
            text = f'crop, resize and more than {_LARGEST} pixels came with version 3 of contracts'
            yield f'{text}: set `schema_version: 3`', (*path, 'image')
    if contract.arrays and not contract.observation_size:
        yield 'beside images an observation has numbers: add the measured joints', ('observation',)


def _tool(contract: Contract) -> Iterator[Complaint]:
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
    if weights != type(weights)() and not commanded:
        yield 'weights go with an action in tool space', ('robot', 'tool_weights')


def _joint_stream(contract: Contract, name: str) -> Iterator[Complaint]:
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
        yield f'of {kind}, say whether to `stamp` by header or by receive', (name, 'type')
    if types.has_header(kind) is False and stream.stamp == 'header':
        yield f'{kind} has no header', (name, 'stamp')


def _newer_than_version_1(contract: Contract) -> tuple[str | int, ...]:
    for name in SINCE_2:
        if getattr(contract, name) != type(contract).model_fields[name].default:
            return (name, 0) if name == 'further_actions' else (name,)
    for *path, feature in _listed(contract):
        if isinstance(feature, TopicFeature) or feature.joints or feature.mode or feature.rotation:
            return tuple(path)
    if contract.robot.tool_weights != type(contract.robot.tool_weights)():
        return ('robot', 'tool_weights')
    return ('action_mode',) if contract.action_mode == 'velocity' else ()
