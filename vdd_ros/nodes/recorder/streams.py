"""What a recorder listens to: the topics that a contract reads."""

from __future__ import annotations

from dataclasses import dataclass

from vdd_ros.contract.contract import Contract

JOINT_STATE = 'sensor_msgs/msg/JointState'
COMMAND = 'std_msgs/msg/Float64MultiArray'
MARK = 'diagnostic_msgs/msg/DiagnosticArray'
_TRANSFORMS, _STATIC_TRANSFORMS = '/tf', '/tf_static'


@dataclass(frozen=True)
class Stream:
    """A topic that is recorded."""

    topic: str
    """Its name in the graph, before it is remapped."""
    type: str
    """Such as ``sensor_msgs/msg/JointState``."""
    keeps_time: bool = False
    """Whether the stamps of its headers are the time of the robot, for all that has none."""

    @property
    def name(self) -> str:
        """Its name in the bag: wherever it was remapped to, so that the contract can read it again."""
        return f'/{self.topic.lstrip("/")}'


def streams_of(contract: Contract) -> tuple[Stream, ...]:
    """Return every topic that a contract reads: joint states first, then commands, marks and whatever else it names."""
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
