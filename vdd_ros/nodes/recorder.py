"""Records what goes over the wire, with episode boundaries and outcomes, into one rosbag2."""

from __future__ import annotations

import time
from typing import Sequence

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from rclpy.qos import ReliabilityPolicy
from rclpy.subscription import Subscription
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.contract import load_contract
from vdd_ros.data.bag_writer import BagWriter
from vdd_ros.errors import ConfigurationError
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.causal_order import CausalOrder
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import guarded, run

PARAMETERS = (
    Parameter('output', '', 'folder that becomes the bag; must not exist'),
    Parameter('contract', 'avoiding_cartesian', 'contract whose topics are recorded: a file, or one that ships'),
)

_WINDOW = 200_000_000
_DRAIN_PERIOD = 0.005


class Recorder(Node):
    """Takes serialised messages as they come and writes them in the order in which they were published."""

    _taps: Sequence[_Tap] = ()

    def __init__(self) -> None:
        """Declare the parameters, claim the output and subscribe to the topics of the contract."""
        super().__init__('recorder')
        values = declare(self, PARAMETERS)
        if not values['output']:
            raise ConfigurationError(
                expected='a folder for the bag', found='no output', remedy='set -p output:=PATH, a path that is free'
            )
        contract = load_contract(values['contract'])
        self._order = CausalOrder(_WINDOW, header_time=self.get_parameter('use_sim_time').value)
        streams = {
            contract.topics.joint_states: (JointState, 'sensor_msgs/msg/JointState', True),
            contract.topics.commands: (Float64MultiArray, 'std_msgs/msg/Float64MultiArray', False),
            contract.topics.episode: (DiagnosticArray, 'diagnostic_msgs/msg/DiagnosticArray', True),
        }
        # In the bag a topic has the contract's name, wherever it was remapped to: so the contract can read it again.
        self._bag = BagWriter(
            values['output'], {_rooted(topic): message_type for topic, (_, message_type, _) in streams.items()}
        )
        self._bag.open()
        # A node that no executor spins: messages are taken in bulk, with what DDS says of them, at a twentieth of the
        # cost of one callback each.
        self._taps_node = Node(
            f'{self.get_name()}_taps',
            namespace=self.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._taps = [
            _Tap(self._taps_node, self.resolve_topic_name(topic), _rooted(topic), message_class, stamped)
            for topic, (message_class, _, stamped) in streams.items()
        ]
        self.create_service(Trigger, '~/ready', self._on_ready)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self.create_timer(_DRAIN_PERIOD, self._drain, clock=wall)
        self.create_timer(1.0, self._report, clock=wall)
        self.get_logger().info(f'recording {", ".join(tap.topic for tap in self._taps)} into {self._bag.path}')

    def destroy_node(self) -> None:
        """Take what has arrived, and close the bag."""
        if self._taps:
            self._finish()
        super().destroy_node()

    def _finish(self) -> None:
        for tap in self._taps:
            self._take(tap)
        self._write(now=None)
        written = self._bag.close()
        if written:
            self.get_logger().info(f'{self._bag.count} messages in {self._bag.path}')
        else:
            topics = ', '.join(tap.topic for tap in self._taps)
            self.get_logger().warning(f'nothing was said on {topics}: no bag written')
        self._taps_node.destroy_node()
        self._taps = []

    @guarded
    def _drain(self) -> None:
        # Read before the taking: nothing that was published earlier than the window before it can still be under way.
        now = time.time_ns()
        for tap in self._taps:
            self._take(tap)
        self._write(now)

    def _take(self, tap: _Tap) -> None:
        for data, info in tap.take():
            header = messages.header_stamp(data) if tap.stamped else None
            self._order.add(info['source_timestamp'], tap.name, header, data)

    def _write(self, now: int | None) -> None:
        for message in self._order.release(now):
            self._bag.write(message.topic, message.stamp, message.data)

    def _on_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Say whether every topic has a publisher that is heard: a publisher cannot tell from its side alone."""
        waiting = [tap.topic for tap in self._taps if not tap.publishers]
        response.success = not waiting
        response.message = f'waiting for publishers of {", ".join(waiting)}' if waiting else 'recording'
        return response

    def _report(self) -> None:
        silent = [tap.topic for tap in self._taps if not tap.count]
        for tap in self._taps:
            tap.match_publishers()
        self._diagnostics.publish(
            messages.to_diagnostics(
                self.get_clock().now().nanoseconds,
                self.get_name(),
                f'nothing yet on {", ".join(silent)}' if silent else 'recording',
                {'output': self._bag.path, 'messages': self._bag.count, 'late': self._order.late}
                | {tap.topic: tap.count for tap in self._taps},
                DiagnosticStatus.WARN if silent or self._order.late else DiagnosticStatus.OK,
            )
        )


class _Tap:
    """One subscription that is read in bulk."""

    def __init__(self, node: Node, topic: str, name: str, message_class: type, stamped: bool) -> None:
        self.topic = topic
        self.name = name
        self.stamped = stamped
        self.count = 0
        self._node = node
        self._class = message_class
        self._subscription = self._subscribe(ReliabilityPolicy.RELIABLE)

    def take(self) -> Sequence[tuple[bytes, dict]]:
        """Return what has arrived: serialised messages with what DDS says of them."""
        taken = []
        with self._subscription.handle:
            while (message := self._subscription.handle.take_message(self._class, True)) is not None:
                taken.append(message)
        self.count += len(taken)
        return taken

    @property
    def publishers(self) -> int:
        """How many publishers this subscription is connected with."""
        if hasattr(self._subscription, 'get_publisher_count'):
            return self._subscription.get_publisher_count()
        return self._node.count_publishers(self.topic)  # Humble knows only that they exist

    def match_publishers(self) -> None:
        """Ask for less where a publisher offers less: a reliable subscriber would hear nothing of it, silently."""
        if self.count:
            return
        offers = [info.qos_profile.reliability for info in self._node.get_publishers_info_by_topic(self.topic)]
        if offers and all(offer == ReliabilityPolicy.BEST_EFFORT for offer in offers):
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe(ReliabilityPolicy.BEST_EFFORT)

    def _subscribe(self, reliability: ReliabilityPolicy) -> Subscription:
        return self._node.create_subscription(
            self._class, self.topic, lambda message: None, qos.recording(reliability), raw=True
        )


def _rooted(topic: str) -> str:
    return f'/{topic.lstrip("/")}'


def main() -> int:
    """Run the node as a process."""
    return run(Recorder)


if __name__ == '__main__':
    raise SystemExit(main())
