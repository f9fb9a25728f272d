"""Replay a recording to a policy node in shadow mode: observations must equal the converted ones bit for bit."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import QoSProfile, ReliabilityPolicy
from rclpy.serialization import deserialize_message
from rosgraph_msgs.msg import Clock
from std_msgs.msg import Float64MultiArray

from benchmarks.bag_making import COMMAND, JOINT_STATE, Row, rich_contract
from benchmarks.bag_parity import Parity
from benchmarks.constant_student import save_student
from vdd_ros.contract.contract import Contract
from vdd_ros.data.episode import Episode
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.policy.policy_node import PolicyNode
from vdd_ros.nodes.recorder.raw_subscription import message_class
from vdd_ros.policy.policy import DistilledPolicy
from vdd_ros.policy.routing import Mixture

_PATIENCE = 30.0
_HOME = (-0.4, 0.3, 0.0, -2.2, 0.0, 2.5, 0.4)


def arm_contract() -> Contract:
    """Return the contract with all kinds of features, for an arm within its limits with a controller in degrees.

    Messages stamped exactly at a tick may arrive before or after it, so latencies are nonzero.
    """
    values = rich_contract(without=('tool',)).model_dump(mode='json')  # tf2_msgs has no wheels
    values['measured']['offset'] = values['commanded']['offset'] = _HOME
    values['commanded']['unit'] = 'degree'
    for feature in values['observation'][2:]:
        feature['align']['latency'] = max(feature['align']['latency'], 0.004)
    return Contract.model_validate(values)


def arguments(folder: Path, contract: Contract) -> list[str]:
    """Create a student, and return the arguments for rclpy after ``--ros-args``."""
    (folder / 'rich.yaml').write_text(contract.model_dump_json(), encoding='utf-8')
    student = save_student(folder / 'student', [[0.0] * contract.action_size], str(folder / 'rich.yaml'))
    given = {'use_sim_time': 'true', 'artifact': student, 'operating_mode': 'shadow', 'action_noise_scale': '0.0'}
    return [word for name, value in given.items() for word in ('-p', f'policy_node:{name}:={value}')]


class _Seen:
    """A student that records its observations."""

    def __init__(self, student: DistilledPolicy) -> None:
        self.rows: list[np.ndarray] = []
        self.deviation, self.signals, self.likelihood = student.deviation, student.signals, student.likelihood
        self._answer = student.experts

    def experts(self, observation: np.ndarray) -> Mixture:
        self.rows.append(observation[0, -1].copy())
        return self._answer(observation)


def compare(node: PolicyNode, player: Node, spin: Callable[[], None], rows: list[Row], episode: Episode) -> Parity:
    """Replay an episode to an unconfigured policy node.

    Parameters
    ----------
    node, player
        The policy node, and a node that publishes.
    spin
        Runs the callbacks of both for a moment.
    rows, episode
        The messages of a recording in the order of reception, and its only episode as converted.

    """
    if node.trigger_configure() != TransitionCallbackReturn.SUCCESS:
        raise node.complaint
    seen = _Seen(node.acting.policy)
    node.acting.driver.commander.replace(lambda loop: loop.replace_policy(seen, None))
    play = _Play(node, player, spin)
    for topic, received, _, data in rows:
        if topic in play.topics and received <= episode.stamps[-1]:
            play.say(topic, received, data)
            if topic == 'joint_states' and received == episode.stamps[0]:
                play.until(lambda: node.trigger_activate() == TransitionCallbackReturn.SUCCESS)
    unequal = episode.observation.shape[1] * abs(len(seen.rows) - len(episode))
    for row, expected in zip(seen.rows, episode.observation):
        unequal += int((row.view(np.int64) != expected.view(np.int64)).sum())
    return Parity(len(seen.rows), episode.observation.size, unequal)


class _Play:
    """Publishes messages one by one, each after the previous one was processed."""

    def __init__(self, node: PolicyNode, player: Node, spin: Callable[[], None]) -> None:
        self._node, self._spin = node, spin
        self._driver = node.acting.driver
        streams = self._driver.setting.streams
        self.topics = {**streams.topics, 'joint_states': JOINT_STATE, 'arm_controller/commands': COMMAND}
        self._clock = player.create_publisher(Clock, '/clock', qos.CLOCK)
        profile = QoSProfile(depth=100, reliability=ReliabilityPolicy.RELIABLE)
        self._publishers = {
            topic: player.create_publisher(message_class(kind), topic, profile) for topic, kind in self.topics.items()
        }
        # Joint states have two subscriptions: for the arm, and for a feature with this topic.
        ends = {topic: 1 + (topic == 'joint_states') for topic in self.topics}
        self.until(lambda: all(self._publishers[name].get_subscription_count() == ends[name] for name in ends))

    def until(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + _PATIENCE
        while not condition():
            if time.monotonic() > deadline:
                raise TimeoutError('the policy node did not take in a message')
            self._spin()

    def say(self, topic: str, received: int, data: bytes) -> None:
        """Advance the clock of the node to a time, then publish a message."""
        node, driver = self._node, self._driver

        def reached() -> bool:
            if node.now() != received:
                self._clock.publish(messages.to_clock(received))
            return node.now() == received

        self.until(reached)
        before = driver.setting.streams.report.read.get(topic, 0)
        self._publishers[topic].publish(data)
        if topic in driver.setting.streams.topics:
            self.until(lambda: driver.setting.streams.report.read.get(topic, 0) > before)
        if topic == 'joint_states':
            arm = driver.arm
            self.until(lambda: arm.reading is not None and arm.reading.stamp == received)
        elif topic == 'arm_controller/commands' and driver.commander.active:
            wanted = driver.output.channels[0].position(deserialize_message(data, Float64MultiArray), 0)
            self.until(lambda: np.array_equal(driver.commander.loop.commanded, wanted))
