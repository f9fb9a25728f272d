"""Plays the commands of an episode onto an arm, real or simulated."""

from __future__ import annotations

import threading
import time
from collections import Counter
from typing import Mapping

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.lifecycle import LifecycleNode
from rclpy.task import Future
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from vdd_ros.contract import NANOSECONDS, Contract, load_contract
from vdd_ros.control.freshness import Freshness
from vdd_ros.control.limits import Limits
from vdd_ros.errors import ConfigurationError, InterfaceError
from vdd_ros.kinematics import Kinematics
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.arm_state import ArmState
from vdd_ros.nodes.episode_reader import RecordedEpisode, read_episode
from vdd_ros.nodes.output import Output
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.playback import Playback, Told
from vdd_ros.nodes.tap import message_class

_WALL_RATE = 100.0
_VERDICT = 3.0
"""How long the verdict of a scene is waited for once all is played [s]."""
_REST_TICKS = 2000
"""Ticks within which any stop ends; a bound for the loop that waits for it, not a measure."""


class ArmReplay:
    """The player of commands, from its making to `close`.

    In simulated time the ticks are those joint states whose stamps reach the next tick, so that lockstep works; in wall
    time a thread with absolute deadlines ticks.
    """

    def __init__(self, node: LifecycleNode, values: Mapping[str, object], contract: Contract) -> None:
        """Read the episode, and listen to the arm; errors as those of `read_episode` and `Playback`.

        ``contract`` is that of the bag, and of the arm unless the parameter ``arm_contract`` names another one.
        """
        self._node, self._values = node, values
        self._simulated = node.get_parameter('use_sim_time').value
        recorded, contract = contract, load_contract(values['arm_contract']) if values['arm_contract'] else contract
        if contract.robot != recorded.robot:
            raise ConfigurationError(
                expected=f'an arm_contract with the robot of {recorded.name}: {recorded.robot}',
                found=str(contract.robot),
                remedy='let the two differ in topics, names and units alone',
            )
        beside = {item.topic: item.type for item in contract.further_actions if item.source == 'topic'}
        self._episode: RecordedEpisode = read_episode(values['bag'], recorded, values['episode'], [*beside])
        kinematics = Kinematics.from_contract(contract)
        limits = Limits(
            kinematics.lower, kinematics.upper, kinematics.velocity_limits * values['velocity_scale'], values['max_lag']
        )
        if values['max_acceleration']:
            limits = limits.tightened(acceleration=np.array(values['max_acceleration']))
        rate = values['control_rate'] or (contract.policy_rate if self._simulated else _WALL_RATE)
        self._period = round(NANOSECONDS / rate)
        self._max_age = round(values['max_age'] * NANOSECONDS)
        self._playback = Playback(
            self._episode.track,
            limits,
            Freshness(self._max_age),
            period=self._period,
            speed=values['speed'],
            approach=values['approach_speed'],
        )
        self._lock = threading.RLock()
        self._pacer: Pacer | None = None
        self._arm = ArmState(contract, node.resolve_topic_name(contract.topics.joint_states))
        self._told: Told | None = None
        self._active = False
        self._next_tick = 0
        self._answered: int | None = None
        self.counts: Counter[str] = Counter()
        """Ticks by phase."""
        self._output = Output(
            contract,
            interface=values['interface'],
            controller=values['controller'],
            controller_joints=values['controller_joints'],
            reach=2 * self._period / NANOSECONDS,
        )
        self._commands = node.create_publisher(self._output.type, self._output.topic, qos.COMMANDS)
        self._beside = {
            topic: node.create_publisher(message_class(kind), topic, qos.COMMANDS) for topic, kind in beside.items()
        }
        self._said = 0
        self._states = node.create_subscription(
            JointState, contract.topics.joint_states, self._on_state, qos.JOINT_STATES
        )
        self._episodes = node.create_subscription(
            DiagnosticArray, contract.topics.episode, self._on_episode, qos.EPISODE
        )
        self._apart = 0.0
        self._outcome = ''
        self._done_since: float | None = None
        self._reset = node.create_client(Trigger, values['reset']) if values['reset'] else None
        self._resetting: Future | None = None

    @property
    def is_ready(self) -> bool:
        """Whether the arm has been heard, and hears, and the scene has been put back."""
        if self._arm.reading is None or self._unheard():
            return False
        if self._reset is not None and self._resetting is None and self._reset.service_is_ready():
            self._resetting = self._reset.call_async(Trigger.Request())
        return self._reset is None or (self._resetting is not None and self._resetting.done())

    def _unheard(self) -> list[str]:
        """Return the topics of commands that nobody listens to."""
        publishers = (self._commands, *self._beside.values())
        return [publisher.topic_name for publisher in publishers if not publisher.get_subscription_count()]

    @property
    def is_done(self) -> bool:
        """Whether the episode has been played to its end, and nothing more is to come of it."""
        if self._told is None or self._told.phase != 'done':
            return False
        self._done_since = self._done_since or time.monotonic()
        if self._reset is not None:  # somebody judges it
            return bool(self._outcome) or time.monotonic() - self._done_since > _VERDICT
        return self._simulated or not self._playback.moving

    def start(self) -> None:
        """Begin with the slow way to where the episode begins.

        Raises
        ------
        InterfaceError
            The arm has not been heard, or not lately, or nobody listens to commands.

        """
        with self._lock:
            reading = self._arm.reading
            if reading is None:
                raise self._arm.complaint
            if topics := self._unheard():
                raise InterfaceError(
                    expected=f'a controller that listens on {", ".join(topics)}',
                    found='nobody',
                    remedy='start it, or set the parameter controller to its name',
                )
            age = self._now() - reading.stamp
            if not np.isfinite(reading.position).all() or age > self._max_age:
                raise InterfaceError(
                    expected=f'a finite joint state no older than {self._values["max_age"]:g} s',
                    found=f'{reading.position.tolist()}, {age / NANOSECONDS:.3f} s old',
                    remedy='look at the publisher of joint_states and at use_sim_time',
                )
            self._playback.start(reading.stamp, reading.position)
            self._said = 0
            self._next_tick = reading.stamp
            self._active = True
            if self._simulated:
                self._tick(reading.stamp)
        if not self._simulated:
            self._pacer = Pacer(self._period / NANOSECONDS, self._on_deadline)
            self._pacer.start()

    def stop(self, reason: str) -> None:
        """Brake, and send the commands of the braking."""
        if not self._active:
            return
        if self._pacer:
            self._pacer.stop()
            self._pacer = None
        with self._lock:
            self._playback.stop(reason)
            for _ in range(_REST_TICKS):
                self._tick(self._next_tick)
                if self._told.phase == 'stopped':
                    break
            self._active = False

    def close(self) -> None:
        """Let go of the arm."""
        self._node.destroy_subscription(self._states)
        self._node.destroy_subscription(self._episodes)
        if self._reset is not None:
            self._node.destroy_client(self._reset)
        for publisher in (self._commands, *self._beside.values()):
            self._node.destroy_publisher(publisher)

    def report(self) -> tuple[str, dict[str, object], bool]:
        """Return for the diagnostics a text, values, and whether all is well."""
        if self._pacer:
            self._pacer.check()
        told = self._told
        text = 'inactive' if told is None or not self._active else told.reason or told.phase
        values = {'played': f'{self._playback.share:.3f}', 'clamped': self._playback.clamped, **self.counts}
        return text, values, told is None or not told.reason

    def summary(self) -> str:
        """Say in a line how it went."""
        seconds = self._episode.track.length / NANOSECONDS
        clamped = self._playback.clamped
        changed = f'; a limit changed {clamped} of {self.counts["playing"]} commands' if clamped else ''
        outcome = f'; outcome: {self._outcome}' * bool(self._outcome)
        apart = f'; the arm at most {self._apart:.3f} rad from its commands'
        return f'{self._playback.share:.0%} of {seconds:.1f} s played{apart}{changed}{outcome}'

    def notice_silence(self) -> None:
        """In simulated time, tick by the clock where it runs on but joint states have ceased."""
        with self._lock:
            if self._active and self._simulated and self._now() - self._next_tick > self._max_age:
                self._tick(self._now())

    def _on_state(self, message: JointState) -> None:
        reading = self._arm.take(message, self._now())
        if reading is None:
            return
        with self._lock:
            self._playback.observe(reading.stamp, reading.position)
            if self._active and self._told is not None and self._told.phase == 'playing':
                self._apart = max(self._apart, float(np.abs(reading.position - self._told.position).max()))
            if self._active and self._simulated:
                if reading.stamp >= self._next_tick:
                    self._tick(reading.stamp)
                elif reading.stamp == self._answered:  # said again: whoever waits for the answer has not heard it
                    self._commands.publish(self._output.message(self._told.position))

    def _on_episode(self, message: DiagnosticArray) -> None:
        event = messages.from_episode(message)
        if event.kind == 'end' and self._active:
            self._outcome = event.outcome

    def _on_deadline(self) -> None:
        with self._lock:
            self._tick(self._now())

    def _tick(self, now: int) -> None:
        self._told = told = self._playback.decide(now)
        self._commands.publish(self._output.message(told.position))
        if told.phase in ('playing', 'done'):
            self._say()
        self._answered = now
        self.counts[told.phase] += 1
        self._next_tick += self._period * max(1, -(-(now - self._next_tick + 1) // self._period))
        if told.phase == 'holding':
            self._node.get_logger().warning(f'holding: {told.reason}', throttle_duration_sec=1.0)

    def _say(self) -> None:
        """Send what the episode commands on other topics by now, such as a gripper's, as it was recorded."""
        said, until = self._episode.said, self._episode.begin + self._playback.time
        while self._said < len(said) and said[self._said].received <= until:
            item = said[self._said]
            self._beside[item.topic].publish(item.data)
            self._said += 1

    def _now(self) -> int:
        return self._node.get_clock().now().nanoseconds
