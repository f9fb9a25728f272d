"""Records what goes over the wire, with episodes, outcomes and instructions, into one rosbag2."""

from __future__ import annotations

import shutil
import time
from functools import partial
from pathlib import Path

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock, ClockType
from rclpy.node import Node
from std_msgs.msg import String
from std_srvs.srv import Trigger

from vdd_ros.common.errors import ConfigurationError, InterfaceError, OutputError
from vdd_ros.contract.contract import load_contract
from vdd_ros.data.bag.bag_writer import BagWriter
from vdd_ros.data.bag.recovery import settle_all
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.parameters import STRINGS, Parameter, declare
from vdd_ros.nodes.process import guarded, run
from vdd_ros.nodes.recorder.bag_thread import BagThread
from vdd_ros.nodes.recorder.causal_order import CausalOrder, Stamped
from vdd_ros.nodes.recorder.episode_control import EpisodeControl, Mark, PreRoll
from vdd_ros.nodes.recorder.raw_subscription import RawSubscription, installed_definition
from vdd_ros.nodes.recorder.recorder_console import RecorderConsole
from vdd_ros.nodes.recorder.recorder_status import Rates, Status
from vdd_ros.nodes.recorder.streams import Stream, streams_of

PARAMETERS = (
    Parameter('output', '', 'folder that becomes the bag; must not exist', path=True),
    Parameter(
        'contract', 'avoiding_cartesian', 'contract whose topics are recorded: a file, or one that ships', path=True
    ),
    Parameter('topics', STRINGS, 'further topics to record, of whatever type they turn out to be', topic=True),
    Parameter('continuous', True, 'record all the time; false: only episodes, with pre_roll before each'),
    Parameter('pre_roll', 1.0, 'what counts of the time before a start, unless continuous [s]', minimum=0, maximum=60),
    Parameter('language', '', 'what is demonstrated, in words, until something else is said on ~/label'),
    Parameter('flush_period', 0.25, 'how often the disk gets what has come [s]', minimum=0.05, maximum=0.5),
    Parameter('reserve', 500.0, 'room left free on the disk; with less, recording ends [MB]', minimum=0, maximum=1e6),
    Parameter('keys', False, 'be steered by the keys of the terminal, and draw a status line'),
)

_SETTLING = 1.0
"""How long both sides of a connection take to know of each other, on a loaded machine too [s]."""
_OTHER_CLOCK = 1_000_000_000
"""Offset between the headers of joint states and their publication over which they are of another clock [ns]."""
_WINDOW = 200_000_000
_DRAIN_PERIOD = 0.005
_DRAW_PERIOD = 0.1


class Recorder(Node):
    """Takes serialised messages as they come and writes them in the order in which they were published.

    Services and keys start, stop, label and discard episodes; so does whoever marks episodes on the wire. All that is
    said of an episode lies in the bag as a mark, and nothing is ever taken out of it.
    """

    _bag: BagThread | None = None
    _console: RecorderConsole | None = None

    def __init__(self) -> None:
        """Declare the parameters, finish what killed recorders left, claim the output and subscribe."""
        super().__init__('recorder')
        self._values = values = declare(self, PARAMETERS)
        if not values['output']:
            raise ConfigurationError(
                expected='a folder for the bag', found='no output', remedy='set -p output:=PATH, a path that is free'
            )
        contract = load_contract(values['contract'])
        streams = streams_of(contract)
        self._episode = f'/{contract.topics.episode.lstrip("/")}'
        self._lasting: set[str] = set()
        self._order = CausalOrder(_WINDOW, header_time=self.get_parameter('use_sim_time').value, lasting=self._lasting)
        self._control = EpisodeControl(values['language'])
        self._pre_roll = PreRoll(values['pre_roll'], self._lasting)
        self._pre_roll.open = values['continuous']
        self._output = Path(values['output']).absolute()
        if values['keys']:
            self._console = RecorderConsole.of_this_terminal()
        for found in settle_all(self._output.parent, self._output):
            self.get_logger().warning(f'left by a recorder that was killed: {found}')
        self._writer = BagWriter(self._output, {stream.name: stream.type for stream in streams})
        self._writer.open()
        self._bag = BagThread(self._writer, values['flush_period'])
        self._bag.start()
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
            RawSubscription(self._taps_node, self.resolve_topic_name(stream.topic), stream) for stream in streams
        ]
        self._wanted = {f'/{topic.lstrip("/")}' for topic in values['topics']} - set(self._writer.topics)
        self._rates = Rates()
        self._stamped_by_header = contract.measured.stamp != 'receive'
        self._offset = 0
        self._began = 0.0
        self._connected: float | None = None
        self._done = False
        self._offer()
        self.get_logger().info(f'recording {", ".join(tap.topic for tap in self._taps)} into {self._output}')

    def _offer(self) -> None:
        """Make the services, the publisher and the timers."""
        self.create_service(Trigger, '~/ready', self._on_ready)
        for name in ('start', 'stop', 'success', 'failure', 'discard'):
            self.create_service(Trigger, f'~/{name}', partial(self._on_action, name))
        self.create_subscription(String, '~/label', self._on_label, qos.EPISODE)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DRAIN_PERIOD, self._drain, clock=wall)
        self.create_timer(1.0, self._report, clock=wall)
        if self._console:
            self._console.start()
            self.create_timer(_DRAW_PERIOD, self._attend_console, clock=wall)

    def attend(self) -> bool:
        """Tell whether the person at the keys is done."""
        return self._done

    def destroy_node(self) -> None:
        """Take what has arrived, and close the bag."""
        if self._console:
            self._console.stop()
        bag, self._bag = self._bag, None
        if bag is not None:
            self._finish(bag)
        super().destroy_node()

    def _finish(self, bag: BagThread) -> None:
        for raw_subscription in self._taps:
            self._take(raw_subscription)
        if self._control.running and self._control.own:
            self._put(self._control.stop('aborted'))
        self._write(bag, now=None)
        written = bag.close()
        if written:
            self.get_logger().info(f'{self._writer.count} messages in {self._output}')
        else:
            topics = ', '.join(raw_subscription.topic for raw_subscription in self._taps)
            self.get_logger().warning(f'nothing was said on {topics}: no bag written')
        self._taps_node.destroy_node()

    @guarded
    def _drain(self) -> None:
        # Read before the taking: nothing that was published earlier than the window before it can still be under way.
        now = time.time_ns()
        for raw_subscription in self._taps:
            self._take(raw_subscription)
        self._write(self._bag, now)
        self._bag.check()

    def _take(self, raw_subscription: RawSubscription) -> None:
        for data, info in raw_subscription.take():
            header = messages.header_stamp(data) if raw_subscription.stream.keeps_time else None
            published = time.time_ns() if raw_subscription.is_latched else info['source_timestamp']
            self._order.add(published, raw_subscription.stream.name, header, data)
            if raw_subscription is self._taps[0] and header is not None:
                self._compare(published - header)

    def _compare(self, offset: int) -> None:
        """Warn, once, of joint states whose headers are of another clock than all else that is recorded."""
        known = abs(self._offset) > _OTHER_CLOCK
        simulated = self.get_parameter('use_sim_time').value or not self._stamped_by_header
        self._offset = 0 if simulated else offset
        if abs(self._offset) > _OTHER_CLOCK and not known:
            self.get_logger().warning(self._clock_disturbances())

    def _clock_disturbances(self) -> str:
        return (
            f'the headers of {self._taps[0].topic} are {self._offset / 1e9:.6g} s behind the clock of the recorder: no '
            'episode will be usable; of a simulation, record with use_sim_time (`vdd record-live --sim-time`); else '
            'synchronise the clocks, or set `measured: {stamp: receive}` in the contract'
        )

    def _write(self, bag: BagThread, now: int | None) -> None:
        for message in self._order.release(now):
            if message.topic == self._episode:
                self._pass_mark(bag, message)
            else:
                for item in self._pre_roll.take(message):
                    bag.put(*item)

    def _pass_mark(self, bag: BagThread, message: Stamped) -> None:
        own = isinstance(message.data, Mark)
        kind, index = (message.data.kind, message.data.index) if own else messages.mark_of(message.data)
        if not own:
            self._control.heard(kind, index)
        starting = kind == 'start' and not self._pre_roll.open
        for item in self._pre_roll.start(message, early=own) if starting else (message,):
            data = messages.to_mark(item.stamp, item.data) if isinstance(item.data, Mark) else item.data
            bag.put(item.topic, item.stamp, data)
        if kind in ('end', 'discard') and not self._values['continuous']:
            self._pre_roll.stop()

    def _put(self, mark: Mark) -> None:
        """Put a mark where it belongs among what is published at this moment; it gets their time."""
        self._order.add(time.time_ns(), self._episode, None, mark)

    def _act(self, action: str, text: str = '') -> str:
        """Do what a person asks for, and say what was done; raises InterfaceError where it makes no sense now."""
        if action in ('start', 'toggle') and not self._taps[0].count:
            raise InterfaceError(
                expected=f'messages on {self._taps[0].topic}', found='none yet', remedy='start the arm first'
            )
        mark, answer = self._control.act(action, text)
        if mark is not None:
            self._put(mark)
            self._began = time.monotonic() if mark.kind == 'start' else self._began
        return answer

    def _on_action(self, action: str, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            response.success, response.message = True, self._act(action)
        except InterfaceError as error:
            response.success, response.message = False, str(error)
        return response

    def _on_label(self, message: String) -> None:
        self.get_logger().info(self._act('label', message.data))

    def _on_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Say whether all topics have publishers that are heard; either side knows it before the other does."""
        waiting = [raw_subscription.topic for raw_subscription in self._taps if not raw_subscription.publishers]
        now = time.monotonic()
        self._connected = None if waiting else self._connected or now
        response.success = self._connected is not None and now - self._connected >= _SETTLING
        response.message = f'waiting for publishers of {", ".join(waiting)}' if waiting else 'recording'
        return response

    def _attend_console(self) -> None:
        for action, text in self._console.read():
            if action == 'quit':
                self._done = True
                return
            try:
                self._console.notice = self._act(action, text)
            except InterfaceError as error:
                self._console.notice = str(error)
        self._console.draw(self._status())

    @guarded
    def _report(self) -> None:
        for raw_subscription in self._taps:
            raw_subscription.match_publishers()
            if raw_subscription.is_latched:
                self._lasting.add(raw_subscription.stream.name)
        self._find_wanted()
        self._rates.note(
            {raw_subscription.topic: raw_subscription.count for raw_subscription in self._taps}, self._bag.taken
        )
        status = self._status()
        warned = bool(status.silent or status.problem)
        text = f'nothing yet on {", ".join(status.silent)}' if status.silent else status.problem or 'recording'
        self._diagnostics.publish(
            messages.to_diagnostics(
                self.get_clock().now().nanoseconds,
                self.get_fully_qualified_name(),
                text,
                {
                    'output': self._output,
                    'messages': self._writer.count,
                    'late': self._order.late,
                    'backlog': self._bag.backlog,
                    'episode': status.index,
                    'episode_runs': status.running,
                    'disk_free_MB': round(status.free / 1e6),
                    **{f'episodes_{name}': count for name, count in status.outcomes.items()},
                    **{raw_subscription.topic: raw_subscription.count for raw_subscription in self._taps},
                },
                DiagnosticStatus.WARN if warned else DiagnosticStatus.OK,
            )
        )
        if status.free < self._values['reserve'] * 1e6:
            raise OutputError(
                expected=f'{self._values["reserve"]:g} MB free on the disk of {self._output}',
                found=f'{status.free / 1e6:.0f} MB',
                remedy='make room and record on; the bag is closed and whole',
            )

    def _find_wanted(self) -> None:
        """Listen to the further topics as soon as they have a publisher, and so a type."""
        for name, kinds in self.get_topic_names_and_types() if self._wanted else ():
            if name in self._wanted:
                self._wanted.remove(name)
                self._bag.add_topic(name, kinds[0], installed_definition(kinds[0]))
                self._taps.append(RawSubscription(self._taps_node, name, Stream(name, kinds[0])))

    def _status(self) -> Status:
        control = self._control
        late, backlog = self._order.late, self._bag.backlog
        problem = [f'{late} messages came late: their order may be wrong'] * bool(late)
        problem += [self._clock_disturbances()] * (abs(self._offset) > _OTHER_CLOCK)
        problem += [f'the disk is slow: {backlog} messages wait'] * (backlog > 10_000)
        return Status(
            running=control.running,
            index=control.index,
            seconds=time.monotonic() - self._began,
            outcomes=control.outcomes,
            language=control.language,
            rates=self._rates.rates,
            silent=[
                raw_subscription.topic
                for raw_subscription in self._taps
                if not raw_subscription.count and raw_subscription.stream.name != self._episode
            ]
            + sorted(self._wanted),
            free=shutil.disk_usage(self._output.parent).free,
            growth=self._rates.growth,
            problem='; '.join(problem),
        )


def main() -> int:
    """Run the node as a process."""
    return run(Recorder, attend=Recorder.attend)


if __name__ == '__main__':
    raise SystemExit(main())
