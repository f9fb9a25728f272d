"""Preflight before the arm moves: topics, quality of service, joints, units, limits, clock, other publishers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from rclpy.node import Node
from rclpy.qos import QoSCompatibility, qos_check_compatible
from rclpy.topic_endpoint_info import TopicEndpointInfo

from vdd_ros.common.errors import InterfaceError
from vdd_ros.contract.contract import NANOSECONDS
from vdd_ros.control.control_loop import longest_gap

_DEGREE = np.pi / 180
_UNKNOWN = '_NODE_NAME_UNKNOWN_'
_TOLERANCE = 0.02
"""Tolerance of measured joints outside their limits [rad]: encoders and models differ."""


@dataclass(frozen=True)
class Finding:
    """The result of one check of the preflight."""

    subject: str
    """Subject of the check."""
    level: Literal['fine', 'warning', 'failure']
    text: str
    error: InterfaceError | None = None
    """The error, if the check failed."""


@dataclass(frozen=True)
class Report:
    """The results of all checks of the preflight."""

    findings: tuple[Finding, ...]

    @property
    def failures(self) -> tuple[Finding, ...]:
        """The failures, which prevent motion."""
        return tuple(finding for finding in self.findings if finding.level == 'failure')

    @property
    def text(self) -> str:
        """One line for each check."""
        return '\n'.join(f'{finding.level}: {finding.subject}: {finding.text}' for finding in self.findings)


@dataclass(frozen=True)
class Stream:
    """A topic of the node whose connection the preflight checks."""

    topic: str
    """Fully resolved name."""
    type: str
    """Message type such as ``sensor_msgs/msg/JointState``."""
    role: Literal['subscription', 'publisher']
    """End of the connection that belongs to this node."""
    needed: bool
    """Whether another end is required."""
    alone: bool = False
    """Whether other publishers are forbidden."""


@dataclass(frozen=True)
class Arm:
    """The latest data of the arm for the preflight, in the joint order of the contract."""

    joints: Sequence[str]
    position: np.ndarray
    """Shape (joint,) [rad]."""
    age: float
    """Age of the last joint state by the node's clock [s]."""
    max_age: float
    """Maximum age of joint states [s]."""
    rate: float
    """Rate of joint states by their own stamps [Hz]; NaN for fewer than two."""
    policy_rate: float
    """Policy rate [Hz]."""
    control_rate: float
    """Control rate [Hz]."""
    lower: np.ndarray
    upper: np.ndarray
    """Limits of the joints, shape (joint,) [rad]."""
    velocity: np.ndarray
    """Shape (joint,) [rad/s]."""
    measured: np.ndarray
    """Which joints are measured, shape (joint,) bool; for the other joints only the commands are known."""
    simulated: bool
    """Whether the time of the node is simulated."""


def look(node: Node, streams: Sequence[Stream], arm: Arm, notes: Mapping[str, str]) -> Report:
    """Run all checks; ``notes``, such as hashes, are reported unchanged."""
    findings = [Finding(subject, 'fine', text) for subject, text in notes.items()]
    for stream in streams:
        findings += _stream(node, stream)
    if arm.simulated:
        findings += _clock(node)
    findings += _arm(arm)
    return Report(tuple(findings))


def _failure(subject: str, *, expected: str, found: str, remedy: str) -> Finding:
    error = InterfaceError(expected=expected, found=found, remedy=remedy)
    return Finding(subject, 'failure', str(error), error)


def rivals(node: Node, topic: str, own: int = 1) -> list[str]:
    """Return the names of the publishers of a topic, without ``own`` publishers of the node itself.

    A node that was started twice appears with its own name.
    """
    name = _own_name(node)
    names = sorted(_full_name(info) for info in node.get_publishers_info_by_topic(topic))
    if len(names) <= own:  # the name of an own publisher may not be known yet
        return []
    for _ in range(min(own, names.count(name))):
        names.remove(name)
    return names


def _stream(node: Node, stream: Stream) -> Iterator[Finding]:
    subscribes = stream.role == 'subscription'
    ends = node.get_publishers_info_by_topic(stream.topic), node.get_subscriptions_info_by_topic(stream.topic)
    others, own = ends if subscribes else reversed(ends)
    peers = [info for info in others if _full_name(info) != _own_name(node)]
    mine = next((info for info in own if _full_name(info) == _own_name(node)), None)
    kind = 'publisher' if subscribes else 'subscriber'
    if not peers:
        if stream.needed:
            yield _failure(
                stream.topic,
                expected=f'a {kind} of {stream.topic}',
                found='none',
                remedy='start it, or remap the topic or name the controller that is there',
            )
        return
    fine = True
    for peer in peers:
        name = _full_name(peer)
        if peer.topic_type != stream.type:
            fine = False
            yield _failure(
                stream.topic,
                expected=f'{stream.type} on {stream.topic}',
                found=f'{peer.topic_type} of {name}',
                remedy='remap the topic, or choose the interface that the controller has',
            )
            continue
        pair = (peer, mine or peer) if subscribes else (mine or peer, peer)
        compatible, why = qos_check_compatible(*(info.qos_profile for info in pair))
        if compatible == QoSCompatibility.ERROR:
            fine = False
            yield _failure(
                stream.topic,
                expected=f'quality of service on {stream.topic} that goes with {name}',
                found=why.strip(' ;').removeprefix('ERROR: '),
                remedy=f'change that of {name}: DDS delivers nothing between the two, without an error',
            )
    if stream.alone and (others := rivals(node, stream.topic)):
        fine = False
        yield _failure(
            stream.topic,
            expected=f'nobody else to command on {stream.topic}',
            found=', '.join(others),
            remedy='end one of them: the arm would jump between the two',
        )
    if fine:
        yield Finding(stream.topic, 'fine', f'{stream.type}, {kind} {", ".join(sorted(map(_full_name, peers)))}')


def _clock(node: Node) -> Iterator[Finding]:
    topic = node.resolve_topic_name('/clock')  # of two simulated arms, each has its own
    names = sorted({_full_name(info) for info in node.get_publishers_info_by_topic(topic)})
    now = node.get_clock().now().nanoseconds
    if not names or not now:
        yield _failure(
            topic,
            expected=f'a clock on {topic}, since use_sim_time is true',
            found=f'{", ".join(names) or "nobody"}, and it stands at {now / 1e9:g} s',
            remedy='start the simulation, or set use_sim_time to false on a real arm',
        )
    elif len(names) > 1:
        yield _failure(
            topic, expected=f'one clock on {topic}', found=', '.join(names), remedy='end all but one of them'
        )
    else:
        yield Finding(topic, 'fine', f'of {names[0]}, {now / 1e9:.3f} s')


def _arm(arm: Arm) -> Iterator[Finding]:
    position = arm.position
    if not np.isfinite(position[arm.measured]).all() or not -arm.max_age <= arm.age <= arm.max_age:
        other = 'they have a clock of their own: look at use_sim_time here and there'
        yield _failure(
            'joint states',
            expected=f'a finite joint state no older than {arm.max_age:g} s',
            found=f'{position.tolist()}, {arm.age:.3f} s old',
            remedy=other if abs(arm.age) > 1e6 or arm.age < 0 else 'look at the publisher of joint_states',
        )
        return
    if arm.rate < 0.9 * arm.policy_rate:
        yield Finding(
            'joint states',
            'warning',
            f'{arm.rate:.1f} Hz, and the policy looks at them at {arm.policy_rate:g} Hz: it sees some of them twice',
        )
    if arm.simulated and arm.policy_rate < arm.control_rate and arm.rate < 0.9 * arm.control_rate:
        yield _slow_simulation(arm)
    outside = (position < arm.lower - _TOLERANCE) | (position > arm.upper + _TOLERANCE)
    if outside.any():
        joint = int(outside.argmax())
        scaled = position * _DEGREE
        degrees = ((scaled >= arm.lower - _TOLERANCE) & (scaled <= arm.upper + _TOLERANCE)).all()
        yield _failure(
            'joint limits',
            expected=f'{arm.joints[joint]} from {arm.lower[joint]:.4g} to {arm.upper[joint]:.4g} rad',
            found=f'{position[joint]:.4g}' + ' (in degrees, it seems)' * bool(degrees),
            remedy='set unit, sign or offset of the stream in the contract, or the limits; or move the arm back inside',
        )
    unlimited = [name for name, speed in zip(arm.joints, arm.velocity) if not np.isfinite(speed)]
    if unlimited and arm.simulated:
        yield Finding('speed limits', 'warning', f'no velocity limit for {", ".join(unlimited)}; a real arm needs one')
    elif unlimited:
        yield _failure(
            'speed limits',
            expected='a velocity limit of every joint',
            found=f'none for {", ".join(unlimited)}',
            remedy='add it to the robot model, or point the parameter joint_limits at a joint_limits.yaml',
        )
    if not (outside.any() or unlimited):
        count = int(arm.measured.sum())
        yield Finding('joint states', 'fine', f'{count} joints within their limits, {arm.rate:.0f} Hz')


def _slow_simulation(arm: Arm) -> Finding:
    """Return the effect of rare joint states in simulated time, in which commands leave with joint states."""
    least = NANOSECONDS / longest_gap(round(NANOSECONDS / arm.control_rate))
    if arm.rate >= least:
        return Finding(
            'joint states',
            'warning',
            f'{arm.rate:.1f} Hz: in simulated time each command answers one, so that {arm.control_rate:g} Hz '
            'are not reached',
        )
    return _failure(
        'joint states',
        expected=f'at least {least:.0f} Hz for a control_rate of {arm.control_rate:g} Hz: in simulated time each '
        'command answers a joint state',
        found=f'{arm.rate:.1f} Hz',
        remedy='raise joint_state_rate of the simulation, or lower control_rate',
    )


def _own_name(node: Node) -> str:
    return f'{node.get_namespace().rstrip("/")}/{node.get_name()}'


def _full_name(info: TopicEndpointInfo) -> str:
    if info.node_name == _UNKNOWN:
        return 'a node whose name is not known yet'
    return f'{info.node_namespace.rstrip("/")}/{info.node_name}'
