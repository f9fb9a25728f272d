"""The topics of a contract and their decoders, for bags and for live messages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from vdd_ros.contract import message_types as types
from vdd_ros.contract.contract import JOINT_TYPES, Contract, Controller
from vdd_ros.contract.features import Alignment, JointStream, TopicFeature
from vdd_ros.data.decode import rotation
from vdd_ros.data.decode.decoders import Decoder, JointDecoder, ScalarDecoder
from vdd_ros.data.decode.frames import Frames
from vdd_ros.data.decode.resample import aligned, aligned_frames, latest
from vdd_ros.data.decode.sensor_decoders import LinkDecoder, PictureDecoder, PoseDecoder
from vdd_ros.data.decode.serialized import Definitions
from vdd_ros.data.recording import Stream

MEASURED, COMMANDED = 'measured', 'commanded'
_STATIC = '_static'
_HERE = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])

Described = Callable[[str], tuple[Definitions, bool]]
"""Maps a topic of the contract to the definitions of its type, and whether it has the ROS 1 serialisation."""


@dataclass(frozen=True)
class Source:
    """A topic from which a stream is read."""

    topic: str
    """Name in the contract."""
    type: str
    stream: str
    """`measured`, `commanded`, or the name of a feature; for frame chains `NAME/LINK` and `NAME/LINK/static`; for the
    joints of a further controller `measured/NAME`."""
    width: int
    optional: bool = False
    """Whether the topic may be missing: a link has either moving or static transforms."""
    pictures: bool = False
    """Whether the messages are images."""


def joint_type(contract: Contract, name: str) -> str:
    """Return the message type of the `measured` or `commanded` joints."""
    return getattr(contract, name).type or JOINT_TYPES[name]


def sources(contract: Contract) -> tuple[Source, ...]:
    """Return the sources of all streams; a topic may occur several times."""
    size = len(contract.robot.joints)
    found = [Source(contract.topics.joint_states, joint_type(contract, MEASURED), MEASURED, size)]
    if contract.commanded.source == 'topic':
        found.append(Source(contract.topics.commands, joint_type(contract, COMMANDED), COMMANDED, size))
    for controller in contract.controllers[1:]:
        if controller.measured:
            name, width = measured_stream(controller), len(controller.joints)
            found.append(Source(contract.topics.joint_states, joint_type(contract, MEASURED), name, width))
    for feature in topic_features(contract):
        if feature.frames:
            for link in range(len(feature.frames) - 1):
                name = f'{feature.name}/{link}'
                found.append(Source(feature.topic, feature.type, name, 7, optional=True))
                found.append(Source(feature.topic + _STATIC, feature.type, f'{name}/static', 7, optional=True))
        else:
            picture = feature.image is not None or feature in contract.arrays
            found.append(Source(feature.topic, feature.type, feature.name, feature.size, pictures=picture))
    return tuple(found)


def measured_stream(controller: Controller) -> str:
    """Return the name of the stream that contains the measured joints of a controller."""
    return f'{MEASURED}/{controller.name}' if controller.name else MEASURED


def topic_features(contract: Contract) -> tuple[TopicFeature, ...]:
    """Return the topic features of observation and action, without duplicates."""
    both = (*contract.observation, *contract.actions)
    return tuple({feature.name: feature for feature in both if isinstance(feature, TopicFeature)}.values())


def alignment(contract: Contract, stream: str) -> Alignment:
    """Return the alignment of a stream, by its name in `sources`."""
    name = stream.partition('/')[0]
    if name in (MEASURED, COMMANDED):
        return getattr(contract, name).align
    return next(feature.align for feature in topic_features(contract) if feature.name == name)


def decoder(contract: Contract, source: Source, described: Described, *, deferred: bool = False) -> Decoder:
    """Return the decoder of a source; with `deferred`, images are decoded on demand."""
    definitions, ros1 = described(source.topic)
    name, *link = source.stream.split('/')
    if name in (MEASURED, COMMANDED):
        return _joint_decoder(contract, source, definitions, ros1)
    feature = next(item for item in topic_features(contract) if item.name == name)
    kind = types.kind(feature.type)
    if kind == 'frames':
        parent, child = feature.frames[int(link[0]) : int(link[0]) + 2]
        return LinkDecoder(feature, definitions, ros1, parent, child)
    if kind in ('image', 'points'):
        pixels = feature in contract.arrays
        return PictureDecoder(feature, definitions, ros1, deferred=deferred and source.pictures, pixels=pixels)
    by_header = feature.stamp == 'header'
    if kind == 'joints':
        named = {'joints': feature.joints, 'fields': feature.read_fields}
        return JointDecoder(feature.type, definitions, feature, by_header=by_header, ros1=ros1, **named)
    if any(types.is_orientation(field) for field in feature.read_fields):
        return PoseDecoder(feature, definitions, ros1)
    return ScalarDecoder(feature.type, definitions, feature, by_header=by_header, ros1=ros1, paths=feature.paths)


def _joint_decoder(contract: Contract, source: Source, definitions: Definitions, ros1: bool) -> Decoder:
    stream: JointStream = getattr(contract, source.stream.partition('/')[0])
    if source.stream.startswith(f'{MEASURED}/'):
        controller = next(each for each in contract.controllers if measured_stream(each) == source.stream)
        stream = further_states(contract, controller)
    stamped = types.has_header(source.type)
    by_header = stamped if stream.stamp is None else stream.stamp == 'header'
    common = {'by_header': bool(by_header), 'ros1': ros1}
    names = stream.names or contract.robot.joints
    if types.kind(source.type) == 'joints' and not stream.fields:
        field = 'velocity' if stream.quantity == 'velocity' else 'position'
        return JointDecoder(source.type, definitions, stream, joints=names, fields=(field,), **common)
    paths = [path for field in stream.fields for path in types.expand(field)]
    if paths:
        return ScalarDecoder(source.type, definitions, stream, paths=paths, **common)
    paths = [f'data[{place}]' for place in range(len(names))]
    return ScalarDecoder(source.type, definitions, stream, paths=paths, whole='data', **common)


def further_states(contract: Contract, controller: Controller) -> JointStream:
    """Return the decoding of joint states for a further controller's joints; sign and offset are those of the arm."""
    stream = contract.measured
    return JointStream(type=stream.type, unit=stream.unit, stamp=stream.stamp, names=controller.names)


def topic_values(
    feature: TopicFeature,
    streams: Mapping[str, Stream],
    ticks: np.ndarray,
    *,
    inclusive: bool = True,
    undecoded: bool = False,
) -> tuple[np.ndarray | Frames, np.ndarray]:
    """Return a feature at every tick, shape (tick, width), and a mask of the ticks without a value, shape (tick,).

    With ``undecoded``, images are returned without decoding.
    """
    if not feature.frames:
        stream = streams[feature.name]
        if isinstance(stream.values, Frames):
            return aligned_frames(stream.stamps, stream.values, ticks, feature.align, undecoded=undecoded)
        return aligned(stream.stamps, stream.values, ticks, feature.align, inclusive=inclusive)
    pose, unknown = np.tile(_HERE, (len(ticks), 1)), np.zeros(len(ticks), dtype=bool)
    for link in range(len(feature.frames) - 1):
        values, stale = _link_values(feature, streams, f'{feature.name}/{link}', ticks)
        values[stale] = _HERE  # arbitrary: these ticks are not used
        pose = rotation.compose(pose, values) if link else values
        unknown |= stale
    turned, _ = rotation.normalized(pose[:, 3:])
    turned = rotation.six_dimensional(turned) if feature.rotation == '6d' else turned
    return np.concatenate([pose[:, :3], turned], axis=1), unknown


def _link_values(
    feature: TopicFeature, streams: Mapping[str, Stream], name: str, ticks: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the pose of a moving link; before its first moving transform, the static one.

    A static transform applies at any time, regardless of its stamp, as in tf2. Of several, the newest by the tick is
    used, or else the first.
    """
    moving, static = streams[name], streams[f'{name}/static']
    values, stale = aligned(moving.stamps, moving.values, ticks, feature.align)
    never = latest(moving.stamps, ticks, inclusive=True) < 0
    if not len(static.stamps):
        return values, stale | never
    still = static.values[np.maximum(latest(static.stamps, ticks, inclusive=True), 0)]
    return np.where(never[:, None], still, values), stale & ~never
