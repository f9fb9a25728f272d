"""The recorded topics: those of a contract."""

from __future__ import annotations

from dataclasses import dataclass

from vdd_ros.contract.contract import Contract

JOINT_STATE = 'sensor_msgs/msg/JointState'
COMMAND = 'std_msgs/msg/Float64MultiArray'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'
_TRANSFORMS, _STATIC_TRANSFORMS = '/tf', '/tf_static'


@dataclass(frozen=True)
class Stream:
    """A recorded topic."""

    topic: str
    """Name in the graph before remapping."""
    type: str
    """Message type, such as ``sensor_msgs/msg/JointState``."""
    keeps_time: bool = False
    """Whether the header stamps of this topic define the robot's time, for messages without a header."""

    @property
    def name(self) -> str:
        """Name in the bag: the contract name, also after remapping."""
        return f'/{self.topic.lstrip("/")}'


def streams_of(contract: Contract) -> tuple[Stream, ...]:
    """Return all topics of a contract: joint states first, then commands, marks and the others."""
    topics, rules = contract.topics, contract.episodes
    streams = [Stream(topics.joint_states, contract.measured.type or JOINT_STATE, keeps_time=True)]
    if contract.commanded.source == 'topic':
        streams.append(Stream(topics.commands, contract.commanded.type or COMMAND))
    streams.append(Stream(topics.episode, MARK, keeps_time=True))
    features = [*contract.topic_features, *(item for item in contract.further_actions if item.source == 'topic')]
    signals = [item for item in (rules.signal, rules.discard, rules.outcome, rules.language) if item is not None]
    streams += [Stream(item.topic, item.type) for item in (*features, *signals)]
    if any(stream.name == _TRANSFORMS for stream in streams):
        streams.append(Stream(_STATIC_TRANSFORMS, 'tf2_msgs/msg/TFMessage'))
    return tuple({stream.name: stream for stream in reversed(streams)}.values())[::-1]
