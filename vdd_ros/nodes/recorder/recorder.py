"""Record topics, episodes, outcomes and instructions into one rosbag2."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
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
from vdd_ros.nodes.recorder.episode_gate import EpisodeGate
from vdd_ros.nodes.recorder.operation_watch import OperationWatch
from vdd_ros.nodes.recorder.raw_subscription import RawSubscription, installed_definition
from vdd_ros.nodes.recorder.recorder_console import RecorderConsole
from vdd_ros.nodes.recorder.recorder_status import Rates, Status
from vdd_ros.nodes.recorder.streams import Stream, streams_of

PARAMETERS = (
    Parameter('output', '', 'folder of the bag; must not exist', path=True),
    Parameter(
        'contract',
        'avoiding_cartesian',
        'contract whose topics are recorded: a file, or the name of a shipped one',
        path=True,
    ),
    Parameter('topics', STRINGS, 'further topics to record, of any type', topic=True),
    Parameter('continuous', True, 'record continuously; false: only episodes, with pre_roll before each'),
    Parameter('pre_roll', 1.0, 'time before a start that is recorded, unless continuous [s]', minimum=0, maximum=60),
    Parameter(
        'watch',
        '',
        'name of a policy node whose interventions, out-of-distribution moments and failures become episodes',
        topic=True,
    ),
    Parameter('post_roll', 3.0, 'time after such an event until its episode ends [s]', minimum=0.1, maximum=30.0),
    Parameter('language', '', 'language instruction, until another one is published on ~/label'),
    Parameter('flush_period', 0.25, 'period of flushing to the disk [s]', minimum=0.05, maximum=0.5),
    Parameter('reserve', 500.0, 'minimum free disk space; below it, recording ends [MB]', minimum=0, maximum=1e6),
    Parameter(
        'lockstep',
        False,
        'write each episode once all states and commands that its end mark counts have arrived; for mujoco_bridge in '
        'lockstep, with use_sim_time',
    ),
    Parameter('keys', False, 'control by keys of the terminal, with a status line'),
)

_SETTLING = 1.0
"""Time to discover a connection on both sides, also on a loaded machine [s]."""
_OTHER_CLOCK = 1_000_000_000
"""Maximum offset between the header and the publication time of joint states [ns]; a larger offset means another
clock."""
_WINDOW = 200_000_000
_DRAIN_PERIOD = 0.005
_DRAW_PERIOD = 0.1
_PATIENCE = 10.0
"""Time at the end of a recording for missing messages to arrive [s]."""


class Recorder(Node):
    """Receives serialised messages, and writes them in the order of publication.

    Services and keys start, stop, label and discard episodes, as do marks of other nodes. All episode information is
    stored in marks, and nothing is removed from the bag.
    """

    _bag: BagThread | None = None
    _console: RecorderConsole | None = None

    def __init__(self) -> None:
        """Declare the parameters, finish bags of killed recorders, create the output and subscribe."""
        super().__init__('recorder')
        self._values = values = declare(self, PARAMETERS)
        if not values['output']:
            raise ConfigurationError(
                expected='a folder for the bag', found='no output', remedy='set -p output:=PATH to an unused path'
            )
        contract = load_contract(values['contract'])
        streams = streams_of(contract)
        self._episode = f'/{contract.topics.episode.lstrip("/")}'
        self._lasting: set[str] = set()
        self._order = CausalOrder(_WINDOW, header_time=self.get_parameter('use_sim_time').value, lasting=self._lasting)
        self._gate = EpisodeGate(stream.name for stream in streams) if values['lockstep'] else None
        self._control = EpisodeControl(values['language'])
        self._pre_roll = PreRoll(values['pre_roll'], self._lasting)
        self._pre_roll.open = values['continuous']
        self._watch = OperationWatch(values['post_roll'])
        self._output = Path(values['output']).absolute()
        if values['keys']:
            self._console = RecorderConsole.of_this_terminal()
        for found in settle_all(self._output.parent, self._output):
            self.get_logger().warning(f'bag of a killed recorder: {found}')
        self._writer = BagWriter(self._output, {stream.name: stream.type for stream in streams})
        self._writer.open()
        self._bag = BagThread(self._writer, values['flush_period'])
        self._bag.start()
        # A node without an executor: taking messages in bulk with their DDS metadata costs a twentieth of one callback
        # each.
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
        """Create the services, the publisher and the timers."""
        self.create_service(Trigger, '~/ready', self._on_ready)
        self._complete = self.create_publisher(DiagnosticArray, '~/complete', qos.COMPLETE)
        for name in ('start', 'stop', 'success', 'failure', 'discard'):
            self.create_service(Trigger, f'~/{name}', partial(self._on_action, name))
        self.create_subscription(String, '~/label', self._on_label, qos.EPISODE)
        if self._values['watch']:
            self._watched = self.resolve_topic_name(self._values['watch']).lstrip('/')
            self.create_subscription(DiagnosticArray, '/diagnostics', self._on_status, qos.DIAGNOSTICS)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        wall = Clock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(_DRAIN_PERIOD, self._drain, clock=wall)
        self.create_timer(1.0, self._report, clock=wall)
        if self._console:
            self._console.start()
            self.create_timer(_DRAW_PERIOD, self._attend_console, clock=wall)

    def attend(self) -> bool:
        """Return whether the operator has quit."""
        return self._done

    def destroy_node(self) -> None:
        """Write the pending messages, and close the bag."""
        if self._console:
            self._console.stop()
        bag, self._bag = self._bag, None
        try:
            if bag is not None:
                self._finish(bag)
        finally:
            super().destroy_node()

    def _finish(self, bag: BagThread) -> None:
        self._take_all()
        deadline = time.monotonic() + _PATIENCE
        while self._gate and self._gate.missing and time.monotonic() < deadline:
            time.sleep(_DRAIN_PERIOD)
            self._take_all()
            self._gate.take_complete()
        if self._control.running and self._control.own:
            self._put(self._control.stop('aborted'))
        self._write(bag, self._order.release(None))
        written = bag.close()
        if written:
            self.get_logger().info(f'{self._writer.count} messages in {self._output}')
        else:
            topics = ', '.join(raw_subscription.topic for raw_subscription in self._taps)
            self.get_logger().warning(f'no messages on {topics}: no bag written')
        self._taps_node.destroy_node()
        self._check_complete()

    def _check_complete(self) -> None:
        missing = self._gate.missing if self._gate else {}
        if missing:
            raise InterfaceError(
                expected=', '.join(f'{count} messages on {topic}' for topic, (count, _) in missing.items())
                + f' in episode {self._gate.first}',
                found=', '.join(str(found) for _, found in missing.values()),
                remedy=f'record again with less load; {self._output} is incomplete',
            )

    @guarded
    def _drain(self) -> None:
        # Read before taking: all messages published before the window have arrived.
        now = time.time_ns()
        self._take_all()
        if self._gate is None:
            self._write(self._bag, self._order.release(now))
        elif (until := self._gate.take_complete()) is not None:
            self._write(self._bag, self._order.release_until(until))
        self._bag.check()

    def _take_all(self) -> None:
        for raw_subscription in self._taps:
            self._take(raw_subscription)

    def _take(self, raw_subscription: RawSubscription) -> None:
        for data, info in raw_subscription.take():
            header = messages.header_stamp(data) if raw_subscription.stream.keeps_time else None
            published = time.time_ns() if raw_subscription.is_latched else info['source_timestamp']
            self._order.add(published, raw_subscription.stream.name, header, data)
            if self._gate is not None:
                self._count(published, raw_subscription.stream.name, data)
            if raw_subscription is self._taps[0] and header is not None:
                self._compare(published - header)

    def _count(self, published: int, topic: str, data: bytes) -> None:
        if topic != self._episode:
            self._gate.add(published, topic)
        elif messages.mark_of(data)[0] in ('start', 'end'):
            self._gate.on_mark(published, messages.episode_of(data))

    def _compare(self, offset: int) -> None:
        """Warn once about joint states whose headers use another clock than the other messages."""
        known = abs(self._offset) > _OTHER_CLOCK
        simulated = self.get_parameter('use_sim_time').value or not self._stamped_by_header
        self._offset = 0 if simulated else offset
        if abs(self._offset) > _OTHER_CLOCK and not known:
            self.get_logger().warning(self._clock_disturbances())

    def _clock_disturbances(self) -> str:
        return (
            f'the headers of {self._taps[0].topic} are {self._offset / 1e9:.6g} s behind the clock of the recorder: no '
            'episode will be usable; for a simulation, record with use_sim_time (`vdd record-live --sim-time`); else '
            'synchronise the clocks, or set `measured: {stamp: receive}` in the contract'
        )

    def _write(self, bag: BagThread, released: Iterable[Stamped]) -> None:
        for message in released:
            if message.topic == self._episode:
                self._pass_mark(bag, message)
            else:
                for item in self._pre_roll.take(message):
                    bag.put(*item)

    def _pass_mark(self, bag: BagThread, message: Stamped) -> None:
        own = isinstance(message.data, Mark)
        kind, index = (message.data.kind, message.data.index) if own else messages.mark_of(message.data)
        if not own:
            self._control.on_mark(kind, index)
        starting = kind == 'start' and not self._pre_roll.open
        for item in self._pre_roll.start(message, early=own) if starting else (message,):
            data = messages.to_mark(item.stamp, item.data) if isinstance(item.data, Mark) else item.data
            bag.put(item.topic, item.stamp, data)
        if kind == 'end' and not own:
            self._complete.publish(message.data)
        if kind in ('end', 'discard') and not self._values['continuous']:
            self._pre_roll.stop()

    def _put(self, mark: Mark) -> None:
        """Insert a mark among the messages published at this moment, with their time."""
        self._order.add(time.time_ns(), self._episode, None, mark)

    def _act(self, action: str, text: str = '') -> str:
        """Execute an operator action, and return a response; raises InterfaceError if it is not possible."""
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

    @guarded
    def _on_status(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name == self._watched:
                values = {item.key: item.value for item in status.values}
                self._act_all(self._watch.see(values, time.monotonic()))

    def _act_all(self, actions: list[tuple[str, str]]) -> None:
        """Carry out the requests of the watch over a policy; an episode that was started otherwise is only labelled."""
        for action, text in actions:
            try:
                self.get_logger().info(self._act(action, text))
            except InterfaceError as error:
                self.get_logger().warning(f'operation is not recorded: {error}')

    def _on_ready(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        """Report whether all topics have matched publishers."""
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
        self._act_all(self._watch.attend(time.monotonic()))
        self._rates.note(
            {raw_subscription.topic: raw_subscription.count for raw_subscription in self._taps}, self._bag.taken
        )
        status = self._status()
        warned = bool(status.silent or status.problem)
        text = f'no message yet on {", ".join(status.silent)}' if status.silent else status.problem or 'recording'
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
                remedy='free disk space and record again; the bag is closed and complete',
            )

    def _find_wanted(self) -> None:
        """Subscribe to the further topics as soon as they have a publisher, which gives the type."""
        for name, kinds in self.get_topic_names_and_types() if self._wanted else ():
            if name in self._wanted:
                self._wanted.remove(name)
                self._bag.add_topic(name, kinds[0], installed_definition(kinds[0]))
                self._taps.append(RawSubscription(self._taps_node, name, Stream(name, kinds[0])))

    def _status(self) -> Status:
        control = self._control
        late, backlog = self._order.late, self._bag.backlog
        problem = [f'{late} messages arrived late: their order may be wrong'] * bool(late)
        problem += [self._clock_disturbances()] * (abs(self._offset) > _OTHER_CLOCK)
        problem += [f'the disk is slow: {backlog} messages are queued'] * (backlog > 10_000)
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
