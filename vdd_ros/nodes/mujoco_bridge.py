"""A simulated arm behind the topics of ros2_control: joint states out, position commands in, a clock, episodes."""

from __future__ import annotations

import threading
import time

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.clock import Clock as NodeClock
from rclpy.clock import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import Float64MultiArray
from std_srvs.srv import Trigger

from vdd_ros.errors import InterfaceError
from vdd_ros.nodes import messages, qos
from vdd_ros.nodes.messages import EpisodeEvent
from vdd_ros.nodes.pacing import Pacer
from vdd_ros.nodes.parameters import Parameter, declare
from vdd_ros.nodes.process import guarded, run
from vdd_ros.nodes.world import World
from vdd_ros.sim.tasks import load_task

PARAMETERS = (
    Parameter('task', 'avoiding', 'task whose scene is simulated and whose referee judges the episodes'),
    Parameter(
        'mode',
        'lockstep',
        'lockstep: one policy period per accepted command, as fast as the commander; realtime: by the wall clock',
        choices=('lockstep', 'realtime'),
    ),
    Parameter('speed', 1.0, 'simulated seconds per second, in realtime mode', minimum=0.01, maximum=100.0),
    Parameter(
        'joint_state_rate',
        200.0,
        'joint states per simulated second [Hz]; rounded to a whole number per policy period',
        minimum=1.0,
        maximum=1000.0,
    ),
    Parameter('controller', 'arm_controller', 'name of the position controller; commands come on NAME/commands'),
    Parameter(
        'step_timeout',
        1.0,
        'silence of the commander in lockstep mode after which the last state is sent again [s]',
        minimum=0.01,
        maximum=3600.0,
    ),
)

_IDLE_PERIOD = 0.1


class MujocoBridge(Node):
    """Lets a commander meet the simulated arm exactly as it would meet the real one."""

    _pacer: Pacer | None = None

    def __init__(self) -> None:
        """Declare the parameters, load the task, and offer the topics of an arm under ros2_control."""
        super().__init__('mujoco_bridge')
        values = declare(self, PARAMETERS)
        self._world = World(load_task(values['task']), values['joint_state_rate'])
        self._joints = list(self._world.simulation.joints)
        self._lockstep = values['mode'] == 'lockstep'
        self._step_timeout = values['step_timeout']
        self._outcomes = {'success': 0, 'failure': 0, 'aborted': 0}
        self._refused = 0
        self._ignored = 0
        self._silences = 0
        self._lock = threading.Lock()
        self._clock_publisher = self.create_publisher(Clock, '/clock', qos.CLOCK)
        self._states = self.create_publisher(JointState, 'joint_states', qos.JOINT_STATES_OFFERED)
        self._episodes = self.create_publisher(DiagnosticArray, 'episode', qos.EPISODE)
        self._diagnostics = self.create_publisher(DiagnosticArray, '/diagnostics', qos.DIAGNOSTICS)
        self._command_topic = self.resolve_topic_name(f'{values["controller"]}/commands')
        self.create_subscription(Float64MultiArray, self._command_topic, self._on_command, qos.COMMANDS)
        self.create_service(Trigger, '~/reset', self._on_reset)
        wall = NodeClock(clock_type=ClockType.STEADY_TIME)
        self.create_timer(1.0, self._report, clock=wall)
        self._publish_state()
        if self._lockstep:
            self.create_timer(min(_IDLE_PERIOD, self._step_timeout), self._look_for_silence, clock=wall)
        else:
            self._pacer = Pacer(self._world.chunk_duration / values['speed'], self._advance)
            self._pacer.start()

    def destroy_node(self) -> None:
        """Stop the physics, then the node."""
        if self._pacer:
            self._pacer.stop()
        super().destroy_node()

    def _on_reset(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            for event in self._world.reset():
                self._announce(event)
            self._publish_state()
        response.success = True
        response.message = f'episode {self._world.index} starts at {self._world.stamp} ns'
        return response

    @guarded
    def _on_command(self, message: Float64MultiArray) -> None:
        try:
            position = messages.from_command(message, self._joints)
        except InterfaceError as error:
            self._refused += 1
            self.get_logger().warning(f'command refused: {error}', throttle_duration_sec=1.0)
            return
        if self._lockstep and not self._world.running:
            # Not wrong: whoever answers states cannot know that the episode has just ended.
            self._ignored += 1
            return
        with self._lock:
            self._world.command(position)
        if self._lockstep:
            self._advance()
            while self._world.running and not self._world.at_boundary:
                self._advance()

    def _advance(self) -> None:
        """Simulate one chunk and tell what it brought; the boundary's own state is the last of its period."""
        with self._lock:
            event = self._world.advance()
            self._publish_state()
            if event:
                self._announce(event)

    def _announce(self, event: EpisodeEvent) -> None:
        if event.kind == 'end':
            self._outcomes[event.outcome] += 1
        self._episodes.publish(messages.to_episode(event))

    def _publish_state(self) -> None:
        self._published = time.monotonic()
        stamp, simulation = self._world.stamp, self._world.simulation
        # In lockstep nothing acts between the boundaries, and a clock that ticked there would only cost time.
        if not self._lockstep or self._world.at_boundary or not self._world.running:
            self._clock_publisher.publish(messages.to_clock(stamp))
        self._states.publish(
            messages.to_joint_state(stamp, self._joints, simulation.position, simulation.velocity, simulation.effort)
        )

    def _look_for_silence(self) -> None:
        """Say the last state again: it may not have been heard, and whoever has come since needs one to begin with."""
        running = self._world.running
        if time.monotonic() - self._published < (self._step_timeout if running else _IDLE_PERIOD):
            return
        if running:
            self._silences += 1
            self.get_logger().warning(f'waiting for {self._commanders()}', throttle_duration_sec=5.0)
        self._publish_state()

    def _commanders(self) -> str:
        names = {info.node_name for info in self.get_publishers_info_by_topic(self._command_topic)}
        who = ', '.join(sorted(names)) or 'a commander: nobody publishes'
        return f'{who} on {self._command_topic}, silent for {self._step_timeout:g} s'

    @guarded
    def _report(self) -> None:
        values = {'episode': self._world.index, 'running': self._world.running, 'steps': self._world.steps}
        values |= self._outcomes | {'refused': self._refused, 'ignored': self._ignored, 'silences': self._silences}
        if self._pacer:
            self._pacer.check()
            values['late'] = self._pacer.late
        self._diagnostics.publish(
            messages.to_diagnostics(
                self._world.stamp,
                self.get_name(),
                'episode runs' if self._world.running else 'waiting for ~/reset',
                values,
                DiagnosticStatus.WARN if self._refused else DiagnosticStatus.OK,
            )
        )



def main() -> int:
    """Run the node as a process."""
    return run(MujocoBridge)


if __name__ == '__main__':
    raise SystemExit(main())
