"""Replays recorded observations to a policy in shadow mode, and compares its commands with the recorded ones."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from lifecycle_msgs.msg import State
from lifecycle_msgs.srv import GetState
from rclpy.task import Future
from rclpy.timer import Timer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState

from vdd_ros.common.errors import ConfigurationError, InterfaceError
from vdd_ros.contract.contract import NANOSECONDS, Contract
from vdd_ros.data.decode.resample import latest
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm.lifecycle import ArmNode, unless_closed
from vdd_ros.nodes.recorder.raw_subscription import message_class
from vdd_ros.nodes.recorder.streams import streams_of
from vdd_ros.validation.differences import Differences
from vdd_ros.validation.recorded_episode import RecordedMessage, driven, read_episode

_STEP = 0.002
_REMIND = 0.1
_PATIENCE = 1.0
"""Time to wait for a response before the request is repeated [s]."""
_LEAD = 0.02
"""Minimum time before a policy tick at which the other streams are published [s], so they arrive before the tick."""
_BEFORE = 2 * NANOSECONDS


class ShadowReplay:
    """The replay of observations, from construction to `close`.

    Publishes the messages of the episode in their order, and `/clock`, at most at the requested speed. Each policy
    period starts only after the response of the policy to the previous period. Results therefore do not depend on the
    machine.
    """

    is_hopeless = False

    def __init__(self, node: ArmNode, contract: Contract) -> None:
        """Read the episode, and create the publishers of its topics; errors as for `read_episode`."""
        values = node.values
        if node.simulated:
            raise ConfigurationError(
                expected='use_sim_time false for a player in the shadow, which itself is the clock',
                found='true',
                remedy='set it for the policy node alone',
            )
        self._node, self._values, self._contract = node, values, contract
        self.closed = False
        streams = [stream for stream in streams_of(contract) if stream.topic != contract.topics.episode]
        topics = [stream.topic for stream in streams]
        played = driven(contract)
        self._episode = read_episode(values['bag'], played, values['episode'], topics, _BEFORE)
        self._joints = played.joints
        self._states = contract.topics.joint_states
        self._tape = self._episode.messages
        self._first = next(
            place
            for place, item in enumerate(self._tape)
            if item.topic == self._states and messages.header_stamp(item.data) >= self._episode.span.start
        )
        self._publishers = {
            stream.topic: node.create_publisher(message_class(stream.type), stream.topic, qos.COMMANDS)
            for stream in streams
        }
        self._clock = node.create_publisher(Clock, '/clock', qos.CLOCK)
        self._get_state = node.create_client(GetState, f'{values["policy"]}/get_state')
        topic = f'{values["policy"]}/shadow'
        self._listener = node.create_subscription(JointState, topic, self._on_answer, qos.COMMANDS)
        self._reader = messages.JointReader(self._joints)
        self._answers: dict[int, tuple[np.ndarray, int]] = {}
        self._unanswered = 0
        self._phase = 'inactive'
        self._spoke = 0.0
        self._requested: Future | None = None
        self._timer: Timer | None = None
        self._place = 0
        self._status = node.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self._reporting = node.create_timer(1.0, self._report, clock=node.wall)

    @property
    def is_ready(self) -> bool:
        """Whether the policy node is running."""
        return self._get_state.service_is_ready()

    @property
    def is_done(self) -> bool:
        """Whether the whole episode has been published and compared."""
        return self._phase == 'done'

    def preflight(self) -> tuple[bool, str]:
        """Return whether the policy node is running, and a line that says so; no arm is moved."""
        found = f'{self._values["policy"]} is there; no arm is moved'
        return self.is_ready, f'fine: policy: {found}' if self.is_ready else f'failure: policy: {self._absence()}'

    def _absence(self) -> InterfaceError:
        return InterfaceError(
            expected=f'a node {self._values["policy"]}',
            found='none',
            remedy='start it in shadow mode with use_sim_time, or set the parameter policy',
        )

    def start(self) -> None:
        """Publish the first state of the episode until the policy is active, then the whole episode.

        Raises
        ------
        InterfaceError
            There is no policy node.

        """
        if not self.is_ready:
            raise self._absence()
        self._answers.clear()
        self._unanswered, self._place, self._awaited = 0, self._first, None
        self._next_tick = messages.header_stamp(self._tape[self._first].data)
        self._reminded = -_REMIND
        self._phase = 'waiting for the policy to be active'
        self._timer = self._node.create_timer(_STEP, self._step, clock=self._node.wall)

    def stop(self, reason: str) -> None:
        """Stop publishing."""
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
            self._timer = None
            self._phase = self._phase if self.is_done else reason

    def close(self) -> None:
        """Destroy the publishers and subscriptions."""
        self.stop('closed')
        self.closed = True
        self._node.destroy_timer(self._reporting)
        self._node.destroy_publisher(self._status)
        self._node.destroy_subscription(self._listener)
        self._node.destroy_client(self._get_state)
        for publisher in (self._clock, *self._publishers.values()):
            self._node.destroy_publisher(publisher)

    @unless_closed
    def _report(self) -> None:
        values = {'shown': f'{self._place / len(self._tape):.3f}', 'answers': len(self._answers)}
        level = DiagnosticStatus.WARN if self._unanswered else DiagnosticStatus.OK
        values['unanswered'] = self._unanswered
        name = self._node.get_fully_qualified_name()
        status = messages.to_diagnostics(self._node.now(), name, self._phase, values, level)
        self._status.publish(status)

    def _step(self) -> None:
        if self._phase == 'waiting for the policy to be active':
            self._remind()
        elif self._phase == 'showing':
            self._show()

    def _remind(self) -> None:
        """Publish the start of the episode again, and request the state of the policy."""
        if time.monotonic() - self._reminded < _REMIND:
            return
        self._reminded = time.monotonic()
        if self._requested is None or self._requested.done() or time.monotonic() - self._requested_at > _PATIENCE:
            answer = self._requested.result() if self._requested is not None and self._requested.done() else None
            if answer is not None and answer.current_state.id == State.PRIMARY_STATE_ACTIVE:
                self._began = time.monotonic()
                self._await(self._next_tick)
                self._phase = 'showing'
                self._place += 1
                return
            if self._requested is not None:  # of a node that has come just now, an answer may be lost
                self._get_state.remove_pending_request(self._requested)
            self._requested, self._requested_at = self._get_state.call_async(GetState.Request()), time.monotonic()
        newest = {item.topic: item for item in self._tape[: self._first + 1]}
        for item in newest.values():
            self._publish(item)

    def _show(self) -> None:
        """Publish what is due, up to the next policy period whose predecessor is not answered yet."""
        if self._awaited is not None:
            if self._awaited not in self._answers and time.monotonic() < self._until:
                return
            self._unanswered += self._awaited not in self._answers
            self._awaited = None
        begin = self._tape[self._first].received
        while self._place < len(self._tape):
            item = self._tape[self._place]
            if (item.received - begin) / NANOSECONDS > (time.monotonic() - self._began) * self._values['speed']:
                return
            stamp = messages.header_stamp(item.data) if item.topic == self._states else None
            tick = stamp is not None and stamp >= self._next_tick
            if tick and time.monotonic() - self._spoke < _LEAD:
                return
            self._publish(item)
            self._place += 1
            if tick:
                self._await(stamp)
                return
        self._finish()

    def _await(self, stamp: int) -> None:
        """Wait for the answer to the joint state of a stamp [ns]."""
        period = self._contract.period
        self._awaited, self._until = stamp, time.monotonic() + self._values['patience']
        self._next_tick += period * max(1, -(-(stamp - self._next_tick + 1) // period))

    def _publish(self, item: RecordedMessage) -> None:
        self._clock.publish(messages.to_clock(item.received))
        self._publishers[item.topic].publish(item.data)
        if item.topic != self._states:
            self._spoke = time.monotonic()

    def _on_answer(self, message: JointState) -> None:
        reading = self._reader.read(message)
        expert = message.header.frame_id
        self._answers[reading.stamp] = reading.position, int(expert) if expert.lstrip('-').isdigit() else -1

    def _finish(self) -> None:
        self._phase = 'done'
        self.stop('done')
        if self._values['output'] and self._answers:
            _write(Path(self._values['output']), self.differences(), self._unanswered)

    def differences(self) -> Differences:
        """Return the differences between the commands of the policy and the recorded commands."""
        stamps = np.array(sorted(self._answers))
        given, values = self._episode.commanded.stamps, self._episode.commanded.values
        after = latest(given, stamps + self._contract.period, inclusive=False)
        before = latest(given, stamps, inclusive=False)
        done = values[np.maximum(after, 0)]
        wanted = np.array([self._answers[stamp][0] for stamp in stamps.tolist()])
        experts = np.array([self._answers[stamp][1] for stamp in stamps.tolist()])
        typical = np.sqrt(np.square(done - values[np.maximum(before, 0)]).mean(axis=0))
        return Differences(self._joints, wanted - done, typical, experts)

    def summary(self) -> str:
        """Return a summary of the comparison in one line."""
        if not self._answers:
            return f'no answer on {self._listener.topic_name}: is the policy node in shadow mode?'
        found = self.differences()
        worst = max(found.by_number(), key=lambda row: row[3])
        unanswered = f', {self._unanswered} unanswered' * bool(self._unanswered)
        (unit,) = self._node.kinematics_of(self._contract).units_of([worst[0]])
        return (
            f'{len(found)} ticks{unanswered}: commands differ by {np.median(found.relative):.2f} typical steps '
            f'(median), most on {worst[0]}, by {worst[3]:.4f} {unit} in one of twenty'
        )


def _write(target: Path, found: Differences, unanswered: int) -> None:
    rows = [dict(zip(('name', 'bias', 'median', 'p95', 'typical'), row)) for row in found.by_number()]
    experts = [
        {'expert': expert, 'share': share, 'relative': relative, 'median': dict(zip(found.names, errors.tolist()))}
        for expert, share, relative, errors in found.by_expert()
    ]
    values = {'ticks': len(found), 'unanswered': unanswered, 'numbers': rows, 'experts': experts}
    aside = target.with_name(f'.{target.name}.partial')
    aside.write_text(json.dumps(values, indent=1), encoding='utf-8')
    aside.replace(target)
